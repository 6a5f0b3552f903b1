"""Every refusal takes the same time, whatever its reason; on Trio's clock, which here is a virtual one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from ngos.auth.refusals import Refusal, Refused
from ngos.auth.verifier import Verifier
from tests.auth.test_verifier import ALICE, BAD
from tests.auth.tokens import NOW_S, every_kind, terms, token


@pytest.fixture(scope="module")
def verifier(tmp_path_factory: pytest.TempPathFactory) -> Verifier:
    return every_kind(tmp_path_factory.mktemp("keys"))


@pytest.mark.parametrize(("make", "reason"), BAD.values(), ids=BAD.keys())
async def test_every_refusal_takes_as_long(
    make: Any, reason: Refusal, verifier: Verifier, autojump_clock: trio.testing.MockClock
) -> None:
    """Tries to learn from the time which part of a token was right."""
    text = make()
    began_s = trio.current_time()
    with pytest.raises(Refused) as caught:
        await verifier.verify(text)
    assert 0.5 == trio.current_time() - began_s
    assert reason == caught.value.reason


async def test_a_good_token_waits_for_nothing(verifier: Verifier, autojump_clock: trio.testing.MockClock) -> None:
    """Tries to make good tokens as slow as bad ones."""
    began_s = trio.current_time()
    assert ALICE == await verifier.verify(token())
    assert 0.0 == trio.current_time() - began_s


async def test_many_refusals_at_once(verifier: Verifier, autojump_clock: trio.testing.MockClock) -> None:
    """Tries to make refusals wait for each other."""
    began_s = trio.current_time()
    ended_s = []

    async def refuse() -> None:
        with pytest.raises(Refused):
            await verifier.verify("a.b.c")
        ended_s.append(trio.current_time() - began_s)

    async with trio.open_nursery() as nursery:
        for _ in range(100):
            nursery.start_soon(refuse)
    assert [0.5] * 100 == ended_s


async def test_keys_that_never_come(autojump_clock: trio.testing.MockClock) -> None:
    """Tries to tell an unknown key, for which keys are waited for, from a bad signature."""
    verifier = Verifier.open(terms(jwks_url="https://issuer.example/keys"), lambda: NOW_S)  # its task does not run
    for text in (token("RS256"), token("RS256", {"kid": "new"}), token("HS256")):
        began_s = trio.current_time()
        with pytest.raises(Refused):
            await verifier.verify(text)
        assert 0.5 == trio.current_time() - began_s


async def test_a_cancelled_refusal_just_ends(verifier: Verifier, autojump_clock: trio.testing.MockClock) -> None:
    """Tries to hold up who has left until the refusal is due."""
    began_s = trio.current_time()
    with trio.move_on_after(0.1) as scope:
        await verifier.verify("a.b.c")
    assert scope.cancelled_caught
    assert 0.1 == pytest.approx(trio.current_time() - began_s)


async def test_a_good_token_can_be_cancelled(verifier: Verifier) -> None:
    """Tries to verify for somebody who is gone."""
    with trio.CancelScope() as scope:
        scope.cancel()
        await verifier.verify(token())
    assert scope.cancelled_caught


async def test_the_time_is_a_setting(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    """Tries to have two opinions on how long a refusal takes."""
    verifier = every_kind(tmp_path, refusal_s=2.0)
    began_s = trio.current_time()
    with pytest.raises(Refused):
        await verifier.verify("")
    assert 2.0 == trio.current_time() - began_s
