"""How much one may do: meters and counts, by connection, by subject and by address. No I/O; the clock is Trio's.

What a client is told when it is over one is protocol.md's sections 7 and 8; how often that happened, `Refusals` knows.
Nothing here grows with what clients send: a `Ledger` keeps as many idle entries as it was made for, and a name that a
client may choose for itself is never a key.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from enum import StrEnum
from typing import Final, Generic, TypeVar

from attrs import define, field

from ngos.config import Settings
from ngos.protocol.catalog import COMMANDS
from ngos.protocol.commands import Command, Publish
from ngos.protocol.faults import CommandFailed, NoRoom, TooDeep
from ngos.protocol.messages import Event

RETRY_AFTER_S: Final = 1.0
"""What who is over a rate is told to wait, at least: then a second's worth is there again."""
FRAME_COMMANDS: Final = 4
"""What a frame counts as that is no message: few are honest, and each costs as much as half a Ping of ours."""

LISTENERS: Final = 25
"""Subscribers that make a command of the common kind count as one more, since its event goes to each of them."""
_TOPICS: Final = {
    command: reply.TOPIC
    for command in COMMANDS.values()
    if command.WRITES
    for reply in command.REPLIES
    if issubclass(reply, Event)
}

K = TypeVar("K", bound=Hashable)


class Limit(StrEnum):
    """The limits, by the name of their setting."""

    MESSAGE_BYTES = "message_bytes"
    MESSAGE_DEPTH = "message_depth"
    SUBSCRIPTIONS = "subscriptions"
    CUSTOM_TOPICS = "custom_topics"
    DURABLE_TOPIC_NAMES = "durable_topic_names"
    IN_FLIGHT = "in_flight"
    CONNECTIONS = "connections"
    CONNECTIONS_PER_ADDRESS = "connections_per_address"
    CONNECTIONS_PER_SUBJECT = "connections_per_subject"
    ARRIVALS_PER_S = "arrivals_per_s"
    COMMANDS_PER_S = "commands_per_s"
    BYTES_PER_S = "bytes_per_s"
    SUBJECT_COMMANDS_PER_S = "subject_commands_per_s"
    SUBJECT_BYTES_PER_S = "subject_bytes_per_s"
    OVER_LIMIT_S = "over_limit_s"
    HANDSHAKE_S = "handshake_s"
    HEADER_BYTES = "header_bytes"
    AUTH_TIMEOUT_S = "auth_timeout_s"


@define(eq=False)
class Refusals:
    """How often each limit was met."""

    counts: dict[Limit, int] = field(init=False, factory=lambda: dict.fromkeys(Limit, 0))

    def count(self, limit: Limit) -> None:
        self.counts[limit] += 1

    def note(self, failure: CommandFailed) -> None:
        """Count a limit that a command met further inside, if it is one."""
        if isinstance(failure, TooDeep):
            self.count(Limit.MESSAGE_DEPTH)
        elif isinstance(failure, NoRoom):
            self.count(Limit.DURABLE_TOPIC_NAMES)


@define(eq=False)
class Meter:
    """A token bucket: so much a second on average, and `burst_s` seconds' worth at once.

    In the form of ATM's generic cell rate algorithm (ITU-T I.371): it is the one time until which all is paid for.
    """

    limit: Limit
    burst_s: float
    cost_s: float
    paid_until: float = field(init=False, default=0.0)

    @classmethod
    def of(cls, limit: Limit, per_s: float, burst_s: float) -> Meter:
        return cls(limit, burst_s, 1 / per_s)

    def become(self, other: Meter) -> None:
        """Go on at another's rate; what was charged stays charged."""
        self.burst_s, self.cost_s = other.burst_s, other.cost_s

    def excess_s(self, amount: float, now: float) -> float:
        """Seconds until `amount` would be within the rate; 0 or less: it is now. An empty meter lets anything by."""
        until = self.paid_until
        return until - now + amount * self.cost_s - self.burst_s if until > now else 0.0

    def charge(self, amount: float, now: float) -> None:
        self.paid_until = max(self.paid_until, now) + amount * self.cost_s


@define(eq=False)
class Use:
    """What one key uses: the connections that are open, and meters."""

    meters: tuple[Meter, ...]
    open: int = field(init=False, default=0)


@define(eq=False)
class Ledger(Generic[K]):
    """Uses by key: those with open connections, and at most `idle_size` others, the latest.

    They are kept for a while so that coming back does not wipe the slate.
    """

    idle_size: int
    _make: Callable[[], Use]
    _open: dict[K, Use] = field(init=False, factory=dict)
    _idle: OrderedDict[K, Use] = field(init=False, factory=OrderedDict)

    def __len__(self) -> int:
        return len(self._open) + len(self._idle)

    def retune(self, idle_size: int) -> None:
        """Have every meter go on at the rate that a new one has now."""
        self.idle_size = idle_size
        fresh = self._make().meters
        for use in (*self._open.values(), *self._idle.values()):
            for meter, like in zip(use.meters, fresh, strict=True):
                meter.become(like)
        while len(self._idle) > idle_size:
            self._idle.popitem(last=False)

    def of(self, key: K) -> Use:
        """The use of a key, made if there is none."""
        use = self._open.get(key)
        if use is None:
            use = self._idle.get(key)
            if use is None:
                use = self._idle[key] = self._make()
                if len(self._idle) > self.idle_size:
                    self._idle.popitem(last=False)
            else:
                self._idle.move_to_end(key)
        return use

    def enter(self, key: K) -> Use:
        """Count one more connection, until `leave`."""
        use = self.of(key)
        if not use.open:
            self._open[key] = use
            self._idle.pop(key, None)
        use.open += 1
        return use

    def leave(self, key: K) -> None:
        """Count one less."""
        use = self._open[key]
        use.open -= 1
        if not use.open:
            del self._open[key]
            self._idle[key] = use
            if len(self._idle) > self.idle_size:
                self._idle.popitem(last=False)


@define(eq=False)
class Pace:
    """What a connection sends, against the meters that it has to keep to.

    `over_s`, `over_count`: how long, and how often in that time, it may be over one of them; a second without that is
    where it begins anew, so who waits as he was told to is never too long over.
    """

    meters: tuple[tuple[Meter, Meter], ...]
    _over_s: float
    _over_count: float
    _refusals: Refusals
    _over_since: float = field(init=False, default=0.0)
    _over_last: float = field(init=False, default=float("-inf"))
    _over: int = field(init=False, default=0)

    def admit(self, size_bytes: int, now: float, commands: int = 1) -> float:
        """Charge commands of so many bytes; 0: they may be done, else the seconds to wait: they are not charged.

        `Meter.excess_s` and `charge` written out, as it is done for every command: 0.9 µs, called 2.5.
        """
        for counted, sized in self.meters:
            until = counted.paid_until
            if until > now and until - now + commands * counted.cost_s > counted.burst_s:
                return self._refuse(counted, commands, commands, now)
            until = sized.paid_until
            if until > now and until - now + size_bytes * sized.cost_s > sized.burst_s:
                return self._refuse(sized, size_bytes, commands, now)
        for counted, sized in self.meters:
            until = counted.paid_until
            counted.paid_until = (max(now, until)) + commands * counted.cost_s
            until = sized.paid_until
            sized.paid_until = (max(now, until)) + size_bytes * sized.cost_s
        return 0.0

    def become(self, other: Pace) -> None:
        """Have the first of the meters, which are the connection's own, go on as another's."""
        for meter, like in zip(self.meters[0], other.meters[0], strict=True):
            meter.become(like)
        self._over_s, self._over_count = other._over_s, other._over_count

    def _refuse(self, meter: Meter, amount: float, commands: int, now: float) -> float:
        self._refusals.count(meter.limit)
        if now - self._over_last >= RETRY_AFTER_S:
            self._over_since, self._over = now, 0
        self._over_last = now
        self._over += commands
        return max(RETRY_AFTER_S, meter.excess_s(amount, now))

    def spend(self, commands: int, now: float) -> None:
        """Charge what a command turned out to cost beside itself; who comes next has to wait for it."""
        for counted, _ in self.meters:
            counted.charge(commands, now)

    def is_too_long(self) -> bool:
        """Whether it has been over them for so long, or so often, that it has to go."""
        if self._over_last - self._over_since > self._over_s or self._over > self._over_count:
            self._refusals.count(Limit.OVER_LIMIT_S)
            return True
        return False


def topic_of(command: Command) -> str | None:
    """The topic that a command's event goes to; None: it has none."""
    return command.topic if isinstance(command, Publish) else _TOPICS.get(type(command))


def pace_of(settings: Settings, refusals: Refusals) -> Pace:
    """The pace of a new connection."""
    commands = Meter.of(Limit.COMMANDS_PER_S, settings.commands_per_s, settings.burst_s)
    sizes = Meter.of(Limit.BYTES_PER_S, settings.bytes_per_s, settings.burst_s)
    most = settings.commands_per_s * settings.over_limit_s
    return Pace(((commands, sizes),), settings.over_limit_s, most, refusals)
