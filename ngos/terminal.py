"""What others said, made fit for a terminal. Pure; imports nothing of ngos."""

from __future__ import annotations


def harmless(text: str) -> str:
    """Replace what a terminal might obey."""
    return text if text.isprintable() else "".join(c if c.isprintable() else "\N{MIDDLE DOT}" for c in text)
