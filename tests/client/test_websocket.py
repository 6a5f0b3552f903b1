"""NeuroGraphWebSocketClient against a scripted server: handlers, order, breaks, and what goes wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import partialmethod
from typing import Any

import pytest

from ngos.client.backoff import Backoff
from ngos.client.callbacks import Callbacks
from ngos.client.client import Client
from ngos.client.errors import CommandError, ConnectFailed, ConnectionLost
from ngos.client.websocket import NeuroGraphWebSocketClient
from tests.client.beside import scripted
from tests.client.fakes import Peer, Script, envelope, token

Main = Callable[[NeuroGraphWebSocketClient], Coroutine[Any, Any, None]]
LIMIT_S = 10.0


def run(script: Script, main: Main, **arguments: Any) -> list[dict[str, Any]]:
    """Run `main` with a client of a scripted server that is not connected yet; returns what no code caught."""
    unseen: list[dict[str, Any]] = []
    arguments.setdefault("backoff", Backoff(lambda _low, _high: 0.0))

    async def within(url: str) -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: unseen.append(context))
        async with asyncio.timeout(LIMIT_S):
            await main(NeuroGraphWebSocketClient(url, **arguments))
        assert {asyncio.current_task()} == asyncio.all_tasks()

    with scripted(script) as url:
        asyncio.run(within(url))
    return unseen


class Heard:
    """A handler that keeps what it hears, and waits for it."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        self._news = asyncio.Event()

    def __call__(self, message: dict[str, Any]) -> None:
        self.messages.append(message)
        self._news.set()

    async def wait(self, count: int = 1) -> list[dict[str, Any]]:
        while len(self.messages) < count:
            self._news.clear()
            await self._news.wait()
        return self.messages

    @property
    def types(self) -> list[str]:
        return [message["type"] for message in self.messages]


async def creating(peer: Peer) -> None:
    """A server whose every `token.create` is an event, after its reply."""
    seq = 0
    while True:
        command = await peer.receive()
        match command["type"]:
            case "subscribe" | "unsubscribe":
                await peer.agree(command)
            case "token.create":
                seq += 1
                made = token(**command["payload"])
                await peer.reply(command, "token.created", made)
                await peer.event("tokens", "token.created", seq, **made)
            case "ping":
                await peer.reply(command, "pong", {"message_id": command["id"]})
            case _:
                await peer.fail(command, "unknown_type", "no such command")


def test_the_users_program() -> None:
    """Tries the program of the API page: the greeting, the agreement, the reply and the event, in this order."""

    async def main(client: NeuroGraphWebSocketClient) -> None:
        heard = Heard()
        client.on("*", heard)
        await client.connect()
        id_ = await client.send("subscribe", {"topic": "tokens"})
        other = await client.send("token.create", {"type": "demo"})
        await heard.wait(4)
        assert ["connection.established", "subscribed", "token.created", "token.created"] == heard.types
        _, agreed, reply, event = heard.messages
        assert (id_, other) == (agreed["reply_to"], reply["reply_to"])
        assert ("tokens", 1, "0000000a") == (event["topic"], event["seq"], event["epoch"])
        assert reply["payload"] == event["payload"]
        assert client.is_connected
        await client.disconnect()
        assert not client.is_connected

    assert [] == run(creating, main)


def test_handlers() -> None:
    """Tries to call a handler that was taken back, of another type, beside another one, or out of turn."""

    async def main(client: NeuroGraphWebSocketClient) -> None:
        calls: list[str] = []
        everything = Heard()

        async def slow(message: dict[str, Any]) -> None:
            calls.append("begin " + message["payload"]["type"])
            for _ in range(5):
                await asyncio.sleep(0)
            calls.append("end " + message["payload"]["type"])

        taken = Heard()
        client.on("token.created", slow)
        take_back = client.on("token.created", taken)
        client.on("*", everything)
        take_back()
        client.off("never", taken)
        async with client:
            for name in ("a", "b"):
                await client.send("token.create", {"type": name})
            await everything.wait(3)
        assert ["begin a", "end a", "begin b", "end b"] == calls
        assert [] == taken.messages

    assert [] == run(creating, main)


def test_a_handler_that_raises() -> None:
    """Tries to swallow what a handler raises, or to keep the message from the others."""

    async def main(client: NeuroGraphWebSocketClient) -> None:
        heard = Heard()

        def wrong(_message: dict[str, Any]) -> None:
            raise LookupError("mine")

        client.on("pong", wrong)
        client.on("pong", heard)
        async with client:
            await client.send("ping")
            await heard.wait()
            await client.request("ping")

    contexts = run(creating, main)
    assert {"a handler of 'pong' failed"} == {context["message"] for context in contexts}
    assert isinstance(contexts[0]["exception"], LookupError)


def test_a_handler_may_call_anything() -> None:
    """Tries to have a handler wait for itself: by asking, by sending, or by leaving."""

    async def main(client: NeuroGraphWebSocketClient) -> None:
        pongs = Heard()
        asked: list[str] = []

        async def created(_message: dict[str, Any]) -> None:
            asked.append((await client.request("ping"))["type"])
            await client.send("ping")

        async def leave(_message: dict[str, Any]) -> None:
            if len(pongs.messages) == 2:
                await client.disconnect()

        client.on("token.created", created)
        client.on("pong", pongs)
        client.on("pong", leave)
        await client.connect()
        await client.send("token.create", {})
        await pongs.wait(2)
        await client.disconnect()
        assert ["pong"] == asked

    assert [] == run(creating, main)


def test_slow_handlers_hold_up_who_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tries to pile up replies before a handler that is slow, by asking instead of sending."""
    monkeypatch.setattr("ngos.client.replies.UNHEARD", 3)

    async def main(client: NeuroGraphWebSocketClient) -> None:
        go_on = asyncio.Event()

        async def slow(_message: dict[str, Any]) -> None:
            await go_on.wait()

        client.on("pong", slow)
        async with client:
            for _ in range(3):
                await client.request("ping")
            fourth = asyncio.create_task(client.request("ping"))
            await asyncio.sleep(0)  # it begins
            await client.client.ping()  # whose answer would come after that of the fourth
            assert not fourth.done()
            go_on.set()
            assert "pong" == (await fourth)["type"]

    assert [] == run(creating, main)


def test_errors() -> None:
    """Tries to keep an error from the handlers of `error`, or from who asked."""

    async def script(peer: Peer) -> None:
        while True:
            await peer.fail(await peer.receive(), "forbidden")

    async def main(client: NeuroGraphWebSocketClient) -> None:
        heard = Heard()
        client.on("error", heard)
        async with client:
            ids = [
                await client.send("subscribe", {"topic": "tokens"}),
                await client.send("subscribe", {"topic": "tokens", "since": "x"}),
                await client.send("publish", {"topic": "tokens"}),
            ]
            await heard.wait(3)
            assert ids == [message["reply_to"] for message in heard.messages]
            assert ["forbidden"] * 3 == [message["payload"]["code"] for message in heard.messages]
            for type_ in ("publish", "subscribe"):
                with pytest.raises(CommandError):
                    await client.request(type_, {"topic": "tokens"})

    assert [] == run(script, main)


def test_over_a_break() -> None:
    """Tries to lose or repeat an event, or a command, for handlers, when the connection breaks."""
    connections = 0
    asked: list[Any] = []

    async def script(peer: Peer) -> None:
        nonlocal connections
        connections += 1
        command = await peer.receive()
        asked.append(command["payload"].get("since"))
        if connections == 1:
            await peer.agree(command)
            await peer.event("tokens", "x", 1)
            await peer.receive()
            await peer.socket.aclose(1012)
        else:
            await peer.agree(command, seq=2, recovered=True, replay=1)
            await peer.event("tokens", "x", 2)
            command = await peer.receive()
            await peer.reply(command, "pong", {})

    async def main(client: NeuroGraphWebSocketClient) -> None:
        events, pongs = Heard(), Heard()
        client.on("x", events)
        client.on("pong", pongs)
        async with client:
            await client.send("subscribe", {"topic": "tokens"})
            await events.wait()
            await client.send("ping")
            await pongs.wait()
            await events.wait(2)
        assert [1, 2] == [message["seq"] for message in events.messages]

    assert [] == run(script, main)
    assert [None, 1] == asked


def test_over_a_hole() -> None:
    """Tries to end a handler's topic at a hole, or to go on without a word."""
    connections = 0

    async def script(peer: Peer) -> None:
        nonlocal connections
        connections += 1
        command = await peer.receive()
        if connections == 1:
            await peer.agree(command, seq=3)
            await peer.socket.aclose(1012)
        await peer.agree(command, seq=9)
        while command["payload"].get("since") != 9:
            command = await peer.receive()
        await peer.agree(command, seq=9, recovered=True)
        await peer.event("tokens", "x", 10)

    async def main(client: NeuroGraphWebSocketClient) -> None:
        events = Heard()
        client.on("x", events)
        async with client:
            await client.send("subscribe", {"topic": "tokens"})
            assert 10 == (await events.wait())[0]["seq"]
            assert [(3, ("0000000a", 9))] == gaps

    gaps: list[Any] = []
    callbacks = Callbacks(gap=lambda error: gaps.append((error.seq, error.now)))
    assert [] == run(script, main, callbacks=callbacks)


def test_subscribing_again() -> None:
    """Tries to hear an event twice by subscribing twice, or after `unsubscribe`."""

    async def main(client: NeuroGraphWebSocketClient) -> None:
        heard = Heard()
        client.on("*", heard)
        async with client:
            for _ in range(2):
                assert "subscribed" == (await client.request("subscribe", {"topic": "tokens"}))["type"]
            await client.request("token.create")
            await heard.wait(5)
            reply = await client.request("unsubscribe", {"topic": "tokens"})
            assert {"topic": "tokens", "success": True} == reply["payload"]
            await client.request("token.create")
            await client.send("subscribe", {"topic": "tokens"})
            await client.send("unsubscribe", {"topic": "tokens"})
            await client.request("token.create")
            await client.request("ping")
            await asyncio.sleep(0)
        events = [message for message in heard.messages if "topic" in message]
        assert [1] == [event["seq"] for event in events]

    assert [] == run(creating, main)


def test_connecting_and_leaving() -> None:
    """Tries to connect twice at once, to fail without a word, to use what is not connected, or not to come back."""

    async def main(client: NeuroGraphWebSocketClient) -> None:
        with pytest.raises(RuntimeError):
            await client.send("ping")
        await client.disconnect()
        for _ in range(2):
            await client.connect()
            first = client.client
            await client.connect()
            assert first is client.client
            assert "pong" == (await client.request("ping"))["type"]
            await client.disconnect()
        nowhere = NeuroGraphWebSocketClient("ws://127.0.0.1:1/")
        for _ in range(2):
            with pytest.raises(ConnectFailed):
                await nowhere.connect()
        connecting = asyncio.create_task(client.connect())
        await asyncio.sleep(0)
        connecting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await connecting
        assert not client.is_connected
        async with client:
            assert client.is_connected

    assert [] == run(creating, main)


def test_what_was_sent_is_sent() -> None:
    """Tries to leave before what was sent last has reached the server."""
    types: list[str] = []

    async def script(peer: Peer) -> None:
        while True:
            command = await peer.receive()
            types.append(command["type"])
            await peer.reply(command, "x.done", {})

    async def main(client: NeuroGraphWebSocketClient) -> None:
        async with client:
            await client.send("token.create")

    assert [] == run(script, main)
    assert ["token.create"] == types


def test_a_callback_that_raises() -> None:
    """Tries to swallow what a callback raises."""

    def wrong(_established: object) -> None:
        raise LookupError("mine")

    async def main(client: NeuroGraphWebSocketClient) -> None:
        with pytest.raises(LookupError):
            await client.connect()

    assert [] == run(creating, main, callbacks=Callbacks(connected=wrong))


def test_an_end() -> None:
    """Tries to send into the void after the server has said that nobody is to come back."""

    async def script(peer: Peer) -> None:
        await peer.receive()
        await peer.socket.aclose(1008)

    async def main(client: NeuroGraphWebSocketClient) -> None:
        await client.connect()
        with pytest.raises(ConnectionLost):
            await client.request("ping")
        with pytest.raises(ConnectionLost):
            await client.send("ping")
        await client.connect()
        assert client.is_connected
        await client.disconnect()

    assert [] == run(script, main)


def test_a_handler_that_will_not_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tries to hold up `disconnect` for ever by a handler that swallows its cancellation, or to leave it unsaid."""
    monkeypatch.setattr("ngos.client.websocket.FLUSH_S", 0.05)

    async def main(client: NeuroGraphWebSocketClient) -> None:
        inside, released = asyncio.Event(), asyncio.Event()

        async def deaf(_message: dict[str, Any]) -> None:
            inside.set()
            while not released.is_set():
                try:
                    await released.wait()
                except asyncio.CancelledError:  # noqa: ASYNC103 - the wrong that this test is about
                    pass

        client.on("token.created", deaf)
        await client.connect()
        await client.send("token.create")
        await inside.wait()
        await client.disconnect()
        assert not client.is_connected
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert left
        released.set()
        await asyncio.wait(left)

    unseen = run(creating, main)
    assert unseen
    assert all("after it was cancelled" in context["message"] for context in unseen)


def test_broadcasts_that_come_too_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tries to end broadcasts for good, and without a word, by some that nobody has room for."""
    monkeypatch.setattr("ngos.client.client.Client.broadcasts", partialmethod(Client.broadcasts, buffer_events=10))

    async def script(peer: Peer) -> None:
        while True:
            command = await peer.receive()
            for n in range(1 if command["type"] == "one" else 100):
                await peer.send(envelope("notice", {"n": n}))
            await peer.reply(command, "sent", {})

    async def main(client: NeuroGraphWebSocketClient) -> None:
        notices, errors, going = Heard(), Heard(), asyncio.Event()

        async def slow(message: dict[str, Any]) -> None:
            await going.wait()
            notices(message)

        client.on("notice", slow)
        client.on("error", errors)
        await client.connect()
        await client.client.request("many")
        going.set()
        assert ["slow_subscriber"] == [message["payload"]["code"] for message in await errors.wait()]
        heard = len(notices.messages)
        assert heard < 100
        await client.client.request("one")
        await notices.wait(heard + 1)
        await client.disconnect()

    assert [] == run(script, main)


def test_connecting_from_many_tasks() -> None:
    """Tries to have tasks that connect at once wait for each other for ever, or open more than one connection."""
    connections = 0

    async def script(peer: Peer) -> None:
        nonlocal connections
        connections += 1
        await creating(peer)

    async def main(client: NeuroGraphWebSocketClient) -> None:
        await asyncio.gather(client.connect(), client.connect(), client.connect())
        assert "pong" == (await client.request("ping"))["type"]
        await client.disconnect()
        await asyncio.gather(client.connect(), client.disconnect())
        assert not client.is_connected

    assert [] == run(script, main)
    assert 2 == connections


def test_connecting_after_a_handler_has_left() -> None:
    """Tries to take a connection that a handler has left for one that stays, or to have the handler wait for itself."""

    async def main(client: NeuroGraphWebSocketClient) -> None:
        refused, pongs = asyncio.Event(), Heard()

        async def leave(_message: dict[str, Any]) -> None:
            await client.disconnect()
            with pytest.raises(RuntimeError):
                await client.connect()
            refused.set()

        client.on("token.created", leave)
        await client.connect()
        await client.send("token.create")
        await refused.wait()
        await client.connect()
        client.on("pong", pongs)
        await client.request("ping")
        await pongs.wait()
        assert client.is_connected
        await client.disconnect()

    assert [] == run(creating, main)
