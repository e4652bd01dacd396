"""Bytes that are no command: Redis' own refusal arrives, and nothing of them is kept, allocated or executed."""

from __future__ import annotations

import socket
from contextlib import ExitStack

import pytest
import redis

from tests.redis import RedisServer
from tests.sidecar import resident_memory
from tests.wire.conftest import StartCorner
from tests.wire.corners import JOB, Corner, ask, command
from tests.wire.sockets import NO_LINGER, wait_for


@pytest.mark.parametrize(
    ("garbage", "refusal"),
    [
        (b"*x\r\n", b"invalid multibulk length"),  # these as in protocol.tcl, and in Envoy's codec_impl_test.cc
        (b"*3000000000\r\n", b"invalid multibulk length"),
        (b"*01\r\n", b"invalid multibulk length"),
        (b"*-0\r\n", b"invalid multibulk length"),
        (b"*" + b"1" * 70_000, b"too big mbulk count string"),
        (b"*3\r\nSET\r\n", b"expected '$', got 'S'"),
        (b"*1\r\n:4\r\n", b"expected '$', got ':'"),
        (b"*3\r\n$3\r\nSET\r\n$1\r\nx\r\n$x\r\n", b"invalid bulk length"),
        (b"*3\r\n$3\r\nSET\r\n$1\r\nx\r\n$-1\r\n", b"invalid bulk length"),
        (b"*3\r\n$3\r\nSET\r\n$1\r\nx\r\n$2000000000\r\n", b"invalid bulk length"),
        (b"*3\r\n$5\r\nRPUSH\r\n$6\r\njobs:a\r\n$2000000000\r\n", b"invalid bulk length"),
        (b"*1\r\n$" + b"1" * 70_000, b"too big bulk count string"),
        (b"*3\n$3\nSET\n$1\na\n$1\n1\n\r\n", b"invalid multibulk length"),  # envoy#41201: lines that end as on Unix
        (b"\0" + b"x" * 70_000, b"too big inline request"),  # protocol.tcl: desync regression tests
        (b"*\0" + b"x" * 70_000, b"too big mbulk count string"),
        (b"*1\r\n$\0" + b"x" * 70_000, b"too big bulk count string"),
    ],
    ids=lambda value: str(value[:24]),
)
def test_the_refusal_of_redis_arrives(garbage: bytes, refusal: bytes, corner: Corner) -> None:
    answer = corner.same_end(command("PING"), garbage)
    assert answer == b"+PONG\r\n-ERR Protocol error: " + refusal + b"\r\n"


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_browser_that_is_made_to_speak_to_redis(method: str, corner: Corner) -> None:
    """Redis hangs up on a line that begins with POST or Host:, whatever follows it."""
    page = f"{method} / HTTP/1.1\r\nHost: redis:6379\r\n\r\nRPUSH jobs:a {{}}\r\n".encode()
    corner.same_end(page)
    with redis.Redis.from_url(corner.server.url) as client:
        assert client.dbsize() == 0


@pytest.mark.parametrize("end", [b"\rX", b"\r\r"])
def test_what_only_redis_takes_for_a_command_is_for_redis(end: bytes, corner: Corner) -> None:
    """Redis looks at no byte behind a CR. redspan does, and no longer follows."""
    corner.same(b"*1" + end + b"$4" + end + b"PINGXX", followed=False)


def test_headers_of_clients_allocate_nothing(start_corner: StartCorner, redis_server: RedisServer) -> None:
    """Cure53's audit of Envoy, EP-01-006: memory was allocated for what a client only announced."""
    corner = start_corner(redis_server)
    pid = corner.sidecar.pid
    with ExitStack() as open_sockets:
        sockets = [open_sockets.enter_context(corner.sidecar.connect()) for _ in range(40)]
        for sock in sockets:
            ask(sock)
        before = resident_memory(pid)
        for sock in sockets[::2]:
            sock.sendall(b"*3\r\n$5\r\nRPUSH\r\n$6\r\njobs:a\r\n$536870912\r\n" + b"x" * 1000)
        for sock in sockets[1::2]:
            sock.sendall(b"*1048576\r\n$536870912\r\n" + b"x" * 1000)
        with corner.sidecar.connect() as sock:
            corner.follows(sock)
        assert resident_memory(pid) - before < 8_000_000


def test_a_command_that_is_too_much_for_a_stranger(start_corner: StartCorner) -> None:
    """Who is not logged in may send ten arguments, by the header alone, of 16 KiB each."""
    with RedisServer(password="secret") as server:
        corner = start_corner(server)
        for request in (b"*11\r\n", command("GET", b"x" * 20_000), command("RPUSH", "jobs:a", b"x" * 20_000)):
            answer = corner.same_end(request)
            assert answer.startswith(b"-ERR Protocol error: unauthenticated ")


@pytest.mark.parametrize("how", ["fin", "rst"])
def test_half_a_job_is_never_another_clients(how: str, corner: Corner, direct: redis.Redis) -> None:
    """sidekiq#3887: the other half of a command was executed as one, when its connection was used again."""
    half = command("RPUSH", "jobs:a", b'{"id":1,"args":[' + b"7," * 50_000 + b"0]}")[:60_000]
    with corner.sidecar.connect() as sock:
        ask(sock)
        sock.sendall(half)
        if how == "rst":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
    wait_for(lambda: len(direct.client_list()) == 1, "the connection to Redis was left open")
    assert direct.keys() == []
    with corner.sidecar.connect() as sock:
        assert ask(sock, command("RPUSH", "jobs:a", JOB)) == b":1\r\n"
        corner.follows(sock)
