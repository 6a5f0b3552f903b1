"""What the encoders write is what the readers read: commands, messages, envelopes, times."""

from __future__ import annotations

import math
import tracemalloc
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ngos.protocol import codec
from ngos.protocol.catalog import COMMANDS, MESSAGES
from ngos.protocol.codec import MessageError
from ngos.protocol.commands import Command, TokenCreate, TokenUpdate
from ngos.protocol.converters import iso, iso_of_ms
from ngos.protocol.messages import Message, Pong, TokenListed
from ngos.protocol.values import Token, TokenHead
from tests.strategies import command_ids, json_values, payloads_of


@pytest.mark.parametrize("cls", COMMANDS.values(), ids=COMMANDS)
@settings(max_examples=30)
@given(data=st.data())
def test_commands_round_trip(cls: type[Command], data: st.DataObject) -> None:
    """A command that a client encodes is the command that the server decodes, defaults left out or not."""
    command = data.draw(payloads_of(cls))
    id_ = data.draw(st.none() | command_ids.filter(lambda text: "\0" not in text))
    received = codec.decode(codec.encode_command(command, id_))
    assert (command, id_) == (received.command, received.id)
    assert isinstance(received.command, cls)


@pytest.mark.parametrize("cls", MESSAGES.values(), ids=MESSAGES)
@settings(max_examples=30)
@given(data=st.data())
def test_messages_round_trip(cls: type[Message], data: st.DataObject) -> None:
    """A message that the server encodes is the message that a client reads."""
    message = data.draw(payloads_of(cls))
    data_ = codec.encode(cls.TYPE, codec.dump(message), id_="i", timestamp_ms=1, reply_to="m")
    envelope = codec.parse(data_)
    assert ("i", cls.TYPE, 1, "m", False) == (
        envelope.id,
        envelope.type,
        envelope.timestamp,
        envelope.reply_to,
        envelope.replayed,
    )
    assert message == codec.structure(envelope.payload, cls)


@given(payloads_of(TokenListed))
def test_a_list_keeps_its_kind_of_token(listed: TokenListed) -> None:
    """Tokens without coordinates don't come back as tokens with them, nor the other way round."""
    read = codec.structure(orjson.loads(codec.dump(listed)), TokenListed)
    assert [type(token) for token in listed.tokens] == [type(token) for token in read.tokens]
    assert {Token, TokenHead} >= {type(token) for token in read.tokens}


def test_the_envelope_of_an_event() -> None:
    """A durable event has topic, seq, epoch and sender; an ephemeral one no seq and no epoch; a reply none of them."""
    common: dict[str, Any] = {"id_": "i", "timestamp_ms": 5}
    durable = codec.encode("e", b"{}", **common, topic="t", seq=1, epoch="0000000a", sender_id="c")
    assert {
        "id": "i",
        "type": "e",
        "timestamp": 5,
        "payload": {},
        "topic": "t",
        "seq": 1,
        "epoch": "0000000a",
        "sender_id": "c",
    } == orjson.loads(durable)
    ephemeral = orjson.loads(codec.encode("e", b"{}", **common, topic="t", sender_id="c"))
    assert {"id", "type", "timestamp", "payload", "topic", "sender_id"} == ephemeral.keys()
    reply = orjson.loads(codec.encode("e", b"{}", **common, reply_to="m", replayed=True))
    assert {"id", "type", "timestamp", "payload", "reply_to", "replayed"} == reply.keys()


@given(st.text(st.characters(codec="utf-8"), max_size=50), json_values)
def test_any_type_and_payload_are_one_envelope(type_: str, payload: Any) -> None:
    """No type or payload of a client's own can break out of its envelope."""
    envelope = orjson.loads(codec.encode(type_, orjson.dumps(payload), id_="i", timestamp_ms=0, sender_id="c"))
    assert {"id": "i", "type": type_, "timestamp": 0, "payload": payload} == envelope


@given(st.binary(max_size=200) | json_values.map(orjson.dumps))
def test_a_server_that_does_not_speak_it(data: bytes) -> None:
    """Whatever a server sends, a client gets an Envelope or MessageError."""
    try:
        assert isinstance(codec.parse(data), codec.Envelope)
    except MessageError as exc:
        assert "ngos protocol" in str(exc)


@given(json_values, st.sampled_from(sorted(MESSAGES)))
def test_a_payload_that_is_another(value: Any, name: str) -> None:
    """A payload that is not of its class is MessageError, never another exception."""
    try:
        assert isinstance(codec.structure(value, MESSAGES[name]), Message)
    except MessageError as exc:
        assert MESSAGES[name].__name__ in str(exc)


def test_fields_of_a_later_version_are_ignored() -> None:
    """A client of today reads messages that have got more fields, at every level."""
    envelope = codec.parse(
        b'{"id":"i","type":"token.list","timestamp":1,"later":1,"payload":{"tokens":[],"count":0,"offset":0,'
        b'"total":null,"next":null,"later":{},"position":{"topic":"tokens","epoch":"0000000a","seq":0,"later":[]}}}'
    )
    assert 0 == codec.structure(envelope.payload, TokenListed).position.seq


@given(st.datetimes(datetime(1970, 1, 2), datetime(9999, 12, 30)), st.integers(-23, 23))  # noqa: DTZ001
def test_times(naive: datetime, offset_h: int) -> None:
    """A time is written in UTC with six digits of microseconds and a Z, whatever its zone, and read back exactly."""
    moment = naive.replace(tzinfo=timezone(timedelta(hours=offset_h)))
    text = iso(moment)
    assert naive - timedelta(hours=offset_h) == datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%fZ")  # noqa: DTZ007
    assert len("2025-01-01T00:00:00.000000Z") == len(text)
    assert moment == datetime.fromisoformat(text)


@given(st.integers(0, 253_402_300_799_999))
def test_times_of_milliseconds(timestamp_ms: int) -> None:
    """Milliseconds come through exactly, in the same form."""
    text = iso_of_ms(timestamp_ms)
    assert text.endswith("000Z")
    read = datetime.fromisoformat(text) - datetime(1970, 1, 1, tzinfo=UTC)
    assert timestamp_ms == read // timedelta(milliseconds=1)


def test_a_zero_that_is_sent_is_not_left_out() -> None:
    """Leaving out defaults must not leave out values that only look like them."""
    id_ = UUID(int=1)
    update = orjson.loads(codec.encode_command(TokenUpdate(token_id=id_, flags=0, weight=1.0, metadata={})))
    assert {"token_id": str(id_), "flags": 0, "weight": 1.0, "metadata": {}} == update["payload"]
    assert {"type": "token.create", "payload": {}} == orjson.loads(codec.encode_command(TokenCreate()))


@pytest.mark.parametrize("value", [b"bytes", {1, 2}, object(), 2**70, "\ud800"])
def test_what_json_does_not_have(value: Any) -> None:
    """A client that encodes what JSON can't hold gets TypeError, and nothing is sent."""
    with pytest.raises(TypeError):
        codec.encode_command(TokenCreate(metadata={"a": value}))


def test_nan_is_not_written() -> None:
    """JSON has no NaN: it goes out as null, which a reader refuses, and not as a number."""
    assert b'{"type":"token.create","payload":{"weight":null}}' == codec.encode_command(TokenCreate(weight=math.nan))


def test_what_is_encoded_takes_its_length_in_memory() -> None:
    """Tries to have a small message hold on to the buffer that it was written in, which no limit in bytes counts."""
    dumped = codec.dump(Pong(message_id="x" * 100))
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        kept = [codec.encode("pong", dumped, id_="a", timestamp_ms=1) for _ in range(1000)]
        kept += [codec.dump(Pong(message_id="x" * 100)) for _ in range(1000)]
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert grown < sum(map(len, kept)) + 2000 * 64
