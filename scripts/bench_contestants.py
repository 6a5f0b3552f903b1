"""Who is measured: ngos, and the peers in bench_peers/, each with how it is started and what it needs.

Promises: a peer that can't run here is left out with a line saying why, never in silence. A new peer is a file in
bench_peers/ and an entry here.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import attrs
import click
from bench_servers import HERE, Contestant, Place, free_port

INSTALL_S = 120.0
WS_PACKAGES = ("ws@8.23.0", "bufferutil@4.1.0")


def _uvicorn(app: str, place: Place) -> list[str]:
    return [
        *(sys.executable, "-m", "uvicorn", app, "--port", str(place.port), "--loop", "uvloop"),
        *("--ws", "websockets-sansio", "--log-level", "warning", "--no-access-log"),
    ]


def _python(module: str) -> Callable[[Place], list[str]]:
    return lambda place: [sys.executable, "-m", f"bench_peers.{module}", str(place.port)]


def _lacks(*programs: str) -> Callable[[], str | None]:
    return lambda: next((f"{program} is not installed" for program in programs if _find(program) is None), None)


def _find(program: str) -> str | None:
    return shutil.which(program, path=os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"]))


def _ws_home() -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "ngos-bench" / "-".join(WS_PACKAGES).replace("@", "-")


def _ws_missing() -> str | None:
    """Put the pinned versions into a cache directory, once; say why that can't be done."""
    if (why := _lacks("node", "npm")()) is not None:
        return why
    home = _ws_home()
    done = home / "installed"
    if done.exists():
        return None
    click.echo(f"installing {' and '.join(WS_PACKAGES)} in {home}, once", err=True)
    try:
        home.mkdir(parents=True, exist_ok=True)
        command = ["npm", "install", "--no-audit", "--no-fund", "--prefix", str(home), *WS_PACKAGES]
        ran = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as exc:
        return f"not installed: {exc}"
    if ran.returncode:
        return f"npm did not install it: {ran.stderr.strip()[-500:]}"
    done.touch()
    return None


WITHOUT_LIMITS = {
    # Here one client does what hundreds do elsewhere, from one address.
    "NGOS_COMMANDS_PER_S": "1e9",
    "NGOS_BYTES_PER_S": "1e12",
    "NGOS_ARRIVALS_PER_S": "1e6",
    "NGOS_ARRIVALS_AT_ONCE": "1000000",
    "NGOS_CONNECTIONS_PER_ADDRESS": "100000",
    "NGOS_CONNECTIONS": "100000",
}
NGOS = Contestant(
    "ngos",
    lambda place: [
        *(sys.executable, "-m", "ngos", "serve", "--port", str(place.port), "--database-url", place.database_url)
    ],
    lambda _place: {"NGOS_LOG_LEVEL": "warning", **WITHOUT_LIMITS},
    dialect="ngos",
    needs_database=True,
    ready_path="/readyz",
)
LOGGED_TOPIC = "bench.log"
NGOS_LOGGED = attrs.evolve(
    NGOS,
    environment=lambda _place: {
        "NGOS_LOG_LEVEL": "warning",
        **WITHOUT_LIMITS,
        "NGOS_DURABLE_TOPICS": LOGGED_TOPIC,
        # Whatever is in the log stays there.
        "NGOS_RETENTION_AGE_S": "1e9",
        "NGOS_RETENTION_EVENTS": "1000000000",
    },
)
NGOS_ONCE = attrs.evolve(NGOS, name="ngos, once", dialect="ngos-once")
FASTAPI_ASYNCPG = Contestant(
    "fastapi+asyncpg",
    lambda place: _uvicorn("bench_peers.fastapi_asyncpg:app", place),
    lambda place: {"DATABASE_URL": place.database_url},
    needs_database=True,
    ready_path="/readyz",
)
PEERS: dict[str, Contestant] = {
    "fastapi": Contestant(
        "fastapi", lambda place: _uvicorn("bench_peers.fastapi_fanout:app", place), ready_path="/readyz"
    ),
    "websockets": Contestant("websockets", _python("websockets_broadcast")),
    "node-ws": Contestant(
        "node-ws",
        lambda place: ["node", str(HERE / "bench_peers" / "node_ws.cjs"), str(place.port)],
        lambda _place: {"NODE_PATH": str(_ws_home() / "node_modules")},
        missing=_ws_missing,
    ),
    "nats": Contestant(
        "nats",
        lambda _place: [str(_find("nats-server")), "-c", str(HERE / "bench_peers" / "nats.conf")],
        lambda place: {"BENCH_PORT": str(place.port), "NATS_PORT": str(free_port())},
        dialect="nats",
        missing=_lacks("nats-server"),
    ),
    "hypercorn": Contestant(
        "hypercorn",
        lambda place: [
            *(sys.executable, "-m", "hypercorn", "-k", "trio", "-w", "0", "--bind", f"127.0.0.1:{place.port}"),
            *("--log-level", "warning", "--backlog", "1000", "bench_peers.hypercorn_quart:app"),
        ],
        ready_path="/readyz",
    ),
}
CEILING = {"ceiling": Contestant("ceiling", _python("ceiling"))}


def choose(names: str | None, possible: Sequence[str]) -> list[Contestant]:
    """ngos, and after it the peers that a comma list names, or all `possible` ones that can run here."""
    known = PEERS | CEILING
    asked = (
        possible if names is None else [name.strip() for name in names.split(",") if name.strip() not in ("", "ngos")]
    )
    chosen = [NGOS]
    for name in asked:
        if name not in known or (name not in possible and name not in CEILING):
            raise click.BadParameter(f"{name!r} is not one of {', '.join(possible)}", param_hint="--peers")
        if (why := known[name].missing()) is not None:
            click.echo(f"without {name}: {why}", err=True)
        else:
            chosen.append(known[name])
    return chosen
