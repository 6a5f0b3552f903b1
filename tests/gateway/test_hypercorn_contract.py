"""What `ngos.gateway.frames` relies on of Hypercorn's inside, assumption by assumption."""

from __future__ import annotations

import inspect
from importlib.metadata import version

from hypercorn.protocol import ProtocolWrapper, h11, ws_stream
from hypercorn.trio import run
from hypercorn.trio.tcp_server import TCPServer


def test_the_version() -> None:
    """Tries to run on a Hypercorn that was not read."""
    assert version("hypercorn").startswith("0.18.")


def test_the_stream_is_looked_up_where_it_is_replaced() -> None:
    """Tries to have the protocol make a WSStream of its own."""
    source = inspect.getsource(h11.H11Protocol._create_stream)
    assert "self.stream = WSStream(" in source
    assert "self.stream_send," in source


def test_the_way_from_the_stream_to_the_socket() -> None:
    """Tries to break the chain of bound methods: stream.send -> H11Protocol.send -> TCPServer.stream."""
    assert inspect.iscoroutinefunction(h11.H11Protocol.stream_send)
    assert "self.send = send" in inspect.getsource(h11.H11Protocol.__init__)
    assert "self.protocol_send," in inspect.getsource(TCPServer.run)
    assert "self.send," in inspect.getsource(ProtocolWrapper.__init__)
    assert "self.stream = stream" in inspect.getsource(TCPServer.__init__)


def test_the_server_is_looked_up_where_it_is_contained() -> None:
    """Tries to have Hypercorn's listener make a TCPServer that is not contained."""
    assert "TCPServer,\n" in inspect.getsource(run.worker_serve)
    assert inspect.iscoroutinefunction(TCPServer.run)


def test_what_is_inherited() -> None:
    """Tries to lose a state, a method or an argument that FrameStream takes from WSStream."""
    assert {"HANDSHAKE", "CONNECTED", "CLOSED", "HTTPCLOSED"} <= set(ws_stream.ASGIWebsocketState.__members__)
    for name in ("handle", "app_send", "_accept"):
        assert inspect.iscoroutinefunction(getattr(ws_stream.WSStream, name))
    handle = inspect.getsource(ws_stream.WSStream.handle)
    assert "self.app, self.config, self.scope, self.app_send" in handle
    assert '"extensions": {"websocket.http.response": {}}' in handle
    accept = inspect.getsource(ws_stream.Handshake.accept)
    assert "if self.extensions is not None:" in accept
    assert "self.accepted = True" in accept


def test_pings_are_ours() -> None:
    """Tries to have Hypercorn send Pings of its own between our frames."""
    assert "if self.config.websocket_ping_interval is not None:" in inspect.getsource(ws_stream.WSStream._accept)
