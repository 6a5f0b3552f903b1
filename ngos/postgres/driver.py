"""psycopg on Trio: a connection whose waiting is Trio's, and whose cancellation reaches the server.

Promises: nothing here blocks the loop; a cancelled query is cancelled in the server too, within `cancel_s`,
and leaves either a usable connection or a closed one, never one in between.

psycopg 3's core is generators that yield "wait until readable / writable"; all that belongs to asyncio is who
waits. This file, with blocks.py, waits.py and addresses.py, alone knows psycopg's inner names. psycopg is pinned
to a minor version, and tests/postgres/test_psycopg_contract.py says name by name what is relied on.

Imports ngos.postgres.blocks, ngos.postgres.waits and ngos.postgres.addresses.
"""

# The parameters named `timeout` are psycopg's, which passes them by name.
# flake8: noqa: ASYNC109

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from types import TracebackType
from typing import Any, Self

import psycopg
import psycopg.errors
import trio
from psycopg._pipeline_async import AsyncPipeline
from psycopg.abc import RV, AdaptContext, ConnParam, PQGen
from psycopg.adapt import AdaptersMap
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import ConnStatus, PipelineStatus, TransactionStatus
from psycopg.rows import AsyncRowFactory, Row
from psycopg.transaction import AsyncTransaction
from psycopg.waiting import Ready, Wait

from ngos.postgres.addresses import attempts_of
from ngos.postgres.blocks import TrioPipeline, TrioTransaction
from ngos.postgres.waits import drive_connecting, ready_now, wait_ready

# A pipeline or a copy whose socket is always ready would never let another task run.
BUSY_S = 0.005


class TrioConnection(psycopg.AsyncConnection[Row]):
    """psycopg's AsyncConnection, for Trio tasks. Its API and its docstrings are psycopg's.

    One task at a time uses it; a lock makes the others wait. Close what is a generator with
    `contextlib.aclosing` (`notifies()`, `cursor.stream()`): the lock belongs to the task that took it.

    Cancellation: the query that runs is cancelled in the server and the connection stays usable; if that takes
    longer than `cancel_s` seconds, the connection is closed. Whether the statement had its effect is then
    unknown, unless it was in a transaction that had yet to commit.
    """

    cancel_s: float = 2.0

    def __init__(self, pgconn: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(pgconn, *args, **kwargs)
        # psycopg only ever says `async with connection.lock`.
        self.lock = _Lock()  # type: ignore[assignment]
        self._checkpoint_at = 0.0

    @classmethod
    async def connect(
        cls,
        conninfo: str = "",
        *,
        autocommit: bool = False,
        prepare_threshold: int | None = 5,
        context: AdaptContext | None = None,
        row_factory: AsyncRowFactory[Row] | None = None,
        cursor_factory: Any = None,
        **kwargs: ConnParam,
    ) -> Self:
        """Connect to the first of the conninfo's hosts that answers. Arguments as psycopg's.

        The caller owns time. With several hosts, one that is silent gets only its share of what is left until
        the caller's deadline. psycopg.OperationalError if none answers, its text saying what each one said;
        psycopg.ProgrammingError if the conninfo is no conninfo. Cancellation closes what was begun.
        """
        params = conninfo_to_dict(conninfo, **kwargs)
        attempts = await attempts_of(params)
        failures: list[tuple[str, psycopg.Error]] = []
        for position, attempt in enumerate(attempts):
            left_s = max(0.0, trio.current_effective_deadline() - trio.current_time())
            try:
                with trio.move_on_after(left_s / (len(attempts) - position)):
                    connection = await drive_connecting(cls._connect_gen(make_conninfo("", **attempt)))
                    break
                await trio.lowlevel.checkpoint_if_cancelled()
                failure: psycopg.Error = psycopg.errors.ConnectionTimeout("connection timeout expired")
            except psycopg.Error as error:
                failure = error
            failures.append((f"{attempt.get('host')}:{attempt.get('port')}", failure.with_traceback(None)))
        else:
            if len(failures) == 1:
                raise failures[0][1]
            raise psycopg.OperationalError(
                "; ".join(f"{host}: {' '.join(str(failure).split())}" for host, failure in failures)
            )
        connection._autocommit = autocommit
        connection.prepare_threshold = prepare_threshold
        if row_factory:
            connection.row_factory = row_factory
        if cursor_factory:
            connection.cursor_factory = cursor_factory
        if context:
            connection._adapters = AdaptersMap(context.adapters)
        return connection

    async def wait(self, gen: PQGen[RV], interval: float = 0.0, timeout: float | None = None) -> RV:
        """Run one of psycopg's generators to its end. `interval` is asyncio's need, not ours.

        Raises what the generator raises, and psycopg's _WaitTimeout after `timeout` seconds.
        """
        try:
            if timeout is None:
                return await self._drive(gen)
            with trio.move_on_after(timeout):
                return await self._drive(gen, poll_first=True)
            raise psycopg.errors._WaitTimeout("wait timeout expired")
        except (trio.Cancelled, KeyboardInterrupt):
            if self.pgconn.transaction_status == TransactionStatus.ACTIVE:
                await self._stop_query(gen)  # noqa: ASYNC102 - shielded and bounded inside
            raise

    async def _drive(self, gen: PQGen[RV], *, poll_first: bool = False) -> RV:
        # The hot path: a query on a quiet connection is one next(), one wait_readable() and one send().
        fd = self.pgconn.socket
        try:
            state = next(gen)
            while True:
                if state == Wait.R and not poll_first:
                    await trio.lowlevel.wait_readable(fd)
                    state = gen.send(Ready.R)
                    continue
                # A socket asked for writing is nearly always writable: asking it is cheaper than the loop.
                ready = ready_now(fd, state)
                if ready:
                    await self._let_others_run()
                else:
                    ready = await wait_ready(fd, state)
                state = gen.send(ready)
        except StopIteration as done:
            result: RV = done.value
            if time.monotonic() - self._checkpoint_at > BUSY_S:
                self._checkpoint_at = time.monotonic()
                await trio.lowlevel.cancel_shielded_checkpoint()
            return result
        except (OSError, trio.ClosedResourceError) as error:
            raise psycopg.OperationalError("connection socket closed") from error

    async def _let_others_run(self) -> None:
        if time.monotonic() - self._checkpoint_at > BUSY_S:
            self._checkpoint_at = time.monotonic()
            await trio.lowlevel.checkpoint()

    async def _stop_query(self, gen: PQGen[Any]) -> None:
        """Have the server stop, then read what it had to say, so that the next query finds a clean line."""
        with trio.move_on_after(self.cancel_s, shield=True):
            try:
                await drive_connecting(self._cancel_gen())
            except psycopg.Error:
                self.close_now()
                return
            try:
                await self._drive(gen)
            except psycopg.Error:
                pass  # QueryCanceled, as asked; or the connection is lost, which its status says
            return
        self.close_now()

    async def cancel_safe(self, *, timeout: float = 2.0) -> None:
        """Ask the server to stop the query that runs. CancellationTimeout after `timeout` seconds."""
        if self._should_cancel():
            with trio.move_on_after(timeout):
                await drive_connecting(self._cancel_gen())
                return
            raise psycopg.errors.CancellationTimeout("cancellation timeout expired")

    def read_notifications(self) -> None:
        """Give the handlers of `add_notify_handler` what has come since the last query. Never blocks.

        psycopg.OperationalError if the connection is lost.
        """
        self.pgconn.consume_input()
        while (notification := self.pgconn.notifies()) is not None:
            if self.pgconn.notify_handler is not None:
                self.pgconn.notify_handler(notification)

    @property
    def quiet(self) -> bool:
        """Whether an idle connection is fit for use: open, and the server has said nothing unasked.

        What an idle server says is goodbye: it was shut down, or an operator ended this backend.
        """
        return self.pgconn.status == ConnStatus.OK and not ready_now(self.pgconn.socket, Wait.R)

    @property
    def idle(self) -> bool:
        """Whether no query, no transaction and no pipeline is under way."""
        pgconn = self.pgconn
        return (
            pgconn.status == ConnStatus.OK
            and pgconn.transaction_status == TransactionStatus.IDLE
            and pgconn.pipeline_status == PipelineStatus.OFF
            and not self._num_transactions
        )

    def close_now(self) -> None:
        """Close the connection. Never blocks; a task that waits on it gets an OperationalError."""
        if self.closed:
            return
        self._closed = True
        trio.lowlevel.notify_closing(self.pgconn.socket)
        self.pgconn.finish()

    async def close(self) -> None:
        """Close the connection. Never blocks, so it is no checkpoint."""
        self.close_now()

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        # psycopg rolls back before it closes; a server rolls back what was left open anyway.
        try:
            if exc_type is None and not self.closed:
                await self.commit()  # noqa: ASYNC102 - the block ended well: may be cancelled, and is closed
        finally:
            self.close_now()

    @asynccontextmanager
    async def transaction(
        self, savepoint_name: str | None = None, force_rollback: bool = False
    ) -> AsyncIterator[AsyncTransaction]:
        """A transaction, or a savepoint within one, for the length of the block. Cancellation rolls it back."""
        transaction = TrioTransaction(self, savepoint_name, force_rollback)
        if self._pipeline:
            async with self.pipeline(), transaction, self.pipeline():
                yield transaction
        else:
            async with transaction:
                yield transaction

    @asynccontextmanager
    async def pipeline(self) -> AsyncIterator[AsyncPipeline]:
        """Send queries without waiting for their results. Cancellation drops what was not sent yet."""
        async with self.lock:
            self._check_connection_ok()
            pipeline = self._pipeline
            if pipeline is None:
                pipeline = self._pipeline = TrioPipeline(self)
        try:
            async with pipeline:
                yield pipeline
        finally:
            # psycopg takes the lock for this; there is no checkpoint here, so there is nobody to lock out.
            if pipeline.level == 0:
                self._pipeline = None
                await self._deallocate_forgotten(self.lock)  # noqa: ASYNC102 - shielded and bounded inside

    @asynccontextmanager
    async def _pipeline_nolock(self) -> AsyncIterator[AsyncPipeline]:
        # executemany's own pipeline, within its lock.
        pipeline = self._pipeline = TrioPipeline(self, _no_lock=True)
        try:
            async with pipeline:
                yield pipeline
        finally:
            self._pipeline = None
            await self._deallocate_forgotten(nullcontext())  # noqa: ASYNC102 - shielded and bounded inside

    async def _deallocate_forgotten(self, lock: AbstractAsyncContextManager[Any]) -> None:
        """After a pipeline that failed: have the server forget the statements that we forgot, before new ones come."""
        usable = self.pgconn.transaction_status in (TransactionStatus.IDLE, TransactionStatus.INTRANS)
        if not (self._prepared._to_flush and usable):
            return  # in a failed transaction its rollback does it
        with trio.move_on_after(self.cancel_s, shield=True):
            try:
                async with lock:
                    await self.wait(self._prepared.maintain_gen(self))
            except psycopg.Error:
                self.close_now()


class _Lock:
    """A trio.Lock without its scheduling round when nobody else holds it: one per query is a third of its time."""

    def __init__(self) -> None:
        self._lock = trio.Lock()

    async def __aenter__(self) -> None:
        await trio.lowlevel.checkpoint_if_cancelled()
        try:
            self._lock.acquire_nowait()
        except trio.WouldBlock:
            await self._lock.acquire()

    async def __aexit__(self, *_: object) -> None:
        self._lock.release()
