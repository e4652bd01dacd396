"""Connections that Redis ends, for reasons of its own: the client is told as if nothing stood between, and wholly."""

from __future__ import annotations

import contextlib
import socket
from functools import partial

import redis

from tests.redis import RedisServer
from tests.wire.conftest import StartCorner
from tests.wire.corners import JOB, Corner, ask, bulk, command
from tests.wire.sockets import closed_by_peer, read_all, wait_for


def test_too_many_clients_for_redis(start_corner: StartCorner) -> None:
    """Each client of redspan is one of Redis, which may count fewer: it says so before it is asked anything."""
    with RedisServer(maxclients="3") as server:
        corner = start_corner(server)
        with corner.sidecar.connect() as first, corner.sidecar.connect() as second, corner.sidecar.connect() as third:
            for sock in (first, second, third):
                ask(sock)
            for connect in (server.connect, corner.sidecar.connect):
                with connect() as fourth:
                    assert read_all(fourth) == b"-ERR max number of clients reached\r\n"
            assert b"traceparent" in ask(first, command("RPUSH", "jobs:a", JOB), command("LPOP", "jobs:a"))


def test_idle_for_longer_than_redis_likes(start_corner: StartCorner) -> None:
    with RedisServer(timeout="1") as server:
        corner = start_corner(server)
        with corner.sidecar.connect() as sock:
            ask(sock, command("RPUSH", "jobs:a", JOB))
            assert closed_by_peer(sock)
        wait_for(lambda: corner.sidecar.metric("redspan_connections") == 0, "left open")


def test_the_last_replies_are_whole(corner: Corner, direct: redis.Redis) -> None:
    """envoy#6392, #6616: what had not been written yet when the connection was to be closed was lost."""
    value = b"x" * 1_000_000
    direct.set("large", value)
    with corner.sidecar.connect() as sock:
        sock.sendall(command("GET", "large") * 30 + command("QUIT"))
        # Until it has answered, nothing is read: it has to wait somewhere.
        wait_for(lambda: direct.info("stats")["total_commands_processed"] > 30, "not answered")
        assert read_all(sock) == bulk(value) * 30 + b"+OK\r\n"


def test_a_client_that_asks_and_does_not_read(start_corner: StartCorner) -> None:
    """Redis' own limit for replies that wait ends it: redspan takes no more of them than its sockets hold."""
    with RedisServer() as server, redis.Redis.from_url(server.url) as client:
        client.config_set("client-output-buffer-limit", "normal 4mb 0 0")
        corner = start_corner(server)
        client.set("large", b"x" * 1_000_000)
        with corner.sidecar.connect() as sock:
            ask(sock)
            before = corner.sidecar.peak_memory
            asked = 0
            while len(client.client_list()) > 1:
                assert asked < 600, "Redis keeps it"
                with contextlib.suppress(OSError):
                    sock.sendall(command("GET", "large"))
                asked += 1
                wait_for(partial(_answered, client, asked), "not read")
            got = 0
            with contextlib.suppress(ConnectionResetError):
                while chunk := sock.recv(1 << 20):
                    got += len(chunk)
            assert 0 < got < asked * 1_000_000
            assert corner.sidecar.peak_memory - before < 8_000_000


def test_redis_is_shut_down_by_a_client(start_corner: StartCorner) -> None:
    """SHUTDOWN has no answer; who waits for a job is disconnected, too."""
    with RedisServer() as server:
        corner = start_corner(server)
        with corner.sidecar.connect() as waiting, corner.sidecar.connect() as sock:
            waiting.sendall(command("BLPOP", "jobs:a", "0"))
            ask(sock)
            sock.sendall(command("SHUTDOWN", "NOSAVE"))
            assert closed_by_peer(sock)
            assert _end(waiting)
        wait_for(lambda: corner.sidecar.metric("redspan_connections") == 0, "left open")


def _answered(client: redis.Redis, count: int) -> bool:
    """So many GETs, or nobody is there any more to be answered."""
    calls = client.info("commandstats").get("cmdstat_get", {"calls": 0})["calls"]
    return calls == count or len(client.client_list()) == 1


def _end(sock: socket.socket) -> bool:
    """Whether it is closed, perhaps with a word about it."""
    with contextlib.suppress(ConnectionResetError):
        return all(chunk.startswith(b"-UNBLOCKED ") for chunk in iter(lambda: sock.recv(256), b""))
    return True
