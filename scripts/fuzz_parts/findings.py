"""What was found, as files that can be replayed: JSON, one finding a file, named after what it breaks.

Promises: the same defect, found again, is the same file. Blocking calls.
"""

from __future__ import annotations

import hashlib
import re
import time
import traceback
from base64 import b64decode, b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import attrs
import orjson

MINIMISE_S: Final = 2.0


@attrs.frozen
class Finding:
    """`target` failed to keep `what`. `data` is the input, for the targets that take bytes; `plan` for the others."""

    target: str
    what: str
    detail: str = ""
    data: bytes | None = None
    plan: Any = None

    def save(self, directory: Path) -> Path:
        """Write it; returns where."""
        directory.mkdir(parents=True, exist_ok=True)
        slug = re.sub(r"[^a-z0-9]+", "-", self.what.lower())[:60].strip("-")
        digest = hashlib.sha256(f"{self.target} {self.what}".encode()).hexdigest()[:6]
        path = directory / f"{self.target}-{slug}-{digest}.json"
        record = {"target": self.target, "what": self.what, "detail": self.detail, "plan": self.plan}
        if self.data is not None:
            record |= {"data": b64encode(self.data).decode(), "shown": repr(self.data[:200])}
        path.write_bytes(orjson.dumps(record, option=orjson.OPT_INDENT_2))
        return path

    @classmethod
    def load(cls, path: Path) -> Finding:
        """Read it back. Raises OSError, and ValueError for what is not a finding."""
        try:
            record = orjson.loads(path.read_bytes())
            data = b64decode(record["data"]) if "data" in record else None
            return cls(record["target"], record["what"], record["detail"], data, record["plan"])
        except (TypeError, KeyError, ValueError) as exc:
            raise ValueError(f"not a finding: {exc!r}") from exc


def failure_of(oracle: Callable[[bytes], None], data: bytes) -> tuple[str, str] | None:
    """How an oracle fails for an input: what it breaks, and the traceback; None if it does not."""
    try:
        oracle(data)
    except Exception as exc:
        if type(exc).__name__ == "Defect":
            return str(exc), ""
        last = traceback.extract_tb(exc.__traceback__)[-1]
        return f"{type(exc).__name__} in {Path(last.filename).name} {last.name}", traceback.format_exc(limit=-6)
    return None


def minimised(oracle: Callable[[bytes], None], data: bytes, what: str) -> bytes:
    """A shorter input that breaks the same, as far as that is found in a few seconds."""
    deadline = time.monotonic() + MINIMISE_S
    size = len(data) // 2
    while size > 0:
        at, shorter = 0, False
        while at < len(data):
            if time.monotonic() > deadline:
                return data
            attempt = data[:at] + data[at + size :]
            failure = failure_of(oracle, attempt)
            if failure is not None and failure[0] == what:
                data, shorter = attempt, True
            else:
                at += size
        if not shorter or size > len(data):
            size //= 2
    return data
