"""Redis, as the relay finds it: gone, back, behind a password, a unix socket, IPv6; and clients that are too many."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
import redis

from tests.conftest import StartSidecar
from tests.redis import RedisServer
from tests.wire.sockets import closed_by_peer, read_all, wait_for


class TestRefusals:
    def test_upstream_refused(self, start_sidecar: StartSidecar) -> None:
        sidecar = start_sidecar({"listeners": [{"upstream": "redis://127.0.0.1:1"}]})
        for _ in range(20):
            with sidecar.connect() as sock:
                assert closed_by_peer(sock)
        assert sidecar.log.count("upstream_unreachable") == 1
        assert "connection refused" in sidecar.log
        assert "listeners[0].upstream" in sidecar.log
        wait_for(lambda: sidecar.metric("redspan_upstream_failures_total", reason="unreachable") == 20, "not counted")
        assert sidecar.metric("redspan_connections") == 0

    def test_redis_comes_back(self, tmp_path: Path, start_sidecar: StartSidecar) -> None:
        with RedisServer(tmp_path) as server:
            sidecar = start_sidecar({"listeners": [{"upstream": server.url}]})
            with redis.Redis.from_url(sidecar.url, retry=None) as client:
                assert client.ping()
                server.kill()
                with pytest.raises(redis.ConnectionError):
                    client.ping()
                server.start()
                assert client.ping()

    def test_max_connections(self, start_sidecar: StartSidecar) -> None:
        sidecar = start_sidecar({"relay": {"max_connections": 2}})
        with sidecar.connect() as first, sidecar.connect() as second:
            for sock in (first, second):
                sock.sendall(b"PING\r\n")
                assert sock.recv(64) == b"+PONG\r\n"
            with sidecar.connect() as third:
                assert third.recv(64) == b"-ERR max number of clients reached\r\n"
                assert third.recv(64) == b""
            assert "relay.max_connections" in sidecar.log
        wait_for(lambda: sidecar.metric("redspan_connections_refused_total") == 1, "not counted")

        def served_again() -> bool:
            with sidecar.connect() as sock:
                sock.sendall(b"PING\r\n")
                return sock.recv(64) == b"+PONG\r\n"

        wait_for(served_again, "the others have left, but it still refuses")


class TestUpstreams:
    def test_credentials(self, tmp_path: Path, start_sidecar: StartSidecar) -> None:
        """Clients that know no password use a Redis that wants one."""
        with RedisServer(tmp_path, password="p@ss/word") as server:
            upstream = f"redis://:p%40ss%2Fword@127.0.0.1:{server.port}"
            sidecar = start_sidecar({"listeners": [{"upstream": upstream}]})
            for protocol in (2, 3):
                with redis.Redis.from_url(sidecar.url, protocol=protocol) as client:
                    assert client.set("k", "v")
                    assert client.get("k") == b"v"
            with sidecar.connect() as sock:
                sock.sendall(b"GET k\r\n")
                sock.shutdown(socket.SHUT_WR)
                assert read_all(sock) == b"$1\r\nv\r\n"
            assert "word" not in sidecar.log

    def test_wrong_credentials(self, tmp_path: Path, start_sidecar: StartSidecar) -> None:
        with RedisServer(tmp_path, password="right") as server:
            upstream = f"redis://someone:wrong-secret@127.0.0.1:{server.port}"
            sidecar = start_sidecar({"listeners": [{"upstream": upstream}]})
            for _ in range(3):
                with sidecar.connect() as sock:
                    sock.sendall(b"PING\r\n")
                    assert closed_by_peer(sock)
            assert sidecar.log.count("upstream_login") == 1
            assert "WRONGPASS" in sidecar.log
            assert "secret" not in sidecar.log
            wait_for(lambda: sidecar.metric("redspan_upstream_failures_total", reason="login") == 3, "not counted")

    def test_unix_sockets_on_both_sides(self, tmp_path: Path, start_sidecar: StartSidecar) -> None:
        with RedisServer(tmp_path, unix=True) as server:
            bind = f"unix://{tmp_path}/redspan.sock"
            sidecar = start_sidecar({"listeners": [{"bind": bind, "upstream": server.url}]})
            with redis.Redis.from_url(sidecar.url) as client:
                pipeline = client.pipeline(transaction=False)
                for number in range(1000):
                    pipeline.set("k", "v" * number)
                assert all(pipeline.execute())
            with sidecar.connect() as sock:
                sock.sendall(b"PING\r\n")
                sock.shutdown(socket.SHUT_WR)
                assert read_all(sock) == b"+PONG\r\n"
            assert sidecar.stop() == 0
        assert not (tmp_path / "redspan.sock").exists()

    def test_several_listeners(self, tmp_path: Path, start_sidecar: StartSidecar, direct: redis.Redis) -> None:
        with RedisServer(tmp_path) as server:
            sidecar = start_sidecar({"listeners": [{}, {"bind": f"unix://{tmp_path}/b.sock", "upstream": server.url}]})
            with (
                redis.Redis.from_url(sidecar.url) as first,
                redis.Redis.from_url(f"unix://{tmp_path}/b.sock") as second,
            ):
                first.set("k", "first")
                second.set("k", "second")
                assert direct.get("k") == b"first" == first.get("k")

    @pytest.mark.tools
    def test_ipv6(self, start_sidecar: StartSidecar) -> None:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
            port = probe.getsockname()[1]
        sidecar = start_sidecar({"listeners": [{"bind": f"[::1]:{port}"}]})
        with redis.Redis.from_url(sidecar.url) as client:
            assert client.ping()
