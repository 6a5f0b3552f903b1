"""`Core`: whatever a peer sends, and however it arrives, is the same messages, end and answers."""

from __future__ import annotations

from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Opcode

from ngos.gateway.core import Core
from tests.web.wire import frame

LIMIT = 200


class Slow(Core):
    """Without the fast path."""

    def _read_plain(self, data: bytes | bytearray) -> bytes | bytearray:
        return data


def outcome(core: Core, chunks: list[bytes]) -> tuple[Any, ...]:
    """What a core makes of what comes, and the most that it has kept of it."""
    said = b""
    for chunk in chunks:
        core.receive_data(chunk)
        said += b"".join(core.data_to_send())
        assert len(core.reader.buffer) + len(core._parts) <= 2 * LIMIT + 14 + len(chunk)
    return core.messages, core.close_sent, core.close_rcvd, core.close_rcvd_then_sent, core.state, said


texts = st.text(max_size=9).map(str.encode) | st.sampled_from([b"", b"\xff", b"\xce", b"x" * LIMIT, b"x" * (LIMIT + 1)])
closes = st.sampled_from([b"", b"\x03", b"\x03\xe8", b"\x03\xed", b"\x03\xe8\xff", b"\x0f\xa0bye"])


@st.composite
def frames(draw: st.DrawFn) -> bytes:
    """A frame that may be right."""
    opcode = draw(st.sampled_from(Opcode))
    data = draw(closes if opcode is Opcode.CLOSE else texts)
    wire = frame(opcode, data, fin=draw(st.booleans()), masked=draw(st.integers(0, 9)) > 0)
    # A reserved bit or opcode, another size: one bit of the head is another, now and then.
    if draw(st.integers(0, 9)) == 0:
        at = draw(st.integers(0, 1))
        return wire[:at] + bytes([wire[at] ^ 1 << draw(st.integers(0, 7))]) + wire[at + 1 :]
    return wire


@settings(deadline=None)
@given(st.lists(frames(), max_size=6).map(b"".join) | st.binary(max_size=60), st.booleans(), st.data())
@example(b"\x81\x81\0\0\0\0\xce" + b"\x80\x81\0\0\0\0\xb1", False, None)
def test_any_frames_in_any_cuts(wire: bytes, deflates: bool, data: st.DataObject | None) -> None:
    """Tries to have what comes be read otherwise by the fast path, or because of where the network has cut it."""

    def make(kind: type[Core]) -> Core:
        return kind(LIMIT, PerMessageDeflate(True, True, 12, 12) if deflates else None)

    whole = outcome(make(Core), [wire])
    assert whole == outcome(make(Slow), [wire])
    places = st.lists(st.integers(0, len(wire)), max_size=8)
    cuts = list(range(len(wire))) if data is None else sorted(data.draw(places))
    chunks = [wire[start:end] for start, end in zip([0, *cuts], [*cuts, len(wire)], strict=True) if end > start]
    assert whole == outcome(make(Core), chunks)
    assert whole == outcome(make(Slow), chunks)
