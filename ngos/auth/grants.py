"""What a token lets its holder do: read from a claim, strictly, and asked for each command. Pure.

The claim is `{"commands": ["read", "write", "admin"], "subscribe": ["tokens", "chat.*"], "publish": ["chat.*"]}`. What
it does not name is not allowed.
"""

from __future__ import annotations

import re
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Any, Final

from attrs import frozen

PATTERNS: Final = 64
PATTERN_CHARS: Final = 128
STARS: Final = 4
"""Of one pattern: each may cost a pass over the topic's name."""

_PATTERN: Final = re.compile(r"[A-Za-z0-9._:*?-]+")
_SEVERAL_STARS: Final = re.compile(r"\*+")
_KEYS: Final = ("commands", "subscribe", "publish")


class Family(StrEnum):
    """A kind of command."""

    READ = "read"
    WRITE = "write"
    ADMIN = "admin"


@frozen
class Grant:
    """What is allowed. Patterns have `*` and `?`, as those of durable topics do; `parse_grant` makes sure of theirs."""

    families: frozenset[Family]
    subscribe: tuple[str, ...]
    publish: tuple[str, ...]

    def may(self, family: Family) -> bool:
        """Whether commands of this family are allowed."""
        return family in self.families

    def may_subscribe(self, topic: str) -> bool:
        """Whether this topic may be followed."""
        return any(fnmatchcase(topic, pattern) for pattern in self.subscribe)

    def may_publish(self, topic: str) -> bool:
        """Whether events may be published to this topic, as far as the token goes."""
        return any(fnmatchcase(topic, pattern) for pattern in self.publish)

    def to_claim(self) -> dict[str, list[str]]:
        """Return the claim that `parse_grant` reads as this."""
        families = [family.value for family in Family if family in self.families]
        return {"commands": families, "subscribe": list(self.subscribe), "publish": list(self.publish)}


EVERYTHING: Final = Grant(frozenset(Family), ("*",), ("*",))
NOTHING: Final = Grant(frozenset(), (), ())


@frozen
class Identity:
    """Who holds a token that was verified. `expires_at_s` is its `exp`, in Unix seconds, without leeway."""

    subject: str
    grant: Grant
    expires_at_s: float


def parse_grant(claim: object) -> Grant:
    """Read a claim.

    Raises ValueError for anything malformed, the fault of who made the token: half a grant might be the wrong half.
    """
    if type(claim) is not dict:
        raise ValueError("must be an object")
    if unknown := claim.keys() - set(_KEYS):
        raise ValueError(f"{min(map(str, unknown))[:64]!r} is unknown")
    commands = _texts(claim, "commands")
    families = {family.value: family for family in Family}
    if not families.keys() >= set(commands):
        raise ValueError(f"commands must be of {', '.join(families)}")
    return Grant(
        frozenset(families[name] for name in commands),
        tuple(parse_pattern(text) for text in _texts(claim, "subscribe")),
        tuple(parse_pattern(text) for text in _texts(claim, "publish")),
    )


def parse_pattern(text: str) -> str:
    """Check a pattern of topics and return its shortest form; raises ValueError.

    A `[` would begin a class of characters, and is no part of a topic's name (protocol.md section 4).
    """
    if len(text) > PATTERN_CHARS or not _PATTERN.fullmatch(text):
        raise ValueError(f"a pattern has 1 to {PATTERN_CHARS} of a-z A-Z 0-9 . _ : - * ?")
    pattern = _SEVERAL_STARS.sub("*", text)
    if pattern.count("*") > STARS:
        raise ValueError(f"a pattern has at most {STARS} *")
    return pattern


def _texts(claim: dict[Any, Any], key: str) -> list[str]:
    texts = claim.get(key, [])
    if type(texts) is not list or len(texts) > PATTERNS or not all(type(text) is str for text in texts):
        raise ValueError(f"{key} must be a list of at most {PATTERNS} texts")
    return texts
