"""The lists of all commands, replies and events, derived from the classes so that none can be forgotten.

The registry, the documentation, the clients and the tests read these. May import `commands` and `messages`.
"""

from __future__ import annotations

from typing import Final, TypeVar

from ngos.protocol import commands, messages
from ngos.protocol.commands import Command
from ngos.protocol.messages import ConnectionEstablished, Event, Message, Reply

_M = TypeVar("_M", Command, Message)


def _by_type(module: object, base: type[_M]) -> dict[str, type[_M]]:
    classes = (value for value in vars(module).values() if isinstance(value, type) and issubclass(value, base))
    return {cls.TYPE: cls for cls in classes if "TYPE" in vars(cls)}


COMMANDS: Final[dict[str, type[Command]]] = _by_type(commands, Command)
MESSAGES: Final[dict[str, type[Message]]] = _by_type(messages, Message)
REPLIES: Final = {name: cls for name, cls in MESSAGES.items() if issubclass(cls, Reply)}
EVENTS: Final = {name: cls for name, cls in MESSAGES.items() if issubclass(cls, Event)}
GREETING: Final = ConnectionEstablished

SYSTEM_TOPIC: Final = "system"
OWN_TOPICS: Final = frozenset(cls.TOPIC for cls in EVENTS.values())
"""The server's own topics: `publish` to them is forbidden."""
OWN_DURABLE_TOPICS: Final = OWN_TOPICS - {SYSTEM_TOPIC}

CUSTOM: Final = "custom"


def label_of(topic: str) -> str:
    """The topic where it is one of the server's own; of all others, which clients name, `CUSTOM`."""
    return topic if topic in OWN_TOPICS else CUSTOM
