"""The socket that the server listens on: its own, or one that it was handed; and whom it lets in by mistake: nobody.

Floor 9: imports `ngos.config`, `ngos.errors` and `ngos.gateway.door`.
"""

from __future__ import annotations

import errno
import socket
from contextlib import suppress
from typing import Any, Final

from ngos.config import Settings
from ngos.errors import SetupError
from ngos.gateway.door import is_loopback

BACKLOG: Final = 4096
"""Connections that wait to be accepted: as many as may come back at once when a network is there again.

Past it a client's kernel tries again after 1, 3, 7, 15 s. The server's own has a limit, too (net.core.somaxconn)."""


def listen(settings: Settings) -> socket.socket:
    """A socket that listens where the settings say. Raises SetupError, the operator's fault."""
    family, address = address_of(settings)
    check_exposure(settings, str(address[0]), settings.host)
    return _listen(settings, family, address, is_shared=False)


def listen_together(settings: Settings, count: int) -> list[socket.socket]:
    """So many sockets that listen on one port; the kernel gives each connection to one of them. Raises as `listen`."""
    # A socket that does not share is refused a port that somebody has, another ngos too; one that shares would not be.
    with listen(settings) as alone:
        family, address = alone.family, alone.getsockname()
    listeners: list[socket.socket] = []
    try:
        for _ in range(count):
            listeners.append(_listen(settings, family, address, is_shared=True))  # noqa: PERF401 - closed, if one fails
    except SetupError:
        for listener in listeners:
            listener.close()
        raise
    return listeners


def _listen(settings: Settings, family: socket.AddressFamily | int, address: Any, *, is_shared: bool) -> socket.socket:
    try:
        listener = socket.socket(family, socket.SOCK_STREAM)
    except OSError as exc:
        raise SetupError(f"can't listen on {settings.host}: {exc.strerror}") from None
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if is_shared:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
        _prepare(listener, settings)
    except OSError as exc:
        listener.close()
        where = f"{settings.host} port {settings.port}"
        if exc.errno == errno.EADDRINUSE:
            raise SetupError(f"{where} is taken: stop what listens there, or choose another with --port") from None
        raise SetupError(f"can't listen on {where}: {exc.strerror}") from None
    return listener


def address_of(settings: Settings) -> tuple[socket.AddressFamily, tuple[Any, ...]]:
    """Where the settings say to listen. Asks who knows names. Raises SetupError."""
    try:
        found = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as exc:
        raise SetupError(f"can't listen on {settings.host}: {getattr(exc, 'strerror', None) or exc}") from None
    family, _, _, _, address = found[0]
    return family, address


def take_over(listener: socket.socket, settings: Settings) -> socket.socket:
    """The same for a socket that listens already: where, whoever made it has said. Raises SetupError."""
    try:
        host = str(listener.getsockname()[0])
        check_exposure(settings, host, host)
        _prepare(listener, settings)
    except BaseException:
        listener.close()
        raise
    return listener


def _prepare(listener: socket.socket, settings: Settings) -> None:
    tune(listener, settings)
    listener.setblocking(False)


def tune(listener: socket.socket, settings: Settings) -> None:
    """Set what of the settings the kernel has to keep to; it holds for connections from here on."""
    # What a client does not take in time is given up by the kernel too; accepted sockets inherit it. How much the
    # kernel keeps is Trio's to say: 16 KiB beyond what TCP has under way, so that the rest waits where it counts.
    with suppress(OSError, AttributeError):
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(settings.mailbox_age_s * 1000))


def check_exposure(settings: Settings, address: str, name: str) -> None:
    """Refuse to let everybody in by mistake: beyond the loopback, somebody must have said who may come.

    Raises SetupError, which tells the address as `name`.
    """
    if settings.auth_mode == "none" and not settings.allow_anonymous and not is_loopback(address):
        raise SetupError(
            f"refusing to listen on {name} without authentication: set NGOS_AUTH_MODE=jwt, or "
            "NGOS_ALLOW_ANONYMOUS=true if everybody who can reach it may do everything",
            exit_code=2,
        )
