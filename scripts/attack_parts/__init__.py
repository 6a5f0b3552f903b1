"""The parts of scripts/attack. Each module's docstring says what it promises.

- `wire`: a client's end of TCP, HTTP and WebSocket, without manners; `tally`: what was done, and what came of it
- `blocks`, `commands`: what attackers send over a WebSocket. Pure
- `sockets`, `web`: what they do to handshakes, to sockets, and over HTTP
- `kinds`: all of it by name; `attackers`: the process that does it
- `honest`: the process of those who must not notice; `arrivals`: that of those who come meanwhile
- `server`: the one under attack, and its numbers; `world`: what its database holds
- `account`: what a run came to, and whether it is good. Pure
- `run`, `report`: all of it together, and what it prints
"""
