"""One connection of a client after another, for Trio: opened, served until it breaks, and opened anew.

What any of it means, and whether and when there is a next one, is the session's to say. May import this package
except the shells, and the protocol.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

import trio
from trio_websocket import ConnectionClosed, WebSocketConnection

from ngos.client.address import CLOSE_S, Address
from ngos.client.errors import NO_GOODBYE, ConnectFailed, ConnectionLost
from ngos.client.heartbeat import Heartbeat
from ngos.client.session import Session, State
from ngos.client.trio_socket import WatchedStream, open_socket


class Line:
    """The sockets of one session, at most one at a time."""

    def __init__(self, session: Session, address: Address, *, on_defect: Callable[[], object]) -> None:
        """`on_defect` is called when a callback of the program, or what is here, has raised, and `defect` is that."""
        self.defect: Exception | None = None
        self._session = session
        self._address = address
        self._on_defect = on_defect
        self._output = trio.Event()
        self._over = trio.Event()
        self._seeking = trio.CancelScope()

    def flush(self) -> None:
        """Wake the writer: the session has output."""
        self._output.set()

    def leave(self) -> None:
        """End the session, and the connection gently. The first reason counts: what was lost before stays lost."""
        self._session.leave()
        self._over.set()
        self._seeking.cancel()

    async def run(self, *, task_status: trio.TaskStatus[ConnectFailed | None]) -> None:
        """Serve the session until it has ended. Started with None when it is connected, else with the reason.

        Cancellation counts only until it has started; from there on `leave` is the end, and must be called: the
        goodbye needs the reader alive.
        """
        try:
            outcome = await self._hold(lambda: task_status.started(None))
            if isinstance(outcome, ConnectFailed):
                task_status.started(outcome)
            else:
                await self._come_back(outcome)
        except Exception as exc:
            self._end(_alone(exc))

    async def _come_back(self, wait_s: float | None) -> None:
        """Wait, and serve the next connection, until there is to be none."""
        # The program may have left while we said goodbye to the last connection.
        while wait_s is not None and self._session.ended is None:
            with trio.CancelScope(shield=True) as self._seeking:  # which `leave` cancels
                await trio.sleep(wait_s)
                outcome = await self._hold(lambda: None)
                if isinstance(outcome, ConnectFailed):
                    wait_s = self._session.refused(outcome)
                    self._tell()
                else:
                    wait_s = outcome
            if self._seeking.cancelled_caught:
                return

    async def _hold(self, on_connected: Callable[[], None]) -> ConnectFailed | float | None:
        """Open a socket and serve it until it breaks. Returns the seconds to wait before the next, or None: no more.

        Or why there came to be no connection. Cancelled, it is over at once, until it is connected; after that
        it does not listen.
        """
        failure: ConnectFailed | None = None
        wait_s: float | None = None
        self._over = trio.Event()
        async with AsyncExitStack() as closing, trio.open_nursery() as nursery:
            try:
                with trio.fail_after(self._address.connect_s):
                    socket = await self._open(nursery, closing)
            except ConnectFailed as exc:
                failure = exc
            except ConnectionClosed as exc:
                failure = self._address.failed(f"closed before the greeting: {_lost(exc)}", lost=_lost(exc))
            except trio.TooSlowError:
                failure = self._address.too_slow()
            else:
                await trio.lowlevel.checkpoint_if_cancelled()  # else it would begin what nobody would end
                on_connected()
                self._tell()
                nursery.cancel_scope.shield = True
                wait_s = await self._serve(*socket)
            nursery.cancel_scope.cancel()
        return failure or wait_s

    async def _open(self, nursery: trio.Nursery, closing: AsyncExitStack) -> tuple[WebSocketConnection, WatchedStream]:
        socket, stream = await open_socket(nursery, closing, await self._showing())
        self._session.receive(await socket.get_message())
        if self._session.state is not State.CONNECTED:
            lost = self._session.ended
            raise self._address.failed(lost.reason if lost is not None else "no greeting", lost=lost)
        return socket, stream

    async def _showing(self) -> Address:
        """The address with the token for this connection. Raises ConnectFailed: there is none, for the time being."""
        proof = self._session.proof
        try:
            token = proof.next()
            if isinstance(token, Awaitable):
                token = await token
        except Exception as exc:
            raise self._address.failed(f"no token: {str(exc) or type(exc).__name__}") from exc
        if not self._session.prove(token):
            self._tell()  # before anybody who waits has heard of the end
            raise self._address.failed("no token but the one that was refused")
        return self._address.showing(None if proof.in_band is not None else token)

    async def _serve(self, socket: WebSocketConnection, stream: WatchedStream) -> float | None:
        """Read, write and watch until the connection is over, then say goodbye, for at most CLOSE_S."""
        start_s = trio.current_time()
        lost = ConnectionLost(NO_GOODBYE, "")

        async def read() -> None:
            nonlocal lost
            try:
                while self._session.verdict is None and self._session.ended is None:
                    message = await socket.get_message()
                    if self._over.is_set():
                        break  # the session is done with this connection, and would take it for the next one's
                    self._session.receive(message)
                    self._tell()
            except ConnectionClosed as exc:
                lost = _lost(exc)
            self._over.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            nursery.start_soon(self._write, socket, stream)
            nursery.start_soon(self._watch, socket, stream)
            await self._over.wait()
            code = self._session.goodbye
            wait_s = self._session.disconnected(lost, trio.current_time() - start_s)
            self._tell()
            if code is not None:
                stream.goodbye.deadline = trio.current_time() + CLOSE_S
                with stream.goodbye:
                    await socket.aclose(code)  # nothing happens where it is closed already
            nursery.cancel_scope.cancel()
        return wait_s

    async def _write(self, socket: WebSocketConnection, stream: WatchedStream) -> None:
        """Send what the session has, for ever. One task alone: a cancelled send would leave half a frame behind."""
        while True:
            while (message := self._session.take_output()) is not None:
                stream.more = self._session.has_output
                try:
                    await socket.send_message(message)
                except ConnectionClosed:
                    return  # the reader says why
                finally:
                    stream.more = None  # what is held goes out with the next frame, be it Close
            self._output = trio.Event()
            await self._output.wait()

    async def _watch(self, socket: WebSocketConnection, stream: WatchedStream) -> None:
        """Ping a server that is silent, and end the connection when it stays so."""
        assert self._session.established is not None
        heartbeat = Heartbeat(self._session.established.heartbeat)

        async def ping() -> None:
            try:
                await socket.ping()
            except ConnectionClosed:
                return  # the reader says why

        async with trio.open_nursery() as pings:
            while (look := heartbeat.look(trio.current_time(), stream.received_s)).lost is None:
                if look.ping:
                    # In a task: cancelled while it is sent, a Ping would leave half a frame behind.
                    pings.start_soon(ping)
                await trio.sleep_until(look.next_s)
            self._session.end_connection(look.lost)
            self._over.set()

    def _tell(self) -> None:
        """Let the program's callbacks hear what has happened. What one raises is the end of all."""
        try:
            self._session.tell()
        except Exception as exc:
            self._end(exc)

    def _end(self, exc: Exception) -> None:
        if self.defect is None:
            self.defect = exc
            self.leave()
            self._on_defect()


def _alone(exc: Exception) -> Exception:
    """An exception without the groups that nurseries have put around it, where it is the only one."""
    while isinstance(exc, ExceptionGroup) and len(exc.exceptions) == 1:
        exc = exc.exceptions[0]
    return exc


def _lost(exc: ConnectionClosed) -> ConnectionLost:
    if exc.reason is None:
        return ConnectionLost(NO_GOODBYE, "")
    return ConnectionLost(int(exc.reason.code), exc.reason.reason or "")
