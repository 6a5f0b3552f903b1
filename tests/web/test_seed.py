"""The user's own lines: their Python program, with nothing of ours in it, against a server."""

from __future__ import annotations

import sys

import orjson
import trio

from tests.servers import Running

PROGRAM = """
import asyncio, json, sys
import websockets

async def main():
    async with websockets.connect(sys.argv[1]) as ws:
        greeting = json.loads(await ws.recv())
        assert greeting['type'] == 'connection.established', greeting

        async def send(type_, payload):
            await ws.send(json.dumps({
                'id': 'msg_123456789', 'type': type_, 'payload': payload,
                'timestamp': 1234567890000, 'sender_id': 'optional'}))

        await send('subscribe', {'topic': 'tokens'})
        print(await ws.recv())
        await send('token.create', {'type': 'demo', 'coord_x': [1.0] + [0.0] * 7, 'weight': 1.0})
        print(await ws.recv())
        print(await ws.recv())

asyncio.run(main())
assert not any(name.split('.')[0] == 'ngos' for name in sys.modules)
"""


async def test_the_users_python_program(server: Running) -> None:
    """Their program, letter by letter on the wire, subscribes, creates a token, and gets the reply, then the event."""
    url = server.url + "?client_id=my_client"
    with trio.fail_after(20):
        done = await trio.run_process([sys.executable, "-I", "-c", PROGRAM, url], capture_stdout=True)
    subscribed, reply, event = map(orjson.loads, done.stdout.splitlines())
    assert ("subscribed", "msg_123456789") == (subscribed["type"], subscribed["reply_to"])
    assert ("tokens", True) == (subscribed["payload"]["topic"], subscribed["payload"]["success"])
    assert ("token.created", "msg_123456789") == (reply["type"], reply["reply_to"])
    token = reply["payload"]
    assert ("demo", 1.0, 0, 1) == (token["type"], token["weight"], token["flags"], token["version"])
    zeros = [0.0] * 8
    assert {"x": [1.0] + [0.0] * 7, "y": zeros, "z": zeros} == token["coordinates"]
    assert ("token.created", "tokens", 1, "my_client") == (
        event["type"],
        event["topic"],
        event["seq"],
        event["sender_id"],
    )
    assert token == event["payload"]
