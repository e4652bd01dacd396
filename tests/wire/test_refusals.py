"""Commands that Redis refuses, in each of its ways: the error arrives word for word, and no job was enqueued."""

from __future__ import annotations

import shutil
import socket
from pathlib import Path
from typing import Any

import pytest

from tests.receiver import ReceivedSpan
from tests.redis import RedisServer, debugging, free_port, version
from tests.wire.conftest import StartCorner
from tests.wire.corners import JOB, Corner, command, read_until
from tests.wire.sockets import wait_for

PUSH = command("RPUSH", "jobs:a", JOB)


def line(sock: socket.socket, request: bytes) -> bytes:
    sock.sendall(request)
    return read_until(sock, b"\r\n")


def say(server: RedisServer, words: str) -> str:
    """What a Redis answers on a line of its own, or first."""
    with server.connect() as sock:
        sock.sendall(words.encode() + b"\r\n")
        return sock.recv(4096).decode().strip()


def refused(corner: Corner, word: str, sock: socket.socket) -> bytes:
    """The error of a push, which is that of Redis, twice: the second one's is not taken for the first one's."""
    with corner.server.connect() as direct:
        error = line(direct, PUSH)
    assert error.startswith(b"-" + word.encode() + b" ")
    for _ in range(2):
        assert line(sock, PUSH) == error
    port = corner.server.port

    def told(spans: list[ReceivedSpan]) -> list[tuple[str, str, str]]:
        ours = [span for span in spans if span.attributes["server.port"] == port]
        return [(span.name, span.status, span.attributes["error.type"]) for span in ours]

    spans = corner.receiver.wait_for(lambda spans: len(told(spans)) >= 2)
    assert told(spans) == [("queue.enqueue", "ERROR", word)] * 2
    return error


@pytest.mark.parametrize(
    ("word", "options", "setting"),
    [
        ("WRONGTYPE", {}, "SET jobs:a text"),
        ("OOM", {}, "CONFIG SET maxmemory 1"),
        ("READONLY", {}, "REPLICAOF 127.0.0.1 1"),
        ("MASTERDOWN", {"replica_serve_stale_data": "no", "replica_read_only": "no"}, "REPLICAOF 127.0.0.1 1"),
        ("NOREPLICAS", {"min_replicas_to_write": "1"}, "PING"),
        ("NOPERM", {}, "ACL SETUSER default resetkeys ~other:*"),
    ],
)
def test_a_push_that_is_refused_enqueues_nothing(
    word: str, options: dict[str, Any], setting: str, start_corner: StartCorner
) -> None:
    with RedisServer(**options) as server:
        corner = start_corner(server)
        assert say(server, setting) in ("+OK", "+PONG")
        with corner.sidecar.connect() as sock:
            refused(corner, word, sock)


def test_when_nothing_can_be_saved(tmp_path: Path, start_corner: StartCorner) -> None:
    directory = tmp_path / "gone"
    directory.mkdir()
    with RedisServer(directory) as server:
        corner = start_corner(server)
        assert say(server, 'CONFIG SET save "3600 1"') == "+OK"
        shutil.rmtree(directory)
        assert say(server, "BGSAVE") == "+Background saving started"
        wait_for(lambda: "rdb_last_bgsave_status:err" in say(server, "INFO persistence"), "it could save")
        with corner.sidecar.connect() as sock:
            refused(corner, "MISCONF", sock)


def test_while_a_script_goes_on(start_corner: StartCorner) -> None:
    with RedisServer(lua_time_limit="10") as server:
        corner = start_corner(server)
        with server.connect() as busy, corner.sidecar.connect() as sock:
            busy.sendall(command("EVAL", "while true do end", "0"))
            wait_for(lambda: line(sock, command("SET", "a", "")).startswith(b"-BUSY "), "not busy")
            refused(corner, "BUSY", sock)
            assert say(server, "SCRIPT KILL") == "+OK"
            assert line(busy, b"").startswith(b"-ERR ")
            corner.follows(sock)


def test_while_the_data_are_loaded(start_corner: StartCorner) -> None:
    with RedisServer(**debugging()) as server:
        corner = start_corner(server)
        with server.connect() as reloading, corner.sidecar.connect() as sock:
            # It looks at its clients every 2 MB that it loads.
            assert say(server, "CONFIG SET rdbcompression no") == "+OK"
            assert say(server, "DEBUG POPULATE 15000 key 1000") == "+OK"
            assert say(server, "CONFIG SET key-load-delay 150") == "+OK"
            reloading.sendall(command("DEBUG", "RELOAD"))
            wait_for(lambda: line(sock, command("SET", "a", "")).startswith(b"-LOADING "), "not loading")
            refused(corner, "LOADING", sock)
            assert line(reloading, b"") == b"+OK\r\n"
            corner.follows(sock)


def node(directory: Path) -> RedisServer:
    directory.mkdir()
    # The usual port of its bus may be in use: it is one that the system gives to clients.
    options: dict[str, Any] = {"cluster_port": str(free_port())} if version() >= (7,) else {}
    return RedisServer(directory, cluster_enabled="yes", **options)


def bus(server: RedisServer) -> str:
    return say(server, "CLUSTER NODES").partition("@")[2].split()[0]


def test_what_a_cluster_says(tmp_path: Path, start_corner: StartCorner) -> None:
    """MOVED and ASK are for the client to follow; the hint names a node and not the proxy."""
    with node(tmp_path / "one") as one, node(tmp_path / "two") as two:
        corner, other = start_corner(one), start_corner(two)
        with corner.sidecar.connect() as sock, other.sidecar.connect() as elsewhere:
            assert line(sock, PUSH) == b"-CLUSTERDOWN Hash slot not served\r\n"
            assert line(sock, command("CLUSTER", "ADDSLOTS", *map(str, range(16384)))) == b"+OK\r\n"
            assert say(one, f"CLUSTER MEET 127.0.0.1 {two.port} {bus(two)}") == "+OK"
            wait_for(lambda: all("state:ok" in say(node, "CLUSTER INFO") for node in (one, two)), "no cluster")
            slot = int(say(one, "CLUSTER KEYSLOT jobs:a")[1:])
            assert refused(other, "MOVED", elsewhere) == b"-MOVED %d 127.0.0.1:%d\r\n" % (slot, one.port)
            name = say(two, "CLUSTER MYID").split()[1]
            assert say(one, f"CLUSTER SETSLOT {slot} MIGRATING {name}") == "+OK"
            assert line(sock, PUSH) == b"-ASK %d 127.0.0.1:%d\r\n" % (slot, two.port)
            assert line(sock, command("MSET", "a", "1", "b", "2")).startswith(b"-CROSSSLOT ")
            corner.follows(sock)
