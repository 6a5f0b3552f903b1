"""Whether the machine has what a server needs: the port, descriptors, room on the disk. Linux knows all of it."""

from __future__ import annotations

import os
import resource
import shutil
from pathlib import Path
from typing import Final

from ngos.client.errors import ConnectFailed
from ngos.client.fetch import get_json
from ngos.config import MIB, Settings
from ngos.doctor.finding import Check, Finding, aside, ok, problem, warning
from ngos.errors import SetupError
from ngos.gateway.door import RESERVE, is_loopback
from ngos.listening import BACKLOG, address_of, listen

ASK_S: Final = 2.0
OWN_DESCRIPTORS: Final = 64
"""What a server opens beside its clients and the database."""
FREE_BYTES: Final = 1024 * MIB
FULL_BYTES: Final = 100 * MIB
_SOMAXCONN: Final = Path("/proc/sys/net/core/somaxconn")


async def check_port(settings: Settings) -> list[Finding]:
    """Raises SetupError where the address can't be listened on for another reason than that it is taken."""
    about = f"port {settings.port}"
    try:
        (await aside(listen, settings)).close()
    except SetupError as exc:
        if exc.exit_code == 2:
            return []  # nobody may listen there, as another check says
        if "is taken" not in str(exc):
            raise
        address = str((await aside(address_of, settings))[1][0])
        host = address if is_loopback(address) else "127.0.0.1"
        url = f"http://[{host}]:{settings.port}" if ":" in host else f"http://{host}:{settings.port}"
        try:
            document = await get_json(url, "/asyncapi.json", None, ASK_S)
            version = str(document["info"]["version"])
        except (ConnectFailed, KeyError, TypeError):
            return [problem(about, "something that is no ngos listens there", "stop it, or set another --port")]
        return [ok(about, f"an ngos {version} is running there")]
    return [ok(about, "free")]


async def check_descriptors(settings: Settings) -> list[Finding]:
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    connections = -(-settings.connections // settings.workers)  # the limit is each process's
    needs = connections + RESERVE + settings.database_pool_size + OWN_DESCRIPTORS
    if most != resource.RLIM_INFINITY and most < needs:
        advice = f"set LimitNOFILE={needs} in the unit (ulimit -n {needs} in a shell), or connections lower"
        return [problem("file limit", f"{most:,}, and {connections:,} connections need {needs:,}", advice)]
    return [ok("file limit", "none" if most == resource.RLIM_INFINITY else f"{most:,} of {needs:,} that may be needed")]


async def check_backlog(_settings: Settings) -> list[Finding]:
    try:
        most = int(_SOMAXCONN.read_text())
    except (OSError, ValueError):
        return []  # another system, or it is hidden: nothing can be said
    if most < BACKLOG:
        advice = f"sysctl net.core.somaxconn={BACKLOG}: so many may come back at once after a break"
        return [warning("net.core.somaxconn", f"{most:,}", advice)]
    return [ok("net.core.somaxconn", f"{most:,}")]


async def check_disk(settings: Settings) -> list[Finding]:
    if settings.database_url is not None:
        return []  # the server itself writes nothing
    folder = settings.data_dir.absolute()
    while not folder.exists():
        folder = folder.parent
    about = "data directory"
    if not os.access(folder, os.W_OK | os.X_OK):
        return [problem(about, f"{settings.data_dir}: not writable", "set --data-dir, or its owner")]
    free = shutil.disk_usage(folder).free
    text = f"{settings.data_dir}: {free // MIB:,} MiB free"
    if free < FULL_BYTES:
        return [problem(about, text, "make room: a full disk stops every change")]
    if free < FREE_BYTES:
        return [warning(about, text, "make room, or keep less: --retention-age-s")]
    return [ok(about, text)]


CHECKS: Final[tuple[tuple[str, Check], ...]] = (
    ("port", check_port),
    ("file limit", check_descriptors),
    ("net.core.somaxconn", check_backlog),
    ("data directory", check_disk),
)
