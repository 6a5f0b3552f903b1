"""Whether a peer is still there (protocol.md section 9)."""

from __future__ import annotations

import random
from collections.abc import Callable

import trio

from ngos.config import Settings
from ngos.gateway.transport import Transport


async def is_silent(transport: Transport, settings: Settings, is_busy: Callable[[], bool]) -> bool:
    """Wait until the peer gave no sign of life for too long: True; or False, over a transport that can't ping.

    `is_busy`: nothing of the peer is read at the moment, so its silence means nothing. Cancelled, nothing is lost.
    """
    while True:
        patience_s = settings.heartbeat_interval_s * random.uniform(0.9, 1.1)  # noqa: S311
        silent_s = 0.0 if is_busy() else trio.current_time() - transport.heard_at()
        if silent_s < patience_s:
            await trio.sleep(patience_s - silent_s)
            continue
        pinged_at = trio.current_time()
        can_ping = True
        with trio.CancelScope(deadline=pinged_at + settings.heartbeat_timeout_s):
            if can_ping := await transport.ping():
                await trio.sleep_forever()
        if not can_ping:
            return False
        if transport.heard_at() < pinged_at and not is_busy():
            return True
