"""The child process that searches, guided by coverage where atheris can be imported, else at random.

Promises: what ends it (memory, an input that hangs, a crash of the interpreter) leaves the input in the directory, as
libFuzzer does; the parent makes findings of these. `python -m fuzz_parts.child codec --seconds 60 --seed 1 --into DIR`.
"""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import click
import orjson

try:
    import atheris
except ImportError:  # not for every platform
    atheris: Any = None  # type: ignore[no-redef]

# What is imported before can't be instrumented.
with atheris.instrument_imports(include=["ngos", "websockets"]) if atheris else nullcontext():
    from fuzz_parts import guided


@click.command()
@click.argument("target", type=click.Choice(sorted(guided.LONGEST)))
@click.option("--seconds", type=int, required=True)
@click.option("--seed", type=int, required=True)
@click.option("--into", type=click.Path(path_type=Path), required=True)
@click.option("--planted", is_flag=True)
def main(target: str, seconds: int, seed: int, into: Path, planted: bool) -> None:
    """Look for what breaks TARGET. For scripts/fuzz."""
    into.mkdir(parents=True, exist_ok=True)
    if planted:
        guided.plant()
    if atheris is None:
        found = guided.search(target, into, seconds=seconds, seed=seed)
        (into / "random").write_bytes(orjson.dumps(found.inputs))
        return
    guided.by_coverage(atheris, target, into, seconds=seconds, seed=seed)


if __name__ == "__main__":
    main()
