"""The protocol as a page for readers."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest

from ngos.protocol.catalog import COMMANDS, MESSAGES
from ngos.protocol.close import CloseCode
from ngos.protocol.faults import ErrorCode
from ngos.protocol.schemas import value_classes
from scripts import protocol_docs
from tests.servers import Running, only_frames

TEXT: Final = protocol_docs.TARGET.read_text("utf-8")


def test_the_page_is_current() -> None:
    """Tries to change the protocol's classes, or the page's tables, without the other."""
    assert protocol_docs.document(TEXT) == TEXT


def test_nothing_is_left_out() -> None:
    """Tries to have a command, reply, event, value, error, close code or table that the page does not tell of."""
    assert set(re.findall(r"<!-- generated: (\w+) -->", TEXT)) == protocol_docs.SECTIONS.keys()
    assert all(f"#### {name}\n" in TEXT for name in COMMANDS)
    assert all(f"`{name}`" in TEXT or f'"{name}"' in TEXT for name in MESSAGES)
    assert all(f"#### {cls.__name__}\n" in TEXT for cls in value_classes())
    assert all(f"| `{code}` |" in TEXT for code in ErrorCode)
    assert all(f"| {int(code)} |" in TEXT for code in CloseCode)


@only_frames
async def test_every_route_is_told_of(server: Running) -> None:
    """Tries to have an HTTP route that the page does not tell of, or the other way round."""
    told = set(re.findall(r"`(?:GET|POST) (/[^`]*)`", TEXT.partition("## 10.")[2]))
    rules = {rule.rule for rule in server.app.site.url_map.iter_rules() if not rule.endpoint.startswith("page/")}
    assert rules - {"/ws"} == told - {"/"}


def test_a_page_that_is_not_current(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Tries to have `--check` pass over tables that are old, or say more than a line."""
    monkeypatch.setattr(protocol_docs, "TARGET", tmp_path / "protocol.md")
    protocol_docs.TARGET.write_text("By hand.\n<!-- generated: errors -->\nold\n<!-- end -->\nMore.\n")
    assert 1 == protocol_docs.main(["--check"])
    assert 1 == capsys.readouterr().err.count("\n")
    assert 0 == protocol_docs.main(["--fix"])
    assert 0 == protocol_docs.main(["--check"])
    text = protocol_docs.TARGET.read_text()
    assert text.startswith("By hand.\n")
    assert "`rate_limited`" in text
    assert 2 == protocol_docs.main([])
