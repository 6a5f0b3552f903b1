"""`/metrics` of all workers of one server, by whichever of them is asked: each sample with the label `worker`.

They ask each other over Unix sockets in the folder that their supervisor has made, which only their user may enter.
Who does not answer in time is left out, and `ngos_workers_answered` says so. Nobody is asked more than once in KEPT_S,
however often we are: a scrape of all costs as many as there are workers.

May import `ngos.place`.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from typing import Final

import trio
from attrs import define, field

from ngos.place import Place

ANSWER_S: Final = 1.0
"""What a worker may take to tell of itself, and to take an answer in."""
KEPT_S: Final = 1.0
"""How old may be what another worker has told."""
ANSWER_BYTES: Final = 4 * 1024 * 1024
"""More than this is no answer; it is about 60 KiB."""
READ_BYTES: Final = 64 * 1024
ASKERS: Final = 256
"""Who may wait for us to accept: all other workers, at once."""


@define(eq=False)
class Siblings:
    """The workers of one supervisor, as one of them has them. `own` is its own text, in Prometheus' format.

    `run` answers the others, `text` asks them.
    """

    _place: Place
    _own: Callable[[], bytes]
    _told: dict[int, bytes] = field(init=False, factory=dict)
    _told_at: float = field(init=False, default=-KEPT_S)
    _asking: trio.Lock = field(init=False, factory=trio.Lock)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Answer who asks, until cancelled."""
        path = self._path(self._place.index)
        await trio.Path(path).unlink(missing_ok=True)  # a predecessor's, which was killed
        with trio.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as ours:
            try:
                await ours.bind(path)
            except FileNotFoundError:
                # Our supervisor was killed while we began, and another worker has removed the folder: we drain as well.
                task_status.started()
                await trio.sleep_forever()
            ours.listen(ASKERS)
            task_status.started()  # who asks waits in the socket
            await trio.serve_listeners(self._answer, [trio.SocketListener(ours)])

    async def text(self) -> bytes:
        """What all have to tell; takes at most ANSWER_S, twice where somebody else is asking already."""
        async with self._asking:
            if trio.current_time() >= self._told_at + KEPT_S:
                told: dict[int, bytes] = {}
                async with trio.open_nursery() as nursery:
                    for index in range(self._place.count):
                        if index != self._place.index:
                            nursery.start_soon(self._ask, index, told)
                self._told, self._told_at = told, trio.current_time()
            told = {**self._told, self._place.index: self._own()}
        return merged(told) + _COUNTED % (self._place.count, len(told))

    async def _answer(self, stream: trio.SocketStream) -> None:
        with trio.move_on_after(ANSWER_S):
            try:
                await stream.send_all(self._own())
            except trio.BrokenResourceError:
                pass  # it did not wait for it

    async def _ask(self, index: int, told: dict[int, bytes]) -> None:
        with trio.move_on_after(ANSWER_S):
            try:
                answer = bytearray()
                async with await trio.open_unix_socket(self._path(index)) as stream:
                    while data := await stream.receive_some(READ_BYTES):
                        answer += data
                        if len(answer) > ANSWER_BYTES:
                            return
            except (OSError, trio.BrokenResourceError):
                return  # it is being replaced
            if answer.endswith(b"\n"):
                told[index] = bytes(answer)

    def _path(self, index: int) -> str:
        return str(self._place.folder / f"metrics-{index}")


_COUNTED: Final = b"""\
# HELP ngos_workers Workers of this server.
# TYPE ngos_workers gauge
ngos_workers %d
# HELP ngos_workers_answered Those whose samples are here.
# TYPE ngos_workers_answered gauge
ngos_workers_answered %d
"""


def merged(texts: Mapping[int, bytes]) -> bytes:
    """One text of those of several workers: each family once, with the samples of all, which tell their worker."""
    families: dict[bytes, tuple[dict[bytes, bytes], list[bytes]]] = {}
    for worker, text in sorted(texts.items()):
        name = b""
        for line in text.split(b"\n"):
            if line.startswith((b"# HELP ", b"# TYPE ")):
                _, kind, name, _ = line.split(b" ", 3)
                families.setdefault(name, ({}, []))[0].setdefault(kind, line)
            elif line and not line.startswith(b"#"):
                families.setdefault(name, ({}, []))[1].append(_labelled(line, worker))
    lines = [line for headers, samples in families.values() for line in (*headers.values(), *samples)]
    return b"\n".join(lines) + b"\n"


def _labelled(line: bytes, worker: int) -> bytes:
    """`name value` or `name{labels} value`, with one label more; a name has neither a brace nor a space."""
    name, brace, labels = line.partition(b"{")
    if brace and b" " not in name:
        return b'%b{worker="%d",%b' % (name, worker, labels)
    name, _, value = line.partition(b" ")
    return b'%b{worker="%d"} %b' % (name, worker, value)
