"""The protocol as TypeScript."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ngos.protocol.catalog import COMMANDS, EVENTS, MESSAGES
from ngos.protocol.close import CloseCode
from ngos.protocol.faults import ErrorCode
from scripts import protocol_types


def test_the_file_is_current() -> None:
    """Tries to change the protocol's classes, or the generated file, without the other."""
    assert protocol_types.document() == protocol_types.TARGET.read_text("utf-8")


def test_nothing_is_left_out() -> None:
    """Tries to have a command, message, event, error or close code without its type."""
    text = protocol_types.document()
    for name, cls in {**COMMANDS, **MESSAGES}.items():
        assert f"  '{name}': {cls.__name__};\n" in text
        assert f"export interface {cls.__name__} " in text or f"export type {cls.__name__} = " in text
    assert {"tokens", "graph", "experience", "system"} == {cls.TOPIC for cls in EVENTS.values()}
    assert all(f"  | '{code}'" in text for code in ErrorCode)
    assert all(f"  {code.name}: {int(code)},\n" in text for code in CloseCode)


@pytest.mark.parametrize("line", ["  weight?: number | undefined;", "  token_id: string;", "  readonly length"])
def test_what_the_fields_are(line: str) -> None:
    """Tries to have optional fields required, UUIDs that are no strings, or readonly answers."""
    assert (line in protocol_types.document()) is not line.startswith("  readonly")


def test_a_file_that_is_not_current(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Tries to have `--check` pass over a file that is old or missing, or say more than a line."""
    monkeypatch.setattr(protocol_types, "TARGET", tmp_path / "protocol.ts")
    assert 1 == protocol_types.main(["--check"])
    assert 0 == protocol_types.main([])
    assert 0 == protocol_types.main(["--check"])
    capsys.readouterr()
    protocol_types.TARGET.write_text("// old\n")
    assert 1 == protocol_types.main(["--check"])
    error = capsys.readouterr().err
    assert 1 == error.count("\n")
    assert "run scripts/protocol_types.py" in error


def test_the_same_each_time() -> None:
    """Tries to have the order of sets or of hashes in the file."""
    program = "from scripts.protocol_types import document; print(document())"
    root = Path(__file__).parent.parent.parent
    answers = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": seed},
            cwd=root,
            check=True,
            capture_output=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert 1 == len(answers)
