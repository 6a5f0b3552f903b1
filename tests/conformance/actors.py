"""The suite's end of the actors: how they are started, and how a scenario speaks to one."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
import threading
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import orjson
import pytest
import trio
from attrs import define, field

ROOT: Final = Path(__file__).parent.parent.parent
TYPESCRIPT: Final = ROOT / "clients" / "typescript" / "conformance"
PYTHON_ACTORS: Final = ("trio", "asyncio")
BROWSER_ACTORS: Final = ("node", "chromium")
"""Those on the browser's own WebSocket: it sets no headers, tells no HTTP status, and closes with few codes."""
ALL: Final = (*PYTHON_ACTORS, *BROWSER_ACTORS)
LIMIT_S: Final = 20.0
"""Nothing here takes this long; what hangs fails by it."""


def command(kind: str) -> list[str]:
    """How an actor is started. Skips the test where it can't be; under CI that fails it."""
    if kind in PYTHON_ACTORS:
        return [sys.executable, "-m", f"tests.conformance.actor_{kind}"]
    programs = ["node"] if kind == "node" else ["node", os.environ.get("NGOS_CHROMIUM") or "chromium"]
    missing = [f"no {program} on this machine" for program in programs if shutil.which(program) is None]
    if not (TYPESCRIPT.parent / "dist").exists():
        missing.append("the client is not built (scripts/npm run build -w typescript)")
    if missing:
        reason = f"{', '.join(missing)}: the client on {kind} was not tried"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(f"LOUD: {reason}")
    return ["node", str(TYPESCRIPT / f"{kind}.mjs")]


class Failed(Exception):
    """An actor's answer is an error: `kind`, and the fields that come with it."""

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(f"{error['kind']}: {error.get('message', '')}")
        self.kind: str = error["kind"]
        self.fields = error


class Process:
    """An actor's process, for the whole session; a thread reads its reports."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.hear: Callable[[dict[str, Any]], None] | None = None
        self.tells_refusals = False
        self._numbers = itertools.count(1)
        self._ready = threading.Event()
        self._process = subprocess.Popen(
            command(kind), cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
        )
        self._thread = threading.Thread(target=self._read, name=f"actor {kind}")
        self._thread.start()
        if not self._ready.wait(LIMIT_S) or self._process.poll() is not None:
            self.stop()
            pytest.fail(f"the actor {kind} did not start: see its standard error")

    def order(self, fields: dict[str, Any]) -> int:
        """Give an order and return its number."""
        n = next(self._numbers)
        assert self._process.stdin is not None
        data = memoryview(orjson.dumps({"n": n, **fields}) + b"\n")
        while data:
            data = data[self._process.stdin.write(data) or 0 :]
        return n

    def stop(self) -> None:
        """End it, by the end of its input; what does not heed that is killed."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(LIMIT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._thread.join()
        self._process.stdout.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        rest = b""
        while data := self._process.stdout.read(1 << 16):
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                report = orjson.loads(line)
                if "ready" in report:
                    self.tells_refusals = report["ready"]["tells_refusals"]
                    self._ready.set()
                elif (hear := self.hear) is not None:
                    hear(report)
        self._ready.set()


@define
class Remote:
    """A client in an actor, as a scenario has it."""

    actor: Actor
    name: str
    greeted: dict[str, Any] = field(factory=dict)
    # Sorted as they come: who waits for ten thousand events looks after each of them.
    _seen: dict[str, list[dict[str, Any]]] = field(factory=lambda: defaultdict(list))
    _called: dict[str, list[dict[str, Any]]] = field(factory=lambda: defaultdict(list))
    _ended: dict[str, dict[str, Any]] = field(factory=dict)

    def hear(self, report: dict[str, Any]) -> None:
        """Keep what the actor reports: an event, the end of a subscription, or the call of a callback."""
        if "event" in report:
            self._seen[report["sub"]].append(report["event"])
        elif "ended" in report:
            self._ended.setdefault(report["sub"], report["ended"])
        else:
            self._called[report["callback"]].append(report)

    async def order(self, do: str, **fields: Any) -> Any:
        """Give an order, and wait for its answer. Raises Failed."""
        return await self.given(do, **fields)()

    def given(self, do: str, **fields: Any) -> Callable[[], Any]:
        """Give an order now; what is returned waits for its answer. So orders are given in order."""
        return self.actor.give({"do": do, "client": self.name, **fields})

    async def request(self, type_: str, payload: dict[str, Any] | None = None, **fields: Any) -> Any:
        return await self.order("request", type=type_, payload=payload or {}, **fields)

    async def call(self, method: str, **args: Any) -> Any:
        return await self.order("call", method=method, args=args)

    async def subscribe(self, topic: str, sub: str = "s", **fields: Any) -> Any:
        return await self.order("subscribe", sub=sub, topic=topic, **fields)

    async def state(self) -> Any:
        return await self.order("state")

    async def disconnect(self) -> None:
        await self.order("disconnect")
        self.actor.gone(self)

    def seen(self, sub: str = "s") -> list[dict[str, Any]]:
        """The events of a subscription so far."""
        return self._seen[sub].copy()

    def called(self, callback: str) -> list[dict[str, Any]]:
        """The calls of a callback so far."""
        return self._called[callback].copy()

    async def events(self, count: int, sub: str = "s") -> list[dict[str, Any]]:
        """Wait for so many events of a subscription, and return all that there are."""
        await self.actor.until(lambda: len(self._seen[sub]) >= count, f"{count} events of {sub}")
        return self.seen(sub)

    async def calls(self, callback: str, count: int = 1) -> list[dict[str, Any]]:
        """Wait for so many calls of a callback, and return all that there are."""
        await self.actor.until(lambda: len(self._called[callback]) >= count, f"{count} calls of {callback}")
        return self.called(callback)

    async def ended(self, sub: str = "s") -> dict[str, Any]:
        """Wait for the end of a subscription, and return why."""
        await self.actor.until(lambda: sub in self._ended, f"the end of {sub}")
        return self._ended[sub]


class Actor:
    """An actor, for one scenario: its clients have names of their own, and are gone when it is over."""

    _scenarios = itertools.count(1)

    def __init__(self, process: Process) -> None:
        self.kind = process.kind
        self.sets_headers = process.kind in PYTHON_ACTORS
        self.tells_refusals = process.tells_refusals
        self._process = process
        self._prefix = f"{next(self._scenarios)}."
        self._remotes: dict[str, Remote] = {}
        self._answers: dict[int, dict[str, Any]] = {}
        self._news = trio.Event()
        token = trio.lowlevel.current_trio_token()

        def hear(report: dict[str, Any]) -> None:
            try:
                token.run_sync_soon(self._hear, report)
            except trio.RunFinishedError:
                pass  # the scenario is over

        process.hear = hear

    async def connect(self, url: str, name: str = "a", **fields: Any) -> Remote:
        """Connect a new client. Raises Failed."""
        remote = self._remotes[self._prefix + name] = Remote(self, self._prefix + name)
        try:
            remote.greeted = await remote.order("connect", url=url, **fields)
        except Failed:
            self.gone(remote)
            raise
        return remote

    def gone(self, remote: Remote) -> None:
        """This client is over."""
        self._remotes.pop(remote.name, None)

    async def close(self) -> None:
        """Disconnect all clients."""
        for remote in tuple(self._remotes.values()):
            await remote.disconnect()
        self._process.hear = None

    def give(self, fields: dict[str, Any]) -> Callable[[], Any]:
        n = self._process.order(fields)

        async def answered() -> Any:
            await self.until(lambda: n in self._answers, f"the answer to {fields}")
            answer = self._answers.pop(n)
            if "error" not in answer:
                return answer["ok"]
            if answer["error"]["kind"] == "NotHere":
                pytest.skip(f"the actor {self.kind} does not have it")
            raise Failed(answer["error"])

        return answered

    async def until(self, there: Callable[[], bool], what: str) -> None:
        with trio.move_on_after(LIMIT_S) as scope:
            while not there():
                await self._news.wait()
        assert not scope.cancelled_caught, f"{self.kind}: no {what} within {LIMIT_S:g} s"

    def _hear(self, report: dict[str, Any]) -> None:
        if "n" in report:
            self._answers[report["n"]] = report
        elif (remote := self._remotes.get(report["client"])) is not None:
            remote.hear(report)
        self._news.set()
        self._news = trio.Event()
