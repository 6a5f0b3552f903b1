"""What `ngos.web.site` relies on of the inside of Quart and Quart-Trio, assumption by assumption."""

from __future__ import annotations

import inspect
from importlib.metadata import version

from quart import Quart
from quart.asgi import ASGIWebsocketConnection
from quart_trio.asgi import TrioASGIWebsocketConnection


def test_the_version() -> None:
    """Tries to run on a Quart-Trio that was not read."""
    assert version("quart-trio").startswith("0.12.")


def test_the_class_is_looked_up_on_the_app() -> None:
    """Tries to have the app make WebSocket connections of another class."""
    assert "self.asgi_websocket_class(self, scope)" in inspect.getsource(Quart.asgi_app)


def test_what_a_connection_is_made_of() -> None:
    """Tries to have a field that our class, which makes no channel, does not set."""
    connection = TrioASGIWebsocketConnection(None, {"type": "websocket"})  # type: ignore[typeddict-item]
    fields = {"app", "scope", "_accepted", "_closed", "send_channel", "receive_channel"}
    assert fields == set(vars(connection))
    assert "send_channel" not in inspect.getsource(TrioASGIWebsocketConnection._create_websocket_from_scope)


def test_what_quart_trio_adds_is_a_task() -> None:
    """Tries to have more in Quart-Trio's `__call__` and `handle_websocket` than the task that we go without."""
    call = inspect.getsource(TrioASGIWebsocketConnection.__call__)
    assert "websocket = self._create_websocket_from_scope(send)" in call
    assert 2 == call.count("nursery.start_soon(")
    body = inspect.getsource(TrioASGIWebsocketConnection.handle_websocket).partition("-> None:")[2].split()
    assert ["await", "super().handle_websocket(websocket,", "send)", "nursery.cancel_scope.cancel()"] == body


def test_an_accepted_websocket_is_closed_by_one_message() -> None:
    """Tries to have Quart end an accepted WebSocket otherwise than by the message that we keep back."""
    source = inspect.getsource(ASGIWebsocketConnection.handle_websocket)
    after = source.partition("elif self._accepted and not self._closed:")[2]
    assert 'await send(\n                cast(WebsocketCloseEvent, {"type": "websocket.close", "code": 1000})' in after
