"""The HTTP routes of protocol.md section 10: shapes, statuses and who is let in."""

from __future__ import annotations

import gzip
import re
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from ngos.client.trio import connect
from ngos.protocol import asyncapi
from ngos.protocol.commands import Ping
from tests.servers import Running, running_server
from tests.web.wire import Answer, request

EVENT = {"type": "hello", "payload": {"n": 1}}


def assert_error(answer: Answer, status: int, code: str | None = None) -> dict[str, Any]:
    """Check that an answer is an error of the one shape that they have."""
    assert status == answer.status, answer.body
    body: dict[str, Any] = answer.json
    assert {"code", "message", "details"} == body.keys()
    assert body["message"]
    assert isinstance(body["details"], dict)
    assert code in (None, body["code"])
    assert "Traceback" not in answer.body.decode()
    return body


async def test_stats(server: Running) -> None:
    """/ws/stats counts connections and subscribers by topic, and forgets topics that nobody follows."""
    nobody = {"active_connections": 0, "topics": {}, "total_subscriptions": 0}
    assert nobody == (await request(server.http, "GET", "/ws/stats")).json
    async with connect(server.url) as one, connect(server.url) as two:
        async with one.subscribe("tokens"), two.subscribe("tokens"), two.subscribe("mine"):
            answer = await request(server.http, "GET", "/ws/stats")
            expected = {"active_connections": 2, "topics": {"tokens": 2, "mine": 1}, "total_subscriptions": 3}
            assert expected == answer.json
            assert "application/json" == answer.headers["content-type"]
        # Nobody waits for the answer to an `unsubscribe`; this one comes behind it.
        await one.ping()
        await two.ping()
        assert {} == (await request(server.http, "GET", "/ws/stats")).json["topics"]


async def test_connections(server: Running) -> None:
    """/ws/connections tells of each connection who it is, since when, and what it follows."""
    assert {"count": 0, "connections": []} == (await request(server.http, "GET", "/ws/connections")).json
    async with connect(server.url, client_id="me") as client, client.subscribe("tokens"), client.subscribe("mine"):
        body = (await request(server.http, "GET", "/ws/connections")).json
    assert 1 == body["count"]
    (row,) = body["connections"]
    assert {"connection_id", "client_id", "connected_at", "subscriptions", "metadata"} == row.keys()
    assert ("me", ["tokens", "mine"], {}) == (row["client_id"], row["subscriptions"], row["metadata"])
    assert client.connection_id == UUID(row["connection_id"])
    assert abs((datetime.now(UTC) - datetime.fromisoformat(row["connected_at"])).total_seconds()) < 60
    assert row["connected_at"].endswith("Z")


async def test_broadcast(server: Running) -> None:
    """A broadcast reaches every connection, subscribed or not, once, and says how many that were."""
    async with connect(server.url) as one, connect(server.url) as two:
        async with one.broadcasts() as first, two.broadcasts() as second:
            answer = await request(server.http, "POST", "/ws/broadcast", body=EVENT)
            assert (200, {"status": "broadcasted", "recipients": 2}) == (answer.status, answer.json)
            for events in (first, second):
                event = await anext(aiter(events))
                assert ("hello", {"n": 1}, None) == (event.type, event.payload, event.topic)
        await one.request(Ping())


async def test_publish(server: Running) -> None:
    """Publishing over HTTP reaches who is subscribed, and an ephemeral topic has no position."""
    async with connect(server.url) as client, client.subscribe("mine") as events:
        answer = await request(server.http, "POST", "/ws/publish/mine", body=EVENT)
        expected = {"status": "published", "topic": "mine", "subscribers": 1, "epoch": None, "seq": None}
        assert (200, expected) == (answer.status, answer.json)
        event = await anext(aiter(events))
    assert ("hello", {"n": 1}, "mine", None) == (event.type, event.payload, event.topic, event.seq)


async def test_publish_to_a_durable_topic(database_url: str) -> None:
    """On a durable topic the answer's position is the event's own, whether or not somebody listens."""
    async with running_server(database_url, durable_topics=("log.*",)) as server:
        first = (await request(server.http, "POST", "/ws/publish/log.a", body={"type": "unheard"})).json
        assert (1, 0) == (first["seq"], first["subscribers"])
        async with connect(server.url) as client, client.subscribe("log.a") as events:
            second = (await request(server.http, "POST", "/ws/publish/log.a", body=EVENT)).json
            event = await anext(aiter(events))
    assert (2, 1, first["epoch"]) == (second["seq"], second["subscribers"], second["epoch"])
    assert ("hello", 2, second["epoch"]) == (event.type, event.seq, event.epoch)


@pytest.mark.parametrize("topic", ["tokens", "graph", "experience", "system"])
async def test_publish_to_own_topics(shared: Running, topic: str) -> None:
    """Nobody can forge an event of the server's own topics over HTTP."""
    async with connect(shared.url) as client, client.subscribe(topic):
        assert_error(await request(shared.http, "POST", f"/ws/publish/{topic}", body=EVENT), 403, "forbidden")


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({}, "type"),
        ({"type": 5}, "type"),
        ({"type": ""}, "type"),
        ({"type": "e", "payload": []}, "payload"),
        ({"type": "e", "payload": None}, "payload"),
        ({"type": "e", "zzz": 1}, "zzz"),
        ({"type": "e", "topic": "tokens"}, "topic"),
    ],
)
@pytest.mark.parametrize("route", ["/ws/publish/mine", "/ws/broadcast"])
async def test_bad_bodies(shared: Running, route: str, body: dict[str, Any], path: str) -> None:
    """A body that is not {type, payload} is 400, and names the field where it is in the body."""
    error = assert_error(await request(shared.http, "POST", route, body=body), 400, "invalid_payload")
    assert [path] == [fault["path"] for fault in error["details"]["errors"]]


@pytest.mark.parametrize("route", ["/ws/publish/mine", "/ws/broadcast"])
@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b"null", b'{"type":"e","payload":' + b"[" * 99])
async def test_not_json(shared: Running, route: str, content: bytes) -> None:
    """A body that is no JSON object is 400."""
    answer = await request(shared.http, "POST", route, content=content, headers={"Content-Type": "application/json"})
    assert_error(answer, 400, "invalid_json")


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
async def test_content_type(shared: Running, kind: str) -> None:
    """What a foreign page can post without asking first is refused: only application/json is read."""
    for route in ("/ws/publish/mine", "/ws/broadcast"):
        answer = await request(shared.http, "POST", route, body=EVENT, headers={"Content-Type": kind})
        assert_error(answer, 415)
    charset = {"Content-Type": "application/json; charset=utf-8"}
    assert 200 == (await request(shared.http, "POST", "/ws/broadcast", body=EVENT, headers=charset)).status


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_too_large(shared: Running, chunked: bool) -> None:
    """A body over `message_bytes` is 413, told by its length or not, and the server goes on."""
    content = b'{"type":"e","payload":{"a":"' + b"x" * 300_000 + b'"}}'
    for route in ("/ws/publish/mine", "/ws/broadcast"):
        assert_error(await request(shared.http, "POST", route, content=content, chunked=chunked), 413)
    assert 200 == (await request(shared.http, "GET", "/livez")).status


@pytest.mark.parametrize("topic", ["a%20b", "%00", "x" * 129, "%C3%A9"])
async def test_publish_to_no_topic(shared: Running, topic: str) -> None:
    """A name that no topic can have is 400."""
    assert_error(await request(shared.http, "POST", f"/ws/publish/{topic}", body=EVENT), 400, "invalid_payload")


@pytest.mark.parametrize("path", ["/nothing", "/ws/", "/ws/publish", "/ws/publish/", "/ws/publish/a/b", "/%00"])
async def test_unknown_routes(shared: Running, path: str) -> None:
    """An unknown route is 404, in the shape that all errors have."""
    assert_error(await request(shared.http, "GET", path), 404)


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [("POST", "/ws/stats", "GET"), ("GET", "/ws/broadcast", "POST"), ("DELETE", "/ws/publish/mine", "POST")],
)
async def test_methods(shared: Running, method: str, path: str, allowed: str) -> None:
    """A wrong method is 405, and the header Allow says which would be right (RFC 9110 section 15.5.6)."""
    answer = await request(shared.http, method, path)
    assert_error(answer, 405)
    assert allowed in answer.headers["allow"].replace(",", " ").split()


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/healthz"])
async def test_health(shared: Running, path: str) -> None:
    """A server that can serve says so, to GET and to HEAD."""
    answer = await request(shared.http, "GET", path)
    assert (200, {"status"}) == (answer.status, answer.json.keys())
    assert 200 == (await request(shared.http, "HEAD", path)).status


async def test_the_page_and_all_it_names(shared: Running) -> None:
    """Tries to find a file that the page names and the server does not have, or a type that a browser won't take."""
    page = await request(shared.http, "GET", "/")
    assert (200, "text/html; charset=utf-8") == (page.status, page.headers["content-type"])
    assert "no-cache" == page.headers["cache-control"]
    assert "default-src 'self'" in page.headers["content-security-policy"]
    names = re.findall(r'(?:src|href)="\.?/?([^"]+)"', page.body.decode())
    assert any(name.endswith(".js") for name in names)
    types = {"js": "text/javascript; charset=utf-8", "css": "text/css; charset=utf-8", "svg": "image/svg+xml"}
    for name in names:
        answer = await request(shared.http, "GET", f"/{name}")
        assert (200, types[name.rsplit(".", 1)[1]]) == (answer.status, answer.headers["content-type"]), name
        assert ("immutable" in answer.headers["cache-control"]) == name.startswith("assets/")
        assert "nosniff" == answer.headers["x-content-type-options"]


async def test_the_page_is_sent_once(shared: Running) -> None:
    """Tries to get what the browser has already, or bytes in a form that it did not ask for."""
    plain = await request(shared.http, "GET", "/")
    again = await request(shared.http, "GET", "/", headers={"If-None-Match": plain.headers["etag"]})
    assert (304, b"") == (again.status, again.body)
    script = next(name for name in re.findall(r'src="\.?/?([^"]+)"', plain.body.decode()))
    whole = await request(shared.http, "GET", f"/{script}")
    zipped = await request(shared.http, "GET", f"/{script}", headers={"Accept-Encoding": "br, gzip"})
    refused = await request(shared.http, "GET", f"/{script}", headers={"Accept-Encoding": "gzip;q=0"})
    assert "gzip" == zipped.headers["content-encoding"]
    assert whole.body == refused.body == gzip.decompress(zipped.body)
    assert whole.headers["etag"] != zipped.headers["etag"]
    assert "Accept-Encoding" == whole.headers["vary"] == zipped.headers["vary"]


@pytest.mark.parametrize(
    "path", ["/assets/", "/assets/../site.py", "/..%2fsite.py", "/index.html/", "/page/index.html"]
)
async def test_nothing_but_the_page(shared: Running, path: str) -> None:
    """Tries to get a file of the package that is not one of the page's."""
    assert_error(await request(shared.http, "GET", path), 404)


async def test_metrics(server: Running) -> None:
    """/metrics is Prometheus's text format, and counts what happened."""
    async with connect(server.url) as client, client.subscribe("tokens") as events:
        await client.create_token()
        await anext(aiter(events))
        answer = await request(server.http, "GET", "/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    lines = dict(line.split(" ", 1) for line in answer.body.decode().splitlines() if not line.startswith("#"))
    for name in ("connections", "subscriptions", "connections_accepted_total", "commits_total", "events_logged_total"):
        assert 1.0 == float(lines[f"ngos_{name}"]), name


async def test_asyncapi(shared: Running) -> None:
    """/asyncapi.json is the protocol's document."""
    answer = await request(shared.http, "GET", "/asyncapi.json")
    assert "application/json" == answer.headers["content-type"]
    assert asyncapi.document()["operations"].keys() == answer.json["operations"].keys()
