"""What goes over the backplane, and who can make the nodes believe something."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ngos.backplane.bundle import HEAD_BYTES, MAC_CHARS, PART_BYTES, Forged, pack, unpack

SECRET = b"s" * 32
NODE = "0123456789abcdef"
PARTS = st.lists(st.tuples(st.sampled_from(["log", "event", "node"]), st.text().map(str.encode)), max_size=20)


@given(PARTS)
def test_comes_out_as_it_went_in(parts: list[tuple[str, bytes]]) -> None:
    """Tries to have parts run into each other, or be of another node."""
    data = pack(SECRET, NODE, 2**53, parts)
    assert (NODE, 2**53, parts) == unpack(SECRET, data)
    assert len(data) <= HEAD_BYTES + sum(PART_BYTES + len(body) for _, body in parts)


@given(PARTS, st.data())
def test_a_changed_bundle_is_none_of_ours(parts: list[tuple[str, bytes]], data: st.DataObject) -> None:
    """Tries to change a bundle in one place, or to cut it, without the nodes' noticing."""
    bundle = bytearray(pack(SECRET, NODE, 7, parts))
    place = data.draw(st.integers(0, len(bundle) - 1))
    cut = bundle[:place]
    bundle[place] ^= data.draw(st.integers(1, 255))
    for forged in (bytes(bundle), bytes(cut)):
        with pytest.raises(Forged):
            unpack(SECRET, forged)


@given(st.binary(max_size=200))
def test_garbage_is_none_of_ours(garbage: bytes) -> None:
    """Tries to have a node fail, or believe, by what anybody can publish."""
    with pytest.raises(Forged):
        unpack(SECRET, garbage)


def test_another_cluster_is_not_heard() -> None:
    """Tries to have two clusters that share a bus hear each other."""
    bundle = pack(b"t" * 32, NODE, 7, [("log", b"[]\n")])
    with pytest.raises(Forged):
        unpack(SECRET, bundle)
    assert MAC_CHARS == 32
