"""The commands that are about the connection itself: ping, authenticate, subscribe, unsubscribe."""

from __future__ import annotations

from attrs import define

from ngos.config import Settings
from ngos.gateway.connection import Connection
from ngos.log.hub import Hub
from ngos.protocol.commands import Authenticate, Ping, Subscribe, Unsubscribe
from ngos.protocol.faults import ClientError, ErrorCode
from ngos.protocol.messages import Authenticated, Pong, Reply, Subscribed, Unsubscribed
from ngos.services.handlers import Call, answers
from ngos.services.topics import Topics


@define(eq=False)
class Session:
    """What a connection asks about itself."""

    _hub: Hub
    _topics: Topics
    _settings: Settings

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
        durable = self._topics.is_durable(name)
        position = await self._hub.position(name) if durable else None
        # No checkpoint from here to the reply's place in the mailbox: the position stays true.
        self._hub.add(name, connection, after=position.seq if position else None)
        connection.subscriptions[name] = None
        return Subscribed(
            topic=name,
            success=True,
            durable=durable,
            epoch=position.epoch if position else None,
            seq=position.seq if position else None,
            recovered=False,
            replay=0,
        )

    @answers(Unsubscribe)
    async def unsubscribe(self, command: Unsubscribe, call: Call) -> Reply:
        connection: Connection = call.connection
        was_subscribed = command.topic in connection.subscriptions
        if was_subscribed:
            del connection.subscriptions[command.topic]
            self._hub.remove(command.topic, connection)
        return Unsubscribed(topic=command.topic, success=was_subscribed)
