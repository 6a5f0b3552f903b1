"""The rules of what makes an answer past, against a world in Python that knows nothing of them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from random import Random
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ngos.cache import tags
from ngos.cache.tags import BEGINNING_CHARS, Change, read_change
from ngos.cache.touches import Touches
from ngos.protocol import codec
from ngos.protocol.messages import GraphConnected, GraphDisconnected, TokenCreated, TokenDeleted, TokenUpdated
from ngos.protocol.values import Space
from tests.cache.world import TYPES, World

Kept = tuple[str, int, list[str], Callable[[], bool]]
"""Topic, position and tags of an answer, and whether it is true now."""


def neighbors(world: World, token_id: str, limit: int) -> Kept | None:
    answer = world.neighbors(token_id, limit)
    if not answer:
        return None  # the services don't keep it either
    found = list(tags.edges_tags(token_id))
    return "graph", len(world.log["graph"]), found, lambda: answer == world.neighbors(token_id, limit)


def degree(world: World, token_id: str) -> Kept:
    answer = world.degree(token_id)
    found = list(tags.edges_tags(token_id))
    return "graph", len(world.log["graph"]), found, lambda: answer == world.degree(token_id)


def path(world: World, source: str, target: str, max_depth: int) -> Kept | None:
    if source == target:
        return None
    answer = world.path(source, target, max_depth)

    def is_true() -> bool:
        now = world.path(source, target, max_depth)
        if answer is None or now is None:
            return answer is now
        return len(answer) == len(now) and world.is_path(answer)

    return "graph", len(world.log["graph"]), list(tags.path_tags(answer)), is_true


def page(world: World, type_: str | None, limit: int, offset: int) -> Kept:
    answer = world.page(type_, limit, offset)
    ids = [token_id for token_id, _, _ in answer[:-1]]
    found = list(tags.page_tags(type_, ids))
    return "tokens", len(world.log["tokens"]), found, lambda: answer == world.page(type_, limit, offset)


def ask(world: World, rng: Random) -> Kept | None:
    ids = [*sorted(world.tokens), "t-none"]
    match rng.randrange(4):
        case 0:
            return neighbors(world, rng.choice(ids), rng.choice((1, 100)))
        case 1:
            return degree(world, rng.choice(ids))
        case 2:
            return path(world, rng.choice(ids), rng.choice(ids), rng.choice((1, 3, 10)))
        case _:
            return page(world, rng.choice((None, *TYPES)), rng.choice((1, 3, 100)), rng.choice((0, 1)))


def hunt(rng: Random, most_tags: int, gap: int, rounds: int) -> tuple[int, int]:
    """Change and ask; returns how many answers held that were kept, and how many of these were past."""
    world, kept = World(), list[Kept]()
    touches = {topic: Touches(most_tags) for topic in world.log}
    held = past = 0
    for _ in range(rounds):
        for _ in range(rng.randint(0, 3)):
            world.change(rng)
        if (answer := ask(world, rng)) is not None:
            kept.append(answer)
        if rng.random() < 0.5:
            continue
        for topic, log in world.log.items():  # sometimes it is so much that not all of it is read
            touches[topic].learn("e", len(log), log[max(touches[topic].head, len(log) - gap) :])
        for topic, seq, of_answer, is_true in kept[-20:]:
            if touches[topic].holds("e", seq, of_answer):
                held += 1
                past += not is_true()
    return held, past


@settings(max_examples=150, deadline=None)
@given(st.randoms(use_true_random=False), st.sampled_from((4, 20, 1000)), st.sampled_from((2, 1000)))
def test_what_holds_is_true(rng: Random, most_tags: int, gap: int) -> None:
    """Tries to have an answer hold that is past, in any history, with little memory and logs that were read in part."""
    _, past = hunt(rng, most_tags, gap, 40)
    assert 0 == past


def test_most_of_what_is_true_holds() -> None:
    """Tries to make the rules so strict that nothing is worth keeping."""
    held, past = hunt(Random(1), 1000, 1000, 2000)
    assert 0 == past
    assert held > 1000


WEAKER: dict[str, Callable[[Change], Any]] = {
    "graph.connected": lambda change: ("connected",),
    "graph.disconnected": lambda change: (f"at {change.near}", f"at {change.far}"),
    "token.created": lambda change: ("created",),
    "token.updated": lambda change: (f"token {change.near}",),
    "token.deleted": lambda change: (),
}


@pytest.mark.parametrize("weakened", WEAKER)
def test_each_rule_is_needed(monkeypatch: pytest.MonkeyPatch, weakened: str) -> None:
    """Tries to leave out a part of a rule without anything being found past: then the model above proves nothing."""
    whole = tags.touched_by

    def weaker(change: Change) -> tuple[str, ...]:
        touched: tuple[str, ...] = WEAKER[weakened](change) if change.type == weakened else whole(change)
        return touched

    monkeypatch.setattr("ngos.cache.touches.touched_by", weaker)
    assert 0 < sum(hunt(Random(seed), 1000, 1000, 300)[1] for seed in range(10))


def test_what_is_not_known_does_not_hold() -> None:
    """Tries to have something hold of another epoch, from beyond the head, from before a hole or after a step back."""
    touches = Touches()
    assert not touches.holds("e", 0, [])
    touches.learn("e", 10, [])
    assert [False, True, False] == [touches.holds("e", seq, []) for seq in (9, 10, 11)]
    assert not touches.holds("f", 10, [])
    touches.learn("e", 12, [Change(12, "graph.connected", "a", "b")])  # 11 was pruned
    assert [False, True, True] == [touches.holds("e", seq, ["at c"]) for seq in (10, 11, 12)]
    assert not touches.holds("e", 11, ["at a"])
    touches.learn("e", 11, [])
    assert [False, True, False] == [touches.holds("e", seq, []) for seq in (10, 11, 12)]
    touches.learn("f", 11, [])
    assert not touches.holds("e", 11, [])


def test_changes_from_before_the_head_change_nothing() -> None:
    """Tries to have events that are known already count as a hole."""
    touches = Touches()
    log = [Change(seq, "token.updated", f"t{seq}") for seq in range(1, 6)]
    touches.learn("e", 3, log[:3])
    touches.learn("e", 5, log)
    assert touches.holds("e", 0, ["token t9"])
    assert not touches.holds("e", 4, ["token t5"])


@given(st.text(max_size=50), st.text())
def test_an_event_is_read_from_its_beginning(type_: str, text: str) -> None:
    """Tries to have an event read as of another token, or type, by what a client has written into it."""
    ids = [UUID(int=number) for number in (1, 2, 3)]
    at = datetime.now(UTC)
    space = Space(x=(0.0,) * 8, y=(0.0,) * 8, z=(0.0,) * 8)
    fields: dict[str, Any] = {"weight": 1.0, "metadata": {text: text, "token_id": str(ids[2])}}
    token = fields | {"token_id": ids[0], "type": type_, "flags": 0, "coordinates": space, "version": 1}
    token |= {"created_at": at, "updated_at": at}
    ends = {"connection_id": ids[2], "source_id": ids[0], "target_id": ids[1], "type": type_}
    near, far = str(ids[0]), str(ids[1])
    for event, change in (
        (TokenCreated(**token), Change(7, "token.created", near, of_type=type_)),
        (TokenUpdated(**token), Change(7, "token.updated", near, of_type=type_)),
        (TokenDeleted(token_id=ids[0]), Change(7, "token.deleted", near)),
        (
            GraphConnected(**ends, **fields, bidirectional=False, created_at=at),
            Change(7, "graph.connected", near, far),
        ),
        (GraphDisconnected(**ends), Change(7, "graph.disconnected", near, far)),
    ):
        beginning = codec.dump(event).decode()[:BEGINNING_CHARS]
        assert change == read_change(7, event.TYPE, beginning)


@pytest.mark.parametrize("beginning", ["", "{}", '{"token_id":"x"', f'{{"type":"t","token_id":"{UUID(int=1)}"}}'])
def test_what_is_not_known_is_not_read(beginning: str) -> None:
    """Tries to have an event of another version be taken for one that touches nothing."""
    assert read_change(7, "token.created", beginning) is None
    assert read_change(7, "token.renamed", beginning) is None
