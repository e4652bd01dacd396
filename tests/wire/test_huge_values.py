"""Values of 500 MiB, a little less than Redis takes, each way: nothing but what is on its way just now is in memory.

twemproxy#487, #538, #553, envoy#36764: memory by the gigabyte.  Redis itself needs 1.5 GB for these.
"""

from __future__ import annotations

import random
import socket
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from tests.conftest import StartSidecar
from tests.redis import RedisServer
from tests.wire.corners import JOB, LISTS, ask, command

MIB = 1024 * 1024
SIZE = 500 * MIB
LIMIT = 128 * MIB
"""Of the relay's memory, from its start."""


def text() -> Iterator[bytes]:
    """Of which no MiB is like another. It may stand in a JSON string."""
    letters = bytes(range(48, 80)) + bytes(range(96, 128))
    noise = random.Random(1).randbytes(MIB).translate(bytes(byte for byte in letters for _ in range(4)))
    for number in range(SIZE // MIB):
        yield noise[number:] + noise[:number]


def value() -> Iterator[bytes]:
    yield b'{"id":1,"text":"'
    yield from text()
    yield b'"}'


LENGTH = SIZE + len(b'{"id":1,"text":""}')


def send(sock: socket.socket, chunks: Iterable[bytes]) -> None:
    for chunk in chunks:
        sock.sendall(chunk)


def expect(sock: socket.socket, chunks: Iterable[bytes]) -> None:
    """Read these bytes, and no others."""
    for chunk in chunks:
        left = memoryview(chunk)
        while left:
            got = sock.recv(len(left))
            assert got, "closed"
            assert got == left[: len(got)]
            left = left[len(got) :]


@pytest.mark.tools
@pytest.mark.parametrize(
    ("write", "read", "written"),
    [("SET", "GET", b"+OK\r\n"), ("LPUSH", "RPOP", b":1\r\n")],
    ids=["a value", "a job"],
)
def test_500_mebibytes_each_way(
    write: str, read: str, written: bytes, tmp_path: Path, start_sidecar: StartSidecar
) -> None:
    memory = Path("/proc/meminfo").read_text().partition("MemAvailable:")[2].split()[0]
    assert int(memory) * 1024 > 1_500 * MIB, "this machine has not enough memory"
    with RedisServer(tmp_path) as server:
        sidecar = start_sidecar({"listeners": [{"upstream": server.url}], "frameworks": LISTS})
        with sidecar.connect() as sock:
            head = command(write, "jobs:a", "").removesuffix(b"$0\r\n\r\n")
            send(sock, [head + b"$%d\r\n" % LENGTH])
            send(sock, value())
            send(sock, [b"\r\n"])
            expect(sock, [written])
            send(sock, [command(read, "jobs:a")])
            expect(sock, [b"$%d\r\n" % LENGTH])
            expect(sock, value())
            expect(sock, [b"\r\n"])
            stored = ask(sock, command("DEL", "jobs:a"), command("LPUSH", "jobs:a", JOB), command("RPOP", "jobs:a"))
            assert b"traceparent" in stored
        oversize = 1 if write == "LPUSH" else 0
        sidecar.wait_for(lambda: sidecar.metric("redspan_injections_total", result="written") == 1, "not counted")
        assert sidecar.metric("redspan_injections_total", result="oversize") == oversize
        assert sidecar.metric("redspan_blind_total") == 0
        assert sidecar.peak_memory < LIMIT
