"""What systemd and a daemon say to each other: the notify socket, the watchdog's time, sockets that were handed over.

sd_notify(3), sd_watchdog_enabled(3), sd_listen_fds(3). Without systemd all of it is nothing. Floor 9: imports
`ngos.errors`.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import MutableMapping
from typing import Final

import sdnotify
import structlog
from attrs import define

from ngos.errors import SetupError

FIRST_FD: Final = 3
"""SD_LISTEN_FDS_START."""
STATUS_CHARS: Final = 200

_log = structlog.get_logger("ngos")


@define(eq=False)
class Notifier:
    """Tells systemd how the service is. Never blocks and never raises; who is not asked to tell says nothing.

    `watchdog_s`: how often `alive` must be called, at least; None: nobody watches.
    """

    watchdog_s: float | None
    _notifier: sdnotify.SystemdNotifier | None
    _status: str = ""

    @classmethod
    def of(cls, environment: MutableMapping[str, str]) -> Notifier:
        """Take NOTIFY_SOCKET and WATCHDOG_USEC out of the environment, so that no child takes them for its own.

        Raises SetupError where the socket can't be used: systemd would wait in vain.
        """
        watchdog_s = _watchdog_s(environment)
        if not environment.get("NOTIFY_SOCKET"):
            return cls(watchdog_s, None)
        try:
            notifier = sdnotify.SystemdNotifier(debug=True)
        except OSError as exc:
            raise SetupError(f"NOTIFY_SOCKET: can't tell systemd anything: {exc.strerror}") from None
        del environment["NOTIFY_SOCKET"]
        notifier.socket.setblocking(False)  # systemd, held up, must not hold us up
        return cls(watchdog_s, notifier)

    def starting(self, status: str, within_s: float) -> None:
        """The start goes on, and will say so again `within_s` seconds from now."""
        self._send(f"EXTEND_TIMEOUT_USEC={round(within_s * 1e6)}")
        self.status(status)

    def ready(self, status: str) -> None:
        """The service serves, after its start or after a reload."""
        self._send("READY=1")
        self.status(status)

    def reloading(self) -> None:
        """The settings are read again; `ready` is to follow."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self, status: str) -> None:
        """The end has begun."""
        self._send("STOPPING=1")
        self.status(status)

    def alive(self) -> None:
        """Feed the watchdog."""
        self._send("WATCHDOG=1")

    def status(self, status: str) -> None:
        """Say in words how the service is, if that is new."""
        if status != self._status:
            self._status = status
            self._send("STATUS=" + " ".join(status.split())[:STATUS_CHARS])

    def _send(self, message: str) -> None:
        if self._notifier is not None:
            try:
                # As latin-1, which is what the library does; more than ASCII is in no text of ours.
                self._notifier.notify(message.encode("ascii", "replace").decode("ascii"))
            except OSError as exc:
                _log.warning("systemd.not_told", message=message.partition("=")[0], reason=exc.strerror)


def _watchdog_s(environment: MutableMapping[str, str]) -> float | None:
    limit_us, pid = environment.pop("WATCHDOG_USEC", ""), environment.pop("WATCHDOG_PID", "")
    if not limit_us.isdecimal() or int(limit_us) == 0 or pid not in ("", str(os.getpid())):
        return None
    return int(limit_us) / 1e6


def inherited_listener(environment: MutableMapping[str, str]) -> socket.socket | None:
    """The socket that systemd listens on for us; None: there is none. LISTEN_FDS and its like are taken out.

    Raises SetupError, the operator's fault, where it is not one TCP socket that listens.
    """
    count, pid = environment.pop("LISTEN_FDS", ""), environment.pop("LISTEN_PID", "")
    environment.pop("LISTEN_FDNAMES", None)
    if not count or pid != str(os.getpid()):
        return None
    if count != "1":
        raise SetupError(f"systemd hands over {count} sockets: ngos.socket must have one ListenStream", exit_code=2)
    os.set_inheritable(FIRST_FD, False)
    try:
        inherited = socket.socket(fileno=FIRST_FD)
    except OSError as exc:
        raise SetupError(f"systemd hands over what is no socket: {exc.strerror}", exit_code=2) from None
    listens = inherited.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    if inherited.family not in (socket.AF_INET, socket.AF_INET6) or inherited.type != socket.SOCK_STREAM or not listens:
        inherited.detach()
        raise SetupError("systemd hands over a socket that is not TCP: set ListenStream to address:port", exit_code=2)
    return inherited
