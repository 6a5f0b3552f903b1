"""What an answer depends on, and what an event touches, in the same words: tags. Pure.

An answer is past when a tag of it was touched after its position. All its tags are touched by events of one topic, that
of its position. The two halves of this file are the rules of what makes an answer past: they are to be read side by
side.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Final

import orjson
from attrs import frozen

CONNECTED: Final = "connected"
CREATED: Final = "created"
DELETED: Final = "deleted"
UPDATED: Final = "updated"

TOPICS: Final = ("graph", "tokens")
"""Those whose events can touch an answer."""


@frozen
class Change:
    """An event of the log, as far as it matters. `near` and `far` are an edge's ends, else `near` is the token.

    `of_type` is the type that a token has after it; the event of a deletion does not tell that.
    """

    seq: int
    type: str
    near: str
    far: str | None = None
    of_type: str | None = None


_TOKEN: Final = re.compile(r'\{"token_id":"([0-9a-f-]{36})"(?:,"type":("(?:[^"\\]|\\.)*"))?')
_EDGE: Final = re.compile(
    r'\{"connection_id":"[0-9a-f-]{36}","source_id":"([0-9a-f-]{36})","target_id":"([0-9a-f-]{36})"'
)
_PATTERNS: Final = {
    **dict.fromkeys(("graph.connected", "graph.disconnected"), _EDGE),
    **dict.fromkeys(("token.created", "token.updated", "token.deleted"), _TOKEN),
}
BEGINNING_CHARS: Final = 512
"""Of an event's payload, with all of it that matters: ids, and a type of at most 50 characters."""


def read_change(seq: int, type_: str, beginning: str) -> Change | None:
    """An event, by its number, its type and the beginning of its payload; None: it is not known here."""
    pattern = _PATTERNS.get(type_)
    match = None if pattern is None else pattern.match(beginning)
    if match is None:
        return None
    near, other = match.groups()
    if pattern is _EDGE:
        return Change(seq, type_, near, other)
    return Change(seq, type_, near, of_type=None if other is None else orjson.loads(other))


def touched_by(change: Change) -> tuple[str, ...]:
    """The tags that an event touches."""
    match change.type:
        case "graph.connected":
            return CONNECTED, f"at {change.near}", f"at {change.far}"
        case "graph.disconnected":
            return _between(change.near, str(change.far)), f"at {change.near}", f"at {change.far}"
        case "token.created":
            return CREATED, f"created {change.of_type}"
        case "token.updated":
            return UPDATED, f"token {change.near}"
        case "token.deleted":
            return (DELETED,)
    return ()


def edges_tags(token_id: str) -> Iterator[str]:
    """Of `graph.neighbors` with at least one edge, and of `graph.degree`, which does not say whether a token is there.

    That a token is deleted is an event for each edge at it.
    """
    yield f"at {token_id}"


def path_tags(path: Sequence[str] | None) -> Iterator[str]:
    """Of `graph.path`: a path ends with one of its edges, and a new edge may make a way, or a shorter one.

    Any edge between two neighbors on it is taken for that of the path. Nothing is shorter than one edge.
    """
    for near, far in pairwise(path or ()):
        yield _between(near, far)
    if path is None or len(path) > 2:
        yield CONNECTED


def page_tags(type_: str | None, token_ids: Sequence[str]) -> Iterator[str]:
    """Of `token.list`. Any new token may be on it, whatever its place: `created_at` is of its node's clock.

    With a type, any update may have put a token on it, or before it: an event does not tell the type of before.
    """
    yield DELETED
    if type_ is None:
        yield CREATED
        for token_id in token_ids:
            yield f"token {token_id}"
    else:
        yield f"created {type_}"
        yield UPDATED


def _between(near: str, far: str) -> str:
    return f"between {near} {far}" if near < far else f"between {far} {near}"
