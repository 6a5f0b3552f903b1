"""Two things that Trio has no word for."""

from __future__ import annotations

import types
from collections.abc import Callable, Coroutine, Generator
from typing import Any

import trio


@types.coroutine
def but_first(prepare: Callable[[], None], work: Coroutine[Any, Any, None]) -> Generator[Any, Any, None]:
    """Await `work`; if it has to wait for anything, call `prepare` before any other task runs.

    By then `work` believes that it waits, and Trio does not know of it yet: `prepare` must not wake it.
    """
    try:
        trap = work.send(None)
        prepare()
        while True:
            try:
                resumed_by = yield trap
            except BaseException as exc:  # noqa: ASYNC103 - it is passed on, inwards
                trap = work.throw(exc)
            else:
                trap = work.send(resumed_by)
    except StopIteration:
        pass


def only_cancelled(exc: BaseException) -> bool:
    if isinstance(exc, BaseExceptionGroup):
        return exc.split(trio.Cancelled)[1] is None
    return isinstance(exc, trio.Cancelled)
