"""The Quart app: `/ws` and the HTTP routes of protocol.md section 10."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final

import orjson
import trio
from attrs import define
from quart import Response, has_websocket_context, request, websocket
from quart.asgi import ASGIWebsocketConnection
from quart_trio import QuartTrio
from quart_trio.asgi import TrioASGIWebsocketConnection
from werkzeug.exceptions import HTTPException, MethodNotAllowed, NotFound
from werkzeug.routing import WebsocketMismatch

from ngos.config import Settings
from ngos.errors import StorageUnavailable
from ngos.gateway.connections import Connections
from ngos.gateway.frames import EXTENSION
from ngos.gateway.nodes import Nodes
from ngos.gateway.once import Once
from ngos.gateway.transport import transport_of
from ngos.incidents import incident
from ngos.log.hub import Hub
from ngos.protocol import asyncapi, codec
from ngos.protocol.commands import Publish
from ngos.protocol.faults import CommandFailed, DecodeError, ErrorCode, unavailable
from ngos.web import guard
from ngos.web.assets import POLICY, Asset, load_page
from ngos.web.gate import Gate
from ngos.web.status import Status

RETRY_AFTER_S: Final = "1"
HTTP_CLIENT_ID: Final = "http"
_STATUS: Final = {
    ErrorCode.FORBIDDEN: 403,
    ErrorCode.UNAUTHENTICATED: 401,
    ErrorCode.CONFLICT: 409,
    ErrorCode.RATE_LIMITED: 429,
    ErrorCode.UNAVAILABLE: 503,
    ErrorCode.INTERNAL: 500,
}


_REJECTED: Final = {status: code for code, status in _STATUS.items()}


@define(eq=False)
class Parts:
    """What the routes are about.

    `unready` says why the server can't serve; nothing: it can. `closed` says why it takes neither connections nor
    commands; None: it does, if only to say `unavailable`. `degraded` says what it serves without. `metrics` is what
    Prometheus gets.
    """

    settings: Settings
    gate: Gate
    connections: Connections
    hub: Hub
    nodes: Nodes
    once: Once
    metrics: Callable[[], Awaitable[bytes]]
    status: Status
    unready: Callable[[], Awaitable[list[str]]]
    closed: Callable[[], str | None]
    degraded: Callable[[], list[str]]


_NO_MESSAGES: Final = trio.open_memory_channel[Any](0)[1]
"""What a WebSocket on our own frames receives by way of Quart."""


class _WebsocketConnection(TrioASGIWebsocketConnection):
    """A WebSocket of the app's: on our own frames, without a task that waits for ASGI's messages, and it is not closed
    when its handler has returned, which leaves it to a successor.
    """

    def __init__(self, app: QuartTrio, scope: Any) -> None:
        self._has_frames = EXTENSION in (scope.get("extensions") or {})
        if self._has_frames:
            self.app, self.scope, self._accepted, self._closed = app, scope, False, False
            self.receive_channel = _NO_MESSAGES
        else:
            super().__init__(app, scope)

    async def __call__(self, receive: Any, send: Any) -> None:
        if not self._has_frames:
            return await super().__call__(receive, send)
        await receive()  # websocket.connect

        async def send_but_close(message: Any) -> None:
            if message["type"] != "websocket.close":
                await send(message)

        websocket = self._create_websocket_from_scope(send)
        return await ASGIWebsocketConnection.handle_websocket(self, websocket, send_but_close)


class _Site(QuartTrio):
    asgi_websocket_class = _WebsocketConnection


def make_site(parts: Parts) -> QuartTrio:
    """The app. It owns nothing: all state is in `parts`."""
    site = _Site("ngos", static_folder=None)
    site.config["MAX_CONTENT_LENGTH"] = parts.settings.message_bytes
    gate, connections = parts.gate, parts.connections

    @site.websocket("/ws")
    async def ws() -> None:
        guard.check_origin(websocket.headers, parts.settings.allowed_origins)
        client_id = guard.check_client_id(websocket.args.getlist("client_id"))
        if reason := parts.closed():
            raise guard.Rejection(503, reason)
        identity = await gate.let_connect(websocket.headers)
        if connections.is_full:
            raise guard.Rejection(503, "the server is full")
        address, by_proxy = gate.let_in(websocket)
        transport = transport_of(websocket._get_current_object())  # type: ignore[attr-defined]  # noqa: SLF001
        await websocket.accept()
        await transport.begin(partial(connections.serve, transport, client_id, identity, address, by_proxy=by_proxy))

    @site.before_request
    async def count() -> None:
        gate.count(request)

    for path, asset in load_page().items():
        site.add_url_rule(f"/{path}", f"page/{path}", partial(_asset, asset), methods=["GET"])

    @site.get("/ws/stats")
    async def stats() -> Response:
        await gate.let_read(request)
        others, answered = await parts.nodes.look("stats")
        counts = Counter(parts.hub.counts())
        active = len(connections.open)
        for their_active, their_counts in others:
            active += their_active
            counts.update(their_counts)
        stats = {"active_connections": active, "topics": counts, "total_subscriptions": counts.total()}
        return _json(stats if parts.nodes.line.is_alone else {**stats, "nodes": answered + 1})

    @site.get("/status")
    async def status() -> Response:
        await gate.let_administer(request)
        return _json(parts.status())

    @site.get("/ws/connections")
    async def list_connections() -> Response:
        await gate.let_administer(request)
        others, answered = await parts.nodes.look("connections")
        rows = connections.rows() + others
        listed = {"count": len(rows), "connections": rows}
        return _json(listed if parts.nodes.line.is_alone else {**listed, "nodes": answered + 1})

    @site.post("/ws/broadcast")
    async def broadcast() -> Response:
        guard.check_not_foreign(request.headers, parts.settings.allowed_origins)
        await gate.let_administer(request)
        publish = await _posted("broadcast")
        stamp = connections.stamp()
        recipients = connections.broadcast(publish.type, orjson.dumps(publish.payload), *stamp)
        said = [publish.type, publish.payload, *stamp]
        recipients += sum((await parts.nodes.ask("broadcast", said, strangers=True))[0])
        return _json({"status": "broadcasted", "recipients": recipients})

    @site.post("/ws/publish/<topic>")
    async def publish(topic: str) -> Response:
        guard.check_not_foreign(request.headers, parts.settings.allowed_origins)
        await gate.let_publish(request, topic, request.content_length or 0)
        if reason := parts.closed():
            raise guard.Rejection(503, reason)
        command = await _posted(topic)
        subscribers = parts.hub.audience(topic) + parts.nodes.roster.subscribers(topic)
        reply = await parts.once(command, HTTP_CLIENT_ID)
        return _json(
            {
                "status": "published",
                "topic": topic,
                "subscribers": subscribers,
                "epoch": reply["epoch"],
                "seq": reply["seq"],
            }
        )

    @site.get("/livez")
    async def livez() -> Response:
        return _json({"status": "alive"})

    @site.get("/readyz")
    @site.get("/healthz")
    async def readyz() -> Response:
        reasons = await parts.unready()
        if reasons:
            return _json({"status": "unready", "reasons": reasons}, 503)
        return _json({"status": "ready"} | ({"degraded": degraded} if (degraded := parts.degraded()) else {}))

    @site.get("/metrics")
    async def metrics() -> Response:
        await gate.let_read(request)
        return Response(await parts.metrics(), content_type="text/plain; version=0.0.4; charset=utf-8")

    @site.get("/asyncapi.json")
    async def document() -> Response:
        return _json(asyncapi.document())

    @site.errorhandler(guard.Rejection)
    async def rejected(exc: guard.Rejection) -> Response:
        response = _error(exc.status, _REJECTED.get(exc.status, "rejected"), exc.message)
        response.headers.update(exc.headers)
        return response

    @site.errorhandler(CommandFailed)
    async def failed(exc: CommandFailed) -> Response:
        connections.refusals.note(exc)
        return _error(_STATUS.get(exc.code, 400), exc.code, exc.message, exc.details)

    @site.errorhandler(StorageUnavailable)
    async def away(_exc: StorageUnavailable) -> Response:
        return await failed(unavailable())

    @site.errorhandler(WebsocketMismatch)
    async def mismatch(_exc: WebsocketMismatch) -> Response:
        if has_websocket_context():
            return await http_error(NotFound())
        connections.door.rejected(426)
        response = _error(426, "upgrade_required", "this is a WebSocket: connect with a client for those")
        response.headers["Upgrade"] = "websocket"
        return response

    @site.errorhandler(HTTPException)
    async def http_error(exc: HTTPException) -> Response:
        response = _error(exc.code or 500, exc.name.lower().replace(" ", "_"), exc.name)
        if isinstance(exc, MethodNotAllowed) and exc.valid_methods:
            response.headers["Allow"] = ", ".join(sorted(exc.valid_methods))
        return response

    @site.errorhandler(Exception)
    async def defect(exc: Exception) -> Response:
        return await failed(incident("http.defect", exc))

    return site


async def _posted(topic: str) -> Publish:
    """The `{type, payload}` of a request, for a topic. Raises DecodeError, with paths into the body; Rejection 415."""
    if request.mimetype != "application/json":
        # Also what keeps a foreign page from posting without asking first (CORS).
        raise guard.Rejection(415, "the request's Content-Type must be application/json")
    data = await request.get_data()
    body = codec.decode_object(data if isinstance(data, bytes) else data.encode())
    if "topic" in body:
        fault = {"path": "topic", "message": "is not a field of this body"}
        raise DecodeError(ErrorCode.INVALID_PAYLOAD, "topic is not a field of this body", errors=[fault])
    return codec.decode_payload({**body, "topic": topic}, Publish, root="")


async def _asset(asset: Asset) -> Response:
    zipped = asset.gzipped is not None and request.accept_encodings["gzip"] > 0
    response = Response(asset.gzipped if zipped else asset.body, content_type=asset.content_type)
    if asset.gzipped is not None:
        response.headers["Vary"] = "Accept-Encoding"
    if zipped:
        response.headers["Content-Encoding"] = "gzip"
    response.headers["Cache-Control"] = asset.cache_control
    response.headers["Content-Security-Policy"] = POLICY
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Referrer-Policy"] = "no-referrer"
    # The two forms are told apart, as a strong tag has to (RFC 9110 section 8.8.3).
    response.set_etag(f"{asset.etag}-gzip" if zipped else asset.etag)
    return await response.make_conditional(request)


def _json(value: object, status: int = 200) -> Response:
    response = Response(orjson.dumps(value), status, content_type="application/json")
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Content-Type-Options"] = "nosniff"
    if status in (429, 503):
        response.headers["Retry-After"] = RETRY_AFTER_S
    return response


def _error(status: int, code: str, message: str, details: dict[str, Any] | None = None) -> Response:
    return _json({"code": code, "message": message, "details": details or {}}, status)
