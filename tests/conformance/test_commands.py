"""Commands and replies: typed methods, errors, order, limits."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import psycopg
import pytest
import trio

from tests.client.fakes import Peer, token
from tests.conformance.actors import PYTHON_ACTORS, Actor, Failed, Remote
from tests.conformance.conftest import Scripted
from tests.servers import Running

POINT = [1.0, 0.5, -1.0, 0.0, 0.0, 0.0, 0.0, 0.25]


async def failure(client: Remote, method: str, **args: Any) -> dict[str, Any]:
    with pytest.raises(Failed) as caught:
        await client.call(method, **args)
    return caught.value.fields


async def test_tokens(actor: Actor, real: Running, database_url: str) -> None:
    """Tries to have a token come back other than the server stored it, from each command that is about tokens."""
    client = await actor.connect(real.url)
    metadata = {"text": "\U0001f600 \u2028 \x01", "deep": [{"a": None}], "n": 1.5}
    made = await client.call(
        "create_token", type="demo", coord_x=POINT, coord_z=[2.0], weight=0.5, flags=2**32 - 1, metadata=metadata
    )
    assert ("demo", 0.5, 2**32 - 1, 1) == tuple(made[key] for key in ("type", "weight", "flags", "version"))
    assert {"x": POINT, "y": [0.0] * 8, "z": [2.0] + [0.0] * 7} == made["coordinates"]
    assert metadata == made["metadata"]
    id_ = made["token_id"]
    assert made == (await client.request("token.get", {"token_id": id_}))["payload"]
    assert made == await client.call("get_token", token_id=id_)
    changed = await client.call("update_token", token_id=id_, weight=2.0, if_version=1)
    assert (2.0, 2, metadata) == (changed["weight"], changed["version"], changed["metadata"])
    with psycopg.connect(database_url) as db:
        assert [(id_, 2.0, 2)] == db.execute("select token_id::text, weight, version from tokens").fetchall()
    page = await client.call("list_tokens", limit=1, full=True, total=True)
    assert ([changed], 1, 1) == (page["tokens"], page["count"], page["total"])
    head = (await client.call("list_tokens", type="demo"))["tokens"][0]
    assert {key: changed[key] for key in changed if key not in ("coordinates", "metadata")} == head
    assert await client.call("delete_token", token_id=id_) is True
    assert await client.call("delete_token", token_id=id_) is False
    assert await client.call("get_token", token_id=id_) is None
    assert [] == (await client.call("list_tokens"))["tokens"]


async def test_pages(actor: Actor, real: Running) -> None:
    """Tries to miss or repeat a token by going through the pages."""
    client = await actor.connect(real.url)
    made = [(await client.call("create_token", type=f"t{n}"))["type"] for n in range(7)]
    seen: list[str] = []
    after: dict[str, Any] = {}
    while True:
        page = await client.call("list_tokens", limit=3, **after)
        seen += [head["type"] for head in page["tokens"]]
        if page["next"] is None:
            break
        after = {"after": page["next"]}
    assert made[::-1] == seen


async def test_the_graph(actor: Actor, real: Running) -> None:
    """Tries to have an edge, its ends, a degree or a path come back other than they are."""
    client = await actor.connect(real.url)
    one, two, three = [(await client.call("create_token"))["token_id"] for _ in range(3)]
    edge = await client.call(
        "connect_tokens", source_id=one, target_id=two, type="near", weight=0.5, bidirectional=True, metadata={"a": 1}
    )
    assert (one, two, "near", 0.5, True, {"a": 1}) == tuple(
        edge[key] for key in ("source_id", "target_id", "type", "weight", "bidirectional", "metadata")
    )
    await client.call("connect_tokens", source_id=two, target_id=three)
    neighbors = await client.call("neighbors", token_id=one, direction="outgoing")
    assert [{**edge, "neighbor_id": two}] == neighbors["neighbors"]
    assert {"topic", "epoch", "seq"} == set(neighbors["position"])
    degree = await client.call("degree", token_id=two)
    assert (2, 3) == (degree["outgoing"], degree["incoming"] + degree["outgoing"])
    found = await client.call("path", source_id=one, target_id=three)
    assert ([one, two, three], 2) == (found["path"], found["length"])
    assert (await client.call("path", source_id=three, target_id=one, max_depth=1))["path"] is None
    gone = await client.call("disconnect_tokens", source_id=one, target_id=two)
    assert {key: edge[key] for key in ("connection_id", "source_id", "target_id", "type")} == gone
    assert await client.call("disconnect_tokens", connection_id=edge["connection_id"]) is None


async def test_experience(actor: Actor, real: Running) -> None:
    """Tries to have an experience come back other than it was recorded, or out of its trajectory's order."""
    client = await actor.connect(real.url)
    steps = [
        await client.call(
            "record_experience", event_type="step", trajectory_id="t", state_before={"n": n}, action=[n], reward=0.5
        )
        for n in range(3)
    ]
    assert [1, 2, 3] == [step["sequence_number"] for step in steps]
    assert ({"n": 1}, [1], 0.5, None) == tuple(
        steps[1][key] for key in ("state_before", "action", "reward", "state_after")
    )
    page = await client.call("list_experiences", trajectory_id="t", limit=2)
    assert 2 == page["count"]
    assert page["events"][0] in steps
    assert page["next"] is not None


async def test_publish_and_ping(actor: Actor, real: Running) -> None:
    """Tries to lose what is published to a topic of one's own, or a ping's time."""
    client = await actor.connect(real.url, client_id="me")
    await client.subscribe("chat")
    published = await client.call("publish", topic="chat", type="said", payload={"text": "\u2028"})
    assert ("chat", False, None) == (published["topic"], published["durable"], published["seq"])
    (event,) = await client.events(1)
    assert ("said", {"text": "\u2028"}, "me", None) == tuple(
        event[key] for key in ("type", "payload", "sender_id", "seq")
    )
    assert 0.0 < await client.call("ping") < 20.0


async def test_errors(actor: Actor, real: Running) -> None:
    """Tries to have an error lose its code, its details or its kind, or end the connection."""
    client = await actor.connect(real.url)
    wrong = await failure(client, "create_token", weight="much", flags=-1)
    assert ("CommandError", "invalid_payload", False) == (wrong["kind"], wrong["code"], wrong["retryable"])
    assert {"payload.weight", "payload.flags"} == {error["path"] for error in wrong["details"]["errors"]}
    made = await client.call("create_token")
    again = await failure(client, "create_token", token_id=made["token_id"])
    assert ("CommandError", "conflict") == (again["kind"], again["code"])
    version = await failure(client, "update_token", token_id=made["token_id"], weight=1.0, if_version=7)
    assert "conflict" == version["code"]
    assert "forbidden" == (await failure(client, "publish", topic="tokens", type="x"))["code"]
    with pytest.raises(Failed) as caught:
        await client.request("token.crate")
    assert "unknown_type" == caught.value.fields["code"]
    nobody = str(uuid4())
    missing = await failure(client, "update_token", token_id=nobody, weight=1.0)
    assert ("NotFound", nobody) == (missing["kind"], missing["token_id"])
    assert "NotFound" == (await failure(client, "neighbors", token_id=nobody))["kind"]
    # Where the language has UUIDs it is an argument that can't be; else the server says so.
    expected = "BadArgument" if actor.kind in PYTHON_ACTORS else "CommandError"
    assert expected == (await failure(client, "get_token", token_id="no UUID"))["kind"]
    assert "connected" == await client.state()


async def test_many_without_waiting(actor: Actor, real: Running, database_url: str) -> None:
    """Tries to mix up the replies, or the order, of a thousand commands that do not wait for each other."""
    client = await actor.connect(real.url)
    await client.subscribe("tokens")
    count = 1000
    waiting = [client.given("request", type="token.create", payload={"type": f"t{n}"}) for n in range(count)]
    replies = [await answer() for answer in waiting]
    assert [f"t{n}" for n in range(count)] == [reply["payload"]["type"] for reply in replies]
    events = await client.events(count)
    assert [f"t{n}" for n in range(count)] == [event["payload"]["type"] for event in events]
    assert list(range(1, count + 1)) == [event["seq"] for event in events]


async def test_no_more_than_in_flight(actor: Actor, scripted: Scripted) -> None:
    """Tries to send more than the greeting's `in_flight` without waiting."""
    most = 0

    async def script(peer: Peer) -> None:
        nonlocal most
        await peer.accept(limits={"message_bytes": 65536, "subscriptions": 1, "in_flight": 3})
        waiting: list[dict[str, Any]] = []
        while True:
            with trio.move_on_after(0.05) as quiet:
                waiting.append(await peer.receive())
            most = max(most, len(waiting))
            if quiet.cancelled_caught:
                for command in waiting:
                    await peer.reply(command, "x.done", {})
                waiting = []

    client = await actor.connect(await scripted(script, accept=False))
    for answer in [client.given("request", type="x.do") for _ in range(8)]:
        assert "x.done" == (await answer())["type"]
    assert 3 == most


async def test_a_late_reply(actor: Actor, scripted: Scripted) -> None:
    """Tries to wait for ever for a reply, or to take it, when it comes late, for that of another command."""

    async def script(peer: Peer) -> None:
        late = await peer.command()
        while True:
            command = await peer.command()
            await peer.reply(late, "token.created", token(type="late"))
            await peer.reply(command, "token.created", token(type=command["payload"]["type"]))
            late = command

    client = await actor.connect(await scripted(script), request_s=0.3)
    assert "RequestTimeout" == (await failure(client, "create_token", type="late"))["kind"]
    made: dict[str, Any] = {}
    # The deadline holds for these too, and where a stall takes all of it, the next one is told as late a reply.
    for n in range(20):
        try:
            made = await client.call("create_token", type=f"t{n}")
            break
        except Failed as exc:
            assert "RequestTimeout" == exc.kind
    assert f"t{n}" == made.get("type")


async def test_too_big(actor: Actor, real: Running) -> None:
    """Tries to have the server end the connection over a command that is too big, counted in bytes."""
    client = await actor.connect(real.url)
    text = "\u00e9" * 40_000  # under the limit in characters, over it in bytes
    with pytest.raises(Failed) as caught:
        await client.request("token.create", {"metadata": {"text": text}})
    assert "RequestTooBig" == caught.value.kind
    await client.call("ping")
    assert [] == client.called("disconnected")


async def test_nearly_too_big(actor: Actor, real: Running) -> None:
    """Tries to refuse, cut or garble what is just small enough, on its way there and back."""
    client = await actor.connect(real.url)
    payload = {"text": "\u2028\U0001f600" * 9_300}
    await client.subscribe("chat")
    await client.call("publish", topic="chat", type="said", payload=payload)
    (event,) = await client.events(1)
    assert payload == event["payload"]
    assert [] == client.called("disconnected")


async def test_a_big_answer(actor: Actor, real: Running) -> None:
    """Tries to cut the connection by a reply of more than a mebibyte."""
    client = await actor.connect(real.url)
    metadata = {"text": "\U0001f600" * 3900}
    for answer in [client.given("request", type="token.create", payload={"metadata": metadata}) for _ in range(90)]:
        await answer()
    page = await client.call("list_tokens", limit=100, full=True)
    assert page["count"] * len(metadata["text"].encode()) > 1024 * 1024
    assert [metadata] * page["count"] == [token["metadata"] for token in page["tokens"]]
    assert [] == client.called("disconnected")
