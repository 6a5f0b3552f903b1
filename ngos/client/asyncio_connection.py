"""One connection of a client after another, for asyncio: opened, served until it breaks, and opened anew.

What any of it means, and whether and when there is a next one, is the session's to say. May import this package
except the shells, and the protocol.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from websockets.exceptions import ConnectionClosed

from ngos.client.address import CLOSE_S, Address
from ngos.client.asyncio_socket import Socket, lost, open_socket
from ngos.client.errors import NO_GOODBYE, ConnectFailed, ConnectionLost
from ngos.client.heartbeat import Heartbeat
from ngos.client.session import Session, State
from ngos.protocol.close import CloseCode

_T = TypeVar("_T")


class Line:
    """The sockets of one session, at most one at a time."""

    def __init__(self, session: Session, address: Address, *, on_defect: Callable[[], object]) -> None:
        """`on_defect` is called when a callback of the program, or what is here, has raised, and `defect` is that."""
        self.defect: BaseException | None = None
        self.started: asyncio.Future[ConnectFailed | None] = asyncio.get_running_loop().create_future()
        """None when it is connected for the first time, else why it is not."""
        self._session = session
        self._address = address
        self._on_defect = on_defect
        self._output = asyncio.Event()
        self._over = asyncio.Event()
        self._seeking: asyncio.Timeout | None = None

    def flush(self) -> None:
        """Wake the writer: the session has output."""
        self._output.set()

    def leave(self) -> None:
        """End the session, and the connection gently. The first reason counts: what was lost before stays lost."""
        self._session.leave()
        self._over.set()
        if self._seeking is not None and not self._seeking.expired():
            self._seeking.reschedule(asyncio.get_running_loop().time())

    async def run(self) -> None:
        """Serve the session until it has ended. It ends soon after `leave`; cancelled, without a goodbye."""
        try:
            await self._run()
        except Exception as exc:
            self._end(exc)

    async def _run(self) -> None:
        outcome = await self._hold()
        if isinstance(outcome, ConnectFailed):
            self.started.set_result(outcome)
            return
        wait_s = outcome
        while wait_s is not None and await self._may_go_on_after(wait_s):
            outcome = await self._hold()
            if isinstance(outcome, ConnectFailed):
                wait_s = self._session.refused(outcome)
                self._tell()
            else:
                wait_s = outcome

    async def _may_go_on_after(self, wait_s: float) -> bool:
        """Wait, unless the program leaves, or left while we said goodbye to the last connection."""
        if self._session.ended is None:
            try:
                await self._unless_left(wait_s, asyncio.Event().wait())
            except TimeoutError:
                pass
        return self._session.ended is None

    async def _hold(self) -> ConnectFailed | float | None:
        """Open a socket and serve it until it breaks. Returns the seconds to wait before the next, or None: no more.

        Or why there came to be no connection.
        """
        try:
            socket = await self._unless_left(self._address.connect_s, self._open())
        except ConnectFailed as exc:
            return exc
        except TimeoutError:
            return self._address.too_slow()
        try:
            self._over.clear()
            if not self.started.done():
                self.started.set_result(None)
            self._tell()
            return await self._serve(socket)
        finally:
            await socket.cut()

    async def _open(self) -> Socket:
        socket = await open_socket(await self._showing())
        try:
            self._session.receive(await socket.recv())
            if self._session.state is not State.CONNECTED:
                reason = self._session.ended
                raise self._address.failed(reason.reason if reason is not None else "no greeting", lost=reason)
        except ConnectionClosed as exc:
            raise self._address.failed(f"closed before the greeting: {lost(exc)}", lost=lost(exc)) from exc
        except BaseException:
            await socket.cut()
            raise
        return socket

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

    async def _serve(self, socket: Socket) -> float | None:
        """Read, write and watch until the connection is over, then say goodbye, for at most CLOSE_S."""
        loop = asyncio.get_running_loop()
        start_s = loop.time()
        reading = loop.create_task(self._read(socket))
        tasks = [reading, loop.create_task(self._write(socket)), loop.create_task(self._watch(socket))]
        for task in tasks:
            task.add_done_callback(self._look_at)
        try:
            await self._over.wait()
            code = self._session.goodbye
            reason = reading.result() if reading.done() else ConnectionLost(NO_GOODBYE, "")
            wait_s = self._session.disconnected(reason, loop.time() - start_s)
            self._tell()
            if code is not None:
                await self._say_goodbye(socket, code)
            return wait_s
        finally:
            await _ended(*tasks)

    async def _say_goodbye(self, socket: Socket, code: CloseCode) -> None:
        """Close; the reader is alive, and reads the answer. To a peer that reads nothing, not even this can be sent."""
        try:
            async with asyncio.timeout(CLOSE_S):
                await socket.close(code)
        except TimeoutError:
            pass  # it is cut

    async def _read(self, socket: Socket) -> ConnectionLost:
        """Read until the socket is closed, and return why; also when nobody wants it any more."""
        try:
            while True:
                message = await socket.recv()
                if self._over.is_set():
                    continue  # the session is done with this connection, and would take it for the next one's
                self._session.receive(message)
                self._tell()
                if self._session.verdict is not None or self._session.ended is not None:
                    self._over.set()
        except ConnectionClosed as exc:
            self._over.set()
            return lost(exc)

    async def _write(self, socket: Socket) -> None:
        """Send what the session has, for ever. One task alone, so that the order is the session's."""
        try:
            while True:
                while (message := self._session.take_output()) is not None:
                    await socket.send(message)
                self._output.clear()
                await self._output.wait()
        except ConnectionClosed:
            pass  # the reader says why

    async def _watch(self, socket: Socket) -> None:
        """Ping a server that is silent, and end the connection when it stays so."""
        assert self._session.established is not None
        heartbeat = Heartbeat(self._session.established.heartbeat)
        loop = asyncio.get_running_loop()
        pings: list[asyncio.Task[None]] = []
        try:
            while (look := heartbeat.look(loop.time(), socket.received_s)).lost is None:
                if look.ping:
                    # In a task: to a peer that reads nothing, not even a Ping can be sent.
                    await _ended(*pings)
                    pings = [loop.create_task(_ping(socket))]
                await asyncio.sleep(look.next_s - loop.time())
            self._session.end_connection(look.lost)
            self._over.set()
        finally:
            await _ended(*pings)

    async def _unless_left(self, limit_s: float, doing: Coroutine[Any, Any, _T]) -> _T:
        """Do it within `limit_s`. Raises TimeoutError when that is over, and when the program leaves."""
        async with asyncio.timeout(limit_s) as limit:
            self._seeking = limit
            try:
                return await doing
            finally:
                self._seeking = None

    def _look_at(self, task: asyncio.Task[Any]) -> None:
        """A task of the connection is done; what it raised, it should not have."""
        if not task.cancelled() and (exc := task.exception()) is not None:
            self._end(exc)

    def _tell(self) -> None:
        """Let the program's callbacks hear what has happened. What one raises is the end of all."""
        try:
            self._session.tell()
        except Exception as exc:
            self._end(exc)

    def _end(self, exc: BaseException) -> None:
        if self.defect is None:
            self.defect = exc
            self.leave()
            self._on_defect()


async def _ping(socket: Socket) -> None:
    try:
        await socket.ping()
    except ConnectionClosed:
        pass  # the reader says why


async def _ended(*tasks: asyncio.Task[Any]) -> None:
    """Cancel them, and wait until they have heard it."""
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)
