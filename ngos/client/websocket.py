"""NeuroGraphWebSocketClient: messages and handlers by their types, on asyncio. A layer over `ngos.client.asyncio`.

    client = NeuroGraphWebSocketClient("ws://localhost:8000/ws")
    client.on("token.created", lambda message: print(message["payload"]["token_id"]))
    await client.connect()
    await client.send("subscribe", {"topic": "tokens"})
    await client.send("token.create", {"type": "demo", "weight": 1.0})

Handlers hear messages as dicts with the fields of protocol.md section 2. May import this package and the protocol.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any, Final, Self

from attrs import evolve

from ngos.client.asyncio import connect
from ngos.client.backoff import Backoff
from ngos.client.callbacks import Callbacks
from ngos.client.client import Client, Pending
from ngos.client.errors import ConnectionLost, GapError, SessionError, SlowSubscriber
from ngos.client.followed import Followed
from ngos.client.handlers import Handler, Handlers, in_handler
from ngos.client.messages import Message, of_client, of_event, of_failure, of_reply
from ngos.client.proof import Token
from ngos.client.replies import Replies
from ngos.client.requests import QUEUE_BYTES
from ngos.client.session import State
from ngos.protocol.codec import MessageError
from ngos.protocol.converters import WRITER
from ngos.protocol.messages import ConnectionEstablished

FLUSH_S: Final = 1.0
"""How long `disconnect` waits for the replies to what was sent before."""


class NeuroGraphWebSocketClient:
    """A client whose messages go to handlers. It reconnects and resumes as `ngos.client.asyncio.connect` has it.

    What reaches the handlers of its type, and those of `*`: the greeting of each connection, every reply (`error` is
    one), every event of what was subscribed by `send("subscribe", …)`, each once, and operators' broadcasts. Handlers
    are called one after another, in the order that messages came, and a handler that is async is awaited before the
    next: they never pile up. While they are slow, events wait on the server (durable topics), or are lost, which is an
    `error` with code `slow_subscriber` (ephemeral ones). What a handler raises goes to the loop's exception handler;
    the others are called nevertheless. A handler may call anything here.

    Over a break that leaves a hole in a durable topic, `callbacks.gap` hears of it, then its events go on from where
    the server is.
    """

    def __init__(
        self,
        url: str,
        *,
        client_id: str | None = None,
        token: Token | None = None,
        connect_s: float = 10.0,
        request_s: float = 30.0,
        reconnect: bool = True,
        backoff: Backoff | None = None,
        queue_bytes: int = QUEUE_BYTES,
        callbacks: Callbacks | None = None,
    ) -> None:
        """The arguments are those of `ngos.client.asyncio.connect`. Nothing is opened yet."""
        self._callbacks = callbacks or Callbacks()
        self._connect: Callable[[], AbstractAsyncContextManager[Client]] = lambda: connect(
            url,
            client_id=client_id,
            token=token,
            connect_s=connect_s,
            request_s=request_s,
            reconnect=reconnect,
            backoff=backoff,
            queue_bytes=queue_bytes,
            callbacks=evolve(self._callbacks, connected=self._greeted),
        )
        self._handlers = Handlers()
        self._client: Client | None = None
        self._running: asyncio.Task[None] | None = None
        self._leaving = asyncio.Event()
        self._connecting = asyncio.Lock()
        self._replies = Replies(self._handlers)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._followed: dict[str, Followed] = {}

    # The connection

    @property
    def is_connected(self) -> bool:
        """Whether there is a connection now."""
        return self._client is not None and self._client.state is State.CONNECTED

    @property
    def client(self) -> Client:
        """The client below, with the commands as methods. Raises RuntimeError before `connect`."""
        if self._client is None:
            raise RuntimeError("not connected: `await client.connect()` comes first")
        return self._client

    async def connect(self) -> None:
        """Connect, and stay connected until `disconnect`. Does nothing while it is; who calls meanwhile waits too.

        Raises ConnectFailed; RuntimeError in a handler after `disconnect`, for that waits for the handler. Cancelled,
        it is given up.
        """
        if self._leaving.is_set() and in_handler() and self._client is not None:
            raise RuntimeError("not disconnected yet: connect again when this handler is done")
        async with self._connecting:
            if self._client is not None and self._client.lost is None and not self._leaving.is_set():
                return
            await self.disconnect()
            self._leaving = asyncio.Event()
            ready = asyncio.get_running_loop().create_future()
            running = self._running = asyncio.create_task(self._run(ready, self._leaving))
            try:
                await asyncio.wait((ready, running), return_when=asyncio.FIRST_COMPLETED)
            except asyncio.CancelledError:
                running.cancel()
                await asyncio.wait((running,))
                self._running = None
                raise
            if not ready.done():
                self._running = None
                await running

    async def disconnect(self) -> None:
        """Wait for the replies to what was sent, at most a second, say goodbye, and forget what was subscribed.

        Handlers stay; one that is still under way is cancelled, and left alone when it goes on for another second,
        which the loop's exception handler hears. Does nothing where there is no connection. Called by a handler it
        does not wait. Raises what a callback has raised.
        """
        self._leaving.set()
        if self._running is not None and not in_handler():
            running, self._running = self._running, None
            await running

    async def __aenter__(self) -> Self:
        await self.connect()
        return self

    async def __aexit__(
        self, _type: type[BaseException] | None, _value: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        await self.disconnect()

    # Handlers

    def on(self, type: str, handler: Handler) -> Callable[[], None]:
        """Call `handler`, a function or an async one, with each message of this type, or with all where it is `*`.

        Returns a function that takes it back, as `off` does.
        """
        self._handlers.add(type, handler)
        return lambda: self.off(type, handler)

    def off(self, type: str, handler: Handler) -> None:
        """Call `handler` for this type no more; nothing happens where it was not."""
        self._handlers.remove(type, handler)

    # Messages

    async def send(self, type: str, payload: Mapping[str, Any] | None = None) -> str:
        """Send a message and return its id; the reply goes to handlers. It does not wait for that.

        Without a connection it is kept for the next. Messages take effect in the order of the calls. Waits only while
        a thousand of them wait for replies and handlers. Raises ConnectionLost when there will be no connection any
        more, and RequestTooBig, QueueFull or TypeError (not JSON), the caller's faults.
        """
        free = await self._replies.room()
        try:
            id_, outcome, pending = self._begin(type, payload or {}, None)
        except BaseException:
            free()
            raise
        task = self._replies.add(id_, outcome, pending, free)
        if type == "subscribe" and (followed := self._followed.get(str((payload or {}).get("topic")))) is not None:
            task.add_done_callback(lambda _: followed.heard.set())
        return id_

    async def request(self, type: str, payload: Mapping[str, Any] | None = None, *, id: str | None = None) -> Message:
        """Send a message and return its reply, which handlers hear too. Waits as `send`, raises as `Client.request`."""
        free = await self._replies.room()
        try:
            _, outcome, _ = self._begin(type, payload or {}, id)
            followed = self._followed.get(str((payload or {}).get("topic"))) if type == "subscribe" else None
            try:
                message = await outcome
            finally:
                if followed is not None:
                    followed.heard.set()
        except BaseException:
            free()
            raise
        self._spawn(self._handlers.hear(message)).add_done_callback(lambda _: free())
        return message

    # Inside

    def _begin(
        self, type_: str, payload: Mapping[str, Any], id_: str | None
    ) -> tuple[str, Coroutine[Any, Any, Message], Pending | None]:
        """Queue a command, and return its id and what waits for its reply."""
        topic = payload.get("topic")
        if type_ == "subscribe" and isinstance(topic, str) and _is_position(payload):
            id_ = id_ or f"subscribe-{secrets.token_hex(8)}"
            return id_, self._subscribe(topic, payload, id_), None
        if type_ == "unsubscribe" and topic in self._followed:
            id_ = id_ or f"unsubscribe-{secrets.token_hex(8)}"
            self._followed.pop(str(topic)).close()
            return id_, _at_once(of_client("unsubscribed", {"topic": topic, "success": True}, id_)), None
        pending = self.client.queue(type_, payload, id=id_)
        return pending.id, _reply(pending), pending

    def _subscribe(self, topic: str, payload: Mapping[str, Any], id_: str) -> Coroutine[Any, Any, Message]:
        followed = self._followed.get(topic)
        if followed is not None and payload.get("since") is None:
            return followed.answer(id_)
        events = self.client.subscribe(topic, since=payload.get("since"), epoch=payload.get("epoch"))
        events.start()  # before the one that it takes the place of ends: so the server has no reason to stop
        if followed is not None:
            followed.close()
        followed = self._followed[topic] = Followed(events)
        followed.task = self._spawn(self._follow(topic, followed))
        return followed.answer(id_)

    async def _follow(self, topic: str, followed: Followed) -> None:
        """Let handlers hear a topic's events until it is unsubscribed."""
        now: tuple[str, int] | None = None
        while True:
            try:
                async with followed.events as events:
                    followed.agreed(events.opening)
                    await followed.heard.wait()
                    async for event in events:
                        await self._replies.heard()
                        await self._handlers.hear(of_event(event))
                return
            except ConnectionLost as exc:
                followed.refused(exc)  # `callbacks.disconnected` told it, or the program left
                return
            except (SessionError, MessageError) as exc:
                if followed.refused(exc):
                    self._followed.pop(topic, None)
                    return
                now = exc.now if isinstance(exc, GapError) else None
                if not isinstance(exc, GapError):
                    await self._handlers.hear(of_failure(exc, None))
            if self._followed.get(topic) is not followed:
                return
            epoch, since = now or (None, None)
            followed.events = self.client.subscribe(topic, since=since, epoch=epoch)
            followed.events.start()

    def _greeted(self, established: ConnectionEstablished) -> None:
        self._spawn(self._handlers.hear(of_client(ConnectionEstablished.TYPE, WRITER.unstructure(established), None)))
        if self._callbacks.connected is not None:
            self._callbacks.connected(established)

    async def _run(self, ready: asyncio.Future[None], leaving: asyncio.Event) -> None:
        """Hold the client until it is to leave."""
        try:
            async with self._connect() as self._client:
                self._spawn(self._hear_broadcasts(self._client))
                ready.set_result(None)
                await leaving.wait()
                if self._replies.tasks and self.is_connected:
                    await asyncio.wait(self._replies.tasks, timeout=FLUSH_S)
        finally:
            self._client = None
            self._followed.clear()
            tasks = (*self._tasks, *self._replies.tasks)
            for task in tasks:
                task.cancel()
            if tasks:
                _, deaf = await asyncio.wait(tasks, timeout=FLUSH_S)
                for task in deaf:
                    text = f"a handler went on for {FLUSH_S:g} s after it was cancelled, and is left alone"
                    asyncio.get_running_loop().call_exception_handler({"message": text, "task": task})

    async def _hear_broadcasts(self, client: Client) -> None:
        while True:
            try:
                async for event in client.broadcasts():
                    await self._handlers.hear(of_event(event))
            except SlowSubscriber as exc:
                await self._handlers.hear(of_failure(exc, None))
            except ConnectionLost:
                return  # `callbacks.disconnected` told it, or the program left

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _is_position(payload: Mapping[str, Any]) -> bool:
    """Whether a `subscribe` is one; what is not, the server is asked to explain."""
    since, epoch = payload.get("since"), payload.get("epoch")
    return (since is None or type(since) is int) and (epoch is None or isinstance(epoch, str))


async def _at_once(message: Message) -> Message:
    return message


async def _reply(pending: Pending) -> Message:
    return of_reply(await pending.reply())
