"""Which settings a change is about, and which of those can change while the server runs. Pure."""

from __future__ import annotations

import attrs
from attrs import frozen

from ngos.config import FIELDS, RESTART, Settings
from ngos.loading import shown


@frozen
class Change:
    """The settings to go on with, and what became of each that is different: `name: old -> new`, secrets masked."""

    settings: Settings
    changed: tuple[str, ...]
    needs_restart: tuple[str, ...]


def change_of(old: Settings, new: Settings) -> Change:
    """Go over to `new` as far as a running server can."""
    different = [name for name in FIELDS if getattr(old, name) != getattr(new, name)]
    kept = {name: getattr(old, name) for name in different if name in RESTART}

    def told(name: str) -> str:
        return f"{name}: {shown(getattr(old, name))} -> {shown(getattr(new, name))}"

    return Change(
        attrs.evolve(new, **kept),
        tuple(told(name) for name in different if name not in RESTART),
        tuple(told(name) for name in different if name in RESTART),
    )
