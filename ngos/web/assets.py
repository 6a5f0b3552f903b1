"""The monitor page as it was built: the files of `ngos/web/page`, read once. May import nothing of ngos.

`clients/monitor` builds them (`scripts/npm run build`); `scripts/check` finds out when they are not current.
"""

from __future__ import annotations

import gzip
import hashlib
import mimetypes
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Final

from attrs import frozen

POLICY: Final = (
    "default-src 'self'; img-src 'self' data:; object-src 'none'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Content-Security-Policy of the page: its own files and its own server, and no page around it."""

_FOREVER: Final = "public, max-age=31536000, immutable"
_WORTH_LESS_BYTES: Final = 1024  # what is smaller than this fits into one packet either way
_TYPES: Final = {".js": "text/javascript", ".svg": "image/svg+xml", ".woff2": "font/woff2"}
"""What must not depend on the machine's own list of types."""


@frozen
class Asset:
    """A file to serve: its bytes, the same compressed (None: not worth it), and what to say about it."""

    body: bytes
    gzipped: bytes | None
    content_type: str
    etag: str
    cache_control: str


def load_page() -> dict[str, Asset]:
    """The built files by their paths below `/`; the page itself is `index.html`, named "".

    A file below `assets/` has its hash in its name, so browsers may keep it for good. Raises FileNotFoundError where
    the package came without the page: a defect of how it was built.
    """
    root = files("ngos.web") / "page"
    found = {path: _asset(path, entry.read_bytes()) for path, entry in _files(root)}
    if "index.html" not in found:
        raise FileNotFoundError("ngos/web/page/index.html: the package was built without the monitor page")
    found[""] = found.pop("index.html")
    return found


def _files(folder: Traversable, prefix: str = "") -> list[tuple[str, Traversable]]:
    found = []
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        path = prefix + entry.name
        found += _files(entry, f"{path}/") if entry.is_dir() else [(path, entry)]
    return found


def _asset(path: str, body: bytes) -> Asset:
    suffix = path[path.rfind(".") :]
    content_type = _TYPES.get(suffix) or mimetypes.guess_type(path)[0] or "application/octet-stream"
    if content_type.startswith("text/"):
        content_type += "; charset=utf-8"
    gzipped = gzip.compress(body, mtime=0) if len(body) > _WORTH_LESS_BYTES else None
    return Asset(
        body=body,
        gzipped=gzipped if gzipped is not None and len(gzipped) < len(body) else None,
        content_type=content_type,
        etag=hashlib.blake2b(body, digest_size=16).hexdigest(),
        cache_control=_FOREVER if path.startswith("assets/") else "no-cache",
    )
