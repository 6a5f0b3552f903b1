"""Connections: what one client may do to us, and what we owe it.

- `transport`: what a connection needs of a WebSocket, and that over plain ASGI
- `frames`: our frames in the place of Hypercorn's; `channel`: one WebSocket of them
- `containment`: what fails in one of Hypercorn's connections ends that one
- `mailbox`: the bounded queue of one connection
- `connection`: the nursery of reader, writer and heartbeat
- `registry`: type to handler
- `session`: the commands that are about the connection itself
- `connections`: all that are open, and their end

Floor 6: may import what is below.
"""
