"""A connection's blocks, transaction and pipeline, whose end a cancelled task reaches too. Imports nothing of ngos.

psycopg ends a block by taking the connection's lock, and a cancelled task gets no lock: the block would stay open on
a connection that looks usable.
"""

# Every await in an __aexit__ below is shielded and bounded one call down, or is psycopg's own end of the block.
# flake8: noqa: ASYNC102

from __future__ import annotations

from types import TracebackType
from typing import Any

import psycopg
import trio
from psycopg._pipeline_async import AsyncPipeline
from psycopg._pipeline_base import PendingResult
from psycopg.pq import ConnStatus
from psycopg.pq.abc import PGresult
from psycopg.transaction import AsyncTransaction


class TrioTransaction(AsyncTransaction):
    """psycopg's, whose end is also reached by a task that is cancelled: shielded, and bounded by `cancel_s`."""

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> bool:
        if exc_val is None:
            try:
                await trio.lowlevel.checkpoint_if_cancelled()
            except trio.Cancelled as cancelled:
                await self._roll_back(cancelled)
                raise
            return await super().__aexit__(None, None, None)
        return await self._roll_back(exc_val)

    async def _roll_back(self, cause: BaseException) -> bool:
        connection: Any = self._conn
        with trio.move_on_after(connection.cancel_s, shield=True):
            return await super().__aexit__(type(cause), cause, cause.__traceback__)
        connection.close_now()
        return False


class TrioPipeline(AsyncPipeline):
    """psycopg's, whose end is also reached by a task that is cancelled: shielded, and bounded by `cancel_s`."""

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        if exc_val is None:
            try:
                await trio.lowlevel.checkpoint_if_cancelled()
            except trio.Cancelled as cancelled:
                await self._abandon(cancelled)
                raise
        if isinstance(exc_val, trio.Cancelled):
            await self._abandon(exc_val)
            return
        try:
            await super().__aexit__(exc_type, exc_val, exc_tb)
        finally:
            self._close_if_stuck()

    async def _abandon(self, cause: trio.Cancelled) -> None:
        connection: Any = self._conn
        # What was not sent has no result to wait for, and there is one entry for each.
        for _ in range(len(self.command_queue)):
            self.command_queue.pop()
            self.result_queue.pop()
        connection._prepared.clear()
        try:
            with trio.move_on_after(connection.cancel_s, shield=True):
                await connection.cancel_safe(timeout=connection.cancel_s)
                async with self._lock:
                    await connection.wait(self._exit_gen())
        except psycopg.Error:
            pass  # QueryCanceled, as asked; or the connection is lost, which its status says
        finally:
            self._exit(cause)
            self._close_if_stuck()

    def _process_results(self, queued: PendingResult, results: list[PGresult]) -> None:
        try:
            super()._process_results(queued, results)
        except psycopg.Error:
            # psycopg marks a statement as prepared when it sends it. After an error the server has ignored the rest
            # of the pipeline, statements to prepare included: without this, they would "not exist" from now on.
            self._conn._prepared.clear()
            raise

    def _close_if_stuck(self) -> None:
        connection: Any = self._conn
        if self.level <= 0 and self.pgconn.status == ConnStatus.OK and self.pgconn.pipeline_status:
            connection.close_now()
