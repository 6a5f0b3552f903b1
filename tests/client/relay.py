"""A TCP relay between client and server that can break as networks do: cut, in mid-frame too, silent, or refusing."""

from __future__ import annotations

import trio


class _Link:
    """One connection through the relay."""

    def __init__(self) -> None:
        self.scope = trio.CancelScope()
        self.frozen = False
        self.held: trio.Event | None = None
        self.left_bytes: int | None = None


class Relay:
    """Forwards to `port` of this machine. `connections` counts those that came."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.connections = 0
        self.refusing = False
        """Whether new connections are ended at once."""
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

    def cut_after(self, count_bytes: int) -> None:
        """End each connection that there is when the server has said so much more on it: in the midst of a frame."""
        for link in self._links:
            link.left_bytes = count_bytes

    def hold(self) -> None:
        """Keep back what the server says on the connections that there are; what clients say goes on."""
        for link in self._links:
            link.held = trio.Event()

    def freeze(self, count: int | None = None) -> None:
        """Forward nothing more on the connections that there are, and leave them open; new ones are not concerned.

        With `count`, on the first so many that ever came: who may have left by then comes back undisturbed.
        """
        for link in self._links[:count]:
            link.frozen = True

    async def _forward(self, client: trio.SocketStream) -> None:
        self.connections += 1
        if self.refusing:
            await client.aclose()
            return
        link = _Link()
        self._links.append(link)  # for good: a test has few, and to cut what is over does nothing
        with link.scope:
            async with client:
                try:
                    server = await trio.open_tcp_stream("127.0.0.1", self.port)
                except OSError:
                    return  # nobody is there
                async with server, trio.open_nursery() as nursery:
                    nursery.start_soon(self._pump, link, client, server, False)
                    nursery.start_soon(self._pump, link, server, client, True)

    async def _pump(self, link: _Link, source: trio.SocketStream, sink: trio.SocketStream, down: bool) -> None:
        try:
            while data := await source.receive_some():
                if link.frozen:
                    await trio.sleep_forever()
                if down and link.held is not None:
                    await link.held.wait()
                if down and link.left_bytes is not None:
                    data = data[: link.left_bytes]
                    link.left_bytes -= len(data)
                await sink.send_all(data)
                if down and link.left_bytes == 0:
                    break
        except trio.BrokenResourceError:
            pass  # it left
        link.scope.cancel()
