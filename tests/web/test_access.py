"""Who is let in: loopback and origins for the routes, `client_id`, `Origin` and the upgrade for /ws."""

from __future__ import annotations

from uuid import UUID

import pytest
import trio
from werkzeug.datastructures import Headers

from ngos import __version__
from ngos.client.trio import connect
from ngos.web import guard
from tests.servers import Running, running_server
from tests.web.test_routes import EVENT, assert_error
from tests.web.wire import knock, raw_socket, request

ADMIN = [("GET", "/ws/connections"), ("POST", "/ws/broadcast")]


@pytest.mark.parametrize(("method", "path"), ADMIN)
@pytest.mark.parametrize(
    "header",
    ["X-Forwarded-For", "x-forwarded-for", "Forwarded", "X-Real-IP", "X-Forwarded-Host", "X-Forwarded-Proto", "Via"],
)
async def test_behind_a_proxy_nobody_is_an_administrator(shared: Running, method: str, path: str, header: str) -> None:
    """A proxy on this machine must not make the whole world an administrator, whatever its header claims."""
    body = EVENT if method == "POST" else None
    for value in ("10.0.0.1", "127.0.0.1", ""):
        assert_error(await request(shared.http, method, path, body=body, headers={header: value}), 403)


@pytest.mark.parametrize(("method", "path"), ADMIN)
@pytest.mark.parametrize("host", ["evil.example", "evil.example:{port}", "localhost.evil.example", "", "[", "a b"])
async def test_another_name_for_this_machine(shared: Running, method: str, path: str, host: str) -> None:
    """A page whose own name was made to lead here (DNS rebinding) is refused, though its Origin is its Host."""
    name = host.format(port=shared.http.rsplit(":", 1)[1])
    body = EVENT if method == "POST" else None
    answer = await request(shared.http, method, path, body=body, headers={"Host": name, "Origin": f"http://{name}"})
    assert answer.status in (400, 403)


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8000", "127.0.0.1", "127.0.0.1:1", "[::1]:8000", "127.9.9.9"])
async def test_names_of_this_machine(shared: Running, host: str) -> None:
    """An administrator may call this machine by any name that only this machine has."""
    assert 200 == (await request(shared.http, "GET", "/ws/connections", headers={"Host": host})).status


@pytest.mark.parametrize(
    ("address", "local"),
    [
        *(("127.0.0.1", True), ("::1", True), ("127.8.8.8", True), ("::ffff:127.0.0.1", True)),
        *(("10.0.0.1", False), ("::ffff:10.0.0.1", False), ("localhost", False), ("", False), (None, False)),
    ],
)
def test_loopback(address: str | None, local: bool) -> None:
    """Only an address of the loopback is this machine, mapped into IPv6 or not."""
    headers = Headers({"Host": "localhost"})
    if local:
        guard.check_loopback(headers, address)
    else:
        with pytest.raises(guard.Rejection):
            guard.check_loopback(headers, address)


@pytest.mark.parametrize("route", ["/ws/broadcast", "/ws/publish/mine"])
@pytest.mark.parametrize("origin", ["https://evil.example", "null", "", "http://[", "http://127.0.0.1:1", "file://"])
async def test_a_foreign_page_must_not_post(shared: Running, route: str, origin: str) -> None:
    """A page of another site can't post in its visitor's name, however odd its origin is."""
    answer = await request(shared.http, "POST", route, body=EVENT, headers={"Origin": origin})
    assert_error(answer, 403)
    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize("route", ["/ws/broadcast", "/ws/publish/mine"])
async def test_pages_that_may_post(database_url: str, route: str) -> None:
    """Our own page, and those of listed origins, may post."""
    async with running_server(database_url, allowed_origins=("https://app.example",)) as server:
        for origin in (server.http, "https://app.example"):
            assert 200 == (await request(server.http, "POST", route, body=EVENT, headers={"Origin": origin})).status
        headers = {"Origin": "https://app.example.evil"}
        assert_error(await request(server.http, "POST", route, body=EVENT, headers=headers), 403)


async def test_the_greeting(shared: Running) -> None:
    """connection.established is the first message, and has exactly the fields of section 1."""
    async with raw_socket(shared.http, "/ws?client_id=my_client") as socket:
        greeting = await socket.message()
        await socket.command("ping", id="p")
        assert ("pong", "p") == ((pong := await socket.message())["type"], pong["reply_to"])
    assert {"id", "type", "timestamp", "payload"} == greeting.keys()
    assert "connection.established" == greeting["type"]
    payload = greeting["payload"]
    UUID(payload.pop("connection_id"))
    assert greeting["timestamp"] - payload.pop("timestamp") in range(1000)
    assert {
        "client_id": "my_client",
        "server": {"name": "ngos", "version": __version__, "protocol": 1},
        "heartbeat": {"interval_ms": 25000, "timeout_ms": 10000},
        "limits": {"message_bytes": 65536, "subscriptions": 128, "in_flight": 256},
    } == payload


async def test_client_ids(shared: Running) -> None:
    """A client keeps the name it chose, gets one if it chose none, and shares it with whoever chose the same."""
    for name in ("a", "A.z_0:-9", "x" * 128):
        async with connect(shared.url, client_id=name) as client:
            assert name == client.client_id
    async with connect(shared.url) as client, connect(shared.url) as other:
        assert len("client_") + 16 == len(client.client_id)
        assert 16 == len(bytes.fromhex(client.client_id.removeprefix("client_"))) * 2
        assert client.client_id != other.client_id
    async with connect(shared.url, client_id="twin") as one, connect(shared.url, client_id="twin") as two:
        assert one.connection_id != two.connection_id
        await one.ping()
        await two.ping()


@pytest.mark.parametrize(
    "query",
    [
        *("client_id=", "client_id=a%20b", "client_id=" + "x" * 129, "client_id=%C3%A9", "client_id=%FF"),
        *("client_id=a%00", "client_id=a%0A", "client_id=a&client_id=b", "client_id=a&client_id=a"),
    ],
)
async def test_bad_client_ids(shared: Running, query: str) -> None:
    """A client_id that is not one, or that is given twice, is 400 before the upgrade, and says why."""
    error = assert_error(await knock(shared.http, f"/ws?{query}"), 400)
    assert "client_id" in error["message"]


async def test_other_query_parameters_are_ignored(shared: Running) -> None:
    """What /ws does not know in its query does no harm."""
    async with raw_socket(shared.http, "/ws?token=x&client_id=a&client=b") as socket:
        assert "a" == (await socket.message())["payload"]["client_id"]


async def test_origins(database_url: str) -> None:
    """With a list, a page of another origin is 403; the listed, our own, and what is no page come in."""
    async with running_server(database_url, allowed_origins=("https://app.example",)) as server:
        for origin in ("https://evil.example", "null", "https://app.example.evil", "http://app.example", "http://["):
            assert_error(await knock(server.http, headers={"Origin": origin}), 403)
        for origin in ("https://app.example", server.http, ""):
            async with raw_socket(server.http, headers={"Origin": origin}) as socket:
                assert "connection.established" == (await socket.message())["type"]


async def test_origins_where_none_is_listed(shared: Running) -> None:
    """Without a list, a page from elsewhere is 403, and may not pass for one of this machine; those come in."""
    for origin in (
        "https://evil.example",
        "null",
        "http://[",
        "http://localhost.evil.example",
        "http://localhost@evil",
    ):
        assert_error(await knock(shared.http, headers={"Origin": origin}), 403)
    for origin in ("http://localhost:3000", "https://127.0.0.1", "http://[::1]:8080", shared.http):
        async with raw_socket(shared.http, headers={"Origin": origin}) as socket:
            await socket.message()
    headers = {"Origin": "http://localhost:3000", "Host": "ngos.example"}
    assert_error(await knock(shared.http, headers=headers), 403)


async def test_any_origin_where_that_is_written_out(database_url: str) -> None:
    """With `*`, pages of any origin may connect, and still not post in their visitors' names."""
    async with running_server(database_url, allowed_origins=("*",)) as server:
        for origin in ("https://any.example", "null", "http://["):
            async with raw_socket(server.http, headers={"Origin": origin}) as socket:
                await socket.message()
            answer = await request(server.http, "POST", "/ws/publish/mine", body=EVENT, headers={"Origin": origin})
            assert_error(answer, 403)


@pytest.mark.parametrize("path", ["/", "/ws/", "/wss", "/ws/stats", "/nothing"])
async def test_a_websocket_elsewhere(shared: Running, path: str) -> None:
    """A WebSocket on another path is 404."""
    assert 404 == (await knock(shared.http, path)).status


async def test_http_where_a_websocket_is(shared: Running) -> None:
    """Plain HTTP on /ws is told that it has to upgrade (RFC 9110 section 15.5.22)."""
    answer = await request(shared.http, "GET", "/ws")
    assert_error(answer, 426)
    assert "websocket" == answer.headers["upgrade"]


async def test_websocket_versions(shared: Running) -> None:
    """Another version of WebSocket is 426, and is told which one is spoken (RFC 6455 section 4.4)."""
    answer = await knock(shared.http, headers={"Sec-WebSocket-Version": "8"})
    assert (426, "13") == (answer.status, answer.headers.get("sec-websocket-version"))


async def test_a_malformed_upgrade(shared: Running) -> None:
    """An upgrade without a key is 400."""
    assert 400 == (await knock(shared.http, headers={"Sec-WebSocket-Key": ""})).status


async def test_no_upgrade_while_draining(server: Running, nursery: trio.Nursery) -> None:
    """A server that drains takes nobody in: 503 with Retry-After, and /readyz says why."""
    await server.app.connections.drain(10)
    answer = await knock(server.http)
    assert_error(answer, 503)
    assert int(answer.headers["retry-after"]) > 0
    ready = await request(server.http, "GET", "/readyz")
    assert (503, ["draining"]) == (ready.status, ready.json["reasons"])
    assert 200 == (await request(server.http, "GET", "/livez")).status
