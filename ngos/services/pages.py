"""Lists that are read page by page, newest first by (created_at, id), with an opaque cursor."""

from __future__ import annotations

import base64
import binascii
from datetime import UTC, datetime, timedelta
from uuid import UUID

from ngos.protocol.faults import ClientError, ErrorCode

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def encode_cursor(created_at: datetime, id_: UUID) -> str:
    """The place behind a row."""
    micros = (created_at - _EPOCH) // _MICROSECOND
    return base64.urlsafe_b64encode(micros.to_bytes(8, "big", signed=True) + id_.bytes).decode()


def decode_cursor(cursor: str) -> tuple[datetime, UUID]:
    """Read a place back. Raises ClientError where it is not one that `encode_cursor` made."""
    try:
        raw = base64.b64decode(cursor, altchars=b"-_", validate=True)
        if len(raw) != 24:
            raise ValueError("wrong length")
        place = _EPOCH + int.from_bytes(raw[:8], "big", signed=True) * _MICROSECOND, UUID(bytes=raw[8:])
        if encode_cursor(*place) != cursor:
            raise ValueError("base64, but not as we write it")  # Python reads more, as padding in the middle
        return place
    except (ValueError, binascii.Error, OverflowError):
        errors = [{"path": "payload.after", "message": "must be the `next` of an earlier reply"}]
        raise ClientError(
            ErrorCode.INVALID_PAYLOAD, "payload.after must be the `next` of an earlier reply", errors=errors
        ) from None
