"""Frames as they are made, held against those of the `websockets` library."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Frame, Opcode

from ngos.gateway.wire import DEFLATE_BYTES, text_frame


@given(st.binary(max_size=70_000))
def test_a_frame_is_what_the_library_makes(data: bytes) -> None:
    """Tries to make a frame that differs from the one of the `websockets` library."""
    assert Frame(Opcode.TEXT, data).serialize(mask=False) == text_frame(data)


@given(st.binary(max_size=3000).map(lambda data: data * 30), st.integers(9, 15))
def test_a_compressed_frame_is_read_by_the_library(data: bytes, window_bits: int) -> None:
    """Tries to make a compressed frame that a peer who agreed on this window can't read, or reads as something else."""
    wire = text_frame(data, window_bits)
    peer = PerMessageDeflate(True, True, window_bits, window_bits)
    assert data == _parse(wire, peer, len(data)).data
    assert (len(data) >= DEFLATE_BYTES) == bool(wire[0] & 0x40)


def _parse(wire: bytes, peer: PerMessageDeflate, max_size: int) -> Frame:
    def read_exact(size: int):
        nonlocal wire
        data, wire = wire[:size], wire[size:]
        return data
        yield

    parser = Frame.parse(read_exact, mask=False, max_size=max_size, extensions=[peer])
    try:
        next(parser)
    except StopIteration as exc:
        return exc.value
    raise AssertionError("the frame is not complete")
