"""What `ngos.gateway.core` relies on of the inside of the `websockets` library, assumption by assumption."""

from __future__ import annotations

import inspect
from importlib.metadata import version

import pytest
from websockets.frames import Frame, Opcode
from websockets.protocol import Protocol, Side, State

from ngos.gateway.core import BadHandshake, Core, negotiate


def masked(opcode: Opcode, data: bytes, *, fin: bool = True) -> bytes:
    return Frame(opcode, data, fin=fin).serialize(mask=True)


def test_the_version() -> None:
    """Tries to run on a `websockets` that was not read."""
    assert version("websockets").startswith("17.4")


def test_each_frame_is_taken_in_by_the_method_that_is_overridden() -> None:
    """Tries to have the library take in frames by another way, or let what that raises go elsewhere than to `fail`."""
    parse = inspect.getsource(Protocol.parse)
    assert "self.recv_frame(frame)" in parse
    assert "except UnicodeDecodeError as exc:\n            self.fail(CloseCode.INVALID_DATA" in parse
    assert "extensions=self.extensions" in parse


def test_a_close_within_a_message_is_still_a_fault_to_the_library() -> None:
    """Tries to keep our mending when the library no longer needs it."""
    library = Protocol(Side.SERVER)
    library.receive_data(masked(Opcode.TEXT, b"a", fin=False) + masked(Opcode.CLOSE, b"\x03\xe8"))
    assert library.close_sent is not None
    assert 1002 == library.close_sent.code
    core = Core(1000)
    core.receive_data(masked(Opcode.TEXT, b"a", fin=False) + masked(Opcode.CLOSE, b"\x03\xe8"))
    assert core.close_sent is not None
    assert 1000 == core.close_sent.code
    assert core.close_rcvd_then_sent


def test_the_end_is_state() -> None:
    """Tries to have an end that can't be told from the state: who closed first, and whether more may come."""
    broken = Core(1000)
    broken.receive_data(b"\xff\xff")
    assert State.CLOSING is broken.state
    assert broken.eof_sent
    assert broken.close_rcvd is None
    assert not broken.close_rcvd_then_sent
    ours = Core(1000)
    ours.send_close(1012, "")
    ours.receive_data(masked(Opcode.CLOSE, b"\x03\xf4"))
    assert ours.close_rcvd is not None
    assert ours.close_rcvd_then_sent is False


KEY = (b"sec-websocket-key", b"dGhlIHNhbXBsZSBub25jZQ==")
VERSION = (b"sec-websocket-version", b"13")
ASKED = [KEY, VERSION]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ([VERSION], 400),
        ([VERSION, (b"sec-websocket-key", b"c2hvcnQ=")], 400),
        ([VERSION, (b"sec-websocket-key", b"\xff" * 24)], 400),
        ([VERSION, KEY, KEY], 400),
        ([KEY], 400),
        ([KEY, (b"sec-websocket-version", b"8")], 426),
        ([KEY, VERSION, VERSION], 426),
        ([*ASKED, (b"content-length", b"5")], 400),
        ([*ASKED, (b"transfer-encoding", b"chunked")], 400),
        ([*ASKED, (b"sec-websocket-extensions", b"permessage-deflate; =")], 400),
        ([*ASKED, (b"sec-websocket-extensions", b"\xff")], 400),
    ],
)
def test_a_wrong_request_is_refused(headers: list[tuple[bytes, bytes]], status: int) -> None:
    """Tries to be upgraded by a request that section 4.2.1 of RFC 6455 does not allow."""
    with pytest.raises(BadHandshake) as refused:
        negotiate(headers, deflates=True)
    assert status == refused.value.status


@pytest.mark.parametrize(
    ("offer", "agreed", "bits"),
    [
        (b"permessage-deflate", "", 12),
        (b"permessage-deflate; client_max_window_bits", "; client_max_window_bits=12", 12),
        (b"permessage-deflate; server_max_window_bits=9", "", 9),
        (b"permessage-deflate; server_max_window_bits=8, permessage-deflate", "", 12),
        (b"x-webkit-deflate-frame", None, 0),
        (b"permessage-deflate; unknown", None, 0),
    ],
)
def test_compression_is_agreed_on_without_context(offer: bytes, agreed: str | None, bits: int) -> None:
    """Tries to make the server keep a window for each connection, or compress as the client did not ask for."""
    handshake = negotiate([*ASKED, (b"sec-websocket-extensions", offer)], deflates=True)
    answer = dict(handshake.headers).get(b"sec-websocket-extensions")
    if agreed is None:
        assert answer is None
        assert handshake.deflate is None
    else:
        expected = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
        assert f"{expected}; server_max_window_bits={bits}{agreed}" == (answer or b"").decode()
        assert handshake.deflate is not None
        assert (bits, True, True) == (
            handshake.deflate.local_max_window_bits,
            handshake.deflate.local_no_context_takeover,
            handshake.deflate.remote_no_context_takeover,
        )
    assert negotiate([*ASKED, (b"sec-websocket-extensions", offer)], deflates=False).deflate is None
