"""Which token is shown to which connection, on both shells."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import trio

from ngos.client.backoff import Backoff
from ngos.client.callbacks import Callbacks
from ngos.client.errors import ConnectFailed, ConnectionLost
from ngos.client.session import Session, State
from tests.client.beside import scripted
from tests.client.fakes import Peer
from tests.client.sessions import established, receive, reconnected, sent
from tests.client.shells import Shell, on_each_shell


def at_once() -> Backoff:
    return Backoff(lambda _low, _high: 0.0)


class Server:
    """Refuses the headers in `refused`, and closes each of its first connections with 4401 when it is spoken to."""

    def __init__(self, *, closes: int = 0, refused: tuple[str, ...] = ()) -> None:
        self.shown: list[str] = []
        self._closes = closes
        self._refused = refused

    async def __call__(self, peer: Peer) -> None:
        shown = dict(peer.request.headers).get(b"authorization", b"").decode()
        self.shown.append(shown.removeprefix("Bearer "))
        if self.shown[-1] in self._refused:
            await peer.request.reject(401)
            return
        await peer.accept()
        while True:
            command = await peer.command()
            if self._closes:
                self._closes -= 1
                await peer.socket.aclose(4401)
                return
            await peer.reply(command, "x.done", {})


def pieces(*tokens: str) -> Callable[[], str]:
    left = list(tokens)
    return lambda: left.pop(0) if len(left) > 1 else left[0]


@on_each_shell
def test_a_plain_function(shell: Shell) -> None:
    """Tries to show a token twice, where the function has another for each connection."""
    server = Server(closes=2)

    async def main() -> None:
        async with shell.connect(url, token=pieces("a", "b", "c"), backoff=at_once()) as client:
            await client.request("x.do")
            assert client.state is State.CONNECTED

    with scripted(server, accept=False) as url:
        shell.run(main)
    assert ["a", "b", "c"] == server.shown


@on_each_shell
def test_an_async_function(shell: Shell) -> None:
    """Tries to take a coroutine for a token."""
    server = Server(closes=1)
    plain = pieces("a", "b")

    async def token() -> str:
        return plain()

    async def main() -> None:
        async with shell.connect(url, token=token, backoff=at_once()) as client:
            await client.request("x.do")

    with scripted(server, accept=False) as url:
        shell.run(main)
    assert ["a", "b"] == server.shown


@on_each_shell
@pytest.mark.parametrize("tokens", [("a",), ("a", "bad", "bad"), ("a", "a")])
def test_there_is_no_other(shell: Shell, tokens: tuple[str, ...]) -> None:
    """Tries to knock for ever with a token that was refused, by 4401 or by 401."""
    server = Server(closes=1, refused=("bad",))
    told: list[float | None] = []

    async def main() -> None:
        callbacks = Callbacks(disconnected=lambda _lost, next_s: told.append(next_s))
        async with shell.connect(url, token=pieces(*tokens), backoff=at_once(), callbacks=callbacks) as client:
            with pytest.raises(ConnectionLost) as caught:
                await client.request("x.do")
            assert 4401 == caught.value.code
            assert "the token was refused, and there is no other" == caught.value.reason

    with scripted(server, accept=False) as url:
        shell.run(main)
    assert list(dict.fromkeys(tokens)) == server.shown
    assert told[-1] is None
    assert 1 == told.count(None)


@on_each_shell
def test_a_string(shell: Shell) -> None:
    """Tries to come back after 4401 with the only token that there is."""
    server = Server(closes=1)

    async def main() -> None:
        async with shell.connect(url, token="a", backoff=at_once()) as client:
            with pytest.raises(ConnectionLost) as caught:
                await client.request("x.do")
            assert 4401 == caught.value.code

    with scripted(server, accept=False) as url:
        shell.run(main)
    assert ["a"] == server.shown


@on_each_shell
def test_nothing_to_show(shell: Shell) -> None:
    """Tries to end a client whose function fails for a while; at first it is told, as any failure is."""
    server = Server(closes=1)
    fails: list[bool] = [True, False, True, True, False]
    told: list[str] = []

    def token() -> str | None:
        if fails.pop(0):
            raise RuntimeError("the service is away")
        return None if len(fails) == 3 else "b"

    async def main() -> None:
        with pytest.raises(ConnectFailed) as caught:
            async with shell.connect(url, token=token):
                pass
        assert "no token: the service is away" == caught.value.reason
        callbacks = Callbacks(disconnected=lambda lost, _next_s: told.append(lost.reason))
        async with shell.connect(url, token=token, backoff=at_once(), callbacks=callbacks) as client:
            await client.request("x.do")

    with scripted(server, accept=False) as url:
        shell.run(main)
    assert ["", "b"] == server.shown
    assert ["no token: the service is away"] * 2 == told[1:]


@on_each_shell
def test_a_function_that_takes_too_long(shell: Shell) -> None:
    """Tries to keep a program waiting for longer than `connect_s` by its own function."""

    async def token() -> str:
        await forever()
        return "never"

    async def forever() -> None:
        if type(shell).__name__ == "OnTrio":
            await trio.sleep_forever()
        else:
            import asyncio

            await asyncio.Event().wait()

    async def main() -> None:
        with pytest.raises(ConnectFailed, match=r"no answer within 0\.1 s"):
            async with shell.connect("ws://127.0.0.1:1/ws", token=token, connect_s=0.1):
                pass

    shell.run(main)


@on_each_shell
@pytest.mark.parametrize("token", ["two\nlines", "schlüssel", 7, b"bytes"])
def test_what_no_header_carries(shell: Shell, token: object) -> None:
    """Tries to smuggle a header in, or to crash the client, by what a function returns."""

    async def main() -> None:
        with pytest.raises(ConnectFailed, match="characters that a header can't carry"):
            async with shell.connect("ws://127.0.0.1:1/ws", token=lambda: token):
                pass

    shell.run(main)


@on_each_shell
def test_what_a_refusal_says(shell: Shell) -> None:
    """Tries to show people JSON, or nothing, where the server has a sentence for them."""
    bodies = [b'{"code":"unauthenticated","message":"get a new one","details":{}}', b"[]", b'{"message":7}', b"go away"]

    async def main() -> None:
        for expected in ("get a new one", "[]", '{"message":7}', "go away"):
            with pytest.raises(ConnectFailed) as caught:
                async with shell.connect(url):
                    pass
            assert f"401 Unauthorized: {expected}" == caught.value.reason

    async def script(peer: Peer) -> None:
        await peer.request.reject(401, body=bodies.pop(0))

    with scripted(script, accept=False) as url:
        shell.run(main)


def test_the_accepted_token_until_it_is_refused() -> None:
    """Tries to forget what `authenticate` was accepted with, or to be stuck with it."""
    session = Session(backoff=at_once())
    assert session.proof.next() is None
    session = established()
    session.proof.__init__(pieces("given", "given again"))  # type: ignore[misc]
    assert session.prove("given")
    session.request("authenticate", {"token": "accepted"}, lambda _: None)
    receive(session, "authenticated", {"subject": "me", "expires_at": None}, reply_to=sent(session)[0]["id"])
    assert ("accepted", "accepted") == (session.proof.next(), session.proof.in_band)
    (command,) = reconnected(session)
    assert {"token": "accepted"} == command["payload"]
    assert session.disconnected(ConnectionLost(4401, "expired")) is not None
    assert (None, "given") == (session.proof.in_band, session.proof.next())
    assert not session.prove("accepted")
    assert session.ended is not None
    assert 4401 == session.ended.code


def test_a_proof_that_is_not_heard_yet() -> None:
    """Tries to show a token on later connections that the server has refused, or not answered."""
    session = established()
    session.request("authenticate", {"token": "refused"}, lambda _: None)
    error = {"code": "unauthenticated", "message": "no", "retryable": False, "details": {}}
    receive(session, "error", error, reply_to=sent(session)[0]["id"])
    assert [] == reconnected(session)
