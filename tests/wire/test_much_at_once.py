"""Pipelines, arguments and replies beyond what is usual: they arrive whole, and cost no memory."""

from __future__ import annotations

import random
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

from tests.conftest import StartSidecar
from tests.redis import executable
from tests.sidecar import Sidecar
from tests.wire.conftest import StartScripted
from tests.wire.corners import JOB, LISTS, Corner, ask, bulk, command

MB = 1_000_000


@pytest.fixture
def fresh(start_sidecar: StartSidecar) -> Sidecar:
    """One whose memory nobody has used yet."""
    return start_sidecar({"frameworks": LISTS})


@contextmanager
def sending(sock: socket.socket, data: bytes) -> Iterator[None]:
    """Sends in a thread, to its end."""
    thread = threading.Thread(target=sock.sendall, args=(data,))
    thread.start()
    yield
    thread.join()


def read_exactly(sock: socket.socket, size: int) -> bytes:
    got = bytearray()
    while len(got) < size:
        chunk = sock.recv(1 << 24)
        assert chunk, "closed"
        got += chunk
    return bytes(got)


def test_two_million_commands_and_then_their_answers(fresh: Sidecar) -> None:
    """twemproxy#539: it kept every request until its answer, and ran out of memory."""
    count = 2_000_000
    with fresh.connect() as sock:
        ask(sock)
        before = fresh.peak_memory
        with sending(sock, command("PING") * count):
            pass
        assert read_exactly(sock, count * 7) == b"+PONG\r\n" * count
        assert fresh.peak_memory - before < 12 * MB


def test_fifty_thousand_jobs_and_then_their_answers(fresh: Sidecar, direct: redis.Redis) -> None:
    count = 50_000
    with fresh.connect() as sock:
        with sending(sock, b"".join(command("RPUSH", "jobs:a", b'{"id":%d}' % number) for number in range(count))):
            pass
        answer = b"".join(b":%d\r\n" % number for number in range(1, count + 1))
        assert read_exactly(sock, len(answer)) == answer
        ask(sock, command("RPUSH", "jobs:a", b'{"id":%d}' % count))
    jobs: list[bytes] = direct.lrange("jobs:a", 0, -1)  # type: ignore[assignment]
    assert all(job.startswith(b'{"id":%d,"traceparent":' % number) for number, job in enumerate(jobs))
    assert len(jobs) == count + 1


def test_more_commands_without_an_answer_than_are_kept_in_mind(start_scripted: StartScripted) -> None:
    """Beyond 100,000 that are awaited redspan gives up following, and passes everything."""
    scripted, count = start_scripted(), 100_500
    with scripted.connection() as (client, upstream):
        pops = command("LPOP", "jobs:a") * count
        with sending(client, pops):
            assert read_exactly(upstream, len(pops)) == pops
        with sending(upstream, b"$-1\r\n" * count):
            assert read_exactly(client, 5 * count) == b"$-1\r\n" * count
    scripted.blind("overflow")


def test_large_replies_leave_nothing_behind(fresh: Sidecar, direct: redis.Redis) -> None:
    """envoy#36764: replies of 6 MB, one after another, filled the proxy's memory."""
    direct.set("large", b"x" * 6 * MB)
    direct.rpush("jobs:large", *[b"x" * 6 * MB] * 20)
    with fresh.connect() as first, fresh.connect() as second:
        ask(first, command("GET", "large"), command("LPOP", "jobs:large"))
        before = fresh.peak_memory
        for _ in range(18):
            for sock in (first, second):
                assert len(ask(sock, command("GET", "large"))) > 6 * MB
            assert len(ask(first, command("LPOP", "jobs:large"))) > 6 * MB
        assert fresh.peak_memory - before < 12 * MB


@pytest.mark.parametrize(
    "steps",
    [
        [command("MSET", "a"), command("MSET", "a", "1", "b"), command("MSET"), command("MGET")],  # twemproxy#332
        [command("MSET", *(f"{name}:{number}" for number in range(50_000) for name in ("key", "value"))),
         command("MGET", *(f"key:{number}" for number in range(0, 50_000, 7)))],
        [command("DEL", *map(str, range(150_000)))],  # more arguments than are looked at
        [command("RPUSH", "jobs:a", *["[]"] * 150_000), command("LLEN", "jobs:a")],
    ],
    ids=["odd", "pairs", "arguments", "jobs"],
)  # fmt: skip
def test_arguments_beyond_number(steps: list[bytes], corner: Corner) -> None:
    corner.same(*steps)


def test_large_binary_values_of_many_keys(corner: Corner) -> None:
    """As twemproxy's test_mget_large_binary.py: no byte of a value looks like the protocol to anybody."""
    source = random.Random(1)
    values = [
        source.choice([b"\r\n", b"$-1\r\n", b"*3\r\n", b"\0", b""]) + source.randbytes(70_000) for _ in range(100)
    ]
    pairs = [word for number, value in enumerate(values) for word in (f"key:{number}", value)]
    answer = corner.same(command("MSET", *pairs), command("MGET", *pairs[::2]))
    assert answer == b"+OK\r\n*100\r\n" + b"".join(map(bulk, values))


def test_pipelines_whose_chunks_end_anywhere(corner: Corner) -> None:
    """redis-cluster-proxy#21, #88: a '$' was not found, a length not understood, where a read had ended."""
    source = random.Random(2)
    steps = []
    for number in range(2000):
        field = source.choice([b"", b"x", b"session_js_exe_status"])
        value = source.choice([b"", b"executed once", b"7" * source.randrange(20_000)])
        steps.append(
            source.choice(
                [
                    command("HSET", f"key:{number % 7}", field, value),
                    command("XADD", f"stream:{number % 7}", "MAXLEN", "~", "1000", f"{number + 1}-1", field, value),
                    command("RPUSH", f"list:{number % 7}", value, field),
                    command("HGET", f"key:{number % 7}", field),
                ]
            )
        )
    corner.same(*steps)


@pytest.mark.parametrize("end", [b"\r\n", b"\n"], ids=["RESP", "lines"])
def test_mass_insertion_by_redis_cli(end: bytes, corner: Corner, direct: redis.Redis) -> None:
    """twemproxy#261, #296, envoy#41201: it hung, or the proxy took all memory. An ECHO of random bytes is its end."""
    cli = shutil.which("redis-cli") or str(Path(executable()).with_name("redis-cli"))
    count = 30_000
    if end == b"\n":
        data = b"".join(b"RPUSH jobs:a '{\"id\":%d}'\n" % number for number in range(count))
    else:
        data = b"".join(command("RPUSH", "jobs:a", b'{"id":%d}' % number) for number in range(count))
    piped = [cli, "-p", str(corner.sidecar.port), "--pipe"]
    done = subprocess.run(piped, input=data, capture_output=True, timeout=60, check=True)
    assert b"errors: 0, replies: %d" % count in done.stdout
    assert direct.llen("jobs:a") == count
    assert (b"traceparent" in direct.lindex("jobs:a", -1)) == (end == b"\r\n")  # type: ignore[operator]
    with corner.sidecar.connect() as sock:
        assert ask(sock, command("RPUSH", "jobs:b", JOB)) == b":1\r\n"
