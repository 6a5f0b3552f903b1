"""Who a client is, and what it may do: tokens become identities, and commands are held against their grant."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol

import trio
from attrs import define, field

from ngos.auth.grants import EVERYTHING, Family, Grant, Identity
from ngos.auth.refusals import Refused
from ngos.config import Settings
from ngos.gateway.limits import RETRY_AFTER_S, Ledger, Limit, Meter, Pace, Refusals, Use
from ngos.protocol.commands import Authenticate, Command, Ping, Publish, Subscribe, Unsubscribe
from ngos.protocol.faults import ClientError, ErrorCode, rate_limited

if TYPE_CHECKING:
    from ngos.auth.verifier import Verifier


class Bearer(Protocol):
    """A connection, as far as it is about who it is."""

    identity: Identity | None
    pace: Pace

    @property
    def subscriptions(self) -> Mapping[str, object]: ...

    def identify(self, identity: Identity, until: float) -> None:
        """Be this one's, until this Trio time."""


@define(eq=False)
class Access:
    """Who is who on this node. Without a verifier nobody has to say who he is, and everybody may do everything.

    `clock_s` is Unix time.
    """

    verifier: Verifier | None
    _settings: Settings
    _refusals: Refusals
    _clock_s: Callable[[], float]
    _subjects: Ledger[str] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._subjects = Ledger(self._settings.connections, self._new_subject)

    def apply(self, settings: Settings) -> None:
        """Go on with other settings. Keys are the verifier's."""
        self._settings = settings
        self._subjects.retune(settings.connections)

    @property
    def grant_at_first(self) -> Grant | None:
        """What a connection may do before it has said who it is; None: say so."""
        return EVERYTHING if self.verifier is None else None

    async def identify(self, token: str) -> Identity:
        """Whose token this is. Raises ClientError `unauthenticated`, always after the same time."""
        assert self.verifier is not None
        try:
            return await self.verifier.verify(token)
        except Refused:
            raise ClientError(ErrorCode.UNAUTHENTICATED, "the token is not valid: get a new one") from None

    def check_room(self, subject: str) -> None:
        """Raises ClientError `rate_limited` where a subject has as many connections as it may."""
        if self._subjects.of(subject).open >= self._settings.connections_per_subject:
            self._refusals.count(Limit.CONNECTIONS_PER_SUBJECT)
            most = self._settings.connections_per_subject
            raise rate_limited(RETRY_AFTER_S, f"there are {most} connections of this subject: close one first")

    def charge(self, subject: str, size_bytes: int) -> None:
        """Count a command that comes over HTTP. Raises ClientError `rate_limited`."""
        pace = Pace((self._meters(self._subjects.of(subject)),), 0, 0, self._refusals)
        if wait_s := pace.admit(size_bytes, trio.current_time()):
            raise rate_limited(wait_s)

    def admit(self, bearer: Bearer, identity: Identity) -> None:
        """Let a connection be an identity's, for the first time or anew, as long as the token says.

        Raises ClientError: `forbidden` where it was another's, or follows topics that the new token does not allow;
        `rate_limited` where the subject has too many. Then all stays as it was.
        """
        known = bearer.identity
        if known is not None and known.subject != identity.subject:
            raise ClientError(ErrorCode.FORBIDDEN, "this connection is another subject's: open a new one")
        lost = [topic for topic in bearer.subscriptions if not identity.grant.may_subscribe(topic)]
        if lost:
            message = "the new token does not allow topics that are followed: unsubscribe from them first"
            raise ClientError(ErrorCode.FORBIDDEN, message, topics=lost)
        if known is None:
            self.check_room(identity.subject)
            use = self._subjects.enter(identity.subject)
            bearer.pace.meters += (self._meters(use),)
        left_s = identity.expires_at_s + self._settings.auth_leeway_s - self._clock_s()
        bearer.identify(identity, trio.current_time() + left_s)

    def leave(self, bearer: Bearer) -> None:
        """Forget a connection."""
        if bearer.identity is not None:
            self._subjects.leave(bearer.identity.subject)

    def _new_subject(self) -> Use:
        settings = self._settings
        return Use(
            (
                Meter.of(Limit.SUBJECT_COMMANDS_PER_S, settings.subject_commands_per_s, settings.burst_s),
                Meter.of(Limit.SUBJECT_BYTES_PER_S, settings.subject_bytes_per_s, settings.burst_s),
            )
        )

    @staticmethod
    def _meters(use: Use) -> tuple[Meter, Meter]:
        commands, sizes = use.meters
        return commands, sizes


def permit(command: Command, grant: Grant | None) -> None:
    """Hold a command against what its sender may do; None: it is not known who that is.

    Raises ClientError: `unauthenticated` or `forbidden`, saying what the token lacks. What needs an administrator has
    no command: it is among the routes of HTTP.
    """
    if isinstance(command, Authenticate):
        return
    if grant is None:
        raise ClientError(ErrorCode.UNAUTHENTICATED, "say who you are first, by the command authenticate")
    match command:
        case Ping() | Unsubscribe():
            return
        case Subscribe():
            if not grant.may_subscribe(command.topic):
                raise _forbidden(f"subscribe to {command.topic}")
        case Publish():
            if not grant.may_publish(command.topic):
                raise _forbidden(f"publish to {command.topic}")
        case _:
            family = Family.WRITE if command.WRITES else Family.READ
            if not grant.may(family):
                raise _forbidden(f"use commands that {family}")


def _forbidden(what: str) -> ClientError:
    return ClientError(ErrorCode.FORBIDDEN, f"the token does not allow to {what}")
