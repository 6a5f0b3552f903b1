"""Keys from a URL, with a real HTTP server at the other end: one that works, and all that one can do instead."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import pytest
import trio
from attrs import define, field
from structlog.testing import capture_logs

from ngos.auth.jwks import RemoteKeys
from ngos.auth.keys import KEYS
from ngos.auth.refusals import Refusal, Refused
from ngos.auth.terms import AuthTerms
from ngos.auth.verifier import Verifier
from tests.auth.test_verifier import ALICE
from tests.auth.tokens import NOW_S, jwk, jwks, private_key, terms, token

Script = Callable[[trio.SocketStream], Awaitable[None]]
ENOUGH_S = 10.0
"""No step of these tests takes this long; one that does fails."""


@define(eq=False)
class Provider:
    """A server that counts its requests and answers each as its script says."""

    script: Script
    url: str = ""
    requests: list[bytes] = field(factory=list)
    asked: trio.Event = field(factory=trio.Event)

    async def serve(self, stream: trio.SocketStream) -> None:
        async with stream:
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                data = await stream.receive_some()
                if not data:
                    return
                head += data
            self.requests.append(head)
            self.asked.set()
            try:
                await self.script(stream)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                pass  # it has heard enough


def answer(body: bytes, status: str = "200 OK", headers: str = "") -> Script:
    async def script(stream: trio.SocketStream) -> None:
        head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n{headers}\r\n"
        await stream.send_all(head.encode() + body)

    return script


def keys(*kids: str, kind: str = "P-256") -> Script:
    """A set of one key of ours under each name."""
    return answer(jwks(*(jwk(private_key(kind), kid, use="sig", alg="ES256") for kid in kids)))


@define(eq=False)
class Bench:
    """A provider and a verifier that fetches from it."""

    provider: Provider
    verifier: Verifier
    logs: list[Any]

    def named(self, event: str) -> list[Any]:
        return [line for line in self.logs if line["event"] == event]

    async def logged(self, event: str, times: int = 1) -> Any:
        """Wait for a line of the log; the fetching task has written it a moment before it tells anybody."""
        assert self.verifier._remote is not None
        with trio.fail_after(ENOUGH_S):
            while len(self.named(event)) < times:
                await self.verifier._remote._fetched.wait()
        return self.named(event)[times - 1]

    async def refusal(self, text: str) -> Refusal:
        with pytest.raises(Refused) as caught, trio.fail_after(ENOUGH_S):
            await self.verifier.verify(text)
        return caught.value.reason


@asynccontextmanager
async def bench(script: Script, **changes: Any) -> AsyncIterator[Bench]:
    """A bench on real sockets and the real clock; times that tests need are in `changes`."""
    provider = Provider(script)
    with capture_logs() as logs:
        async with trio.open_nursery() as nursery:
            (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
            await nursery.start(trio.serve_listeners, provider.serve, [listener])
            provider.url = f"http://127.0.0.1:{listener.socket.getsockname()[1]}/keys?of=ngos"
            verifier = Verifier.open(terms_for(provider.url, **changes), lambda: NOW_S)
            await nursery.start(verifier.run)
            yield Bench(provider, verifier, logs)
            nursery.cancel_scope.cancel()


def terms_for(url: str, **changes: Any) -> AuthTerms:
    patient = {"refusal_s": ENOUGH_S, "jwks_timeout_s": ENOUGH_S, "jwks_pause_s": 0.0}
    return terms(jwks_url=url, **{**patient, **changes})


async def test_the_first_token_waits_for_the_keys() -> None:
    """Tries to refuse a good token because the keys are still on their way."""
    async with bench(keys("one")) as b:
        assert "the keys of tokens have not come yet" == b.verifier.unready()
        assert ALICE == await b.verifier.verify(token("ES256", {"kid": "one"}))
        assert b.verifier.unready() is None
        assert b.provider.requests[0].startswith(b"GET /keys?of=ngos HTTP/1.1\r\n")
        assert [1] == [line["keys"] for line in b.named("auth.keys_fetched")]


async def test_keys_rotate() -> None:
    """Tries to refuse a token by a new key, or to fetch more than once for it."""
    async with bench(keys("one")) as b:
        await b.logged("auth.keys_fetched")
        b.provider.script = keys("one", "two")
        assert ALICE == await b.verifier.verify(token("ES256", {"kid": "two"}))
        assert 2 == len(b.provider.requests)
        assert ALICE == await b.verifier.verify(token("ES256", {"kid": "one"}))
        assert ALICE == await b.verifier.verify(token("ES256"))
        assert 2 == len(b.provider.requests)


async def test_a_key_that_is_gone() -> None:
    """Tries to be let in by a key that the provider has withdrawn."""
    async with bench(keys("one", "two"), refusal_s=0.0) as b:
        await b.logged("auth.keys_fetched")
        b.provider.script = keys("two", kind="P-256")
        assert b.verifier._remote is not None
        await b.verifier._remote.refresh()
        assert Refusal.KEY == await b.refusal(token("ES256", {"kid": "one"}))


async def test_many_at_once_are_one_request() -> None:
    """Tries to make a request for each token that waits."""
    release = trio.Event()
    inner = keys("one")

    async def slow(stream: trio.SocketStream) -> None:
        await release.wait()
        await inner(stream)

    async with bench(slow) as b:
        found = []

        async def verify() -> None:
            found.append(await b.verifier.verify(token("ES256", {"kid": "one"})))

        async with trio.open_nursery() as nursery:
            for _ in range(100):
                nursery.start_soon(verify)
            await b.provider.asked.wait()
            await trio.testing.wait_all_tasks_blocked()
            release.set()
        assert [ALICE] * 100 == found
        assert 1 == len(b.provider.requests)


async def test_a_cancelled_waiter_cancels_nobody_else() -> None:
    """Tries to take the keys from all by leaving."""
    release = trio.Event()
    inner = keys("one")

    async def slow(stream: trio.SocketStream) -> None:
        await release.wait()
        await inner(stream)

    async with bench(slow) as b:
        found = []

        async def verify(scope: trio.CancelScope) -> None:
            with scope:
                found.append(await b.verifier.verify(token("ES256", {"kid": "one"})))

        async with trio.open_nursery() as nursery:
            scopes = [trio.CancelScope() for _ in range(3)]
            for scope in scopes:
                nursery.start_soon(verify, scope)
            await b.provider.asked.wait()
            await trio.testing.wait_all_tasks_blocked()
            scopes[0].cancel()
            await trio.testing.wait_all_tasks_blocked()
            release.set()
        assert [ALICE, ALICE] == found
        assert 1 == len(b.provider.requests)


async def test_a_flood_of_unknown_kids_is_no_flood_of_requests() -> None:
    """Tries to make the server ask its provider as often as somebody sends it nonsense."""
    async with bench(keys("one"), refusal_s=0.05, jwks_pause_s=60.0) as b:
        await b.logged("auth.keys_fetched")
        async with trio.open_nursery() as nursery:
            for n in range(200):
                nursery.start_soon(b.refusal, token("ES256", {"kid": f"unknown {n}"}, which="attacker"))
        assert {Refusal.KEY: 200} == {reason: n for reason, n in b.verifier.refusals.items() if n}
        assert 1 == len(b.provider.requests)
        assert ALICE == await b.verifier.verify(token("ES256", {"kid": "one"}))


async def hang(_: trio.SocketStream) -> None:
    await trio.sleep_forever()


async def endless(stream: trio.SocketStream) -> None:
    await stream.send_all(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        await stream.send_all(b" " * 65536)


async def drip(stream: trio.SocketStream) -> None:
    """Something all the time, and never an end: each read is quick."""
    await stream.send_all(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        await stream.send_all(b" ")
        await trio.sleep(0.01)


async def endless_header(stream: trio.SocketStream) -> None:
    await stream.send_all(b"HTTP/1.1 200 OK\r\nX: ")
    while True:
        await stream.send_all(b"x" * 65536)


async def nothing(_: trio.SocketStream) -> None:
    pass


async def half(stream: trio.SocketStream) -> None:
    await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n{")


async def no_http(stream: trio.SocketStream) -> None:
    await stream.send_all(b"220 mail.example ESMTP\r\n")


ENTRY = jwk(private_key("P-256"), "one")
BAD_PROVIDERS: dict[str, tuple[Script, str]] = {
    "hangs": (hang, "no answer within 0.2 s"),
    "drips": (drip, "no answer within 0.2 s"),
    "has no end": (endless, "more than 256 KiB"),
    "has headers without end": (endless_header, "RemoteProtocolError"),
    "hangs up": (nothing, "RemoteProtocolError"),
    "hangs up in the middle": (half, "RemoteProtocolError"),
    "is no HTTP server": (no_http, "RemoteProtocolError"),
    "says a long length": (answer(b" " * 300_000), "more than 256 KiB"),
    "fails": (answer(b"oops", "500 Internal Server Error"), "status 500"),
    "has moved": (answer(b"", "302 Found", "Location: http://127.0.0.1:1/\r\n"), "status 302"),
    "has moved for good": (answer(jwks(ENTRY), "308 Permanent Redirect", "Location: /other\r\n"), "status 308"),
    "has no content": (answer(b"", "204 No Content"), "status 204"),
    "compresses": (answer(b"\x1f\x8b", headers="Content-Encoding: gzip\r\n"), "content encoding"),
    "says nothing": (answer(b""), "not JSON"),
    "says garbage": (answer(b"\xff<html>"), "not JSON"),
    "says brackets": (answer(b"[" * 200_000), "not JSON"),
    "says a list": (answer(b"[]"), "not JSON"),
    "says something twice": (answer(b'{"keys": [], "keys": []}'), "twice"),
    "has no set": (answer(b'{"error": "no"}'), "not a JWK set"),
    "has no keys": (answer(b'{"keys": []}'), "none of the 0 keys"),
    "has only secrets": (answer(jwks({"kty": "oct", "k": "c2VjcmV0", "kid": "one"})), "none of the 1 keys"),
    "has a few keys too many": (answer(jwks(*[ENTRY] * (KEYS + 1))), "at most"),
    "has 10,000 keys": (answer(jwks(*[{"kty": "EC"}] * 10_000)), "at most"),
    "has 10,000 whole keys": (answer(jwks(*[ENTRY] * 10_000)), "more than 256 KiB"),
}


@pytest.mark.parametrize(("script", "why"), BAD_PROVIDERS.values(), ids=BAD_PROVIDERS.keys())
async def test_bad_providers(script: Script, why: str) -> None:
    """Tries to hang, flood or end the server from the provider's end; it says why, refuses, and tries again."""
    async with bench(script, jwks_timeout_s=0.2 if script in (hang, drip) else ENOUGH_S, refusal_s=0.01) as b:
        line = await b.logged("auth.keys_failed")
        assert why in line["reason"]
        assert len(line["reason"]) <= 200
        assert "the keys of tokens have not come yet" == b.verifier.unready()
        assert Refusal.KEY == await b.refusal(token("ES256", {"kid": "one"}))
        b.provider.script = keys("one")
        await b.logged("auth.keys_fetched")
        assert ALICE == await b.verifier.verify(token("ES256", {"kid": "one"}))


async def test_nobody_there() -> None:
    """Tries to end the server by a provider that is not there."""
    with socket.socket() as ours, capture_logs() as logs:
        ours.bind(("127.0.0.1", 0))  # and does not listen: nor does anybody else there, meanwhile
        async with trio.open_nursery() as nursery:
            url = f"http://127.0.0.1:{ours.getsockname()[1]}/"
            verifier = Verifier.open(terms_for(url, refusal_s=0.1), lambda: NOW_S)
            await nursery.start(verifier.run)
            with pytest.raises(Refused):
                await verifier.verify(token("ES256"))
            await Bench(Provider(nothing), verifier, logs).logged("auth.keys_failed")
            nursery.cancel_scope.cancel()
    assert "ConnectError" in logs[0]["reason"]


async def test_unusable_keys_are_skipped() -> None:
    """Tries to lose the good keys of a set because of others in it."""
    others = [{"kty": "oct", "k": "c2VjcmV0"}, {"kty": "LMS"}, 7, {}, jwk(private_key("P-384"), "p", use="enc")]
    body = jwks(*others, ENTRY, private_key("P-521").key.as_dict(private=True))  # type: ignore[arg-type]
    async with bench(answer(body)) as b:
        assert ALICE == await b.verifier.verify(token("ES256", {"kid": "one"}))
        (line,) = b.named("auth.keys_fetched")
        assert (1, 6) == (line["keys"], line["skipped"])


async def test_a_secret_in_the_set_is_no_secret() -> None:
    """Tries to be let in by HS256 with what the provider shows everybody."""
    body = jwks({"kty": "oct", "k": "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY", "kid": "s"}, ENTRY)
    async with bench(answer(body), refusal_s=0.0) as b:
        await b.logged("auth.keys_fetched")
        assert Refusal.ALGORITHM == await b.refusal(token("HS256", {"kid": "s"}))


async def test_proxies_of_the_environment_are_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tries to get the keys from whoever can set a variable."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    async with bench(keys("one")) as b:
        assert ALICE == await b.verifier.verify(token("ES256", {"kid": "one"}))


async def test_nothing_of_a_token_or_a_key_is_logged() -> None:
    """Tries to read tokens, keys or the URL's query in the log."""
    async with bench(keys("one"), refusal_s=0.0) as b:
        await b.logged("auth.keys_fetched")
        good = token("ES256", {"kid": "one"})
        await b.verifier.verify(good)
        await b.refusal(good[:-4])
        b.provider.script = answer(jwks(ENTRY)[:-1])
        await b.refusal(token("ES256", {"kid": "secret kid"}))
        await b.logged("auth.keys_failed")
        text = str(b.logs)
        assert not any(part in text for part in (*good.split("."), ENTRY["x"], "secret kid", "of=ngos", "alice"))


def fetches(*outcomes: bytes | Exception) -> Callable[[], Awaitable[bytes]]:
    """In the place of the request, for the tests of time: one outcome after the other, the last again and again."""
    left = list(outcomes)

    async def get() -> bytes:
        outcome = left.pop(0) if len(left) > 1 else left[0]
        GETS.append(trio.current_time())
        if isinstance(outcome, Exception):
            raise outcome
        await trio.lowlevel.checkpoint()
        return outcome

    return get


GETS: list[float] = []


@asynccontextmanager
async def timed(*outcomes: bytes | Exception, **changes: Any) -> AsyncIterator[Verifier]:
    """A verifier on a virtual clock, without a socket: an autojump clock jumps while one waits on a socket."""
    GETS.clear()
    verifier = Verifier.open(
        terms(jwks_url="https://issuer.example/keys", **{"jwks_age_s": 1000.0, **changes}), lambda: NOW_S
    )
    get = fetches(*outcomes)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RemoteKeys, "_get", lambda _self: get())
        async with trio.open_nursery() as nursery:
            await nursery.start(verifier.run)
            yield verifier
            nursery.cancel_scope.cancel()


SET = jwks(ENTRY)
DOWN = OSError("down")


async def test_keys_that_grow_old(autojump_clock: trio.testing.MockClock) -> None:
    """Tries to be let in by keys that nobody has confirmed for longer than they live, or out before that."""
    good = token("ES256", {"kid": "one"})
    async with timed(SET, DOWN) as verifier:
        began_s = trio.current_time()
        assert ALICE == await verifier.verify(good)
        await trio.sleep_until(began_s + 999)
        assert ALICE == await verifier.verify(good)
        assert verifier.unready() is None
        await trio.sleep_until(began_s + 1001)
        assert "the keys of tokens are too old" == verifier.unready()
        with pytest.raises(Refused) as caught:
            await verifier.verify(good)
        assert Refusal.KEY == caught.value.reason


async def test_keys_are_fresh_without_being_asked(autojump_clock: trio.testing.MockClock) -> None:
    """Tries to let keys grow old while the provider works."""
    async with timed(SET) as verifier:
        await trio.sleep(10_050)
        assert ALICE == await verifier.verify(token("ES256", {"kid": "one"}))
        assert [500.0] * 20 == [b - a for a, b in pairwise(GETS)]


async def test_unknown_kids_wait_for_the_pause(autojump_clock: trio.testing.MockClock) -> None:
    """Tries to have requests closer together than the pause."""
    stranger = token("ES256", {"kid": "stranger"}, which="attacker")
    async with timed(SET, jwks_pause_s=30.0) as verifier:
        for _ in range(400):
            with pytest.raises(Refused):
                await verifier.verify(stranger)
        assert [30.0] * 6 == [b - a for a, b in pairwise(GETS)]


async def test_a_new_key_is_waited_for_no_longer_than_a_refusal(autojump_clock: trio.testing.MockClock) -> None:
    """Tries to tell an unknown key from a wrong one by the time, in the middle of the pause and after it."""
    stranger = token("ES256", {"kid": "stranger"}, which="attacker")
    async with timed(SET, jwks_pause_s=30.0) as verifier:
        await trio.sleep(29.8)
        for _ in range(3):
            began_s = trio.current_time()
            with pytest.raises(Refused):
                await verifier.verify(stranger)
            assert 0.5 == pytest.approx(trio.current_time() - began_s, abs=1e-9)


async def test_a_provider_that_is_late(autojump_clock: trio.testing.MockClock) -> None:
    """Tries to be unready for a whole pause because the provider started a moment after us; or to hammer it."""
    async with timed(DOWN, DOWN, DOWN, DOWN, DOWN, DOWN, DOWN, SET, jwks_pause_s=30.0):
        await trio.sleep(120)
        assert [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0] == [b - a for a, b in pairwise(GETS)]


async def test_a_short_age_shortens_the_pause(autojump_clock: trio.testing.MockClock) -> None:
    """Tries to let keys die of an age that is shorter than the pause."""
    good = token("ES256", {"kid": "one"})
    async with timed(SET, jwks_age_s=10.0, jwks_pause_s=30.0) as verifier:
        await verifier.verify(good)
        for _ in range(100):
            assert ALICE == await verifier.verify(good)
            await trio.sleep(0.7)
