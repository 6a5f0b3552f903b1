"""The examples of README.md, run as they are written but for the port."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import trio

from tests.servers import Running

ROOT = Path(__file__).parent.parent
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
PYTHON = [code for language, code in BLOCKS if language == "python"]
BROWSER = [code for language, code in BLOCKS if language == "js"]


async def run(server: Running, *command: str) -> str:
    port = server.http.rpartition(":")[2]
    done = await trio.run_process(
        [*command[:-1], command[-1].replace("localhost:8000", f"127.0.0.1:{port}")],
        capture_stdout=True,
        stderr=subprocess.STDOUT,
    )
    return done.stdout.decode()


def test_there_are_examples() -> None:
    """Tries to lose an example without a test noticing."""
    assert (5, 1) == (len(PYTHON), len(BROWSER))


async def test_any_websocket_library(server: Running) -> None:
    """Tries the first example: the four messages that its comment names."""
    output = await run(server, sys.executable, "-c", PYTHON[0])
    assert ["connection.established", "subscribed", "token.created", "token.created"] == re.findall(
        r'"type":"([a-z.]+)","timestamp', output
    )


async def test_the_trio_client(server: Running) -> None:
    """Tries the second example: the token's event, with its number."""
    output = await run(server, sys.executable, "-c", PYTHON[1])
    assert re.fullmatch(r"1 token\.created [0-9a-f-]{36}\n", output)


async def test_the_asyncio_client(server: Running) -> None:
    """Tries the third example: the callback, and a token that was changed."""
    output = await run(server, sys.executable, "-c", PYTHON[2])
    assert "connected to ngos\n2 2.0\n" == output


async def test_a_token(server: Running) -> None:
    """Tries the fourth example: a function for the token, and a renewal."""
    output = await run(server, sys.executable, "-c", PYTHON[3])
    assert "known as me\n" == output


async def test_the_handlers(server: Running) -> None:
    """Tries the fifth example: one token, heard as the reply, and as the event unless it left before that."""
    output = (await run(server, sys.executable, "-c", PYTHON[4])).split()
    assert len(output) in (1, 2)
    assert 1 == len(set(output))


async def test_the_users_import(server: Running) -> None:
    """Tries the user's import line from a checkout, and the example that is behind it."""
    done = await trio.run_process(
        [
            sys.executable,
            "-c",
            "from examples.websocket_client_example import NeuroGraphWebSocketClient as N; print(N)",
        ],
        cwd=ROOT,
    )
    assert 0 == done.returncode
    done = await trio.run_process(
        [sys.executable, "examples/websocket_client_example.py", server.url], capture_stdout=True, cwd=ROOT
    )
    assert re.fullmatch(r"event 1 [0-9a-f-]{36}\n", done.stdout.decode())


async def test_the_browser_lines(server: Running) -> None:
    """Tries the browser's example, in the browser's own WebSocket as node has it."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("LOUD: no node on this machine, so the README's browser lines were not run")
    stop = "ws.addEventListener('message', ({ data }) => { if (JSON.parse(data).seq) ws.close(); });"
    output = await run(server, node, "--experimental-websocket", "-e", BROWSER[0] + stop)
    assert "token.created 1 {" in output
