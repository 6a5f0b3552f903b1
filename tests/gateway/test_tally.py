"""The tally: what went well is counted by its time alone, and each answer once."""

from __future__ import annotations

from collections import Counter

import orjson
from hypothesis import given
from hypothesis import strategies as st

from ngos.gateway.tally import FROM_THE_START, OK, UNKNOWN, Tally
from ngos.log.write import Encoded
from ngos.protocol.catalog import COMMANDS
from ngos.protocol.faults import CommandFailed, ErrorCode

TYPES = sorted(COMMANDS)
ENDS = st.sampled_from(("ok", "replied", "failed", "kept", "abandoned", "refused", "unread"))


@given(st.lists(st.tuples(st.sampled_from(TYPES), ENDS, st.sampled_from(ErrorCode))))
async def test_each_answer_is_counted_once(ends: list[tuple[str, str, ErrorCode]]) -> None:
    """Tries to have an answer counted as what it is not, twice, or not at all."""
    tally = Tally()
    expected = Counter(dict.fromkeys(((type_, outcome) for type_ in TYPES for outcome in (OK, *FROM_THE_START)), 0))
    for type_, end, code in ends:
        begun = tally.begin(type_, 0.0, None)
        match end:
            case "ok":
                tally.end(begun, None)
                expected[type_, OK] += 1
            case "replied":
                tally.end(begun, Encoded("pong", b"{}"))
                expected[type_, OK] += 1
            case "failed":
                tally.end(begun, CommandFailed(code, ""))
                expected[type_, code.value] += 1
            case "kept":
                tally.end(begun, Encoded("error", orjson.dumps({"code": code.value})))
                expected[type_, code.value] += 1
            case "abandoned":
                tally.abandon(begun)
            case "refused":
                tally.refused(type_, CommandFailed(code, ""))
                expected[type_, code.value] += 1
            case "unread":
                tally.refused(None, CommandFailed(code, ""))
                expected[UNKNOWN, code.value] += 1
    assert dict(expected) == tally.counts
