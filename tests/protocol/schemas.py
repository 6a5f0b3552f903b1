"""JSON Schema as far as the AsyncAPI document uses it. An unknown keyword is an error: nothing is passed over."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any, Final
from uuid import UUID

_ANNOTATIONS: Final = {"description", "default"}
_TYPES: Final[dict[str, tuple[type, ...]]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
    "object": (dict,),
    "array": (list,),
}
_FORMATS: Final = {"uuid": UUID, "date-time": datetime.fromisoformat}


def faults(document: dict[str, Any], schema: dict[str, Any], value: Any, path: str = "$") -> Iterator[str]:
    """Yield what of a value is not as the schema has it."""
    if "$ref" in schema:
        node: Any = document
        for key in schema["$ref"].removeprefix("#/").split("/"):
            node = node[key]
        yield from faults(document, node, value, path)
        return
    for keyword, wanted in schema.items():
        match keyword:
            case "type":
                if type(value) not in _TYPES[wanted]:
                    yield f"{path}: {value!r} is not {wanted}"
                    return
            case "const" | "enum":
                options = [wanted] if keyword == "const" else wanted
                if value not in options:
                    yield f"{path}: {value!r} is none of {options}"
            case "anyOf":
                if all(list(faults(document, arm, value, path)) for arm in wanted):
                    yield f"{path}: {value!r} is none of its kinds"
            case "properties":
                for name in wanted.keys() & value.keys():
                    yield from faults(document, wanted[name], value[name], f"{path}.{name}")
            case "required":
                yield from (f"{path}.{name} is missing" for name in wanted if name not in value)
            case "additionalProperties":
                assert wanted is False
                yield from (f"{path}.{name} is too much" for name in value.keys() - schema["properties"].keys())
            case "items":
                for index, item in enumerate(value):
                    yield from faults(document, wanted, item, f"{path}[{index}]")
            case "minLength" | "minItems":
                if len(value) < wanted:
                    yield f"{path}: shorter than {wanted}"
            case "maxLength" | "maxItems":
                if len(value) > wanted:
                    yield f"{path}: longer than {wanted}"
            case "minimum" | "maximum":
                if (value < wanted) if keyword == "minimum" else (value > wanted):
                    yield f"{path}: {value} is beyond {wanted}"
            case "pattern":
                if re.search(wanted, value) is None:
                    yield f"{path}: {value!r} does not match {wanted}"
            case "format":
                try:
                    _FORMATS[wanted](value)
                except ValueError:
                    yield f"{path}: {value!r} is no {wanted}"
            case _:
                assert keyword in _ANNOTATIONS, f"{path}: the keyword {keyword} is not known here"
