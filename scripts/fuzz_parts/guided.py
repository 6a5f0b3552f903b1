"""Looks for inputs by which an oracle fails: at random, or guided by coverage.

Promises: an oracle that fails does not end it; each defect is saved once, as short as is quickly found.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any, Final
from uuid import UUID

import attrs
import orjson

from fuzz_parts import material, wire
from fuzz_parts.findings import Finding, failure_of, minimised
from fuzz_parts.oracles import ORACLES
from ngos.protocol import codec
from ngos.services.pages import encode_cursor

MEMORY_MB: Final = 768
HANG_S: Final = 10
LONGEST: Final = {"codec": 65536, "cursor": 300, "frames": 8192}
RANDOM: Final = "random mutation"
SEEDS: Final = 150


def seeds(target: str, rng: Random) -> list[bytes]:
    """Inputs to begin with."""
    match target:
        case "codec":
            plain = [material.command(rng, rng.choice([None, "a", "x" * 128])) for _ in range(SEEDS)]
            return [*plain, *_floods(), *(material.mutated(rng, data) for data in plain)]
        case "cursor":
            return [b"", b"A" * 32, b"_" * 32, encode_cursor(datetime(2026, 1, 1, tzinfo=UTC), UUID(int=1)).encode()]
        case "frames":
            return [_stream(rng) for _ in range(SEEDS)]
        case _:
            raise ValueError(target)


def _floods() -> Iterator[bytes]:
    """What might be answered at greater length than it has itself."""
    for key, count in (("{}", 6000), ("{}" + "\x01" * 250, 40), ("{}" + "é" * 300, 90), ('{}"', 5000)):
        yield orjson.dumps({"type": "ping", "id": "\x01" * 128, "payload": {key.format(n): 0 for n in range(count)}})


def _stream(rng: Random) -> bytes:
    """Some frames, mostly good; the first byte is the oracle's."""
    data = rng.randbytes(1)
    for _ in range(rng.randint(1, 6)):
        data += any_frame(rng)
    return data


def any_frame(rng: Random) -> bytes:
    """A frame that may be right, or a message in several."""
    text = rng.choice([b"", b"{}", "é\U0010ffff".encode(), b"x" * 125, b"x" * 126, b"x" * 999, b"\xff", b"\xce"])
    mask = rng.randbytes(4)
    match rng.randrange(10):
        case 0 | 1 | 2:
            return wire.frame(wire.TEXT, text, mask=mask)
        case 3 | 4:
            return wire.fragmented(rng, text)
        case 5:
            code = rng.choice([1000, 1001, 1005, 1006, 999, 3000, 5000]).to_bytes(2, "big")
            return wire.frame(wire.CLOSE, rng.choice([b"", code, code + b"bye", code + b"\xff", b"\x03"]), mask=mask)
        case 6:
            return wire.frame(wire.PING, text[:126], mask=mask)
        case 7:
            return wire.frame(wire.TEXT, text, compressed=True, mask=mask)
        case 8:
            return wire.frame(wire.TEXT, text, declared=rng.choice([0, 1, 125, 126, 65536, 2**40, 2**63]), mask=mask)
        case _:
            opcode = rng.choice([*wire.OPCODES, 3, 11, 15])
            return wire.frame(opcode, text, fin=rng.random() < 0.7, mask=rng.choice([mask, mask, None]))


def mutate(target: str, rng: Random, data: bytes) -> bytes:
    """Another input like this one."""
    match target:
        case "codec":
            return material.mutated(rng, data, LONGEST[target])
        case "frames":
            if rng.random() < 0.5:
                at = rng.randint(min(1, len(data)), len(data))
                return (data[:at] + any_frame(rng) + data[at:])[: LONGEST[target]]
            return material.mutated_bytes(rng, data)[: LONGEST[target]]
        case _:
            return material.mutated_bytes(rng, data)[: LONGEST[target]]


@attrs.define
class Search:
    """Feeds an oracle and keeps what it fails by."""

    target: str
    oracle: Callable[[bytes], None]
    directory: Path
    inputs: int = 0
    known: set[str] = attrs.field(factory=set)
    findings: list[Path] = attrs.field(factory=list)

    def feed(self, data: bytes) -> None:
        """Try one input."""
        self.inputs += 1
        failure = failure_of(self.oracle, data)
        if failure is None or failure[0] in self.known:
            return
        what, detail = failure
        self.known.add(what)
        shortest = minimised(self.oracle, data, what)
        self.findings.append(Finding(self.target, what, detail, shortest).save(self.directory))

    def at_random(self, seed: int, seconds: float, inputs: int | None = None) -> None:
        """Mutate the seeds, and what came of them, until the time is over."""
        rng = Random(seed)
        pool = seeds(self.target, rng)
        for data in pool:
            self.feed(data)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and (inputs is None or self.inputs < inputs):
            at = rng.randrange(len(pool))
            data = mutate(self.target, rng, pool[at])
            self.feed(data)
            if rng.random() < 0.1:
                # The first of them stay, so that it does not drift off to what is nothing at all.
                pool[at if at >= SEEDS else rng.randrange(len(pool) // 2, len(pool))] = data


def search(target: str, directory: Path, *, seconds: float, seed: int, inputs: int | None = None) -> Search:
    """Look for what breaks `target`, at random and in this process."""
    found = Search(target, ORACLES[target], directory)
    found.at_random(seed, seconds, inputs)
    return found


def by_coverage(atheris: Any, target: str, directory: Path, *, seconds: int, seed: int) -> None:
    """Look for what breaks `target`, guided by coverage. Does not return: libFuzzer ends the process."""
    corpus = directory / "corpus"
    corpus.mkdir(parents=True)
    for n, data in enumerate(seeds(target, Random(seed))):
        (corpus / f"{n:03}").write_bytes(data)
    words = directory / "dictionary"
    words.write_text("".join(f'"{_escaped(word)}"\n' for word in material.dictionary()))
    found = Search(target, ORACLES[target], directory)

    def custom_mutator(data: bytes, max_size: int, number: int) -> bytes:
        rng = Random(number)
        if rng.random() < 0.5:
            return bytes(atheris.Mutate(data, len(data)))[:max_size]
        return mutate(target, rng, data)[:max_size]

    arguments = [
        sys.argv[0],
        f"-max_total_time={seconds}",
        f"-seed={seed % 2**31 or 1}",
        f"-max_len={LONGEST[target]}",
        f"-rss_limit_mb={MEMORY_MB}",
        f"-timeout={HANG_S}",
        f"-artifact_prefix={directory}/",
        "-print_final_stats=1",
        "-len_control=20",
        *([f"-dict={words}"] if target == "codec" else []),
        str(corpus),
    ]
    atheris.Setup(arguments, found.feed, custom_mutator=custom_mutator)
    atheris.Fuzz()


def _escaped(word: bytes) -> str:
    return "".join(chr(byte) if 32 <= byte < 127 and byte not in b'"\\' else f"\\x{byte:02x}" for byte in word)


def plant() -> None:
    """Break the codec on purpose, so that a run can show that it would be found."""
    real = codec.decode

    def broken(data: bytes) -> codec.Received:
        if b'"max_depth":10' in data:
            raise KeyError("planted")
        return real(data)

    codec.decode = broken
