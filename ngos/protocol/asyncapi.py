"""The protocol as an AsyncAPI 3 document, generated from the message classes: it can't say what they don't.

One channel, `/ws`; an operation for each command, with its replies, and one for the events of each topic. What AsyncAPI
has no word for, error codes and close codes, is in `x-error-codes` and `x-close-codes`. `scripts/npm run asyncapi` has
it read by AsyncAPI's own parser.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Final

from ngos import __version__
from ngos.protocol import examples
from ngos.protocol.catalog import COMMANDS, EVENTS, GREETING, MESSAGES, OWN_DURABLE_TOPICS, OWN_TOPICS, REPLIES
from ngos.protocol.close import CloseCode
from ngos.protocol.faults import ErrorCode
from ngos.protocol.rules import ClientId, CommandId, Count, Epoch, TopicName
from ngos.protocol.schemas import schema_of, schema_of_hint, summary_of, value_classes

CUSTOM: Final = "custom"
"""What stands for all topics that clients choose, and BROADCAST for what an administrator sends to every connection."""
BROADCAST: Final = "broadcast"

_DESCRIPTION: Final = """\
The WebSocket protocol of NeuroGraph OS: commands and their replies, topics and their events.

A command gets exactly one reply, which names it in `reply_to`: one of those of its operation, or `error`. Commands of
one connection take effect in the order sent, and their replies come in that order. One that carries an `id` acts once:
sent again, it gets the reply that it had. Events of a durable topic are numbered by `seq`, without gaps; who subscribes
`since` a position gets all that came after it. `docs/protocol.md` in the server's repository tells it in full.
"""
_SECURITY: Final = {
    "type": "http",
    "scheme": "bearer",
    "bearerFormat": "JWT",
    "description": "Where the server asks for tokens: at the upgrade, or by the command authenticate as the first.",
}
_KEPT: Final = {"error", "published", *(reply.TYPE for cls in COMMANDS.values() if cls.WRITES for reply in cls.REPLIES)}
"""Replies that are kept, and given again when the command is sent again."""
_TIMESTAMP: Final = {"type": "integer", "description": "Unix milliseconds, by the server's clock."}


@cache
def document() -> dict[str, Any]:
    """The document; the same object each time, not to be changed."""
    messages = {
        **{f"command.{name}": _command(name) for name in COMMANDS},
        **{name: _sent(name, _reply_envelope(name)) for name in MESSAGES if name in REPLIES},
        GREETING.TYPE: _sent(GREETING.TYPE, {}),
        **{f"event.{name}": _sent(name, _event_envelope(cls.TOPIC)) for name, cls in EVENTS.items()},
        f"event.{CUSTOM}": _custom(),
        BROADCAST: _broadcast(),
    }
    schemas = {cls.__name__: {**schema_of(cls), "description": summary_of(cls)} for cls in value_classes()}
    return {
        "asyncapi": "3.0.0",
        "id": "urn:neurograph:ngos",
        "info": {
            "title": "ngos",
            "version": __version__,
            "description": _DESCRIPTION,
            "license": {"name": "MIT"},
            "tags": [{"name": "websocket"}, {"name": "realtime"}],
        },
        "defaultContentType": "application/json",
        "servers": _servers(),
        "channels": {"ws": _channel(messages)},
        "operations": _operations(),
        "components": {
            "messages": messages,
            "schemas": schemas,
            "securitySchemes": {"bearer": _SECURITY},
        },
    }


def _servers() -> dict[str, Any]:
    security = [{"$ref": "#/components/securitySchemes/bearer"}]
    return {
        "local": {
            "host": "localhost:8000",
            "protocol": "ws",
            "description": "As `ngos serve` listens without more: on the loopback, and without tokens.",
        },
        "public": {
            "host": "{host}",
            "protocol": "wss",
            "description": "Behind a reverse proxy that does TLS, and with tokens.",
            "variables": {"host": {"description": "The proxy's name, and its port.", "default": "localhost"}},
            "security": security,
        },
    }


def _channel(messages: dict[str, Any]) -> dict[str, Any]:
    return {
        "address": "/ws",
        "title": "The WebSocket",
        "description": "One JSON object in one text message, UTF-8. A binary message is closed with 1003.",
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages},
        "bindings": {
            "ws": {
                "method": "GET",
                "query": {"type": "object", "properties": {"client_id": schema_of_hint(ClientId)}},
                "headers": {"type": "object", "properties": {"Authorization": {"type": "string"}}},
                "bindingVersion": "0.1.0",
            }
        },
        "x-error-codes": {str(c): {"meaning": c.meaning, "retryable": c.retryable} for c in ErrorCode},
        "x-close-codes": {
            str(int(code)): {"reason": code.reason or "done", "reconnect": code.may_reconnect} for code in CloseCode
        },
    }


def _operations() -> dict[str, Any]:
    """What the server receives and sends."""
    commands = {
        f"do.{name}": {
            "action": "receive",
            "channel": {"$ref": "#/channels/ws"},
            "title": name,
            "summary": "Changes something, once." if cls.WRITES else "Changes nothing that is stored.",
            "messages": _in_channel(f"command.{name}"),
            "reply": {
                "channel": {"$ref": "#/channels/ws"},
                "messages": _in_channel(*(reply.TYPE for reply in cls.REPLIES), "error"),
            },
        }
        for name, cls in COMMANDS.items()
    }
    events = {
        f"events.{topic}": {
            "action": "send",
            "channel": {"$ref": "#/channels/ws"},
            "title": f"Events of the topic {topic}",
            "summary": "A durable topic: numbered, resumable."
            if topic in OWN_DURABLE_TOPICS
            else "An ephemeral topic: at most once.",
            "messages": _in_channel(*(f"event.{name}" for name, cls in EVENTS.items() if topic == cls.TOPIC)),
        }
        for topic in sorted(OWN_TOPICS)
    }
    rest = {
        f"events.{CUSTOM}": ("Events of topics that clients choose", f"event.{CUSTOM}"),
        "greet": ("The first message of every connection", GREETING.TYPE),
        "broadcast": ("What an administrator sends to every connection, by POST /ws/broadcast", BROADCAST),
        "refuse": ("The reply to what is no command: JSON that can't be read, an unknown type", "error"),
    }
    others = {
        name: {"action": "send", "channel": {"$ref": "#/channels/ws"}, "title": title, "messages": _in_channel(message)}
        for name, (title, message) in rest.items()
    }
    return {**commands, **events, **others}


def _in_channel(*names: str) -> list[dict[str, str]]:
    return [{"$ref": f"#/channels/ws/messages/{name}"} for name in names]


def _command(name: str) -> dict[str, Any]:
    cls = COMMANDS[name]
    payload = schema_of(cls, of_command=True)
    envelope = {
        "id": {**schema_of_hint(CommandId), "description": "Names the command for its reply, and makes it act once."},
        "type": {"const": name},
        "timestamp": {"type": "integer", "description": "Unix milliseconds: the client's own claim, never trusted."},
        "traceparent": {"type": "string", "description": "The trace that it is part of, as in W3C Trace Context."},
        "payload": payload,
    }
    return {
        "name": name,
        "title": f"Command {name}",
        "summary": summary_of(cls),
        "correlationId": {"location": "$message.payload#/id"},
        "payload": {
            "type": "object",
            "properties": envelope,
            "required": ["type", "payload"] if payload["required"] else ["type"],
        },
        "examples": [{"name": name, "payload": examples.of_command(name)}],
    }


def _sent(name: str, more: dict[str, Any]) -> dict[str, Any]:
    """A reply, an event or the greeting; `more` are envelope fields: schema, always there."""
    cls = MESSAGES[name]
    kind = "Event" if "topic" in more else "Reply" if more else "Message"
    message: dict[str, Any] = {
        "name": name,
        "title": f"{kind} {name}",
        "summary": summary_of(cls),
        "payload": _envelope({"type": {"const": name}, "payload": schema_of(cls)}, more),
        "examples": _examples(name, more),
    }
    if kind == "Reply":
        message["correlationId"] = {"location": "$message.payload#/reply_to"}
    return message


def _examples(name: str, more: dict[str, Any]) -> list[dict[str, Any]]:
    def example(title: str, payload: dict[str, Any]) -> dict[str, Any]:
        envelope: dict[str, Any] = {"id": "m1", "type": name, "timestamp": examples.TIMESTAMP_MS}
        if "topic" in more:
            envelope |= {"topic": more["topic"][0]["const"], "sender_id": "my_client"}
            if "seq" in more:
                envelope |= {"id": "4f1c2a9e-42", "seq": 42, "epoch": "4f1c2a9e"}
            else:
                del envelope["sender_id"]
        elif more:
            envelope["reply_to"] = "1"
        return {"name": title, "payload": {**envelope, "payload": payload}}

    if name == "error":
        return [example(str(code), examples.of_error(code)) for code in ErrorCode]
    return [example(name, examples.of_message(name))]


def _reply_envelope(name: str) -> dict[str, Any]:
    described: dict[str, Any] = {
        "reply_to": ({"type": "string", "description": "The command's id, where it had one."}, False)
    }
    if name in _KEPT:
        described["replayed"] = ({"const": True, "description": "The command had been done before, by its id."}, False)
    return described


def _event_envelope(topic: str) -> dict[str, Any]:
    envelope: dict[str, Any] = {"topic": ({"const": topic}, True)}
    if topic in OWN_DURABLE_TOPICS:
        envelope |= {"seq": (schema_of_hint(Count), True), "epoch": (schema_of_hint(Epoch), True)}
        envelope["sender_id"] = (
            {"type": "string", "description": "The client_id whose command caused it; not where it had none."},
            False,
        )
    return envelope


def _envelope(own: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    properties = {"id": schema_of_hint(CommandId), **own, "timestamp": _TIMESTAMP}
    return {
        "type": "object",
        "properties": {**properties, **{name: schema for name, (schema, _) in more.items()}},
        "required": ["id", "type", "timestamp", "payload", *(name for name, (_, always) in more.items() if always)],
    }


def _custom() -> dict[str, Any]:
    envelope = {
        "topic": (schema_of_hint(TopicName), True),
        "seq": ({**schema_of_hint(Count), "description": "On durable topics."}, False),
        "epoch": ({**schema_of_hint(Epoch), "description": "On durable topics."}, False),
        "sender_id": ({"type": "string"}, False),
    }
    event = {"type": "said", "payload": {"text": "hello"}, "topic": "chat.general", "sender_id": "my_client"}
    return {
        "name": f"event.{CUSTOM}",
        "title": "Event of a custom topic",
        "summary": "What somebody published: type and payload are his.",
        "payload": _envelope({"type": {"type": "string"}, "payload": {"type": "object"}}, envelope),
        "examples": [
            {"name": "ephemeral", "payload": {"id": "5f0e-e1", "timestamp": examples.TIMESTAMP_MS, **event}},
            {
                "name": "durable",
                "payload": {
                    "id": "4f1c2a9e-42",
                    "timestamp": examples.TIMESTAMP_MS,
                    **event,
                    "seq": 42,
                    "epoch": "4f1c2a9e",
                },
            },
        ],
    }


def _broadcast() -> dict[str, Any]:
    example = {"id": "b1", "type": "notice", "timestamp": examples.TIMESTAMP_MS, "payload": {"text": "hello"}}
    return {
        "name": BROADCAST,
        "title": "Broadcast",
        "summary": "Of no topic, to every connection: type and payload are the administrator's.",
        "payload": _envelope({"type": {"type": "string"}, "payload": {"type": "object"}}, {}),
        "examples": [{"name": BROADCAST, "payload": example}],
    }
