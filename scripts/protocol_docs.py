"""Write the tables of `docs/protocol.md` from the classes in `ngos.protocol`, between their marks.

    .venv/bin/python scripts/protocol_docs.py --fix      # writes them
    .venv/bin/python scripts/protocol_docs.py --check    # fails, with one line, where they are not current

What is outside of the marks is written by hand. The same classes give the same bytes.
"""

from __future__ import annotations

import json
import re
import sys
import types
from collections.abc import Callable, Iterator
from datetime import datetime
from enum import EnumMeta
from pathlib import Path
from typing import Annotated, Any, Final, Union, get_args, get_origin, get_type_hints
from uuid import UUID

import attrs

from ngos.protocol import examples
from ngos.protocol.catalog import COMMANDS, EVENTS, GREETING, MESSAGES, OWN_DURABLE_TOPICS, OWN_TOPICS, REPLIES
from ngos.protocol.close import CloseCode
from ngos.protocol.faults import ErrorCode
from ngos.protocol.rules import Choice
from ngos.protocol.schemas import summary_of, value_classes
from scripts.protocol_types import default_in_words, rules_in_words

TARGET: Final = Path(__file__).parent.parent / "docs/protocol.md"
_MARKED: Final = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
_SIMPLE: Final[dict[Any, str]] = {
    str: "string",
    int: "integer",
    float: "number",
    bool: "boolean",
    UUID: "UUID",
    datetime: "time",
    types.NoneType: "null",
    Any: "any JSON",
}


def document(text: str) -> str:
    """Return the page with its tables as they are to be. KeyError for a mark that nothing is known for."""
    return _MARKED.sub(lambda found: f"{found[1]}\n{SECTIONS[found[2]]()}\n{found[3]}", text)


def main(arguments: list[str]) -> int:
    """Write the tables, or with `--check` compare them."""
    if arguments not in (["--check"], ["--fix"]):
        print("usage: scripts/protocol_docs.py --check | --fix", file=sys.stderr)
        return 2
    text = TARGET.read_text("utf-8")
    current = document(text)
    if arguments == ["--fix"]:
        TARGET.write_text(current, "utf-8")
    elif text != current:
        print("docs/protocol.md is not what ngos/protocol says: scripts/protocol_docs.py --fix", file=sys.stderr)
        return 1
    return 0


def _greeting() -> str:
    payload = examples.of_message(GREETING.TYPE)
    # With a version of its own, every release would be a change here.
    payload = {**payload, "server": {**payload["server"], "version": "…"}}
    message = {"id": "…", "type": GREETING.TYPE, "timestamp": examples.TIMESTAMP_MS, "payload": payload}
    return f"```json\n{json.dumps(message, indent=2, ensure_ascii=False)}\n```\n"


def _overview() -> str:
    rows = []
    for name, cls in COMMANDS.items():
        replies = ", ".join(f"`{reply.TYPE}`" for reply in cls.REPLIES)
        changes = "yes" if cls.WRITES else ""
        rows.append((f"[`{name}`](#{_anchor(name)})", replies, changes))
    return _table(("command", "reply, or `error`", "changes something"), rows)


def _commands() -> str:
    parts = []
    for name, cls in COMMANDS.items():
        doc = summary_of(cls)
        parts.append(f"#### {name}\n")
        if doc != cls.__name__:
            parts.append(f"{doc}\n")
        fields = list(_fields(cls, of_command=True))
        parts.append(_table(("field", "type", "default", "limits"), fields) if fields else "No fields.\n")
        parts.append(f"    {json.dumps(examples.of_command(name))}\n")
    return "\n".join(parts)


def _replies() -> str:
    return _classes({name: cls for name, cls in REPLIES.items() if name != "error"})


def _values() -> str:
    parts = []
    for cls in value_classes():
        parts.append(f"#### {cls.__name__}\n\n{summary_of(cls)}\n")
        parts.append(_table(("field", "type", "limits"), _fields(cls)))
    return "\n".join(parts)


def _events() -> str:
    rows = [
        (f"`{topic}`", "durable" if topic in OWN_DURABLE_TOPICS else "ephemeral", f"`{name}`", _summed(MESSAGES[name]))
        for topic in sorted(OWN_TOPICS)
        for name, cls in EVENTS.items()
        if topic == cls.TOPIC
    ]
    return _table(("topic", "kind", "event", "payload"), rows)


def _errors() -> str:
    rows = [(f"`{code}`", code.meaning, "yes" if code.retryable else "no") for code in ErrorCode]
    return _table(("code", "meaning", "retryable"), rows)


def _closes() -> str:
    rows = [
        (str(int(code)), code.reason or "done", "reconnects" if code.may_reconnect else "stays away")
        for code in CloseCode
    ]
    return _table(("code", "why", "a client by itself"), rows)


SECTIONS: Final[dict[str, Callable[[], str]]] = {
    "greeting": _greeting,
    "overview": _overview,
    "commands": _commands,
    "replies": _replies,
    "values": _values,
    "events": _events,
    "errors": _errors,
    "closes": _closes,
}


def _classes(classes: dict[str, Any]) -> str:
    """A row for each: its name, and its payload in short."""
    return _table(("type", "payload"), [(f"`{name}`", _summed(cls)) for name, cls in classes.items()])


def _summed(cls: type) -> str:
    """A payload in short: the value that it is, or its fields."""
    bases = [base for base in cls.__bases__ if base in set(value_classes())]
    own = [field for field in attrs.fields(cls) if not any(field.name in attrs.fields_dict(base) for base in bases)]
    hints = get_type_hints(cls, include_extras=True)
    told = ", ".join(f"`{field.name}`: {_type(hints[field.name])}" for field in own)
    return ", ".join([*(_link(base) for base in bases), *([told] if told else [])]) or "empty"


def _fields(cls: type, *, of_command: bool = False) -> Iterator[tuple[str, ...]]:
    hints = get_type_hints(cls, include_extras=True)
    for field in attrs.fields(cls):
        hint = hints[field.name]
        limits = " ".join(dict.fromkeys(rules_in_words(hint)))
        if not of_command:
            yield f"`{field.name}`", _type(hint), limits
            continue
        default = "required"
        if field.default is not attrs.NOTHING:
            told = default_in_words(field.default)
            default = "none" if told is None else told if told.startswith(("`", "eight")) else f"`{told}`"
        yield f"`{field.name}`", _type(hint), default, limits


def _type(hint: Any) -> str:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        choice = next((rule for rule in arguments[1:] if isinstance(rule, Choice)), None)
        if choice is None:
            return _type(arguments[0])
        if set(choice.options) == set(map(str, ErrorCode)):
            return "one of the codes"
        return ", ".join(f"`{option}`" for option in choice.options)
    if origin in (Union, types.UnionType):
        arms = [_type(arm) for arm in arguments if not isinstance(arm, EnumMeta)]
        return "any JSON" if "any JSON" in arms else " or ".join(dict.fromkeys(arms))
    if origin is tuple:
        return f"list of {_type(arguments[0])}"
    if origin is dict:
        return "object"
    return _link(hint) if attrs.has(hint) else _SIMPLE[hint]


def _link(cls: type) -> str:
    return f"[{cls.__name__}](#{_anchor(cls.__name__)})"


def _anchor(heading: str) -> str:
    """As the usual renderers make them."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


def _table(head: tuple[str, ...], rows: Any) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
