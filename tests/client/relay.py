"""A TCP relay between client and server that can break as networks do: cut, or silent."""

from __future__ import annotations

import trio


class _Link:
    """One connection through the relay."""

    def __init__(self) -> None:
        self.scope = trio.CancelScope()
        self.frozen = False


class Relay:
    """Forwards to `port` of this machine. `connections` counts those that came."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.connections = 0
        self._links: list[_Link] = []

    async def run(self, *, task_status: trio.TaskStatus[str]) -> None:
        """Listen; started with the URL."""
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        task_status.started(f"ws://127.0.0.1:{listener.socket.getsockname()[1]}/ws")
        await trio.serve_listeners(self._forward, [listener])

    def cut(self) -> None:
        """End all connections that there are, without a goodbye."""
        for link in self._links:
            link.scope.cancel()

    def freeze(self) -> None:
        """Forward nothing more on the connections that there are, and leave them open; new ones are not concerned."""
        for link in self._links:
            link.frozen = True

    async def _forward(self, client: trio.SocketStream) -> None:
        self.connections += 1
        link = _Link()
        self._links.append(link)  # for good: a test has few, and to cut what is over does nothing
        with link.scope:
            async with client:
                try:
                    server = await trio.open_tcp_stream("127.0.0.1", self.port)
                except OSError:
                    return  # nobody is there
                async with server, trio.open_nursery() as nursery:
                    nursery.start_soon(self._pump, link, client, server)
                    nursery.start_soon(self._pump, link, server, client)

    async def _pump(self, link: _Link, source: trio.SocketStream, sink: trio.SocketStream) -> None:
        try:
            while data := await source.receive_some():
                if link.frozen:
                    await trio.sleep_forever()
                await sink.send_all(data)
        except trio.BrokenResourceError:
            pass  # it left
        link.scope.cancel()
