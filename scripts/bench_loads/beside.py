"""One more client, in a process of its own, beside a load: so many pings or durable events a second, come what may.

Promises: a message is sent when it is due, however long the replies take; latency is from that send to its reply.
It works until its stdin ends, which it does even if the load is killed; then it waits for the replies that are due,
and prints all samples. `Beside` is how a load starts it, hears of them, and ends it if the load itself is ended before.
In a process of its own, since a load that checks all that it gets would be late in looking at replies.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from array import array
from asyncio.subprocess import PIPE, Process
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import perf_counter

import attrs
import orjson
from picows import WSFrame

from bench_loads.common import DRAIN_S, Run, finish
from bench_loads.dialects import DIALECTS, Client, connect, settle

NGOS = DIALECTS["ngos"]
READY_S = 20.0
PING = b'{"id":"%d","type":"ping"}'
PUBLISH = b'{"id":"%d","type":"publish","payload":{"topic":"%b","type":"bench","payload":{"data":"%b"}}}'


@attrs.frozen
class Samples:
    """When each message was sent, on the clock that all processes share, and how long its reply took.

    `last_seq` is the number of the last event that was published.
    """

    sent_at: list[float]
    ms: list[float]
    last_seq: int


class Beside:
    """The load's end of it."""

    def __init__(self, run: Run, process: Process) -> None:
        self._run = run
        self._process = process
        self._stopping = False
        self._out = asyncio.create_task(self._hear())

    @classmethod
    @asynccontextmanager
    async def running(cls, run: Run, url: str, *arguments: str) -> AsyncIterator[Beside]:
        """Start it; its client has settled when this enters, and begins. It has ended when this exits."""
        command = (sys.executable, "-m", "bench_loads.beside", "--url", url, *arguments)
        starting = asyncio.create_task(asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE, stderr=PIPE))
        try:
            # Cancelled in the midst of it, we would not know what to end.
            process = await asyncio.shield(starting)
            assert process.stdout is not None
            try:
                async with asyncio.timeout(READY_S):
                    ready = await process.stdout.readline()
            except TimeoutError:
                ready = b""
            beside = cls(run, process)
            try:
                if not ready:
                    await beside.stop()
                yield beside
            finally:
                beside._out.cancel()
        finally:
            process = await starting
            if process.returncode is None:
                process.kill()
            await process.wait()

    async def stop(self) -> Samples:
        """Send no more; returns what was measured once all is answered."""
        self._stopping = True
        assert self._process.stdin is not None
        self._process.stdin.close()
        out = await self._out
        await self._run.pause(0)
        return Samples(**orjson.loads(out))

    async def _hear(self) -> bytes:
        process = self._process
        assert process.stdout is not None
        assert process.stderr is not None
        out, err, code = await asyncio.gather(process.stdout.read(), process.stderr.read(), process.wait())
        if code or not self._stopping:
            self._run.fail(f"beside: {err.decode(errors='replace').strip()[-2000:] or 'ended too soon'}")
        return out


class Sender(Client):
    """Sends what is due, and takes the replies, which come in the order of the messages."""

    def __init__(self, run: Run, message: bytes, reply: bytes) -> None:
        super().__init__(run, NGOS, [])
        self.sent_at = array("d")
        self.ms = array("d")
        self.waiting: deque[int] = deque()
        self.last_reply = b"{}"
        self._message, self._reply = message, reply

    def send_next(self) -> None:
        number = len(self.sent_at)
        self.waiting.append(number)
        self.sent_at.append(perf_counter())
        self.send(self._message.replace(b"%d", b"%d" % number, 1))

    def on_message(self, frame: WSFrame) -> None:
        now = perf_counter()
        reply = frame.get_payload_as_bytes()
        number = self.waiting.popleft() if self.waiting else -1
        if self._reply not in reply or b'"reply_to":"%d"' % number not in reply:
            self.run.fail(f"not the reply to {number} that was due: {reply[:500]!r}")
            return
        self.ms.append((now - self.sent_at[number]) * 1000)
        self.last_reply = reply


async def work(arguments: argparse.Namespace) -> Samples:
    """Send until stdin ends."""
    run = Run()
    sender = Sender(run, *_message_and_reply(arguments))
    await connect(run, arguments.url, "beside", [sender])
    await settle(run, [sender])
    stdin = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(stdin), sys.stdin)
    ended = asyncio.create_task(stdin.read())
    print("ready", flush=True)
    start = perf_counter()
    while not ended.done():
        while (wait_s := len(sender.sent_at) / arguments.per_s - (perf_counter() - start)) <= 0:
            sender.send_next()
        done, _ = await asyncio.wait([ended, run.failed], timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
        if run.failed in done:
            break
    await run.until(lambda: not sender.waiting, DRAIN_S, lambda: f"no reply to {len(sender.waiting)} messages")
    sender.leave()
    last_seq = orjson.loads(sender.last_reply).get("payload", {}).get("seq", 0)
    return Samples(list(sender.sent_at), list(sender.ms), last_seq)


def _message_and_reply(arguments: argparse.Namespace) -> tuple[bytes, bytes]:
    if arguments.topic is None:
        return PING, b'"type":"pong"'
    filler = b"x" * (arguments.payload_bytes - len(b'{"data":""}'))
    return PUBLISH.replace(b"%b", arguments.topic.encode(), 1).replace(b"%b", filler), b'"type":"published"'


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True, help="the server, as ws://HOST:PORT")
    parser.add_argument("--per-s", type=float, required=True, help="messages a second")
    parser.add_argument("--topic", help="publish there; without it, ping")
    parser.add_argument("--payload-bytes", type=int, default=200)
    arguments = parser.parse_args()

    finish(lambda: work(arguments))


if __name__ == "__main__":
    main()
