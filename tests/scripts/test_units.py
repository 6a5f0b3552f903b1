"""The units of systemd: sound, confined, and with room for what the server promises."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from ngos.client.trio import connect
from ngos.config import Settings
from ngos.gateway.door import RESERVE
from tests.daemons import NGOS, daemon
from tests.programs import needed

SCRIPTS = Path(__file__).parent.parent.parent / "scripts"
SERVICE, SOCKET = SCRIPTS / "ngos.service", SCRIPTS / "ngos.socket"
EXPOSURE = 2.0


def setting(name: str) -> str:
    (value,) = re.findall(rf"^{name}=(.*)$", SERVICE.read_text(), re.MULTILINE)
    return str(value)


def test_systemd_finds_no_fault(tmp_path: Path) -> None:
    """Tries to find a directive that systemd does not know, or that contradicts another."""
    analyze = needed("systemd-analyze")
    for unit in (SERVICE, SOCKET):
        # Nothing is installed in /opt here.
        (tmp_path / unit.name).write_text(unit.read_text().replace("/opt/ngos/bin/ngos", sys.executable))
    units = [str(tmp_path / unit.name) for unit in (SERVICE, SOCKET)]
    done = subprocess.run([analyze, "verify", "--man=no", *units], capture_output=True, text=True, check=False)
    assert (0, "", "") == (done.returncode, done.stdout, done.stderr)


def test_exposure() -> None:
    """Tries to find the service with more of the machine in its reach than it needs, as systemd counts that."""
    analyze = needed("systemd-analyze")
    told = subprocess.run(
        [analyze, "security", "--offline=true", "--no-pager", str(SERVICE)], capture_output=True, text=True, check=True
    )
    found = re.search(r"Overall exposure level for ngos.service: ([\d.]+)", told.stdout)
    assert found is not None
    assert float(found[1]) <= EXPOSURE


async def test_confined(database_url: str) -> None:
    """Tries to serve under the unit's filter of system calls and find one that is missing."""
    needed("systemd-analyze")
    command = (sys.executable, "-m", "tests.confined", str(SERVICE), *NGOS)
    async with daemon(database_url, ngos=command) as server:
        status = Path(f"/proc/{server.process.pid}/status").read_text()
        assert "Seccomp:\t2" in status
        async with connect(server.url) as client, client.subscribe("tokens") as events:
            token = await client.create_token()
            assert str(token.token_id) == (await anext(events)).payload["token_id"]
        server.process.terminate()
        assert 0 == await server.ends()
    assert "Traceback" not in server.log
    assert "not permitted" not in server.log


def test_a_filter_that_is_too_narrow() -> None:
    """Tries to have the test above be content with a filter that does nothing."""
    needed("systemd-analyze")
    program = (
        "from tests import confined; real = confined.allowed;"
        f"confined.allowed = lambda unit: real(unit) - {{'getcwd'}}; confined.confine({str(SERVICE)!r});"
        "import os; os.getcwd()"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "PermissionError" in done.stderr


def test_room() -> None:
    """Tries to have the service stopped in the midst of a drain, or run out of descriptors before its own limit."""
    settings = Settings()
    assert int(setting("TimeoutStopSec")) > settings.drain_s + 1
    assert int(setting("LimitNOFILE")) > settings.connections + RESERVE
    assert float(setting("WatchdogSec")) > 3 * settings.close_s
