"""The documents: what they link to is there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parent.parent
DOCUMENTS: Final = (*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md")))


def anchors(path: Path) -> set[str]:
    """The headings of a page as links name them."""
    headings = re.findall(r"^#+ (.*)$", path.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=[str(path.relative_to(ROOT)) for path in DOCUMENTS])
def test_links_lead_somewhere(document: Path) -> None:
    """Tries to link to a file or a heading that is not there."""
    for target in re.findall(r"\]\(([^)\s]+)\)", document.read_text("utf-8")):
        if "://" in target:
            continue
        file, _, anchor = target.partition("#")
        path = document if not file else document.parent / file
        assert path.exists(), target
        assert not anchor or anchor in anchors(path), target


def test_all_are_led_to() -> None:
    """Tries to write a document that neither the README nor another document tells of."""
    for path in DOCUMENTS:
        others = [other.read_text("utf-8") for other in DOCUMENTS if other != path]
        assert path.name == "README.md" or any(path.name in text for text in others), path.name
