"""One parcel to many connections: the hot loop of the server. Never waits, never raises.

At 200 subscribers and one event, a delivery costs a system call of 2 to 8 µs and what is done around it here. That
small part decides more than its size: while the loop is faster than the readers, none of them has to be woken up for
the next message (measured on two cores: 119,000 deliveries a second with 2 µs around the call, 140,000 with 0.5).
"""

from __future__ import annotations

from collections.abc import Iterable

from ngos.gateway.connection import Connection
from ngos.gateway.transport import frames_of
from ngos.protocol.parcel import Parcel


def deliver(connections: Iterable[Connection], parcel: Parcel) -> None:
    """Give events to connections: at once where nothing waits, else by way of their mailboxes."""
    frames = frames_of(parcel)
    size_bytes = len(frames)
    for connection in connections:
        send_now = connection.outlet.send_now
        if send_now is None:
            connection.offer_events(parcel)
            continue
        try:
            sent_bytes = send_now(frames)
        except BlockingIOError:
            connection.outbox.offer_rest(parcel, 0)
        except OSError:
            connection.outbox.abandon()
        else:
            if sent_bytes != size_bytes:
                connection.outbox.offer_rest(parcel, sent_bytes)
