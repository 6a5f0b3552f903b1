"""The shortest way through everything."""

from ngos.client.trio import connect
from tests.servers import Running


async def test_a_token_and_its_event(server: Running) -> None:
    """Tries to lose the event of a change that was answered."""
    async with connect(server.url) as client:
        events = client.subscribe("tokens")
        async with events:
            token = await client.create_token(type="demo")
            event = await anext(aiter(events))
    assert ("token.created", 1) == (event.type, event.seq)
    assert str(token.token_id) == event.payload["token_id"]
