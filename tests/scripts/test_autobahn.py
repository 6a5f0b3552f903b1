"""scripts/autobahn: our transport is held to RFC 6455 by the short cases, and the script keeps what it promises."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType
from urllib.parse import urlsplit

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "scripts" / "autobahn"

SHORT = ["1.*", "2.*", "5.*", "7.*", "10.*", "12.1.1", "12.4.5", "13.3.1", "13.7.1"]

# The first of them installs the client.
pytestmark = pytest.mark.timeout(400)


def autobahn(cwd: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run it with its reports in `cwd`."""
    environment = os.environ | variables
    return subprocess.run(
        [SCRIPT, *arguments], cwd=cwd, env=environment, capture_output=True, text=True, timeout=300, check=False
    )


def skip_without_python27(done: subprocess.CompletedProcess[str]) -> None:
    if done.returncode == 3:
        pytest.skip(f"LOUD: no Autobahn case was run. {done.stderr}")


@pytest.fixture
def client() -> ModuleType:
    """The script's own module; it is in no package."""
    spec = importlib.util.spec_from_file_location("autobahn_client", ROOT / "scripts" / "autobahn_client.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("options", [[], ["--plain-asgi"]], ids=["frames", "plain-asgi"])
def test_the_short_cases(tmp_path: Path, options: list[str]) -> None:
    """Tries to break the transport with what takes no long time: frames, pings, fragments, closing."""
    done = autobahn(tmp_path, *options, *SHORT)
    skip_without_python27(done)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("89 cases: ")
    assert (tmp_path / "autobahn-reports" / "index.html").exists()


def test_a_pattern_that_means_no_case(tmp_path: Path) -> None:
    """Tries to have the client wait for ever, as it does for a case that there is not."""
    done = autobahn(tmp_path, "1.*", "99.*")
    skip_without_python27(done)
    assert (2, "") == (done.returncode, done.stdout)
    assert "no case is called 99.*" in done.stderr


def test_ctrl_c_ends_all(tmp_path: Path) -> None:
    """Tries to leave the echo server behind."""
    with subprocess.Popen(
        [SCRIPT, "9.*"], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as run:
        log = tmp_path / "autobahn-reports" / "log.txt"
        while run.poll() is None and not (log.exists() and b"Running test case" in log.read_bytes()):
            time.sleep(0.05)
        if run.returncode is None:
            os.killpg(run.pid, signal.SIGINT)
        out, err = run.communicate(timeout=20)
    skip_without_python27(subprocess.CompletedProcess([], run.returncode, out, err))
    assert (130, "", "") == (run.returncode, out, err)
    url = json.loads((tmp_path / "autobahn-reports" / "fuzz.json").read_text())["servers"][0]["url"]
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", urlsplit(url).port or 0), timeout=5)


@pytest.mark.parametrize("named", ["/nonexistent", sys.executable, ""], ids=["nowhere", "another", "unset"])
def test_without_a_python27(tmp_path: Path, named: str) -> None:
    """Tries to run it where nothing is to be found: one line that says so, and an exit code of its own."""
    done = autobahn(tmp_path, PYTHON27=named, PYENV_ROOT=str(tmp_path))
    assert (3, "") == (done.returncode, done.stdout)
    assert 1 == done.stderr.count("\n")
    assert "PYTHON27" in done.stderr
    assert not (tmp_path / "autobahn-reports").exists()


def test_an_install_that_fails_leaves_nothing(tmp_path: Path) -> None:
    """Tries to leave half a client in the cache; what pip said is passed on."""
    python27 = tmp_path / "python2.7"
    python27.write_text('#!/bin/sh\ncase "$*" in -c*) exit 0;; esac\necho no such registry; exit 1\n')
    python27.chmod(0o755)
    done = autobahn(tmp_path, PYTHON27=str(python27), XDG_CACHE_HOME=str(tmp_path))
    assert 2 == done.returncode
    assert "no such registry" in done.stderr
    assert [] == list((tmp_path / "autobahn-client").iterdir())


def test_two_installs_at_once(client: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Tries to trip up a run by another one, that was slower to begin and faster to end."""
    others = []

    def install(python27: str, made: Path) -> None:
        (made / "env" / "bin").mkdir(parents=True)
        (made / "env" / "bin" / "python").write_text("the other's" if others else "the first's")
        if not others:
            others.append("")
            others[0] = client.installed_client(python27)

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(client, "_install", install)
    path = client.installed_client("python2.7")
    assert [path] == others
    assert "the other's" == Path(path).read_text()
    assert 1 == len(list((tmp_path / "autobahn-client").iterdir()))
