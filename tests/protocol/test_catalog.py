"""The protocol is complete and its own description is true: catalog, AsyncAPI document, close codes, purity."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any, Final

import orjson
import pytest

from ngos.protocol import asyncapi
from ngos.protocol.catalog import COMMANDS, EVENTS, MESSAGES, OWN_DURABLE_TOPICS, OWN_TOPICS, REPLIES
from ngos.protocol.close import CloseCode
from ngos.protocol.faults import ErrorCode

# The table of protocol.md section 3: command -> its replies but `error`, and whether it changes something.
PROMISED: Final[dict[str, tuple[set[str], bool]]] = {
    "ping": ({"pong"}, False),
    "authenticate": ({"authenticated"}, False),
    "subscribe": ({"subscribed"}, False),
    "unsubscribe": ({"unsubscribed"}, False),
    "publish": ({"published"}, False),
    "token.create": ({"token.created"}, True),
    "token.get": ({"token.data", "token.not_found"}, False),
    "token.list": ({"token.list"}, False),
    "token.update": ({"token.updated", "token.not_found"}, True),
    "token.delete": ({"token.deleted", "token.not_found"}, True),
    "graph.connect": ({"graph.connected", "token.not_found"}, True),
    "graph.disconnect": ({"graph.disconnected", "graph.not_found"}, True),
    "graph.neighbors": ({"graph.neighbors", "token.not_found"}, False),
    "graph.degree": ({"graph.degree"}, False),
    "graph.path": ({"graph.path"}, False),
    "experience.record": ({"experience.recorded"}, True),
    "experience.list": ({"experience.list"}, False),
}
PROMISED_EVENTS: Final = {
    "token.created": "tokens",
    "token.updated": "tokens",
    "token.deleted": "tokens",
    "graph.connected": "graph",
    "graph.disconnected": "graph",
    "experience.recorded": "experience",
    "system.status": "system",
    "system.draining": "system",
}


def test_commands_are_those_of_the_protocol() -> None:
    """No command of protocol.md is missing, none is added, and each has its replies."""
    actual = {name: ({reply.TYPE for reply in cls.REPLIES}, cls.WRITES) for name, cls in COMMANDS.items()}
    assert PROMISED == actual


def test_events_are_those_of_the_protocol() -> None:
    """Each event is known with its topic, and the server's own topics are four, three of them durable."""
    assert PROMISED_EVENTS == {name: cls.TOPIC for name, cls in EVENTS.items()}
    assert {"tokens", "graph", "experience", "system"} == OWN_TOPICS
    assert {"tokens", "graph", "experience"} == OWN_DURABLE_TOPICS


def test_nothing_is_sent_that_no_command_asked_for() -> None:
    """Every message is the greeting, a reply to a command, `error`, or an event."""
    replies = set().union(*(names for names, _ in PROMISED.values()))
    assert replies | {"error"} == REPLIES.keys()
    assert replies | {"error", "connection.established"} | PROMISED_EVENTS.keys() == MESSAGES.keys()


def test_close_codes() -> None:
    """The codes are those of section 8 and 1006, which is never sent; reasons fit; clients return on the right ones."""
    known = {1000, 1001, 1002, 1003, 1006, 1007, 1008, 1009, 1011, 1012, 1013, 4401, 4403, 4408, 4429}
    assert known == {int(code) for code in CloseCode}
    assert all(len(code.reason.encode()) <= 123 for code in CloseCode)
    assert all(code.reason for code in CloseCode if code is not CloseCode.NORMAL)
    assert {1001, 1011, 1012, 1013, 4401, 4408, 4429} == {int(code) for code in CloseCode if code.may_reconnect}


def test_error_codes() -> None:
    """The error codes are those of section 7, and the right ones are retryable."""
    retryable = {"rate_limited", "unavailable", "internal"}
    others = {"invalid_json", "invalid_message", "unknown_type", "invalid_payload", "conflict"}
    others |= {"unauthenticated", "forbidden", "too_many_subscriptions"}
    assert {**dict.fromkeys(retryable, True), **dict.fromkeys(others, False)} == {
        str(code): code.retryable for code in ErrorCode
    }


def references(node: Any) -> Iterator[str]:
    """All `$ref`s below a node."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "$ref":
                yield value
            else:
                yield from references(value)
    elif isinstance(node, list):
        for item in node:
            yield from references(item)


def resolve(document: dict[str, Any], reference: str) -> Any:
    """What a `$ref` leads to, through others."""
    assert reference.startswith("#/")
    node: Any = document
    for key in reference.removeprefix("#/").split("/"):
        node = node[key]
    return resolve(document, node["$ref"]) if "$ref" in node else node


@pytest.fixture
def document() -> dict[str, Any]:
    """The document as a client of `GET /asyncapi.json` reads it."""
    read: dict[str, Any] = orjson.loads(orjson.dumps(asyncapi.document()))
    return read


def test_the_document_stays_the_same(document: dict[str, Any]) -> None:
    """Asking again gives the same document."""
    assert document == orjson.loads(orjson.dumps(asyncapi.document()))
    assert "3.0.0" == document["asyncapi"]


def test_all_references_lead_somewhere(document: dict[str, Any]) -> None:
    """No `$ref` of the document dangles."""
    found = list(references(document))
    assert len(found) > len(MESSAGES)
    for reference in found:
        assert resolve(document, reference) is not None


def test_every_command_has_an_operation(document: dict[str, Any]) -> None:
    """Each command is an operation that the server receives, with its replies and `error` as the reply's messages."""
    for name, (replies, _) in PROMISED.items():
        operation = document["operations"][f"do.{name}"]
        assert "receive" == operation["action"]
        (message,) = [resolve(document, item["$ref"]) for item in operation["messages"]]
        assert name == message["payload"]["properties"]["type"]["const"]
        answers = [resolve(document, item["$ref"])["name"] for item in operation["reply"]["messages"]]
        assert replies | {"error"} == set(answers)
    for topic in OWN_TOPICS:
        operation = document["operations"][f"events.{topic}"]
        assert "send" == operation["action"]
        sent = {resolve(document, item["$ref"])["name"] for item in operation["messages"]}
        assert {name for name, of in PROMISED_EVENTS.items() if of == topic} == sent


def test_the_document_says_what_is_required(document: dict[str, Any]) -> None:
    """What the document lets a client leave out is what the codec lets it leave out."""
    message = document["components"]["messages"]["command.graph.connect"]["payload"]
    payload = message["properties"]["payload"]
    assert ["source_id", "target_id"] == payload["required"]
    assert payload["additionalProperties"] is False
    assert ["type", "payload"] == message["required"]
    assert ["type"] == document["components"]["messages"]["command.ping"]["payload"]["required"]
    assert 1.0 == payload["properties"]["weight"]["default"]


def test_the_document_knows_the_whole_envelope(document: dict[str, Any]) -> None:
    """Every envelope field that the server sends is described: `replayed` on replies, positions on events."""
    created = document["components"]["messages"]["token.created"]["payload"]["properties"]
    assert {"id", "type", "timestamp", "payload", "reply_to", "replayed"} == created.keys()
    event = document["components"]["messages"]["event.token.created"]["payload"]["properties"]
    assert {"id", "type", "timestamp", "payload", "topic", "seq", "epoch", "sender_id"} == event.keys()
    pong = document["components"]["messages"]["pong"]["payload"]["properties"]
    assert {"id", "type", "timestamp", "payload", "reply_to"} == pong.keys()
    status = document["components"]["messages"]["event.system.status"]["payload"]
    assert "topic" in status["required"]
    assert "seq" not in status["properties"]
    error = document["components"]["messages"]["error"]["payload"]["properties"]["payload"]
    assert {str(code) for code in ErrorCode} == set(error["properties"]["code"]["enum"])


def test_every_field_has_a_schema(document: dict[str, Any]) -> None:
    """No field of a message is left undescribed, but those that may hold any JSON."""
    anything = {"state_before", "state_after", "action"}
    for name, message in document["components"]["messages"].items():
        payload = message["payload"]["properties"]["payload"]
        assert ("properties" in payload) is (name not in {"event.custom", "broadcast"}), name
        for field, schema in payload.get("properties", {}).items():
            assert schema or field in anything, f"{name}.{field}"


def test_the_protocol_is_pure() -> None:
    """Importing the protocol brings in no event loop, no socket code, and nothing of the floors above."""
    script = (
        "import sys\nimport ngos.protocol.codec, ngos.protocol.asyncapi, ngos.protocol.close\nprint(*sys.modules)\n"
    )
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    for forbidden in ("trio", "asyncio", "quart", "hypercorn", "psycopg", "structlog", "websockets", "ngos.config"):
        assert forbidden not in loaded
    ours = {name.split(".")[1] for name in loaded if name.startswith("ngos.")}
    assert {"errors", "protocol"} == ours
