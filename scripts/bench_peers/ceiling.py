"""No contestant: the fastest fan-out that we can think of, to know how fast the load can count.

Promises: frames are made once and joined for all that came in one read, then written to each subscriber's socket.
Bounds nothing, cuts nobody, is correct for the load alone. What of it is picows: the way in, and the echo.
"""

import argparse
import os

import uvloop
from picows import WSFrame, WSListener, WSMsgType, WSTransport, WSUpgradeRequest, ws_create_server

subscribers: dict[WSTransport, int] = {}


def text_frame(payload: bytes) -> bytes:
    length = len(payload)
    head = bytes([0x81, length]) if length < 126 else b"\x81\x7e" + length.to_bytes(2, "big")
    return head + payload


class Client(WSListener):  # type: ignore[misc]
    def __init__(self, role: bytes) -> None:
        super().__init__()
        self.role = role
        self.frames: list[bytes] = []

    def on_ws_connected(self, transport: WSTransport) -> None:
        if self.role == b"/ws?role=sub":
            subscribers[transport] = transport.underlying_transport.get_extra_info("socket").fileno()

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        subscribers.pop(transport, None)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code())
            transport.disconnect()
        elif self.role == b"/ws?role=pub":
            self.frames.append(text_frame(frame.get_payload_as_bytes()))
            if frame.last_in_buffer:
                data, self.frames = b"".join(self.frames), []
                for subscriber, socket in subscribers.items():
                    sent = 0
                    if subscriber.underlying_transport.get_write_buffer_size() == 0:
                        try:
                            sent = os.write(socket, data)
                        except BlockingIOError:
                            pass
                    if sent < len(data):
                        subscriber.underlying_transport.write(data[sent:])
        else:
            transport.send(WSMsgType.TEXT, frame.get_payload_as_bytes())


def listener(request: WSUpgradeRequest) -> WSListener:
    return Client(request.path)


async def main(port: int) -> None:
    server = await ws_create_server(listener, "127.0.0.1", port, use_aiofastnet=False, backlog=1000)
    await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    uvloop.run(main(parser.parse_args().port))
