"""The wire protocol, version 1, as frozen attrs classes and one strict codec.

Pure: no trio, no I/O, no clock. Floor 2: imports only `ngos.errors`.

- `rules`: what a field may hold, once for checking and for the documentation
- `values`: TOKEN, EDGE, EXPERIENCE, POSITION
- `commands`, `messages`: what clients send; replies and events
- `faults`: error codes and the exceptions that become error replies
- `close`: close codes
- `codec`: bytes to command, message to bytes; `converters`: classes to and from what JSON has
- `catalog`: the lists of all of them, derived from the classes
- `asyncapi`: the same as a document
"""

PROTOCOL_VERSION = 1
