"""What a payload field may hold: each rule checks a JSON value and describes itself as JSON Schema.

A field's type is `Annotated[python_type, rule]`. Rules never coerce (protocol.md section 2): `"7"` is not a
number, `true` is not 1; only an integer where a float is due becomes that float. May import nothing of ngos.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import Annotated, Any, Final
from uuid import UUID

import orjson
from attrs import field, frozen

LEVELS: Final = ("physical", "sensory", "motor", "emotional", "cognitive", "social", "temporal", "abstract")
INT64_MAX: Final = 2**63 - 1
_CANONICAL_UUID: Final = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


class RuleError(ValueError):
    """A value breaks a rule. The text is for the client; `path` leads from the field to the spot, as in `[3]`."""

    def __init__(self, message: str, path: str = "") -> None:
        super().__init__(message)
        self.path = path


class Unset(Enum):
    """The type of UNSET: a field that the client did not send, where null would be something else."""

    UNSET = "unset"

    def __repr__(self) -> str:
        return "UNSET"


UNSET: Final = Unset.UNSET


@frozen
class Rule:
    """The base of all rules."""

    def __call__(self, value: Any) -> Any:
        """Return the value as the field holds it; raises RuleError, the sender's fault."""
        raise NotImplementedError

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema of what is accepted."""
        raise NotImplementedError


@frozen
class Text(Rule):
    """A string of `shortest` to `longest` characters, without NUL, which Postgres can't store."""

    longest: int
    shortest: int = 1

    def __call__(self, value: Any) -> str:
        if type(value) is not str:
            raise RuleError("must be a string")
        if not self.shortest <= len(value) <= self.longest:
            raise RuleError(f"must have {self.shortest} to {self.longest} characters")
        if "\0" in value:
            raise RuleError("must not contain NUL")
        return value

    def schema(self) -> dict[str, Any]:
        return {"type": "string", "minLength": self.shortest, "maxLength": self.longest}


@frozen
class Name(Rule):
    """A string that matches a pattern as a whole."""

    pattern: str
    _compiled: re.Pattern[str] = field(init=False, repr=False, eq=False)

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "_compiled", re.compile(self.pattern))

    def __call__(self, value: Any) -> str:
        if type(value) is not str:
            raise RuleError("must be a string")
        if self._compiled.fullmatch(value) is None:
            raise RuleError(f"must match {self.pattern}")
        return value

    def schema(self) -> dict[str, Any]:
        return {"type": "string", "pattern": f"^{self.pattern}$"}


@frozen
class Choice(Rule):
    """One of a few strings."""

    options: tuple[str, ...]

    def __call__(self, value: Any) -> str:
        if value not in self.options or type(value) is not str:
            raise RuleError("must be one of " + ", ".join(self.options))
        return value

    def schema(self) -> dict[str, Any]:
        return {"type": "string", "enum": list(self.options)}


@frozen
class Integer(Rule):
    """An integer from `least` to `most`."""

    least: int = 0
    most: int = INT64_MAX

    def __call__(self, value: Any) -> int:
        if type(value) is not int:
            raise RuleError("must be an integer")
        if not self.least <= value <= self.most:
            raise RuleError(f"must be from {self.least} to {self.most}")
        return value

    def schema(self) -> dict[str, Any]:
        return {"type": "integer", "minimum": self.least, "maximum": self.most}


@frozen
class Number(Rule):
    """A finite number; an integer becomes the float of its value. Infinities never come this far: orjson refuses."""

    def __call__(self, value: Any) -> float:
        kind = type(value)
        if kind is float:
            return value  # type: ignore[no-any-return]
        if kind is int:
            return float(value)
        raise RuleError("must be a number")

    def schema(self) -> dict[str, Any]:
        return {"type": "number"}


@frozen
class Boolean(Rule):
    """True or false."""

    def __call__(self, value: Any) -> bool:
        if type(value) is not bool:
            raise RuleError("must be true or false")
        return value

    def schema(self) -> dict[str, Any]:
        return {"type": "boolean"}


@frozen
class Uuid(Rule):
    """A UUID in its canonical form, of any version; case is folded."""

    def __call__(self, value: Any) -> UUID:
        # UUID() by itself reads other forms too: braces, urn:, hyphens anywhere, digits of other scripts.
        if type(value) is str and _CANONICAL_UUID.fullmatch(value):
            return UUID(value)
        raise RuleError("must be a UUID")

    def schema(self) -> dict[str, Any]:
        return {"type": "string", "format": "uuid"}


@frozen
class Levels(Rule):
    """At most eight numbers, one a level; the missing ones are 0.0 (protocol.md section 3, TOKEN)."""

    def __call__(self, value: Any) -> tuple[float, ...]:
        if type(value) is not list:
            raise RuleError("must be an array of at most eight numbers")
        if len(value) > len(LEVELS):
            raise RuleError(f"must have at most {len(LEVELS)} numbers, has {len(value)}")
        for index, number in enumerate(value):
            if type(number) is not float:
                if type(number) is not int:
                    raise RuleError("must be a number", f"[{index}]")
                value = [*value[:index], float(number), *value[index + 1 :]]  # a copy: what was sent is hashed
        return (*value, *ORIGIN[len(value) :])

    def schema(self) -> dict[str, Any]:
        return {"type": "array", "items": {"type": "number"}, "maxItems": len(LEVELS)}


ORIGIN: Final[tuple[float, ...]] = (0.0,) * len(LEVELS)


@frozen
class Json(Rule):
    """Any JSON value, or only an object, of at most `bytes_limit` bytes when written compactly."""

    bytes_limit: int
    only_object: bool = False

    def __call__(self, value: Any) -> Any:
        if self.only_object and type(value) is not dict:
            raise RuleError("must be an object")
        if value and len(orjson.dumps(value)) > self.bytes_limit:
            raise RuleError(f"must be at most {self.bytes_limit} bytes as JSON")
        return value

    def schema(self) -> dict[str, Any]:
        limit = f"At most {self.bytes_limit} bytes as JSON."
        return {"type": "object", "description": limit} if self.only_object else {"description": limit}


KIB: Final = 1024

ClientId = Annotated[str, Name(r"[A-Za-z0-9._:-]{1,128}")]
CommandId = Annotated[str, Text(128)]
Cursor = Annotated[str, Text(256)]
Count = Annotated[int, Integer()]
Epoch = Annotated[str, Name(r"[0-9a-f]{8}")]
Finite = Annotated[float, Number()]
Flag = Annotated[bool, Boolean()]
Flags = Annotated[int, Integer(0, 2**32 - 1)]
Id = Annotated[UUID, Uuid()]
Limit = Annotated[int, Integer(1, 1000)]
Metadata = Annotated[dict[str, Any], Json(16 * KIB, only_object=True)]
Offset = Annotated[int, Integer(0, 10_000)]
Payload = Annotated[dict[str, Any], Json(64 * KIB, only_object=True)]
Coordinates = Annotated[tuple[float, ...], Levels()]
State = Annotated[Any, Json(16 * KIB)]
TopicName = Annotated[str, Name(r"[A-Za-z0-9._:-]{1,128}")]
TypeName = Annotated[str, Text(50)]
