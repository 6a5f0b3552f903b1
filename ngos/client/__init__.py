"""The client of an ngos server: every command of protocol.md section 3 as a method, every topic as an iterator.

    from ngos.client.trio import connect        # or ngos.client.asyncio: the same names

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
- `requests`: who waits for which reply, what is sent again, and how much may wait
- `backoff`: how long to wait before connecting again
- `callbacks`: what a program may want to hear of its connections
- `session`: what is to be done with each message, and after each connection
- `proof`: the token that is shown to each connection
- `heartbeat`: when to Ping, and when to leave
- `address`: where the server is, and why it could not be reached

Shared by all shells, waiting only by way of `loop`:

- `api`: the commands as methods
- `client`: the client
- `subscription`: a topic as an iterator

The shells, for Trio programs on trio-websocket and for asyncio programs on `websockets`:

- `trio`, `asyncio`: `connect`
- `trio_connection`, `asyncio_connection`: one socket after another
- `trio_socket`, `asyncio_socket`: opening one

On the asyncio shell, handlers by message type:

- `websocket`: NeuroGraphWebSocketClient
- `handlers`, `replies`, `followed`, `messages`: its parts
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
from ngos.client.proof import Token
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
    "Token",
]
