"""What `ngos.gateway.frames` and `ngos.gateway.server` rely on of Hypercorn's inside, assumption by assumption."""

from __future__ import annotations

import inspect
import re
from importlib.metadata import version

import h11 as h11_library
from hypercorn.protocol import ProtocolWrapper, h11, ws_stream
from hypercorn.trio import run, task_group
from hypercorn.trio.tcp_server import TCPServer


def test_the_version() -> None:
    """Tries to run on a Hypercorn that was not read."""
    assert version("hypercorn").startswith("0.18.")


def test_the_stream_is_looked_up_where_it_is_replaced() -> None:
    """Tries to have the protocol make a WSStream of its own."""
    source = inspect.getsource(h11.H11Protocol._create_stream)
    assert "self.stream = WSStream(" in source
    assert "self.stream_send," in source


def test_who_asks_for_a_websocket() -> None:
    """Tries to have a stream made of a request that section 4.2.1 of RFC 6455 does not allow to be upgraded."""
    source = inspect.getsource(h11.H11Protocol._create_stream)
    assert 'any(token.strip() == "upgrade" for token in connection_tokens)' in source
    assert 'and upgrade_value.lower() == "websocket"' in source
    assert 'and request.method.decode("ascii").upper() == "GET"' in source


def test_the_way_from_the_stream_to_the_socket() -> None:
    """Tries to break the chain of bound methods: stream.send -> H11Protocol.send -> TCPServer.stream."""
    assert inspect.iscoroutinefunction(h11.H11Protocol.stream_send)
    assert "self.send = send" in inspect.getsource(h11.H11Protocol.__init__)
    assert "self.protocol_send," in inspect.getsource(TCPServer.run)
    assert "self.send," in inspect.getsource(ProtocolWrapper.__init__)
    assert "self.stream = stream" in inspect.getsource(TCPServer.__init__)


def test_the_listener_that_is_replaced() -> None:
    """Tries to change what `ngos.gateway.listener` does as Hypercorn's own: the order of start and end."""
    source = inspect.getsource(run.worker_serve)
    steps = [
        "lifespan = Lifespan(app, config, lifespan_state)",
        "context = WorkerContext(max_requests)",
        "await lifespan_nursery.start(lifespan.handle_lifespan)",
        "await lifespan.wait_for_startup()",
        "ConnectionState(lifespan_state.copy()),",
        "await context.terminated.set()",
        "server_nursery.cancel_scope.deadline = trio.current_time() + config.graceful_timeout",
        "await lifespan.wait_for_shutdown()",
        "lifespan_nursery.cancel_scope.cancel()",
    ]
    places = [source.find(step) for step in steps]
    assert sorted(places) == places
    assert -1 not in places
    assert inspect.iscoroutinefunction(TCPServer.run)


def test_the_loop_that_is_replaced() -> None:
    """Tries to change the loop that `Server._read_data` stands for, or what comes after it."""
    loop = """\
    async def _read_data(self) -> None:
        while True:
            try:
                with trio.fail_after(self.config.read_timeout or inf):
                    data = await self.stream.receive_some(MAX_RECV)
            except (
                trio.ClosedResourceError,
                trio.BrokenResourceError,
                trio.TooSlowError,
            ):
                break
            else:
                await self.protocol.handle(RawData(bytes(data)))
                if data == b"":
                    break
        await self.protocol.handle(Closed())
"""
    assert loop == inspect.getsource(TCPServer._read_data)
    after = inspect.getsource(TCPServer.run).partition("await self._read_data()")[2]
    assert ["except", "OSError:", "pass", "finally:", "await", "self._close()"] == after.split()[:6]


def test_the_idle_task_that_is_replaced() -> None:
    """Tries to have Hypercorn use more of its idle task than the two methods that ours has."""
    source = inspect.getsource(TCPServer)
    used = set(re.findall(r"self\.idle_task\.?(\w*)", source))
    assert {"", "restart", "stop"} == used
    assert "self.idle_task = TrioSingleTask()" in inspect.getsource(TCPServer.__init__)
    assert 2 == source.count("await self.idle_task.restart(self._task_group, self._idle_timeout)")


def test_the_request_is_handled_to_its_end_before_anything_is_read() -> None:
    """Tries to have Hypercorn read the socket, or start a task, while `FrameStream.handle` serves the WebSocket."""
    create = inspect.getsource(h11.H11Protocol._create_stream)
    assert "await self.stream.handle(\n            Request(" in create
    assert "spawn" not in create
    assert "await self._create_stream(event)" in inspect.getsource(h11.H11Protocol._handle_events)


def test_what_came_with_the_request() -> None:
    """Tries to hide the bytes behind the request, or to have them parsed again when we have taken them."""
    behind = h11_library.Connection(h11_library.SERVER)
    behind.receive_data(
        b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nbehind",
    )
    behind.next_event()
    behind.next_event()
    connection = h11.H11WSConnection(behind)
    assert bytearray(b"behind") == connection.buffer
    connection.buffer = bytearray()
    assert h11_library.NEED_DATA is connection.next_event()


def test_what_is_inherited() -> None:
    """Tries to lose a state, a method or an argument that FrameStream takes from WSStream."""
    assert {"HANDSHAKE", "CONNECTED", "CLOSED"} <= set(ws_stream.ASGIWebsocketState.__members__)
    app_send = inspect.getsource(ws_stream.WSStream.app_send)
    assert "websocket.http.response.start" in app_send
    assert "await self._send_error_response(500)" in app_send
    assert "await self.send(StreamClosed(stream_id=self.stream_id))" in app_send
    init = inspect.getsource(ws_stream.WSStream.__init__)
    for name in ("app", "config", "client", "server", "send", "stream_id", "scheme", "state", "closed"):
        assert f"self.{name} = " in init


async def test_an_app_is_told_on_when_it_has_ended() -> None:
    """Tries to run an app in place without the `send(None)` that tells of its end, or to let what it raises through."""
    told = []

    class Config:
        class log:  # noqa: N801 - Hypercorn's name
            @staticmethod
            async def exception(*_: object) -> None:
                told.append("logged")

    async def app(*_: object) -> None:
        raise RuntimeError

    async def send(message: object) -> None:
        told.append(message)

    await task_group._handle(app, Config, {}, None, send, None, None)  # type: ignore[arg-type]
    assert ["logged", None] == told
