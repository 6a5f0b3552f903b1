"""The commands that are about the connection itself: ping, authenticate, subscribe, unsubscribe."""

from __future__ import annotations

from attrs import define, evolve, field

from ngos.config import Settings
from ngos.gateway.connection import Connection
from ngos.gateway.replay import Replay
from ngos.log.history import History
from ngos.log.hub import ExtentReader, Hub
from ngos.protocol.commands import Authenticate, Ping, Subscribe, Unsubscribe
from ngos.protocol.faults import ClientError, ErrorCode
from ngos.protocol.messages import Authenticated, Pong, Reply, Subscribed, Unsubscribed
from ngos.protocol.values import Position
from ngos.services.handlers import Call, answers
from ngos.services.topics import Topics


@define(eq=False)
class Session:
    """What a connection asks about itself."""

    _hub: Hub
    _history: History
    _read_extent: ExtentReader
    _topics: Topics
    _settings: Settings
    recovered: int = field(init=False, default=0)
    not_recovered: int = field(init=False, default=0)

    @answers(Ping)
    async def ping(self, _command: Ping, call: Call) -> Reply:
        return Pong(message_id=call.command_id)

    @answers(Authenticate)
    async def authenticate(self, _command: Authenticate, call: Call) -> Reply:
        """Nobody has to authenticate yet: any token is taken, and the client is who it says it is."""
        return Authenticated(subject=call.client_id, expires_at=None)

    @answers(Subscribe)
    async def subscribe(self, command: Subscribe, call: Call) -> Reply:
        connection: Connection = call.connection
        name = command.topic
        if name not in connection.subscriptions and len(connection.subscriptions) >= self._settings.subscriptions:
            message = f"a connection may follow {self._settings.subscriptions} topics: unsubscribe from one first"
            raise ClientError(ErrorCode.TOO_MANY_SUBSCRIPTIONS, message)
        if not self._topics.is_durable(name):
            self._hub.add(name, connection, after=None)
            connection.subscribe(name)
            return Subscribed(topic=name, success=True, durable=False, epoch=None, seq=None, recovered=False, replay=0)
        try:
            since, position = await self._start(command)
        except BaseException:
            self._hub.release(name)
            raise
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
