"""Connections: what one client may do to us, and what we owe it.

The transport, from the socket up; it knows nothing of ngos, and any ASGI app can be served on it:

- `server`: Hypercorn's server of one connection, contained
- `frames`: our WebSockets in the place of Hypercorn's, and what ASGI has no word for
- `channel`: one WebSocket; `sender`: what of it goes out; `core`: its frames in, `wire`: its frames out

What ngos does with it:

- `transport`: what a connection needs of a WebSocket: over a channel, and over plain ASGI
- `connection`: the nursery of reader, writer and heartbeat
- `outbox`: what a connection sends; `mailbox`: what of that has to wait
- `fanout`: the same events to many connections
- `registry`: type to handler
- `session`: the commands that are about the connection itself
- `connections`: all that are open, and their end

Floor 6: may import what is below.
"""
