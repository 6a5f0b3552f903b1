"""Every kind of attack, by its name."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from functools import partial
from random import Random

from attack_parts import blocks, commands, sockets, web
from attack_parts.attacker import Attacker
from attack_parts.blocks import Block

Attack = Callable[[Attacker], Awaitable[None]]


async def _over_websocket(
    series: Callable[[Random], Iterator[Block]], attacker: Attacker, *, reads: bool = True
) -> None:
    await attacker.converse(series(attacker.rng), reads=reads)


def _says(series: Callable[[Random], Iterator[Block]], *, reads: bool = True) -> Attack:
    return partial(_over_websocket, series, reads=reads)


KINDS: Mapping[str, Attack] = {
    "slow-handshakes": sockets.slow_handshakes,
    "endless-headers": sockets.endless_headers,
    "big-headers": sockets.big_headers,
    "connect-and-close": sockets.connect_and_close,
    "connect-and-be-silent": sockets.connect_and_be_silent,
    "open-and-reset": sockets.open_and_reset,
    "half-closed": sockets.half_closed,
    "reset-in-mid-frame": sockets.reset_in_mid_frame,
    "frames-cut-anywhere": _says(blocks.cut_anywhere),
    "a-terabyte": _says(blocks.a_terabyte),
    "long-control": _says(blocks.long_control),
    "tiny-fragments": _says(blocks.tiny_fragments),
    "fragments-and-pings": _says(blocks.tiny_messages_between),
    "pings": _says(blocks.pings),
    "pings-unread": _says(blocks.pings, reads=False),
    "unknown-types": _says(commands.unknown_types),
    "json-depth": _says(commands.deep_json),
    "json-integers": _says(commands.huge_integers),
    "json-keys": _says(commands.repeated_keys),
    "json-surrogates": _says(commands.lone_surrogates),
    "nul-ids": _says(commands.nul_ids),
    "sql": _says(commands.sql_strings),
    "topic-names": _says(commands.topic_names),
    "published-names": _says(commands.published_names),
    "never-reads": _says(commands.deaf, reads=False),
    "http": web.http_flood,
    "posts": web.posts,
    "endless-bodies": web.endless_bodies,
    "deflate-offers": web.deflate_offers,
    "h2c": web.h2c_upgrades,
    "rapid-resets": web.rapid_resets,
    "garbage-tokens": _says(commands.garbage_tokens),
    "bad-authorization": web.bad_authorization,
    "paths": _says(commands.dear_paths),
    "lists": _says(commands.dear_lists),
    "creates": _says(commands.creates),
    "updates": _says(commands.updates_of_one),
    "replays": _says(commands.replays),
}
