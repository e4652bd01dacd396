"""Commands that Redis refuses, in each of its ways: the error arrives word for word, and no job was enqueued."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import redis

from tests.receiver import ReceivedSpan
from tests.redis import RedisServer, free_port
from tests.wire.conftest import StartCorner
from tests.wire.corners import JOB, Corner, command, read_until
from tests.wire.sockets import wait_for

PUSH = command("RPUSH", "jobs:a", JOB)

Setting = Callable[[redis.Redis, RedisServer], object]
"""Puts a Redis into a state in which it refuses."""


def line(sock: socket.socket, request: bytes) -> bytes:
    sock.sendall(request)
    return read_until(sock, b"\r\n")


def refused(corner: Corner, word: str, sock: socket.socket) -> bytes:
    """The error of a push, which is that of Redis, twice: the second one's is not taken for the first one's."""
    with corner.server.connect() as direct:
        error = line(direct, PUSH)
    for _ in range(2):
        assert line(sock, PUSH) == error
    port = corner.server.port

    def told(spans: list[ReceivedSpan]) -> list[tuple[str, str, str]]:
        ours = [span for span in spans if span.attributes["server.port"] == port]
        return [(span.name, span.status, span.attributes["error.type"]) for span in ours]

    spans = corner.receiver.wait_for(lambda spans: len(told(spans)) >= 2)
    assert told(spans) == [("queue.enqueue", "ERROR", word)] * 2
    return error


def no_disk(client: redis.Redis, server: RedisServer) -> None:
    shutil.rmtree(server.directory)
    client.bgsave()
    wait_for(lambda: client.info("persistence")["rdb_last_bgsave_status"] == "err", "it could save")
    server.directory.mkdir()


def half_a_cluster(client: redis.Redis, server: RedisServer) -> None:
    """One node that has not all the slots."""
    client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 100)
    client.config_set("cluster-require-full-coverage", "no")
    wait_for(lambda: b"state:ok" in client.execute_command("CLUSTER", "INFO"), "no cluster")


@pytest.mark.parametrize(
    ("word", "options", "setting"),
    [
        ("WRONGTYPE", {}, lambda client, _: client.set("jobs:a", "text")),
        ("OOM", {}, lambda client, _: client.config_set("maxmemory", "1")),
        ("READONLY", {}, lambda client, _: client.replicaof("127.0.0.1", "1")),
        ("MASTERDOWN", {"replica_serve_stale_data": "no", "replica_read_only": "no"},
         lambda client, _: client.replicaof("127.0.0.1", "1")),
        ("NOREPLICAS", {"min_replicas_to_write": "1"}, lambda client, _: None),
        ("MISCONF", {"save": "3600 1"}, no_disk),
        ("NOPERM", {}, lambda client, _: client.execute_command("ACL", "SETUSER", "default", "resetkeys", "~other:*")),
        ("CLUSTERDOWN", {"cluster_enabled": "yes"}, half_a_cluster),
    ],
)  # fmt: skip
def test_a_push_that_is_refused_enqueues_nothing(
    word: str, options: dict[str, str], setting: Setting, start_corner: StartCorner
) -> None:
    with RedisServer(**options) as server:
        corner = start_corner(server)
        with redis.Redis.from_url(server.url) as client:
            setting(client, server)
        with corner.sidecar.connect() as sock:
            assert refused(corner, word, sock).startswith(b"-" + word.encode() + b" ")


@contextmanager
def cluster(tmp_path: Path) -> Iterator[tuple[RedisServer, RedisServer, redis.Redis, redis.Redis]]:
    """Two nodes, of which the second has all slots, and their clients."""
    with ExitStack() as running:
        servers, clients = [], []
        # The usual port of its bus is one that the system gives to clients.
        buses = [free_port(), free_port()]
        for bus in buses:
            directory = tmp_path / f"node-{bus}"
            directory.mkdir()
            server = running.enter_context(RedisServer(directory, cluster_enabled="yes", cluster_port=str(bus)))
            servers.append(server)
            clients.append(running.enter_context(redis.Redis.from_url(server.url)))
        clients[1].execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        clients[1].execute_command("CLUSTER", "MEET", "127.0.0.1", servers[0].port, buses[0])
        for node in clients:
            wait_for(lambda node=node: "state:ok" in text(node.execute_command("CLUSTER", "INFO")), "no cluster")
        yield servers[0], servers[1], clients[0], clients[1]


def test_redirections_of_a_cluster(tmp_path: Path, start_corner: StartCorner) -> None:
    """MOVED and ASK are for the client to follow; the hint names the node and not the proxy."""
    with cluster(tmp_path) as (empty, full, other, client):
        slot = client.execute_command("CLUSTER", "KEYSLOT", "jobs:a")
        corner = start_corner(empty)
        with corner.sidecar.connect() as sock:
            assert refused(corner, "MOVED", sock) == b"-MOVED %d 127.0.0.1:%d\r\n" % (slot, full.port)
        client.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", text(other.execute_command("CLUSTER", "MYID")))
        corner = start_corner(full)
        with corner.sidecar.connect() as sock:
            assert refused(corner, "ASK", sock) == b"-ASK %d 127.0.0.1:%d\r\n" % (slot, empty.port)
            assert line(sock, command("MSET", "a", "1", "b", "2")).startswith(b"-CROSSSLOT ")
            corner.follows(sock)


def text(reply: bytes | str | dict[str, str]) -> str:
    return reply.decode() if isinstance(reply, bytes) else repr(reply)


def test_while_a_script_goes_on(start_corner: StartCorner) -> None:
    with RedisServer(busy_reply_threshold="10") as server:
        corner = start_corner(server)
        with server.connect() as busy, redis.Redis.from_url(server.url) as client:
            busy.sendall(command("EVAL", "while true do end", "0"))
            with corner.sidecar.connect() as sock:
                wait_for(lambda: line(sock, command("GET", "a")).startswith(b"-BUSY "), "not busy")
                assert refused(corner, "BUSY", sock).startswith(b"-BUSY Redis is busy running a script")
                client.script_kill()
                corner.follows(sock)


def test_while_the_data_are_loaded(start_corner: StartCorner) -> None:
    with RedisServer(enable_debug_command="yes") as server:
        corner = start_corner(server)
        with redis.Redis.from_url(server.url) as client, server.connect() as reloading:
            client.mset({f"key-{number}": "x" * 1000 for number in range(2000)})
            client.config_set("loading-process-events-interval-bytes", 1024)
            client.config_set("key-load-delay", 1000)
            reloading.sendall(command("DEBUG", "RELOAD"))
            with corner.sidecar.connect() as sock:
                wait_for(lambda: line(sock, command("LLEN", "jobs:b")).startswith(b"-LOADING "), "not loading")
                assert refused(corner, "LOADING", sock) == b"-LOADING Redis is loading the dataset in memory\r\n"
                line(reloading, b"")
                corner.follows(sock)
