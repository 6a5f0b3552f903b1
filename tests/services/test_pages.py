"""Cursors: what `next` says leads on, and nothing else does."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ngos.protocol.faults import ClientError, ErrorCode
from ngos.services.pages import decode_cursor, encode_cursor

times = st.datetimes(timezones=st.just(UTC))


@given(times, st.uuids())
@example(datetime.min.replace(tzinfo=UTC), UUID(int=0))
@example(datetime.max.replace(tzinfo=UTC), UUID(int=2**128 - 1))
def test_a_place_is_found_again(at: datetime, id_: UUID) -> None:
    """Tries to lose a microsecond or a bit of a place."""
    assert (at, id_) == decode_cursor(encode_cursor(at, id_))


# Nearly all that is base64 of the right length is a place; what is not: times that there are not, other alphabets.
almost = st.text(st.sampled_from("AZaz09-_+/= \n"), min_size=30, max_size=36)


@given(st.text(max_size=40) | almost | st.binary(min_size=24, max_size=24).map(lambda raw: raw.hex()[:32]))
@example("AAAAAAAAAAAAaAAAAAAAAAjAAAAAAAAA=")
@example("A" * 32 + "====")
@example("+" * 32)
def test_any_text(cursor: str) -> None:
    """Tries to have a text taken for a cursor that `encode_cursor` would not write, or an exception of another kind."""
    try:
        place = decode_cursor(cursor)
    except ClientError as exc:
        assert ErrorCode.INVALID_PAYLOAD is exc.code
    else:
        assert cursor == encode_cursor(*place)


def test_a_time_that_there_is_not() -> None:
    """Tries to get an exception of the calendar's out of a cursor whose time is beyond it."""
    with pytest.raises(ClientError):
        decode_cursor("f" * 32)
