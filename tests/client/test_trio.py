"""Requests of the Trio shell, against a scripted server on a real socket."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import pytest
import trio

from ngos.client.errors import (
    CommandError,
    ConnectionLost,
    NotFound,
    RequestTimeout,
    SessionError,
)
from ngos.client.trio import Client, connect
from ngos.protocol.commands import TokenCreate
from ngos.protocol.values import Token, TokenHead
from tests.client.fakes import Peer, envelope, pongs, serve, token


async def test_many_requests_are_in_flight(nursery: trio.Nursery) -> None:
    """Requests of many tasks don't wait for each other's replies, whatever the order of those."""

    async def script(peer: Peer) -> None:
        commands = [await peer.receive() for _ in range(50)]
        for command in reversed(commands):
            await peer.reply(command, "token.created", token(type=command["payload"]["type"]))

    async def create(client: Client, name: str) -> None:
        created = await client.create_token(type=name)
        assert isinstance(created, Token)
        assert name == created.type

    url = await serve(nursery, script)
    async with connect(url) as client, trio.open_nursery() as tasks:
        for n in range(50):
            tasks.start_soon(create, client, f"t{n}")
    nursery.cancel_scope.cancel()


async def test_no_more_than_in_flight(nursery: trio.Nursery) -> None:
    """Past `in_flight` the client waits, so that the server never has to stop reading."""
    most = 0

    async def script(peer: Peer) -> None:
        nonlocal most
        await peer.accept(limits={"message_bytes": 65536, "subscriptions": 1, "in_flight": 3})
        while True:
            waiting = [await peer.receive()]
            with trio.move_on_after(0.02):
                while True:
                    waiting.append(await peer.receive())
            most = max(most, len(waiting))
            for command in waiting:
                await peer.reply(command, "pong", {"message_id": command["id"]})

    url = await serve(nursery, script, accept=False)
    async with connect(url) as client, trio.open_nursery() as tasks:
        for _ in range(10):
            tasks.start_soon(client.ping)
    assert 3 == most
    nursery.cancel_scope.cancel()


async def test_typed_answers(nursery: trio.Nursery) -> None:
    """Each answer has the class its method promises; `not_found` is None, False or NotFound."""
    id_ = str(uuid4())
    position = {"topic": "tokens", "epoch": "0000000a", "seq": 7}
    page = {"count": 1, "offset": 0, "total": None, "next": "c", "position": position}
    head = {k: v for k, v in token(token_id=id_).items() if k not in ("coordinates", "metadata")}
    answers: list[tuple[str, dict[str, Any]]] = [
        ("token.list", {**page, "tokens": [head]}),
        ("token.list", {**page, "tokens": [token(token_id=id_)]}),
        ("token.not_found", {"token_id": id_}),
        ("token.not_found", {"token_id": id_}),
        ("token.not_found", {"token_id": id_}),
        ("token.deleted", {"token_id": id_}),
        ("graph.not_found", {"connection_id": id_, "source_id": None, "target_id": None, "type": None}),
        ("graph.path", {"source_id": id_, "target_id": id_, "path": [id_], "length": 0, "future": "field"}),
        ("graph.degree", {"token_id": id_, "incoming": 1, "outgoing": 2, "total": 3}),
    ]

    async def script(peer: Peer) -> None:
        for type_, payload in answers:
            await peer.reply(await peer.receive(), type_, payload)

    url = await serve(nursery, script)
    async with connect(url) as client:
        listed = await client.list_tokens()
        assert type(listed.tokens[0]) is TokenHead
        assert ("c", 7) == (listed.next, listed.position.seq)
        assert type((await client.list_tokens(full=True)).tokens[0]) is Token
        assert await client.get_token(id_) is None
        assert not await client.delete_token(id_)
        with pytest.raises(NotFound) as caught:
            await client.update_token(id_, weight=2.0)
        assert UUID(id_) == caught.value.token_id
        assert await client.delete_token(UUID(id_))
        assert await client.disconnect_tokens(connection_id=id_) is None
        assert (UUID(id_),) == (await client.path(id_, id_)).path
        assert 3 == (await client.degree(id_)).total
    nursery.cancel_scope.cancel()


async def test_error_reply(nursery: trio.Nursery) -> None:
    """An `error` reply is a CommandError of that command, and the connection goes on."""

    async def script(peer: Peer) -> None:
        await peer.fail(await peer.receive(), "unknown_type", "no such command; did you mean ping?")
        await pongs(peer)

    url = await serve(nursery, script)
    async with connect(url) as client:
        with pytest.raises(CommandError, match="did you mean ping") as caught:
            await client.request("pong", {"any": 1})
        assert "unknown_type" == caught.value.code
        assert "pong" == (await client.request("ping")).type
        assert (await client.ping()) > 0
    nursery.cancel_scope.cancel()


async def test_a_lost_connection_is_told_to_all(nursery: trio.Nursery) -> None:
    """With `reconnect=False` all calls learn the close code and the reason; the block itself goes on."""

    async def script(peer: Peer) -> None:
        await peer.agree(await peer.receive())
        await peer.receive()
        await peer.socket.aclose(1013, "too slow")

    url = await serve(nursery, script)
    async with connect(url, reconnect=False) as client:
        async with client.subscribe("tokens") as events:
            for call in (client.ping, events.__anext__, client.ping, client.subscribe("graph").__anext__):
                with pytest.raises(ConnectionLost) as caught:
                    await call()
                assert (1013, "too slow", True) == (
                    caught.value.code,
                    caught.value.reason,
                    caught.value.may_reconnect,
                )
        assert client.lost is not None
    nursery.cancel_scope.cancel()


async def test_a_request_that_times_out_leaves_the_connection(nursery: trio.Nursery) -> None:
    """A command without a reply is RequestTimeout after `request_s`, and its late reply is nobody else's."""

    async def script(peer: Peer) -> None:
        late = await peer.receive()
        command = await peer.receive()
        await peer.reply(late, "token.created", token())
        await peer.reply(command, "pong", {"message_id": None})

    url = await serve(nursery, script)
    async with connect(url, request_s=0.05) as client:
        with pytest.raises(RequestTimeout, match="token.create within"):
            await client.create_token()
        client._request_s = 5.0  # the second is answered, and has the time for it
        assert "pong" == (await client.request("ping")).type
    nursery.cancel_scope.cancel()


async def test_same_id_again(nursery: trio.Nursery) -> None:
    """A command can be sent again under its id, after a lost reply; `replayed` comes through."""
    ids: list[str] = []

    async def script(peer: Peer) -> None:
        for replayed in (False, True):
            command = await peer.receive()
            ids.append(command["id"])
            await peer.send(envelope("token.created", token(), reply_to=command["id"], replayed=replayed))

    url = await serve(nursery, script)
    async with connect(url) as client:
        command = TokenCreate(type="once")
        assert [False, True] == [(await client.request(command, id="one")).replayed for _ in range(2)]
    assert ["one", "one"] == ids
    nursery.cancel_scope.cancel()


async def test_garbage_from_the_server(nursery: trio.Nursery) -> None:
    """A server that does not speak the protocol is a lost connection with 1002, not a traceback."""

    async def script(peer: Peer) -> None:
        await peer.receive()
        await peer.socket.send_message("garbage")

    url = await serve(nursery, script)
    async with connect(url) as client:
        with pytest.raises(ConnectionLost) as caught:
            await client.ping()
        assert 1002 == caught.value.code
    nursery.cancel_scope.cancel()


async def test_one_loss_in_many_tasks(nursery: trio.Nursery) -> None:
    """Each of many waiting tasks gets its own exception."""
    caught: list[SessionError] = []

    async def script(peer: Peer) -> None:
        for _ in range(3):
            await peer.receive()
        await peer.socket.aclose(1012)

    async def call(client: Client) -> None:
        try:
            await client.ping()
        except SessionError as exc:
            caught.append(exc)

    url = await serve(nursery, script)
    async with connect(url, reconnect=False) as client, trio.open_nursery() as tasks:
        for _ in range(3):
            tasks.start_soon(call, client)
    assert 3 == len({id(exc) for exc in caught})
    assert 1 == len({str(exc) for exc in caught})
    nursery.cancel_scope.cancel()
