"""The client of an ngos server: every command of protocol.md section 3 as a method, every topic as an iterator.

    from ngos.client.trio import connect

    async with connect("ws://127.0.0.1:8000/ws") as client:
        token = await client.create_token(type="demo", coord_x=[1.0])
        async for event in client.subscribe("tokens"):
            print(event.type, event.payload)

Floor 4: imports only `ngos.protocol` and `ngos.errors`, and no server code.

A client outlives its connections: after a break it comes back by itself, sends unanswered commands again under their
ids, and resumes its subscriptions; what it can't resume without a hole ends with GapError.

Shared by all shells, without I/O and without a clock:

- `errors`: what may go wrong, as a tree
- `feed`: an event, and the bounded buffer between the connection and one consumer
- `topic`: one topic's feeds, and what to ask of the server for them
- `topics`: all that is followed
- `requests`: who waits for which reply, and what is sent again
- `backoff`: how long to wait before connecting again
- `session`: what is to be done with each message, and after each connection
- `api`: the commands as methods

The shell for Trio programs:

- `trio`: `connect` and the client
- `subscription`: a topic as an iterator
- `connection`: one socket after another
- `socket`: opening one
"""

from ngos.client.callbacks import Callbacks
from ngos.client.errors import (
    CommandError,
    ConnectFailed,
    ConnectionLost,
    GapError,
    NotFound,
    QueueFull,
    RequestTimeout,
    RequestTooBig,
    SessionError,
    SlowSubscriber,
)
from ngos.client.feed import Event
from ngos.client.session import State

__all__ = [
    "Callbacks",
    "CommandError",
    "ConnectFailed",
    "ConnectionLost",
    "Event",
    "GapError",
    "NotFound",
    "QueueFull",
    "RequestTimeout",
    "RequestTooBig",
    "SessionError",
    "SlowSubscriber",
    "State",
]
