"""Messages as handlers of `ngos.client.websocket` hear them: dicts with the fields of protocol.md section 2. Pure.

May import `ngos.client.errors`, `ngos.client.feed` and the protocol.
"""

from __future__ import annotations

import secrets
import time
from typing import Any

from ngos.client.errors import CommandError
from ngos.client.feed import Event
from ngos.protocol.codec import Envelope
from ngos.protocol.converters import WRITER

Message = dict[str, Any]


def of_reply(reply: Envelope) -> Message:
    """What the server answered."""
    return _without_what_is_not_there(WRITER.unstructure(reply))


def of_event(event: Event) -> Message:
    """What was published."""
    fields = WRITER.unstructure(event)
    return _without_what_is_not_there({"timestamp": fields.pop("timestamp_ms"), **fields})


def of_client(type_: str, payload: dict[str, Any], reply_to: str | None) -> Message:
    """What the client knows in the server's stead, over all connections; its id and time are made here."""
    id_, now_ms = f"local-{secrets.token_hex(8)}", int(time.time() * 1000)
    fields = {"id": id_, "type": type_, "payload": payload, "timestamp": now_ms, "reply_to": reply_to}
    return _without_what_is_not_there(fields)


def of_failure(exc: Exception, reply_to: str | None) -> Message:
    """What went wrong, as an `error` (section 7): the server's own, or one whose code is the exception's name."""
    if isinstance(exc, CommandError):
        reply = of_reply(exc.reply)
        return {**reply, "reply_to": reply_to or reply["reply_to"]}
    name = type(exc).__name__
    code = "".join("_" + letter.lower() if letter.isupper() else letter for letter in name).lstrip("_")
    payload: dict[str, Any] = {
        "code": code,
        "message": str(exc),
        "original_message_id": reply_to,
        "retryable": False,
        "details": {},
    }
    return of_client("error", payload, reply_to)


def _without_what_is_not_there(fields: Message) -> Message:
    return {name: value for name, value in fields.items() if value is not None and value is not False}
