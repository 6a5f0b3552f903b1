"""The line to the other nodes: it is made again when it breaks, and says whether it works.

Promises: `send` neither waits nor raises; what is heard is heard from one of us, in the order that its node sent it, at
most once. That the line works is known by hearing oneself: a bus that is stopped, or that forgot who listens, says
nothing of it. Where it does not work, what is committed is still seen, by asking the log each second
(`ngos.log.relay`).
"""

from __future__ import annotations

import random
import secrets
from collections import Counter, OrderedDict
from collections.abc import Callable
from hashlib import blake2b
from typing import Final, Protocol

import structlog
import trio
from attrs import define, field, frozen

from ngos.backplane.bundle import Forged, Part, pack, unpack
from ngos.backplane.outbox import Outbox
from ngos.errors import RedisUnavailable, StorageUnavailable
from ngos.incidents import report

BEAT_S: Final = 1.0
"""How often a node says that it is there."""
LOST_S: Final = 4.0
"""After so long without having heard itself, a node makes the line anew."""
LINK_S: Final = 5.0
"""What it may take to come about."""
SEND_S: Final = 2.0
"""What sending a bundle may take."""
SPEAKERS: Final = 1_000
"""Nodes of which it is known what was heard of them last; those that were silent for longest are forgotten."""
LATE: Final = "late"
"""What `heard` counts bundles as that are not new."""
ODD: Final = "odd"
"""What `heard` counts as well that was not understood, bundles and parts."""
REPORTED: Final = 1_000
"""Nodes and kinds of which it is known that it was reported; past it, from the beginning."""
FIRST_PAUSE_S: Final = 0.25
LONGEST_PAUSE_S: Final = 5.0

NOT_YET: Final = "it has not come about yet"

_log = structlog.get_logger("ngos.backplane")

Hearer = Callable[[str, bytes], None]
"""Is told the node that sent a part, and its body. Must not wait. Whatever it raises: it has not understood."""


@frozen
class Cluster:
    """What the nodes on one database share. `cluster_id` names it on a bus that others use too."""

    cluster_id: str
    secret: bytes = field(repr=False)

    @classmethod
    def of(cls, secret: bytes, *identity: str | None) -> Cluster:
        """That of a database: a copy of it, which has the same secret, is another."""
        named = "|".join(part or "" for part in identity).encode()
        return cls(blake2b(named, key=secret, digest_size=8).hexdigest(), secret)


class Carrier(Protocol):
    """Carries bundles to all nodes, this one included. `bundle_bytes`: what one should have at most."""

    bundle_bytes: int

    async def carry(self, line: Line, cluster: Cluster) -> None:
        """Listen, then call `line.linked`; send what is in `line.outbox`, and give `line.hear` what comes.

        Until cancelled, or until StorageUnavailable or RedisUnavailable.
        """


@define(eq=False)
class Line:
    """See the module. Without a carrier there are no others to tell, and it works.

    `beat` makes the body of what a node says each second, as kind `node`, unless it `is_leaving`. `is_linked`: what is
    sent goes out, as far as is known. `lost`: why the line does not work, which it does from the first word on that a
    node hears of itself; None: it works. `on_change` is called when that changes, with whether it works now, and
    `on_heard` when all parts of a bundle were given to who hears them. `tried`: for the first time the line has come
    about, or failed to.
    """

    _carrier: Carrier | None
    beat: Callable[[], bytes] = field(init=False, default=lambda: b"")
    on_change: Callable[[bool], None] = field(init=False, default=lambda _works: None)
    on_heard: Callable[[], None] = field(init=False, default=lambda: None)
    is_leaving: bool = field(init=False, default=False)
    node_id: str = field(init=False, factory=lambda: secrets.token_hex(8))
    outbox: Outbox = field(init=False, factory=Outbox)
    is_linked: bool = field(init=False, default=False)
    lost: str | None = field(init=False)
    tried: trio.Event = field(init=False, factory=trio.Event)
    heard: Counter[str] = field(init=False, factory=Counter)
    forged: int = field(init=False, default=0)
    breaks: int = field(init=False, default=0)
    _cluster: Cluster | None = field(init=False, default=None)
    _number: int = field(init=False, default=0)
    _latest: OrderedDict[str, int] = field(init=False, factory=OrderedDict)
    _hearers: dict[str, Hearer] = field(init=False, factory=dict)
    _reported: set[tuple[str, str]] = field(init=False, factory=set)
    _link: trio.CancelScope = field(init=False, factory=trio.CancelScope)

    def __attrs_post_init__(self) -> None:
        self.lost = NOT_YET
        if self._carrier is None:
            self.lost = None
            self.tried.set()

    @property
    def is_alone(self) -> bool:
        """Whether there can be no other nodes."""
        return self._carrier is None

    @property
    def bundle_bytes(self) -> int:
        """What goes at once; what is longer goes a longer way."""
        return 0 if self._carrier is None else self._carrier.bundle_bytes

    def on(self, kind: str, hearer: Hearer) -> None:
        """Have what comes of a kind from other nodes be told to `hearer`. What nobody listens for is dropped."""
        self._hearers[kind] = hearer

    def send(self, kind: str, body: bytes) -> None:
        """Tell all other nodes. `body` is UTF-8 text without NUL."""
        if self.is_linked:
            self.outbox.put(kind, body)

    def bundle(self) -> bytes:
        """What is to be sent next. There must be something in the outbox."""
        assert self._carrier is not None
        return self.pack(self.outbox.take(self._carrier.bundle_bytes))

    def pack(self, parts: list[Part]) -> bytes:
        """A bundle of ours."""
        assert self._cluster is not None
        self._number += 1
        return pack(self._cluster.secret, self.node_id, self._number, parts)

    def linked(self) -> None:
        """The carrier listens."""
        self.is_linked = True
        self._link.deadline = trio.current_time() + LOST_S
        self.tell()  # the first that it hears of itself

    def hear(self, data: bytes) -> None:
        """A bundle has come."""
        assert self._cluster is not None
        try:
            node_id, number, parts = unpack(self._cluster.secret, data)
            is_new = self._is_new(node_id, number)
        except Forged:
            self.forged += 1
            return
        except (ValueError, TypeError, LookupError) as exc:
            self._not_understood("bundle", "", exc)
            return
        if not is_new:
            self.heard[LATE] += 1
            return
        if node_id == self.node_id:
            self._link.deadline = trio.current_time() + LOST_S
            self._set_lost(None)
            return
        for kind, body in parts:
            hearer = self._hearers.get(kind)
            if hearer is None:  # a node of another version says what we don't know
                continue
            self.heard[kind] += 1
            try:
                hearer(node_id, body)
            except Exception as exc:
                # Said otherwise by a node of another version, or our defect: what is durable comes by the log.
                self._not_understood(kind, node_id, exc)
        self.on_heard()

    def _not_understood(self, kind: str, node_id: str, exc: Exception) -> None:
        """Report it once: such a node says it again each second, or with each commit."""
        self.heard[ODD] += 1
        if (kind, node_id) in self._reported:
            return
        if len(self._reported) >= REPORTED:
            self._reported.clear()
        self._reported.add((kind, node_id))
        report("backplane.defect", exc, kind=kind, node=node_id)

    def _is_new(self, node_id: str, number: int) -> bool:
        """Whether nothing that the node sent later was heard. What was is said again, or was overtaken on its way."""
        if number <= self._latest.get(node_id, 0):
            return False
        self._latest[node_id] = number
        self._latest.move_to_end(node_id)
        if len(self._latest) > SPEAKERS:
            self._latest.popitem(last=False)
        return True

    async def run(self, cluster: Cluster) -> None:
        """Keep the line until cancelled."""
        self._cluster = cluster
        if self._carrier is None:
            await trio.sleep_forever()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._beat)
            await self._keep(self._carrier, cluster)

    async def _keep(self, carrier: Carrier, cluster: Cluster) -> None:
        pause_s = FIRST_PAUSE_S
        while True:
            self._link = trio.CancelScope(deadline=trio.current_time() + LINK_S)
            reason = f"no word of it for {LOST_S:g} s"
            try:
                with self._link:
                    await carrier.carry(self, cluster)
            except (RedisUnavailable, StorageUnavailable) as exc:
                reason = str(exc)
            if self.is_linked:
                self.is_linked, pause_s = False, FIRST_PAUSE_S
                self.outbox.clear()
            self._set_lost(reason)
            await trio.sleep(pause_s * random.uniform(0.75, 1.25))  # noqa: S311
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    async def _beat(self) -> None:
        while True:
            await trio.sleep(BEAT_S)
            if self.is_linked:  # else nobody would hear what it costs a look at each connection to tell
                self.tell()

    def tell(self) -> None:
        """Say that this node is there, now and not when it is time again."""
        if not self.is_leaving:  # else who heard its `bye` would count on it again
            self.send("node", self.beat())

    def _set_lost(self, reason: str | None) -> None:
        self.tried.set()
        was, self.lost = self.lost, reason
        if (was is None) == (reason is None):
            if reason is not None and reason != was:
                _log.warning("backplane.away", reason=reason)
            return
        if reason is None:
            _log.info("backplane.works")
        else:
            self.breaks += 1
            _log.warning("backplane.lost", reason=reason, hint="the log is read each second; nothing is lost")
        self.on_change(reason is None)
