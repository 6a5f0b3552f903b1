"""scripts/fuzz runs, finds nothing, and would find something."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from random import Random
from typing import Any

import attrs
import orjson
import pytest
from fuzz_parts import material, oracles, sessions, wire
from fuzz_parts.attacks import NAMES
from fuzz_parts.findings import Finding, failure_of
from fuzz_parts.guided import LONGEST, search
from fuzz_parts.oracles import ORACLES, Defect
from fuzz_parts.server import Target

from ngos.gateway.core import Core
from ngos.protocol import codec
from ngos.protocol.catalog import COMMANDS
from tests.scripts.marked import Script

INPUTS = {"codec": 2000, "cursor": 2000, "frames": 600}
SECONDS = 60.0
"""More than that many inputs take."""


@pytest.mark.parametrize("target", sorted(LONGEST))
def test_a_short_search_finds_nothing(target: str, tmp_path: Path) -> None:
    """Tries to break the codec, a cursor or the frames by the first of the inputs that a long search goes through."""
    found = search(target, tmp_path, seconds=SECONDS, seed=1, inputs=INPUTS[target])
    assert [] == [Finding.load(path) for path in found.findings]
    assert found.inputs >= INPUTS[target]


def test_a_defect_of_the_codec_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tries to have a search pass by an exception that one kind of command raises; and to have its input kept long."""
    real = codec.decode

    def broken(data: bytes) -> codec.Received:
        received = real(data)
        if b"graph.path" in data:
            raise KeyError(data)
        return received

    monkeypatch.setattr(codec, "decode", broken)
    found = search("codec", tmp_path, seconds=SECONDS, seed=1, inputs=500)
    (finding,) = [Finding.load(path) for path in found.findings]
    assert "KeyError in test_fuzz.py broken" == finding.what
    assert finding.data is not None
    assert len(finding.data) < 200
    monkeypatch.undo()
    assert failure_of(ORACLES["codec"], finding.data) is None


def test_a_reply_that_is_too_long_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tries to have an error reply grow beyond its limit unseen."""
    monkeypatch.setattr(codec, "_FAULTS_BYTES", 10**9)
    found = search("codec", tmp_path, seconds=SECONDS, seed=1, inputs=INPUTS["codec"])
    assert [f"an error reply has at most {oracles.REPLY_BYTES} bytes"] == [
        Finding.load(path).what for path in found.findings
    ]


def test_a_fast_path_that_differs_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tries to have frames read otherwise by the fast path than by the library, unseen."""
    real = Core._read_plain

    def broken(self: Core, data: bytes | bytearray) -> bytes | bytearray:
        rest = real(self, data)
        return rest[1:] if len(rest) == 7 else rest

    monkeypatch.setattr(Core, "_read_plain", broken)
    found = search("frames", tmp_path, seconds=SECONDS, seed=1, inputs=INPUTS["frames"])
    whats = {Finding.load(path).what for path in found.findings}
    assert whats & {"the fast path does as the library", "bytes may be cut anywhere"}


@pytest.mark.parametrize("cls", COMMANDS.values(), ids=COMMANDS)
def test_material_is_valid(cls: type[Any]) -> None:
    """Tries to have a search begin with what no rule takes, in any field of any command."""
    for seed in range(50):
        payload = material.payload(Random(seed), cls)
        try:
            codec.decode(orjson.dumps({"type": cls.TYPE, "payload": payload}))
        except codec.DecodeError as exc:
            # Two fields that don't go together are the command's own affair.
            faults = [fault["message"] for fault in exc.details["errors"]]
            assert [] == [text for text in faults if not re.match("can't be used|must differ|is required where", text)]


def test_the_same_seed_makes_the_same() -> None:
    """Tries to have a finding that can't be found again."""
    for kind in ("tidy", "wild", "http"):
        first, second = (sessions.make(Random(7), kind, compresses=True) for _ in range(2))
        assert first == second == orjson.loads(orjson.dumps(first))


PONG = {"id": "1", "type": "pong", "timestamp": 1, "payload": {"message_id": "a"}, "reply_to": "a"}
REFUSED = {"id": "1", "type": "error", "timestamp": 1, "payload": {"code": "internal"}, "reply_to": "a"}


@pytest.mark.parametrize(
    ("message", "reply", "promise"),
    [
        (b'{"type":"ping","id":"a"}', PONG, None),
        (b'{"type":"ping","id":"b"}', PONG, "a reply names its command"),
        (b'{"type":"token.create","id":"a"}', PONG, "token.create is answered by its reply, not by pong"),
        (b'{"type":"ping","id":"a","payload":1}', PONG, "what decode refuses is refused by the server, for the same"),
        (b'{"type":"ping","id":"a","payload":1}', REFUSED, "what decode refuses is refused by the server, for the"),
    ],
)
def test_a_wrong_reply_is_found(message: bytes, reply: dict[str, Any], promise: str | None) -> None:
    """Tries to have a reply pass that is not the command's, of another kind, or for another reason."""
    if promise is None:
        sessions.judge_reply(message, reply)
        return
    with pytest.raises(Defect, match=promise):
        sessions.judge_reply(message, reply)


@pytest.mark.parametrize(
    "line",
    [
        b'{"event":"read.defect","level":"error","incident":"1"}',
        b'{"event":"x","level":"warning","exception":"Traceback"}',
        b"Traceback (most recent call last):",
    ],
)
def test_a_defect_in_the_log_is_found(line: bytes, tmp_path: Path) -> None:
    """Tries to have a line of the log pass that tells of a defect; or one be told of twice."""
    log = tmp_path / "log"
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        target = Target(process, 0, "", log, compresses=False)
        log.write_bytes(b'http://127.0.0.1:1\n{"event":"server.ready","level":"info"}\n')
        target.log_is_clean()
        with log.open("ab") as file:
            file.write(line + b"\n")
        with pytest.raises(Defect):
            target.log_is_clean()
        target.log_is_clean()
        process.wait()
        with pytest.raises(Defect, match="the server lives"):
            target.is_alive()


@pytest.mark.parametrize("data", [b"\x81\x80\0\0\0\0", b"\x01\x01x", b"\xb1\x01x", b"\x82\x01x"])
def test_what_is_no_frame_of_a_server_is_found(data: bytes) -> None:
    """Tries to have a frame pass that is masked, in parts, of an extension, or binary."""
    with pytest.raises(wire.NotAFrame):
        list(wire.Frames().feed(data))


def test_a_planted_defect_ends_a_run_with_1(tmp_path: Path) -> None:
    """Tries to have a whole run come out well on a broken codec; its file is named, and can be tried again."""
    fuzz = Script("fuzz", "--findings", str(tmp_path))
    done = fuzz("--minutes", "0.05", "--only", "codec", "--planted")
    assert 1 == done.returncode, done.stdout + done.stderr
    (path,) = tmp_path.iterdir()
    assert str(path) in done.stdout
    assert "KeyError" in json.loads(path.read_text())["what"]
    again = fuzz("--replay", str(path))
    assert 0 == again.returncode, again.stdout + again.stderr
    assert "does not fail any more" in again.stdout
    assert [] == fuzz.processes()


def test_a_server_survives_a_short_run(tmp_path: Path) -> None:
    """Tries to break a real server by a few rounds of random connections and the quickest of the attacks."""
    fuzz = Script("fuzz", "--findings", str(tmp_path))
    named = ("long_control", "bad_ids", "json_bombs", "inflation_bombs")
    attacks = [argument for name in named for argument in ("--attack", name)]
    done = fuzz("--minutes", "0.05", "--only", "http", "--only", "connections", *attacks)
    assert 0 == done.returncode, done.stdout + done.stderr
    assert "0 findings: seed 1" in done.stdout
    assert set(named) == set(re.findall(r"^ attack (\S+)", done.stdout, re.MULTILINE)) <= set(NAMES)
    assert [] == fuzz.processes()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "said"), [(("--only", "moon"), "'moon' is not one of"), (("--replay", __file__), "not a finding")]
)
def test_what_makes_no_sense_is_refused(arguments: tuple[str, ...], said: str) -> None:
    """Tries to have a run begin that was asked for wrongly."""
    done = Script("fuzz")(*arguments)
    assert 2 == done.returncode
    assert said in re.sub(r"\s+", " ", done.stderr)


def test_a_finding_is_kept_whole(tmp_path: Path) -> None:
    """Tries to have a finding read back otherwise than it was written, or the same one kept twice."""
    finding = Finding("codec", "a promise", "how", bytes(range(256)), {"a": [1]})
    path = finding.save(tmp_path)
    assert finding == Finding.load(path)
    assert path == attrs.evolve(finding, detail="other").save(tmp_path)
