"""What is not a command, or not quite: `codec.decode` says DecodeError and nothing else, with the right code."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ngos.protocol import codec
from ngos.protocol.codec import Received
from ngos.protocol.commands import Ping, TokenCreate
from ngos.protocol.faults import DecodeError, ErrorCode
from tests.strategies import command_ids, json_objects, json_values


def refusal(message: bytes | dict[str, Any]) -> DecodeError:
    """Decode what must be refused, and return how it was."""
    with pytest.raises(DecodeError) as caught:
        codec.decode(message if isinstance(message, bytes) else orjson.dumps(message))
    return caught.value


def paths(error: DecodeError) -> list[str]:
    return [fault["path"] for fault in error.details["errors"]]


def nested(depth: int) -> bytes:
    """A token.create nested `depth` deep, with the envelope as the first level."""
    arrays = depth - 3
    return b'{"type":"token.create","payload":{"metadata":{"a":%s}}}' % (b"[" * arrays + b"]" * arrays)


@given(st.binary(max_size=300))
def test_any_bytes(data: bytes) -> None:
    """Bytes of any kind are a command or DecodeError, never another exception."""
    try:
        assert isinstance(codec.decode(data), Received)
    except DecodeError as exc:
        # The last of them by chance; Hypothesis knows the words of our source.
        decoding = {ErrorCode.INVALID_JSON, ErrorCode.INVALID_MESSAGE, ErrorCode.UNKNOWN_TYPE}
        assert exc.code in {*decoding, ErrorCode.INVALID_PAYLOAD}


@given(json_values)
def test_any_json(value: Any) -> None:
    """JSON of any kind is a command or DecodeError, never another exception."""
    try:
        assert isinstance(codec.decode(orjson.dumps(value)), Received)
    except DecodeError as exc:
        assert exc.message


@given(
    st.fixed_dictionaries({}, optional=dict.fromkeys(["id", "type", "payload", "timestamp", "sender_id"], json_values)),
    st.sampled_from(["ping", "token.list", "experience.record", "token.create"]),
    st.booleans(),
)
def test_any_envelope(envelope: dict[str, Any], type_: str, known: bool) -> None:
    """Any JSON in any envelope field is a command, or an error whose every path is in the message."""
    message = {**envelope, "type": type_} if known else envelope
    try:
        received = codec.decode(orjson.dumps(message))
    except DecodeError as exc:
        for fault in exc.details.get("errors", []):
            field = fault["path"].split(".")[0]
            assert field in message or fault["message"] == "is required" or exc.code is ErrorCode.INVALID_PAYLOAD
        assert exc.command_id in (None, message.get("id"))
    else:
        assert message.get("id") == received.id
        assert message.get("timestamp") == received.timestamp_ms


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b" ",
        b"{",
        b"null",
        b"[]",
        b'"ping"',
        b"1",
        b"{}{}",
        b'{"type":"ping",}',
        b"{'type':'ping'}",
        b'\xef\xbb\xbf{"type":"ping"}',
        b'{"type":"ping"}\x00',
        b'{"type":"\xff"}',
        b'{"type":"ping","id":"\\ud800"}',
        b'{"type":"ping","id":"\xed\xa0\x80"}',
        b'{"type":"token.create","payload":{"weight":NaN}}',
        b'{"type":"token.create","payload":{"weight":Infinity}}',
        b'{"type":"token.create","payload":{"weight":-1e400}}',
        b"[" * 60_000,
        b'{"a":' * 10_000,
    ],
)
def test_not_json(data: bytes) -> None:
    """What is not one JSON object in UTF-8 is invalid_json: no NaN, no lone surrogate, no two values."""
    error = refusal(data)
    assert ErrorCode.INVALID_JSON == error.code
    assert error.command_id is None


@pytest.mark.parametrize(
    "payload",
    [
        b'{"x":"\\ud800"}',
        b'{"x":"\\udc00\\ud800"}',
        b'{"\\ud800":1}',
        b'{"x":NaN}',
        b'{"x":-Infinity}',
        b'{"x":%s}' % (b"[" * 33 + b"]" * 33),
    ],
)
def test_almost_json_is_answered(payload: bytes) -> None:
    """Tries to have a client wait in vain: what JSON.stringify or json.dumps took for JSON is refused to its sender."""
    error = refusal(b'{"type":"publish","id":"a","payload":%s}' % payload)
    assert (ErrorCode.INVALID_JSON, "a") == (error.code, error.command_id)


@pytest.mark.parametrize(
    "id_", [b'"\\ud800"', b'""', b'"%s"' % (b"x" * 129), b"1", b'"a\\u0000"', b"9" * 5000, b"[" * 30_000]
)
def test_almost_json_with_a_bad_id(id_: bytes) -> None:
    """Tries to have an id echoed that is none, or to end the reader, by a message that is refused as a whole."""
    error = refusal(b'{"id":%s,"payload":{"x":NaN}}' % id_)
    assert (ErrorCode.INVALID_JSON, None) == (error.code, error.command_id)


def test_depth_has_a_limit() -> None:
    """32 levels are read and 33 refused, whether of objects or arrays, and however many are side by side."""
    codec.decode(nested(32))
    assert ErrorCode.INVALID_JSON == refusal(nested(33)).code
    objects = b'{"a":' * 40 + b"1" + b"}" * 40
    assert ErrorCode.INVALID_JSON == refusal(b'{"type":"ping","other":%s}' % objects).code
    flat = codec.decode(b'{"type":"ping","other":[%s]}' % b",".join([b"[[]]"] * 2000))
    assert Ping() == flat.command


@pytest.mark.parametrize("id_", [None, "", "x" * 129, 7, True, 1.5, [], {}, "a\0b"])
def test_bad_ids(id_: Any) -> None:
    """An id that is no string of 1 to 128 characters without NUL is refused, and not echoed."""
    error = refusal({"type": "ping", "id": id_})
    assert ErrorCode.INVALID_MESSAGE == error.code
    assert ["id"] == paths(error)
    assert error.command_id is None


@given(command_ids.filter(lambda text: "\0" not in text))
def test_good_ids(id_: str) -> None:
    """Any other string of 1 to 128 characters is an id, and comes through as it is."""
    assert id_ == codec.decode(orjson.dumps({"type": "ping", "id": id_})).id


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", 0),
        ("-1", -1),
        ("1760000000000", 1760000000000),
        (str(2**63 - 1), 2**63 - 1),
        (str(2**63), None),
        (str(-(2**63)), None),
        ("1" * 400, None),
        ("1760000000000.0", None),
        ("1e3", None),
        ('"1760000000000"', None),
        ("true", None),
        ("null", None),
        ("[]", None),
    ],
)
def test_timestamps(text: str, expected: int | None) -> None:
    """A timestamp is an integer that fits eight bytes; all else is refused, whatever it looks like."""
    message = f'{{"type":"ping","timestamp":{text}}}'.encode()
    if expected is not None:
        assert expected == codec.decode(message).timestamp_ms
    elif len(text) > 309:
        assert ErrorCode.INVALID_JSON == refusal(message).code
    else:
        error = refusal(message)
        assert (ErrorCode.INVALID_MESSAGE, ["timestamp"]) == (error.code, paths(error))


def test_envelope_faults_come_together() -> None:
    """All envelope fields that are wrong are named at once, each by its path."""
    error = refusal({"id": 1, "type": None, "payload": [], "timestamp": "now"})
    assert ErrorCode.INVALID_MESSAGE == error.code
    assert ["id", "type", "payload", "timestamp"] == paths(error)
    assert [{"path": "type", "message": "is required"}] == refusal({"id": "a"}).details["errors"]


@given(json_objects)
def test_unknown_envelope_fields_are_ignored(more: dict[str, Any]) -> None:
    """Fields that the protocol does not know, or that only a server sends, change nothing."""
    known = {"id": "m", "type": "ping", "payload": {}}
    ours = {"sender_id": "forged", "reply_to": 7, "topic": [], "seq": "x", "epoch": None}
    more.pop("timestamp", None)  # that one is known
    received = codec.decode(orjson.dumps({**ours, **more, **known}))
    assert (Ping(), "m") == (received.command, received.id)


def test_no_payload_is_an_empty_one() -> None:
    """A payload may be left out, but not be null."""
    assert Ping() == codec.decode(b'{"type":"ping"}').command
    assert ["payload"] == paths(refusal(b'{"type":"ping","payload":null}'))


def test_the_last_of_two_equal_keys_counts() -> None:
    """Twice the same key is one value everywhere: nothing is checked by the first and used by the second."""
    received = codec.decode(b'{"type":"ping","type":"token.create","payload":{"flags":-1,"flags":2}}')
    assert TokenCreate(flags=2) == received.command


@pytest.mark.parametrize(
    ("name", "meant"),
    [("token.crate", "token.create"), ("Ping", "ping"), ("subscribed", "subscribe"), ("zzzzzzzz", None), ("", None)],
)
def test_unknown_types(name: str, meant: str | None) -> None:
    """An unknown type says what was meant where a name is close, and never echoes what was sent."""
    error = refusal({"type": name, "id": "m"})
    assert (ErrorCode.UNKNOWN_TYPE, "m") == (error.code, error.command_id)
    assert f"no such command; did you mean {meant}?" == error.message if meant else "no such command" == error.message


def test_a_long_type_costs_nothing() -> None:
    """A type as long as a message is refused as fast as a short one, and not sent back."""
    assert len(refusal({"type": "token.create" * 5000}).message) < 100


@pytest.mark.parametrize("key", ["k{}", "\x01{}" + "\x01" * 9, "é{}" + "é" * 300, "{}" + "\x01" * 250])
def test_a_flood_of_unknown_fields_is_answered_shortly(key: str) -> None:
    """Hundreds of thousands of unknown payload fields don't get an answer of their own size."""
    payload = {key.format(n): 0 for n in range(200_000 if len(key) < 10 else 10_000)}
    error = refusal({"type": "ping", "payload": payload})
    assert ErrorCode.INVALID_PAYLOAD == error.code
    answer = orjson.dumps({"message": error.message, "details": error.details})
    assert len(answer) < 16 * 1024


def test_the_size_is_the_messages() -> None:
    """`size_bytes`, which bounds what waits, counts the bytes that came, white space too."""
    message = b'  {"type": "ping"}  '
    assert len(message) == codec.decode(message).size_bytes
