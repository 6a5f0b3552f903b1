"""Who may do what: each role against each command and each route, with no cell left out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import pytest

from ngos.auth.grants import EVERYTHING, NOTHING, Grant
from ngos.protocol.catalog import COMMANDS
from ngos.protocol.commands import Command
from tests.databases import TestServer
from tests.servers import Running, shared_server
from tests.tokens import Mint, grant
from tests.web.test_routes import EVENT
from tests.web.wire import RawSocket, raw_socket, request

ALLOWED, FORBIDDEN, UNAUTHENTICATED = "allowed", "forbidden", "unauthenticated"
NOBODY: Final = "no token"
ROLES: Final[dict[str, Grant | None]] = {
    NOBODY: None,
    "nothing": NOTHING,
    "read": grant("read"),
    "write": grant("write"),
    "subscribe mine": grant(subscribe=("mine",)),
    "publish mine": grant(publish=("mine",)),
    "admin": grant("admin"),
    "everything": EVERYTHING,
}
ANYBODY: Final = frozenset(ROLES) - {NOBODY}
EVERYBODY: Final = frozenset(ROLES)
READERS: Final = frozenset({"read", "everything"})
WRITERS: Final = frozenset({"write", "everything"})
ADMINISTRATORS: Final = frozenset({"admin", "everything"})
PUBLISHERS: Final = frozenset({"publish mine", "everything"})

ID: Final = str(UUID(int=1))
COMMAND_CELLS: Final[dict[str, tuple[dict[str, Any], frozenset[str]]]] = {
    "ping": ({}, ANYBODY),
    "authenticate": ({"token": "TOKEN"}, EVERYBODY),
    "subscribe": ({"topic": "mine"}, frozenset({"subscribe mine", "everything"})),
    "unsubscribe": ({"topic": "mine"}, ANYBODY),
    "publish": ({"topic": "mine", "type": "hello"}, PUBLISHERS),
    "token.create": ({}, WRITERS),
    "token.get": ({"token_id": ID}, READERS),
    "token.list": ({}, READERS),
    "token.update": ({"token_id": ID}, WRITERS),
    "token.delete": ({"token_id": ID}, WRITERS),
    "graph.connect": ({"source_id": ID, "target_id": str(UUID(int=2))}, WRITERS),
    "graph.disconnect": ({"connection_id": ID}, WRITERS),
    "graph.neighbors": ({"token_id": ID}, READERS),
    "graph.degree": ({"token_id": ID}, READERS),
    "graph.path": ({"source_id": ID, "target_id": ID}, READERS),
    "experience.record": ({"event_type": "step"}, WRITERS),
    "experience.list": ({}, READERS),
}
"""Each command with a payload that it takes, and the roles that may send it."""
ROUTE_CELLS: Final[dict[tuple[str, str], frozenset[str]]] = {
    ("GET", "/"): EVERYBODY,
    ("GET", "/livez"): EVERYBODY,
    ("GET", "/readyz"): EVERYBODY,
    ("GET", "/healthz"): EVERYBODY,
    ("GET", "/asyncapi.json"): EVERYBODY,
    ("GET", "/ws/stats"): READERS,
    ("GET", "/metrics"): READERS,
    ("GET", "/status"): ADMINISTRATORS,
    ("GET", "/ws/connections"): ADMINISTRATORS,
    ("POST", "/ws/broadcast"): ADMINISTRATORS,
    ("POST", "/ws/publish/mine"): PUBLISHERS,
}
"""Each route, and the roles that may ask for it; the page's own files are as the page is."""
SECURITY: Final = Path(__file__).parents[2] / "SECURITY.md"


def outcome(may: frozenset[str], role: str) -> str:
    if role in may:
        return ALLOWED
    return UNAUTHENTICATED if role == NOBODY else FORBIDDEN


def expected_of(role: str) -> dict[str, str]:
    cells = {name: outcome(may, role) for name, (_, may) in COMMAND_CELLS.items()}
    return cells | {f"{method} {path}": outcome(may, role) for (method, path), may in ROUTE_CELLS.items()}


@pytest.fixture(scope="module")
def mint(tmp_path_factory: pytest.TempPathFactory) -> Mint:
    return Mint(tmp_path_factory.mktemp("mint"))


@pytest.fixture(scope="module")
def guarded(postgres_server: TestServer, mint: Mint) -> Iterator[Running]:
    """A server that asks for tokens."""
    with shared_server(postgres_server, **mint.settings) as running:
        yield running


@pytest.mark.parametrize("role", ROLES)
async def test_the_matrix(guarded: Running, mint: Mint, role: str) -> None:
    """Tries each command and each route as each role: what it may not is refused by the right code, the rest not."""
    allowed = ROLES[role]
    headers = {} if allowed is None else mint.bearer("alice", allowed)
    token = mint.token("alice", EVERYTHING if allowed is None else allowed)
    found = {}
    async with raw_socket(guarded.http, headers=headers) as socket:
        await socket.message()
        # Last, because it changes who the connection is.
        for name in sorted(COMMAND_CELLS, key=lambda name: name == "authenticate"):
            payload = {field: token if value == "TOKEN" else value for field, value in COMMAND_CELLS[name][0].items()}
            found[name] = await command_outcome(socket, name, payload)
    for method, path in ROUTE_CELLS:
        body = EVENT if method == "POST" else None
        answer = await request(guarded.http, method, path, body=body, headers=headers)
        found[f"{method} {path}"] = {200: ALLOWED, 401: UNAUTHENTICATED, 403: FORBIDDEN}[answer.status]
        assert (answer.status == 401) == ("www-authenticate" in answer.headers)
    assert expected_of(role) == found


async def command_outcome(socket: RawSocket, name: str, payload: dict[str, Any]) -> str:
    await socket.command(name, payload, id=name)
    while (reply := await socket.message()).get("reply_to") != name:
        pass  # an event, or a broadcast
    code = reply["payload"]["code"] if reply["type"] == "error" else ALLOWED
    assert code not in ("invalid_payload", "invalid_message", "internal", "unavailable"), reply
    return code if code in (FORBIDDEN, UNAUTHENTICATED) else ALLOWED


def test_no_command_is_left_out() -> None:
    """A command that is new must have its row."""
    assert COMMANDS.keys() == COMMAND_CELLS.keys()
    assert all(issubclass(command, Command) for command in COMMANDS.values())


async def test_no_route_is_left_out(guarded: Running) -> None:
    """A route that is new must have its row; those of the page's files are public, as it is."""
    found = {
        (method, rule.rule.replace("<topic>", "mine"))
        for rule in guarded.app.site.url_map.iter_rules()
        for method in rule.methods or ()
        if method in ("GET", "POST", "PUT", "PATCH", "DELETE") and not rule.websocket
    }
    of_the_page = {("GET", rule.rule) for rule in guarded.app.site.url_map.iter_rules() if is_of_the_page(rule)}
    assert ROUTE_CELLS.keys() | of_the_page == found


def is_of_the_page(rule: Any) -> bool:
    return bool(rule.endpoint.startswith("page/"))


def test_the_matrix_is_documented() -> None:
    """SECURITY.md shows this very table."""
    rows = [f"| | {' | '.join(ROLES)} |", "|---|" + "---|" * len(ROLES)]
    cells = {role: expected_of(role) for role in ROLES}
    rows += [f"| `{row}` | {' | '.join(cells[role][row] for role in ROLES)} |" for row in cells[NOBODY]]
    assert "\n".join(rows) in SECURITY.read_text()
