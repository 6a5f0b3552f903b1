"""One GET over HTTP, for the command line: what the client's installation has is enough for it. Runs on Trio.

May import `ngos.client.errors`.
"""

from __future__ import annotations

import ssl
from typing import Any, Final
from urllib.parse import urlsplit

import h11
import orjson
import trio
from attrs import evolve

from ngos.client.address import Address
from ngos.client.errors import ConnectFailed

ANSWER_BYTES: Final = 4 * 1024 * 1024
_SCHEMES: Final = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}


async def get_json(url: str, path: str, token: str | None, within_s: float) -> dict[str, Any]:
    """Fetch an object of JSON: `path` of the server whose HTTP or WebSocket address is `url`.

    Raises ConnectFailed, with the status where there was one, and one line that says why: not reachable, not allowed,
    no answer `within_s` seconds, or one that is over 4 MiB or not ours. Cancelled, it hangs up.
    """
    address = _address_of(url, path, token, within_s)
    try:
        with trio.fail_after(within_s):
            status, headers, body = await _get(address, path)
    except trio.TooSlowError:
        raise address.too_slow() from None
    except OSError as exc:
        group = exc.__cause__
        raise address.unreachable(group.exceptions if isinstance(group, ExceptionGroup) else [exc]) from exc
    except (h11.RemoteProtocolError, trio.BrokenResourceError) as exc:
        if isinstance(exc.__cause__, ssl.SSLError):
            raise address.failed(_tls(exc.__cause__)) from exc
        raise address.failed("what it answered is not HTTP: not an ngos server?") from exc
    if status != 200:
        raise address.refused(status, headers, body)
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        answer = None
    if not isinstance(answer, dict):
        raise address.failed("what it answered is not JSON: not an ngos server?")
    return answer


def _address_of(url: str, path: str, token: str | None, within_s: float) -> Address:
    """Where to ask; what is said of it names the URL as it was given. Raises ConnectFailed."""
    try:
        parts = urlsplit(url)
    except ValueError as exc:
        raise ConnectFailed(url, f"not a URL: {exc}") from exc
    if parts.scheme not in _SCHEMES:
        raise ConnectFailed(url, "not a URL such as http://127.0.0.1:8000")
    try:
        address = Address.of(f"{_SCHEMES[parts.scheme]}://{parts.netloc}{path}", None, token, within_s)
    except ConnectFailed as exc:
        raise ConnectFailed(url, exc.reason) from exc
    return evolve(address, url=url)


def _tls(exc: ssl.SSLError) -> str:
    """What is wrong with the other end's TLS, or with our trust in it."""
    if isinstance(exc, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted here ({exc.verify_message}): SSL_CERT_FILE names who is"
    return f"TLS: {exc.reason or exc}: is it http://, or ws://?"


async def _get(address: Address, path: str) -> tuple[int, list[tuple[str, str]], bytes]:
    stream: trio.abc.Stream = await trio.open_tcp_stream(address.host, address.port)
    if address.secure:
        context = ssl.create_default_context()
        stream = trio.SSLStream(stream, context, server_hostname=address.host, https_compatible=True)
    async with stream:
        connection = h11.Connection(h11.CLIENT)
        headers = [("Host", address.authority), ("Accept", "application/json"), ("Connection", "close")]
        request = h11.Request(method="GET", target=path, headers=[*headers, *address.headers])
        data = (connection.send(request) or b"") + (connection.send(h11.EndOfMessage()) or b"")
        await stream.send_all(data)
        response: h11.Response | None = None
        body = bytearray()
        while True:
            match connection.next_event():
                case h11.NEED_DATA:
                    connection.receive_data(bytes(await stream.receive_some()))
                case h11.Response() as response:
                    pass
                case h11.Data() as part:
                    body += part.data
                    if len(body) > ANSWER_BYTES:
                        raise address.failed("it answers with more than 4 MiB: not an ngos server?")
                case h11.EndOfMessage():
                    assert response is not None
                    fields = [(name.decode(), value.decode("latin-1")) for name, value in response.headers]
                    return response.status_code, fields, bytes(body)
                case h11.ConnectionClosed() | h11.PAUSED:
                    raise h11.RemoteProtocolError("it hung up")
