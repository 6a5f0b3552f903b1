"""No contestant: the fastest fan-out that we can think of, to know how fast the load can count.

Frames are made once and joined for all that came in one read, then written to each subscriber by uvloop; picows
does the way in, and the echo. Bounds nothing, cuts nobody, is right for the load alone.
"""

import sys

import uvloop
from bench_loads.dialects import frame_head
from picows import WSFrame, WSListener, WSMsgType, WSTransport, WSUpgradeRequest, ws_create_server

subscribers: set[WSTransport] = set()


class Client(WSListener):  # type: ignore[misc]
    def __init__(self, path: bytes) -> None:
        super().__init__()
        self.path = path
        self.frames: list[bytes] = []

    def on_ws_connected(self, transport: WSTransport) -> None:
        if self.path == b"/ws?role=sub":
            subscribers.add(transport)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        subscribers.discard(transport)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        payload = frame.get_payload_as_bytes()
        if frame.msg_type == WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code())
            transport.disconnect()
        elif self.path == b"/ws?role=pub":
            self.frames += frame_head(len(payload)), payload
            if frame.last_in_buffer:
                data, self.frames = b"".join(self.frames), []
                for subscriber in subscribers:
                    subscriber.underlying_transport.write(data)
        else:
            transport.send(WSMsgType.TEXT, payload)


def listener(request: WSUpgradeRequest) -> WSListener:
    return Client(request.path)


async def main(port: int) -> None:
    await (await ws_create_server(listener, "127.0.0.1", port, use_aiofastnet=False, backlog=1000)).serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
