"""One command that comes without a connection: over HTTP."""

from __future__ import annotations

from typing import Any

import orjson
import trio
from attrs import define

from ngos.errors import StorageUnavailable
from ngos.gateway.registry import Registry
from ngos.gateway.tally import Tally
from ngos.log.committer import Committer
from ngos.log.write import Answer, Encoded, Write
from ngos.protocol import codec
from ngos.protocol.commands import Command
from ngos.protocol.faults import CommandFailed, unavailable
from ngos.services.handlers import Call


@define(eq=False)
class Once:
    """Does single commands as `client_id`."""

    _registry: Registry
    _committer: Committer
    _tally: Tally

    async def __call__(self, command: Command, client_id: str) -> dict[str, Any]:
        """Do a command, and return its reply's payload.

        Raises CommandFailed and StorageUnavailable. Cancelled, the effect of a write is unknown.
        """
        begun = self._tally.begin(command.TYPE, trio.current_time(), traceparent=None)
        try:
            reply = await self._do(command, client_id)
        except StorageUnavailable:
            self._tally.end(begun, unavailable())
            raise
        except CommandFailed as exc:
            self._tally.end(begun, exc)
            raise
        except BaseException:
            self._tally.abandon(begun)
            raise
        self._tally.end(begun, None)
        return reply

    async def _do(self, command: Command, client_id: str) -> dict[str, Any]:
        entry = self._registry[type(command)]
        handler = entry.write_of(command)
        if handler is None:
            assert entry.answer is not None
            reply = await entry.answer(command, Call(None, client_id, None))
            return _read(reply if isinstance(reply, Encoded) else Encoded(reply.TYPE, codec.dump(reply)))
        answered = trio.Event()
        answers: list[Answer] = []

        def answer(value: Answer) -> None:
            answers.append(value)
            answered.set()

        size_bytes = len(codec.encode_command(command))
        await self._committer.submit(Write(handler, command, object(), client_id, size_bytes, answer))
        await answered.wait()
        return _read(answers[0])


def _read(answer: Answer) -> dict[str, Any]:
    if isinstance(answer, CommandFailed):
        raise answer
    payload: dict[str, Any] = orjson.loads(answer.payload)
    return payload
