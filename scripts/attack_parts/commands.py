"""What attackers send over an open WebSocket: messages and commands that hurt, or that nobody means. Pure.

Promises: every series ends; no message is over the server's limit unless that is the point.
"""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator, Mapping
from random import Random
from typing import Any

from attack_parts.blocks import MESSAGE_BYTES, Block
from attack_parts.wire import TEXT, frame
from attack_parts.world import TOKENS, token_id

UNKNOWN_TYPES = 10_000
TOPICS = 1_000_000
AT_ONCE = 50
# Of one conversation; a kind has as many as its time allows.
ROUNDS = 200
_SQL = ("'; drop table tokens; --", "' or '1'='1", "\\'; select pg_sleep(10); --", "$$; commit; --", "%s{0}%(x)s")
_PUBLISH = '{"type":"publish","payload":{"topic":"x","type":"y","payload":{"a":'
_ENDS = "}}}"
_LONE = '"\\ud800"'


def command(type: str, payload: Mapping[str, Any], **envelope: Any) -> bytes:
    """A command as a frame."""
    return frame(TEXT, json.dumps({"type": type, "payload": payload, **envelope}).encode())


def raw(text: str) -> bytes:
    """A text message as a frame."""
    return frame(TEXT, text.encode())


def unknown_types(rng: Random) -> Iterator[Block]:
    """10,000 commands that there are not."""
    for _ in range(UNKNOWN_TYPES // AT_ONCE):
        yield AT_ONCE, b"".join(command(f"token.creat{rng.randrange(10**9)}", {}) for _ in range(AT_ONCE))


def deep_json(rng: Random) -> Iterator[Block]:
    """A message of brackets."""
    half = (MESSAGE_BYTES - 100) // 2
    deep = "[" * half + "]" * half if rng.random() < 0.5 else '{"a":' * (half // 3) + "1" + "}" * (half // 3)
    yield from _again(raw(_PUBLISH + deep + _ENDS))


def huge_integers(rng: Random) -> Iterator[Block]:
    """A number of 65,000 digits, or thousands of long ones."""
    one = "9" * (MESSAGE_BYTES - 100)
    many = ",".join(["123456789012345678901234567890"] * 2000)
    number = rng.choice((one, f"[{many}]", "1e" + "9" * 1000))
    yield from _again(raw('{"type":"token.create","payload":{"metadata":{"n":' + number + _ENDS))


def repeated_keys(rng: Random) -> Iterator[Block]:
    """Thousands of the same key, or of different ones that nobody knows."""
    same = rng.random() < 0.5
    keys = ",".join(f'"{"a" if same else f"k{number}"}":1' for number in range(5000))
    place = rng.choice(('{"type":"ping",%s}', '{"type":"token.create","payload":{%s}}'))
    yield from _again(raw(place % keys))


def lone_surrogates(_rng: Random) -> Iterator[Block]:
    """Halves of characters in every string, which no database stores."""
    many = ",".join([_LONE] * 7000)
    some = [
        f"{_PUBLISH}[{many}]{_ENDS}",
        f'{{"type":"token.create","id":{_LONE},"payload":{{"type":{_LONE},"metadata":{{{_LONE}:1{_ENDS}',
        f'{{"type":{_LONE}}}',
    ]
    yield from _again(b"".join(map(raw, some)), len(some))


def nul_ids(rng: Random) -> Iterator[Block]:
    """Zero characters in ids, types, keys and values."""
    some = [
        command("ping", {}, id="a\0b"),
        command("token.create", {"type": "a\0"}, id="\0"),
        command("token.create", {"metadata": {"a\0": "\0"}}, id=f"n{rng.random()}"),
        command("token.get", {"token_id": "\0"}),
        command("subscribe", {"topic": "a\0"}),
        command("publish", {"topic": "x", "type": "\0", "payload": {"\0": "\0"}}),
    ]
    yield from _again(b"".join(some), len(some))


def sql_strings(rng: Random) -> Iterator[Block]:
    """SQL in each string that a command has."""
    for _ in range(ROUNDS):
        sql = rng.choice(_SQL)
        some = [
            command("token.create", {"type": sql, "metadata": {sql: sql}}, id=f"{sql}{rng.random()}"),
            command("token.get", {"token_id": sql}),
            command("token.list", {"type": sql, "after": sql}),
            command("subscribe", {"topic": sql, "epoch": sql}),
            command("graph.neighbors", {"token_id": token_id(0), "type": sql}),
            command("experience.list", {"event_type": sql, "trajectory_id": sql}),
            command(sql, {sql: sql}, id=sql),
        ]
        yield len(some), b"".join(some)


def topic_names(rng: Random) -> Iterator[Block]:
    """Subscriptions to names that were never used, of a million; half of them end again."""
    for _ in range(ROUNDS * 5):
        some = bytearray()
        for _ in range(AT_ONCE):
            name = f"attack.{rng.randrange(TOPICS)}"
            some += command("subscribe", {"topic": name})
            if rng.random() < 0.5:
                some += command("unsubscribe", {"topic": name})
        yield AT_ONCE, bytes(some)


def published_names(rng: Random) -> Iterator[Block]:
    """Events on topics that nobody has heard of, of a million names."""
    for _ in range(ROUNDS * 5):
        names = [f"attack.{rng.randrange(TOPICS)}" for _ in range(AT_ONCE)]
        some = [command("publish", {"topic": name, "type": "x", "payload": {"a": "b"}}) for name in names]
        yield AT_ONCE, b"".join(some)


def deaf(rng: Random) -> Iterator[Block]:
    """Subscriptions and long answers, for one who does not read."""
    own = f"attack.deaf.{rng.randrange(1000)}"
    yield 1, b"".join(command("subscribe", {"topic": topic}) for topic in ("tokens", "graph", "system", own))
    for _ in range(ROUNDS):
        yield 1, command("publish", {"topic": own, "type": "x", "payload": {"a": "x" * 30_000}})


def garbage_tokens(rng: Random) -> Iterator[Block]:
    """`authenticate` with what only looks like a token."""
    for _ in range(ROUNDS):
        yield AT_ONCE, b"".join(command("authenticate", {"token": garbage_token(rng)}) for _ in range(AT_ONCE))


def garbage_token(rng: Random) -> str:
    """Three parts with dots between, of which a server must look at all to refuse it."""
    parts = ('{"alg":"HS256","typ":"JWT"}', '{"sub":"x","exp":9999999999}')
    return ".".join([_base64(part.encode()) for part in parts] + [_base64(rng.randbytes(32))])


def _base64(data: bytes) -> str:
    return urlsafe_b64encode(data).decode().rstrip("=")


def dear_paths(rng: Random) -> Iterator[Block]:
    """`graph.path` at its greatest depth, as many as may be under way at once."""
    yield from _many(rng, lambda: ("graph.path", {"source_id": _any(rng), "target_id": _any(rng), "max_depth": 10}))


def dear_lists(rng: Random) -> Iterator[Block]:
    """`token.list` of a thousand, whole, and with their number."""
    full = {"limit": 1000, "full": True, "total": True}
    yield from _many(rng, lambda: ("token.list", full | {"offset": rng.randrange(1000)}))


def creates(rng: Random) -> Iterator[Block]:
    """`token.create`: each goes to the disk, and to everybody who follows `tokens`."""
    yield from _many(rng, lambda: ("token.create", {"type": "attack", "metadata": {"a": "x" * 200}}))


def updates_of_one(rng: Random) -> Iterator[Block]:
    """`token.update` of the same few tokens by all."""
    yield from _many(rng, lambda: ("token.update", {"token_id": token_id(rng.randrange(3)), "weight": rng.random()}))


def replays(rng: Random) -> Iterator[Block]:
    """`subscribe` from the first event on, again and again."""
    yield from _many(rng, lambda: ("subscribe", {"topic": "tokens", "since": 0}))


def _any(rng: Random) -> str:
    return token_id(rng.randrange(TOKENS))


def _many(_rng: Random, make: Callable[[], tuple[str, Mapping[str, Any]]]) -> Iterator[Block]:
    for _ in range(ROUNDS):
        yield AT_ONCE, b"".join(command(*make()) for _ in range(AT_ONCE))


def _again(block: bytes, attempts: int = 1) -> Iterator[Block]:
    for _ in range(ROUNDS):
        yield attempts, block
