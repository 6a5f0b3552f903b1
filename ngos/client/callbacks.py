"""What a program may want to hear of its client's connections. May import `ngos.client.errors` and the protocol."""

from __future__ import annotations

from collections.abc import Callable

from attrs import frozen

from ngos.client.errors import ConnectFailed, ConnectionLost, GapError
from ngos.protocol.messages import ConnectionEstablished


@frozen(kw_only=True)
class Callbacks:
    """Functions that a client calls, as `connect(url, callbacks=Callbacks(disconnected=...))`; all are optional.

    They are plain functions, called one at a time and in the order of what they tell, on the client's own loop, when
    the client's state is settled: `state`, `established` and `lost` are what they tell of, no task of the program has
    seen it before, and they may start tasks that use the client. While one runs, nothing is read. What one raises is
    a defect of the program: the client ends, its block is cancelled and raises that exception as it is.
    """

    connected: Callable[[ConnectionEstablished], object] | None = None
    """There is a connection, the first or another; called with the server's greeting."""
    disconnected: Callable[[ConnectionLost | ConnectFailed, float | None], object] | None = None
    """A connection was lost, or a try to come back failed; and the seconds until the next try, or None: none comes.

    Not called for the first connection's failure, which `connect` raises, nor when the program leaves by itself.
    """
    resumed: Callable[[str, int], object] | None = None
    """After a break a durable topic goes on without a hole; called with its name and how many events come again.

    Once per topic and connection, before the first of those events is handed out.
    """
    gap: Callable[[GapError], object] | None = None
    """Events of a durable topic are lost; called once for each subscription that ends with this GapError."""
