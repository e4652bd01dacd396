"""Clients that leave while they are blocked, that do not read, and very many of them."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import redis

from tests.faults.scene import Fault, Scene
from tests.load import client
from tests.redis import PATIENCE
from tests.sidecar import resident_memory

_BLOCKED: Final = 50
_VALUE: Final = 1 << 20
_VALUES: Final = 1024
_MANY: Final = 5000
_WAITER: Final = """
import socket, sys, time
host, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
socks = [socket.create_connection((host, port)) for _ in range(count)]
for sock in socks:
    sock.sendall(b"*3\\r\\n$5\\r\\nBRPOP\\r\\n$6\\r\\nforgot\\r\\n$1\\r\\n0\\r\\n")
print("sent", flush=True)
time.sleep(3600)
"""


def _place(scene: Scene) -> tuple[str, int]:
    port = scene.sidecar.port if scene.sidecar is not None else scene.server.port
    return "127.0.0.1", port


def killed_while_blocked(scene: Scene) -> None:
    """Its jobs must wait for somebody who lives: none may be popped for the dead."""
    host, port = _place(scene)
    with client(scene.server.url) as direct:
        others = _blocked(direct)
        for _ in range(3):
            waiter = subprocess.Popen(
                [sys.executable, "-c", _WAITER, host, str(port), str(_BLOCKED)], stdout=subprocess.PIPE
            )
            assert waiter.stdout is not None
            assert waiter.stdout.readline() == b"sent\n"
            # The load's own consumers may be blocked, or not.
            scene.wait_for(lambda: _blocked(direct) >= _BLOCKED, "not blocked")
            os.kill(waiter.pid, signal.SIGKILL)
            waiter.wait()
            waiter.stdout.close()
            scene.wait_for(lambda: _blocked(direct) <= max(others, 3), "Redis still waits for the dead")
            with client(scene.url) as producer:
                producer.rpush("forgot", *range(_BLOCKED))
            assert direct.llen("forgot") == _BLOCKED, "a job was popped for a client that is dead"
            direct.delete("forgot")
    scene.checks.append(f"3 times {_BLOCKED} clients; none of {3 * _BLOCKED} jobs went to them")


def _blocked(direct: redis.Redis) -> int:
    info = direct.info("clients")
    assert isinstance(info, dict)
    return int(info["blocked_clients"])


def slow_reader(scene: Scene) -> None:
    """Asks for a gigabyte and reads nothing for a while; then all of it arrives, and is right."""
    value = os.urandom(_VALUE)
    with client(scene.server.url) as direct:
        direct.config_set("client-output-buffer-limit", "normal 0 0 0")
        direct.set("big", value)
    with socket.create_connection(_place(scene), PATIENCE) as sock:
        sock.sendall(b"*2\r\n$3\r\nGET\r\n$3\r\nbig\r\n" * _VALUES)
        scene.work(3.0)
        expected = b"$%d\r\n%b\r\n" % (_VALUE, value)
        whole = hashlib.blake2b()
        left = len(expected) * _VALUES
        while left:
            data = sock.recv(min(left, 1 << 20))
            assert data, "the connection was closed"
            whole.update(data)
            left -= len(data)
    right = hashlib.blake2b()
    for _ in range(_VALUES):
        right.update(expected)
    assert whole.digest() == right.digest(), "other bytes arrived"
    if scene.sidecar is not None:
        relay = peak_memory(scene.sidecar.pid)
        assert relay < 128 << 20, f"the relay has {relay >> 20} MiB"
        scene.checks.append(f"1 GiB waits in Redis; the relay's peak is {relay >> 20} MiB")


def many(scene: Scene) -> None:
    """Half of them blocked, each on a list of its own; then everybody gets what he is due."""
    idle = resident_memory(scene.sidecar.pid) if scene.sidecar is not None else 0
    with _connections(scene, _MANY) as socks:
        for number, sock in enumerate(socks):
            name = b"mine:%d" % number
            sock.sendall(
                b"*3\r\n$5\r\nBLPOP\r\n$%d\r\n%b\r\n$1\r\n0\r\n" % (len(name), name)
                if number % 2
                else b"*1\r\n$4\r\nPING\r\n"
            )
        for sock in socks[::2]:
            assert sock.recv(64) == b"+PONG\r\n"
        with client(scene.url) as producer:
            scene.wait_for(lambda: _blocked(producer) >= _MANY // 2, "not blocked")
            scene.works()
            for number in range(1, _MANY, 2):
                producer.rpush(f"mine:{number}", number)
        for number, sock in enumerate(socks):
            if number % 2:
                name, job = b"mine:%d" % number, b"%d" % number
                expected = b"*2\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n" % (len(name), name, len(job), job)
                assert _read(sock, len(expected)) == expected
        if scene.sidecar is not None:
            each = (resident_memory(scene.sidecar.pid) - idle) / _MANY
            scene.checks.append(f"{_MANY // 2} blocked, each got its own; {each / 1000:.1f} kB a connection")


@contextlib.contextmanager
def _connections(scene: Scene, count: int) -> Iterator[list[socket.socket]]:
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(socket.create_connection(_place(scene), PATIENCE)) for _ in range(count)]


def _read(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = sock.recv(size - len(data))
        if not more:
            break
        data += more
    return data


def peak_memory(pid: int) -> int:
    """Bytes of RAM that a process ever had at once."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return 1024 * int(found[1])


FAULTS = (
    Fault("clients: SIGKILL while blocked", killed_while_blocked, direct=True),
    Fault("clients: a reader with 1 GiB pending", slow_reader, direct=True),
    Fault("clients: 5,000, half of them blocked", many, direct=True),
)
