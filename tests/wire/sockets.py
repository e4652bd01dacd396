"""What tests on bare sockets need again and again."""

from __future__ import annotations

import fcntl
import socket
import struct
import termios
import time
from collections.abc import Callable

import redis

from tests.redis import PATIENCE

NO_LINGER = struct.pack("ii", 1, 0)
"""For SO_LINGER: closing is a reset."""


def wait_for(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


def read_all(sock: socket.socket) -> bytes:
    """Up to the end of the stream."""
    chunks = []
    while chunk := sock.recv(65536):
        chunks.append(chunk)
    return b"".join(chunks)


def read_to_reset(sock: socket.socket) -> tuple[bytes, bool]:
    """Up to the end, and whether it was a reset."""
    got = b""
    try:
        while chunk := sock.recv(65536):
            got += chunk
    except ConnectionResetError:
        return got, True
    return got, False


def unacknowledged(sock: socket.socket) -> int:
    """Bytes that were sent and have not arrived."""
    (count,) = struct.unpack("i", fcntl.ioctl(sock, termios.TIOCOUTQ, bytes(4)))
    return int(count)


def blocked(direct: redis.Redis) -> int:
    """How many clients wait in a blocking command."""
    return sum(1 for one in direct.client_list() if "b" in one["flags"])


def closed_by_peer(sock: socket.socket) -> bool:
    """Whether the connection ends without a byte, one way or the other."""
    try:
        return sock.recv(64) == b""
    except ConnectionResetError:
        return True
