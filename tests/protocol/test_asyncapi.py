"""The AsyncAPI document against the classes and against what a server really says."""

from __future__ import annotations

from typing import Any, Final

import orjson
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio_websocket import open_websocket_url

from ngos.protocol import asyncapi, codec, examples
from ngos.protocol.catalog import COMMANDS, EVENTS, MESSAGES
from ngos.protocol.close import CloseCode
from ngos.protocol.commands import Command
from ngos.protocol.faults import DecodeError, ErrorCode
from ngos.protocol.messages import Message
from ngos.protocol.schemas import value_classes
from tests.protocol.schemas import faults
from tests.servers import Running
from tests.strategies import json_objects, payloads_of

DOCUMENT: Final[dict[str, Any]] = orjson.loads(orjson.dumps(asyncapi.document()))
CHANNEL: Final = DOCUMENT["channels"]["ws"]
A: Final = "01890a5d-ac96-774b-bcce-b302099a8057"
B: Final = "01890a5d-ac96-774b-bcce-b302099a8058"
TALK: Final[tuple[tuple[str, dict[str, Any]], ...]] = (
    ("subscribe", {"topic": "tokens"}),
    ("subscribe", {"topic": "graph", "since": 0}),
    ("subscribe", {"topic": "experience"}),
    ("subscribe", {"topic": "chat.x"}),
    ("ping", {}),
    ("token.create", {"token_id": A, "coord_x": [1], "metadata": {"a": None}}),
    ("token.create", {"token_id": B}),
    ("token.create", {"token_id": B}),
    ("token.get", {"token_id": A}),
    ("token.get", {"token_id": A.replace("7", "8")}),
    ("token.list", {}),
    ("token.list", {"full": True, "total": True, "limit": 1}),
    ("token.update", {"token_id": A, "weight": 2}),
    ("graph.connect", {"source_id": A, "target_id": B}),
    ("graph.connect", {"source_id": A, "target_id": A}),
    ("graph.neighbors", {"token_id": A}),
    ("graph.degree", {"token_id": A}),
    ("graph.path", {"source_id": A, "target_id": B}),
    ("graph.path", {"source_id": B, "target_id": A}),
    ("graph.disconnect", {"source_id": B, "target_id": A}),
    ("experience.record", {"event_type": "step", "state_before": [1], "trajectory_id": "t"}),
    ("experience.list", {}),
    ("publish", {"topic": "chat.x", "type": "said", "payload": {"text": "hi"}}),
    ("publish", {"topic": "tokens", "type": "said"}),
    ("token.delete", {"token_id": A}),
    ("unsubscribe", {"topic": "elsewhere"}),
    ("nonsense", {}),
)


def wrong(message: str, value: Any) -> list[str]:
    """What of an envelope is not as the document has it."""
    return list(faults(DOCUMENT, DOCUMENT["components"]["messages"][message]["payload"], value))


def test_every_class_is_in_it() -> None:
    """Tries to have a command, reply, event, value, error or close code that the document does not tell of."""
    messages = DOCUMENT["components"]["messages"]
    assert {f"command.{name}" for name in COMMANDS} <= messages.keys()
    assert {f"event.{name}" for name in EVENTS} <= messages.keys()
    assert MESSAGES.keys() - {"system.status", "system.draining"} <= messages.keys()
    assert {cls.__name__ for cls in value_classes()} == DOCUMENT["components"]["schemas"].keys()
    assert {str(code): code.retryable for code in ErrorCode} == {
        code: told["retryable"] for code, told in CHANNEL["x-error-codes"].items()
    }
    assert {str(int(code)): code.may_reconnect for code in CloseCode} == {
        code: told["reconnect"] for code, told in CHANNEL["x-close-codes"].items()
    }
    assert messages.keys() == CHANNEL["messages"].keys()


def test_every_message_is_of_an_operation() -> None:
    """Tries to describe a message that nobody sends."""
    used = set()
    for operation in DOCUMENT["operations"].values():
        used |= {item["$ref"] for item in [*operation["messages"], *operation.get("reply", {}).get("messages", [])]}
    assert {f"#/channels/ws/messages/{name}" for name in CHANNEL["messages"]} == used


def test_its_examples_are_true() -> None:
    """Tries to have an example that its schema refuses, and for a command one that the server would refuse."""
    for name, message in DOCUMENT["components"]["messages"].items():
        assert message["examples"], name
        for example in message["examples"]:
            assert [] == wrong(name, example["payload"]), name
            if name.startswith("command."):
                codec.decode(orjson.dumps(example["payload"]))
    assert {str(code) for code in ErrorCode} == {
        example["name"] for example in DOCUMENT["components"]["messages"]["error"]["examples"]
    }


@pytest.mark.parametrize("cls", COMMANDS.values(), ids=COMMANDS)
@settings(max_examples=25)
@given(data=st.data())
def test_what_a_client_may_send(cls: type[Command], data: st.DataObject) -> None:
    """Tries to have the schema of a command refuse what the codec takes."""
    sent = orjson.loads(codec.encode_command(data.draw(payloads_of(cls)), "1"))
    assert [] == wrong(f"command.{cls.TYPE}", sent)


@pytest.mark.parametrize("name", COMMANDS, ids=COMMANDS)
@settings(max_examples=25)
@given(data=st.data())
def test_what_a_client_may_not_send(name: str, data: st.DataObject) -> None:
    """Tries to have the schema of a command take fields, or the lack of them, that the codec refuses."""
    payload = {**examples.of_command(name)["payload"], **data.draw(json_objects)}
    for field in data.draw(st.sets(st.sampled_from(sorted(payload)))) if payload else ():
        del payload[field]
    fields = DOCUMENT["components"]["messages"][f"command.{name}"]["payload"]["properties"]["payload"]
    well = payload.keys() <= fields["properties"].keys() and set(fields["required"]) <= payload.keys()
    assert well is (not wrong(f"command.{name}", {"type": name, "payload": payload}))
    if not well:
        with pytest.raises(DecodeError):
            codec.decode(orjson.dumps({"type": name, "payload": payload}))


@pytest.mark.parametrize("cls", MESSAGES.values(), ids=MESSAGES)
@settings(max_examples=25)
@given(data=st.data())
def test_what_the_server_may_send(cls: type[Message], data: st.DataObject) -> None:
    """Tries to encode a message that its schema refuses."""
    payload = orjson.loads(codec.dump(data.draw(payloads_of(cls))))
    key = cls.TYPE if cls.TYPE in DOCUMENT["components"]["messages"] else f"event.{cls.TYPE}"
    schema = DOCUMENT["components"]["messages"][key]["payload"]["properties"]["payload"]
    assert [] == list(faults(DOCUMENT, schema, payload))


async def test_a_real_talk(server: Running) -> None:
    """Tries to find a message of a real server that the document does not describe, as a reply or as an event."""
    seen = set()
    answered = events = 0
    async with open_websocket_url(f"{server.url}?client_id=me") as socket:
        greeting = orjson.loads(await socket.get_message())
        assert [] == wrong("connection.established", greeting)
        for number, (name, payload) in enumerate((*TALK, TALK[5]), start=1):
            sent = {"id": "6" if number == len(TALK) + 1 else str(number), "type": name, "payload": payload}
            if name in COMMANDS:
                assert [] == wrong(f"command.{name}", sent)
            await socket.send_message(orjson.dumps(sent).decode())
        with trio.fail_after(20):
            while answered < len(TALK) + 1 or events < 8:
                message = orjson.loads(await socket.get_message())
                if "topic" not in message:
                    answered += 1
                    seen.add(message["type"])
                    assert [] == wrong(message["type"], message)
                else:
                    events += 1
                    key = "custom" if message["topic"] == "chat.x" else message["type"]
                    seen.add(f"event.{key}")
                    assert [] == wrong(f"event.{key}", message)
    assert {"error", "token.not_found", "graph.not_found", "event.custom", "event.graph.disconnected"} <= seen
