"""The client of an ngos server: every command of protocol.md section 3 as a method, every topic as an iterator.

    from ngos.client.trio import connect

    async with connect("ws://127.0.0.1:8000/ws") as client:
        token = await client.create_token(type="demo", coord_x=[1.0])
        async for event in client.subscribe("tokens"):
            print(event.type, event.payload)

Floor 4: imports only `ngos.protocol` and `ngos.errors`, and no server code.

- `errors`: what may go wrong, as a tree
- `feed`: an event, and the bounded buffer between the connection and one consumer
- `session`: the sans-I/O core, shared by all shells
- `api`: the commands as methods, shared by all shells
- `trio`, with `socket` and `subscription`: the shell for Trio programs
"""

from ngos.client.errors import (
    AlreadySubscribed,
    CommandError,
    ConnectFailed,
    ConnectionLost,
    NotFound,
    RequestTimeout,
    RequestTooBig,
    SessionError,
    SlowSubscriber,
)
from ngos.client.feed import Event

__all__ = [
    "AlreadySubscribed",
    "CommandError",
    "ConnectFailed",
    "ConnectionLost",
    "Event",
    "NotFound",
    "RequestTimeout",
    "RequestTooBig",
    "SessionError",
    "SlowSubscriber",
]
