"""The commands that are about the connection itself: ping, authenticate, subscribe, unsubscribe."""

from __future__ import annotations

from attrs import define, evolve, field

from ngos.gateway.access import Access
from ngos.gateway.connection import Connection
from ngos.gateway.limits import Limit, Refusals
from ngos.gateway.replay import Replay
from ngos.log.history import History
from ngos.log.hub import ExtentReader, Hub
from ngos.protocol.catalog import OWN_TOPICS
from ngos.protocol.close import CloseCode
from ngos.protocol.commands import Authenticate, Ping, Subscribe, Unsubscribe
from ngos.protocol.converters import iso_of_ms
from ngos.protocol.faults import ClientError, ErrorCode
from ngos.protocol.messages import Authenticated, Pong, Reply, Subscribed, Unsubscribed
from ngos.protocol.values import Position
from ngos.services.handlers import Call, answers
from ngos.services.topics import Topics


@define(eq=False)
class Session:
    """What a connection asks about itself."""

    _access: Access
    _refusals: Refusals
    _hub: Hub
    _history: History
    _read_extent: ExtentReader
    _topics: Topics
    recovered: int = field(init=False, default=0)
    not_recovered: int = field(init=False, default=0)

    @answers(Ping)
    async def ping(self, _command: Ping, call: Call) -> Reply:
        return Pong(message_id=call.command_id)

    @answers(Authenticate)
    async def authenticate(self, command: Authenticate, call: Call) -> Reply:
        """Say who one is, at first and anew. Where nobody has to, any token is taken."""
        if self._access.verifier is None:
            return Authenticated(subject=call.client_id, expires_at=None)
        identity = await self._access.identify(command.token)
        try:
            self._access.admit(call.connection, identity)
        except ClientError as exc:
            if exc.code is ErrorCode.RATE_LIMITED:
                call.connection.end(CloseCode.TOO_MANY_MESSAGES)
            raise
        return Authenticated(subject=identity.subject, expires_at=iso_of_ms(round(identity.expires_at_s * 1000)))

    @answers(Subscribe)
    async def subscribe(self, command: Subscribe, call: Call) -> Reply:
        connection: Connection = call.connection
        name = command.topic
        if name not in connection.subscriptions:
            self._check_room(connection, name)
        if not self._topics.is_durable(name):
            return self._follow(name, connection)
        try:
            since, position = await self._start(command)
        except BaseException:
            self._hub.release(name)
            raise
        if not self._topics.is_durable(name):  # any more: the settings were read again in the meantime
            self._hub.release(name)
            return self._follow(name, connection)
        if since is not None:
            self.recovered += 1
        elif command.since is not None:
            self.not_recovered += 1
        # No checkpoint from here to the reply's place in the mailbox: the position stays true.
        if since is None or since == position.seq:
            self._hub.add(name, connection, after=position.seq)
            connection.subscribe(name)
        else:
            self._hub.hold(name, connection)
            connection.subscribe(name, Replay(self._hub, self._history, connection, name, since))
        return Subscribed(
            topic=name,
            success=True,
            durable=True,
            epoch=position.epoch,
            seq=position.seq,
            recovered=since is not None,
            replay=0 if since is None else position.seq - since,
        )

    def _follow(self, name: str, connection: Connection) -> Reply:
        """Subscribe to an ephemeral topic."""
        self._hub.add(name, connection, after=None)
        connection.subscribe(name)
        return Subscribed(topic=name, success=True, durable=False, epoch=None, seq=None, recovered=False, replay=0)

    def _check_room(self, connection: Connection, name: str) -> None:
        custom = sum(topic not in OWN_TOPICS for topic in connection.subscriptions) if name not in OWN_TOPICS else 0
        for limit, most, count, what in (
            (Limit.SUBSCRIPTIONS, connection.settings.subscriptions, len(connection.subscriptions), "topics"),
            (Limit.CUSTOM_TOPICS, connection.settings.custom_topics, custom, "custom topics"),
        ):
            if count >= most:
                self._refusals.count(limit)
                message = f"a connection may follow {most} {what}: unsubscribe from one first"
                raise ClientError(ErrorCode.TOO_MANY_SUBSCRIPTIONS, message)

    async def _start(self, command: Subscribe) -> tuple[int | None, Position]:
        """Where a subscription to a durable topic starts: the `since` that it asks for, if the log holds what follows.

        And the position that is known to be committed, which is no older. Without a checkpoint after that was read.
        """
        position = await self._hub.position(command.topic)
        since = command.since
        if since is None or command.epoch not in (None, position.epoch):
            return None, position
        topic = self._hub.topic(command.topic)
        assert topic is not None
        pruned = topic.pruned
        if since > position.seq or pruned is None:
            # A list may have told of a change that was committed a moment ago, and that we have not heard of yet.
            extent = await self._read_extent(command.topic)
            pruned = extent.pruned
            position = await self._hub.position(command.topic)
            position = evolve(position, seq=max(position.seq, since if since <= extent.seq else 0))
        return since if pruned <= since <= position.seq else None, position

    @answers(Unsubscribe)
    async def unsubscribe(self, command: Unsubscribe, call: Call) -> Reply:
        connection: Connection = call.connection
        was_subscribed = connection.unsubscribe(command.topic)
        if was_subscribed:
            self._hub.remove(command.topic, connection)
        return Unsubscribed(topic=command.topic, success=was_subscribed)
