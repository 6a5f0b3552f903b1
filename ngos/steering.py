"""Which of the sockets on one port a new connection goes to. Without it the kernel spreads them by their addresses.

With it, by chance among those that somebody accepts from: who comes while a worker is being replaced does not wait for
the new one. A program of the kernel's socket filter (SO_ATTACH_REUSEPORT_CBPF, socket(7)), which needs no rights.
"""

from __future__ import annotations

import socket
import struct
from array import array
from collections.abc import Sequence
from typing import Final

SO_ATTACH_REUSEPORT_CBPF: Final = 51
"""Of asm-generic/socket.h; Python has no name for it."""

# linux/filter.h: each instruction is its code, where to go on if it holds, where if not, and a constant.
_INSTRUCTION: Final = struct.Struct("=HBBI")
_LOAD: Final = 0x20
_MODULO: Final = 0x94
_JUMP_IF_EQUAL: Final = 0x15
_RETURN: Final = 0x06
_RANDOM: Final = 0xFFFFF000 + 56
"""SKF_AD_OFF + SKF_AD_RANDOM."""


def steer(group: socket.socket, open_: Sequence[int]) -> bool:
    """Send new connections to these sockets alone, by their places in the order in which all were bound.

    `group` is any of them. None open, none is left out: all wait. False where the kernel can't; then it spreads them
    over all, as it did. What waits in a socket already stays there.
    """
    count = len(open_)
    if count == 0:
        return True
    program = [(_LOAD, 0, 0, _RANDOM), (_MODULO, 0, 0, count)]
    for number, place in enumerate(open_[:-1]):
        program += [(_JUMP_IF_EQUAL, 0, 1, number), (_RETURN, 0, 0, place)]
    program.append((_RETURN, 0, 0, open_[-1]))
    code = b"".join(_INSTRUCTION.pack(*instruction) for instruction in program)
    buffer = array("B", code)
    try:
        # struct sock_fprog; the kernel copies what it points to.
        described = struct.pack("@HP", len(program), buffer.buffer_info()[0])
        group.setsockopt(socket.SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, described)
    except OSError:
        return False
    return True
