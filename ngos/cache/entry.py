"""An answer as it is kept: without the position that it is given at, which is another each time. Pure.

In Redis it is signed, with a key that lies in Postgres, for the very key it is kept under: what is there can be
forgotten, swapped or made up, and never becomes an answer.
"""

from __future__ import annotations

import hmac
from hashlib import blake2b
from typing import Any, Final

import attrs
import orjson
from attrs import define, field, frozen

from ngos import __version__
from ngos.protocol import codec
from ngos.protocol.commands import Command
from ngos.protocol.messages import Reply
from ngos.protocol.values import Position

OVERHEAD_BYTES: Final = 600
"""About what an entry takes beside its body and its tags."""
TAG_BYTES: Final = 60
"""About what a tag takes beside its characters."""
_SIGNATURE_BYTES: Final = 16
_POSITION: Final = b',"position":'


@frozen
class Found:
    """What the database has found: `reply`, true at `position`; `tags`: what it depends on, of that topic.

    Where the reply tells its position, it is this one, and its last field.
    """

    reply: Reply
    position: Position
    tags: Any = field(repr=False)
    """An iterable of str, which is only gone through if the answer is kept."""


@define(eq=False)
class Entry:
    """An answer that is kept. `body` is its payload, `tells` whether a position belongs into it.

    `seq` moves up whenever it was seen to hold.
    """

    type: str
    topic: str
    epoch: str
    seq: int
    tags: list[str]
    tells: bool
    body: bytes = field(repr=False)

    @classmethod
    def of(cls, found: Found) -> Entry:
        payload = codec.dump(found.reply)
        tells = hasattr(found.reply, "position")
        if tells:
            head, _, _ = payload.rpartition(_POSITION)
            payload = head + b"}"
        at = found.position
        return cls(found.reply.TYPE, at.topic, at.epoch, at.seq, list(found.tags), tells, payload)

    @property
    def size_bytes(self) -> int:
        return OVERHEAD_BYTES + len(self.body) + sum(map(len, self.tags)) + TAG_BYTES * len(self.tags)

    def payload(self) -> bytes:
        """The answer's payload, at the position that the entry has."""
        if not self.tells:
            return self.body
        position = orjson.dumps({"topic": self.topic, "epoch": self.epoch, "seq": self.seq})
        return b"".join((self.body[:-1], _POSITION, position, b"}"))

    def sealed(self, key: bytes, secret: bytes) -> bytes:
        """Its form for Redis."""
        head = [self.type, self.topic, self.epoch, self.seq, self.tags, self.tells]
        data = b"".join((orjson.dumps(head), b"\n", self.body))
        return _signature(key, data, secret) + data

    @classmethod
    def unsealed(cls, key: bytes, sealed: object, secret: bytes) -> Entry | None:
        """Read that form; None where it is not what `sealed` has made, of an entry of this key."""
        if not isinstance(sealed, bytes):
            return None
        data = sealed[_SIGNATURE_BYTES:]
        if not hmac.compare_digest(sealed[:_SIGNATURE_BYTES], _signature(key, data, secret)):
            return None
        head, _, body = data.partition(b"\n")
        type_, topic, epoch, seq, tags, tells = orjson.loads(head)
        return cls(type_, topic, epoch, seq, tags, tells, body)


def key_of(command: Command) -> bytes:
    """Names a command with all its fields, and the version, whose answers may have others: 16 bytes."""
    fields = attrs.asdict(command, recurse=False)
    return blake2b(orjson.dumps([__version__, command.TYPE, fields]), digest_size=16).digest()


def _signature(key: bytes, data: bytes, secret: bytes) -> bytes:
    return blake2b(key + data, key=secret, digest_size=_SIGNATURE_BYTES, person=b"ngos cache").digest()
