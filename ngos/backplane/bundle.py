"""What goes over the backplane at once: several parts, and by what its receivers know that one of us sent it. Pure.

The bus is not ours: whoever reaches Redis can publish there, and every role of a database may NOTIFY. The secret is in
a table that only the server's role reads. UTF-8 text without NUL, which is all that NOTIFY takes.

    MAC, 32 hex digits | node, 16 hex digits | JSON: [number, [kind, bytes of its body], …] | line feed | bodies

The number grows with each bundle of a node: who can read the bus can say again what was said, and then it is not new.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from hashlib import blake2b
from typing import Final

import orjson

Part = tuple[str, bytes]
"""A kind, and a body of that kind: UTF-8 text."""

MAC_CHARS: Final = 32
NODE_CHARS: Final = 16
HEAD_BYTES: Final = MAC_CHARS + NODE_CHARS + 20
PART_BYTES: Final = 32
"""What a part takes beside its body, at most; kinds are short."""


class Forged(Exception):
    """It is none of ours, or was changed on its way. Its sender's fault, whoever that is."""


def pack(secret: bytes, node_id: str, number: int, parts: Sequence[Part]) -> bytes:
    """Make a bundle of parts."""
    head = orjson.dumps([number, *((kind, len(body)) for kind, body in parts)])
    content = b"".join([node_id.encode(), head, b"\n", *(body for _, body in parts)])
    return _mac(secret, content) + content


def unpack(secret: bytes, data: bytes) -> tuple[str, int, list[Part]]:
    """The sender's node id, the bundle's number, and the parts.

    Raises Forged; ValueError, TypeError and LookupError, where one of us says it otherwise, or not all of it.
    """
    mac, content = data[:MAC_CHARS], data[MAC_CHARS:]
    if not hmac.compare_digest(mac, _mac(secret, content)):
        raise Forged
    # From here on it is one of us who speaks: what is wrong now is of another version, or a defect.
    end = content.index(b"\n")
    number, *lengths = orjson.loads(content[NODE_CHARS:end])
    if type(number) is not int:
        raise TypeError("its number is none")
    parts = []
    start = end + 1
    for kind, length in lengths:
        if type(kind) is not str or type(length) is not int or length < 0:
            raise TypeError("a part is not named by its kind and length")
        parts.append((kind, content[start : start + length]))
        start += length
    if start != len(content):
        raise ValueError(f"{start} bytes were told of, and it has {len(content)}")
    return content[:NODE_CHARS].decode(), number, parts


def _mac(secret: bytes, content: bytes) -> bytes:
    return blake2b(content, key=secret, digest_size=MAC_CHARS // 2).hexdigest().encode()
