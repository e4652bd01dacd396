"""What clients see of the relay: real sockets, a real Redis, redspan as a process of its own."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from tests.conftest import StartSidecar
from tests.redis import PATIENCE, RedisServer
from tests.sidecar import Sidecar, resident_memory
from tests.wire.sockets import NO_LINGER, blocked, closed_by_peer, read_all, read_to_reset, unacknowledged, wait_for


@pytest.fixture
def fake() -> Iterator[socket.socket]:
    """A listening socket in the place of Redis."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(PATIENCE)
        yield listening


class TestTraffic:
    @pytest.mark.parametrize("protocol", [2, 3])
    def test_pipeline_of_ten_thousand(self, sidecar: Sidecar, protocol: int) -> None:
        with redis.Redis.from_url(sidecar.url, protocol=protocol) as client:
            pipeline = client.pipeline(transaction=False)
            for number in range(5000):
                pipeline.set(f"key:{number}", f"value {number}")
                pipeline.get(f"key:{number}")
            answers = pipeline.execute()
        assert answers[::2] == [True] * 5000
        assert answers[1::2] == [b"value %d" % number for number in range(5000)]

    def test_values_of_all_sizes(self, client: redis.Redis, direct: redis.Redis) -> None:
        for size in (0, 1, 16 * 1024, 70_000, 1 << 20, 5_000_000):
            value = os.urandom(size)
            client.set("value", value)
            assert client.get("value") == value == direct.get("value")

    def test_one_byte_at_a_time(self, sidecar: Sidecar) -> None:
        with sidecar.connect() as sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for byte in b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$5\r\nhello\r\n*2\r\n$3\r\nGET\r\n$1\r\nk\r\n":
                sock.sendall(bytes([byte]))
            answer = b""
            while len(answer) < len(b"+OK\r\n$5\r\nhello\r\n"):
                answer += sock.recv(64)
        assert answer == b"+OK\r\n$5\r\nhello\r\n"

    def test_transactions_scripts_and_databases(self, client: redis.Redis) -> None:
        with client.pipeline() as transaction:
            transaction.watch("counter")  # type: ignore[no-untyped-call]
            transaction.multi()
            transaction.incr("counter")
            transaction.rpush("items", "a", "b")
            assert transaction.execute() == [1, 2]
        assert client.eval("return {KEYS[1], ARGV[1]}", 1, "k", "v") == [b"k", b"v"]
        script = client.register_script("return redis.call('INCRBY', KEYS[1], ARGV[1])")
        assert script(keys=["counter"], args=[41]) == 42

    def test_publish_and_subscribe(self, sidecar: Sidecar, client: redis.Redis) -> None:
        with redis.Redis.from_url(sidecar.url) as other, other.pubsub() as subscriber:
            subscriber.subscribe("news")
            assert subscriber.get_message(timeout=PATIENCE)["type"] == "subscribe"
            assert client.publish("news", "hello") == 1
            assert subscriber.get_message(timeout=PATIENCE)["data"] == b"hello"

    def test_monitor_turns_blind_and_goes_on(self, sidecar: Sidecar, direct: redis.Redis) -> None:
        with sidecar.connect() as sock:
            sock.sendall(b"MONITOR\r\n")
            seen = sock.recv(5)
            for number in range(100):
                direct.set("watched", f"value-{number}")
            while b"value-99" not in seen:
                seen += sock.recv(65536)
            sock.sendall(b"QUIT\r\n")
            sock.shutdown(socket.SHUT_WR)
            read_all(sock)
        assert seen.startswith(b"+OK\r\n")
        wait_for(lambda: sidecar.metric("redspan_blind_total", reason="monitor") == 1, "not counted")

    def test_each_client_has_a_connection_of_its_own(self, sidecar: Sidecar, direct: redis.Redis) -> None:
        clients = [redis.Redis.from_url(sidecar.url, client_name=f"number-{number}") for number in range(20)]
        try:
            assert len({client.client_id() for client in clients}) == 20
            names = {one["name"] for one in direct.client_list()}
            assert {f"number-{number}" for number in range(20)} <= names
        finally:
            for client in clients:
                client.close()
        wait_for(lambda: len(direct.client_list()) == 1, "connections to Redis were left open")
        wait_for(lambda: sidecar.metric("redspan_connections") == 0, "connections were left open")


class TestEnds:
    def test_half_close(self, sidecar: Sidecar) -> None:
        """``echo PING | nc``: what was asked before the end of the stream is answered after it."""
        with sidecar.connect() as sock:
            sock.sendall(b"PING\r\n" * 1000)
            sock.shutdown(socket.SHUT_WR)
            assert read_all(sock) == b"+PONG\r\n" * 1000

    def test_half_close_in_the_midst_of_a_job(self, start_sidecar: StartSidecar) -> None:
        """What is held of an enqueue goes out as it came."""
        sidecar = start_sidecar({"frameworks": {"list": {"queues": ["jobs"]}}})
        with sidecar.connect() as sock:
            sock.sendall(b'PING\r\n*3\r\n$5\r\nLPUSH\r\n$4\r\njobs\r\n$20\r\n{"id":')
            time.sleep(0.05)
            sock.shutdown(socket.SHUT_WR)
            assert read_all(sock) == b"+PONG\r\n"

    def test_quit(self, sidecar: Sidecar) -> None:
        with sidecar.connect() as sock:
            sock.sendall(b"QUIT\r\n")
            assert read_all(sock) == b"+OK\r\n"

    def test_killed_by_redis(self, sidecar: Sidecar, direct: redis.Redis) -> None:
        with sidecar.connect() as sock:
            sock.sendall(b"CLIENT ID\r\n")
            number = int(sock.recv(64)[1:])
            direct.client_kill_filter(_id=str(number))
            assert closed_by_peer(sock)

    def test_protocol_error_is_delivered(self, sidecar: Sidecar) -> None:
        """Redis answers, closes, and refuses what follows with a reset: the answer arrives all the same."""
        with sidecar.connect() as sock:
            with contextlib.suppress(OSError):
                for _ in range(200):
                    sock.sendall(b"*3\r\n$-5\r\nxxxxx" * 500)
            answer, _ = read_to_reset(sock)
        assert answer.startswith(b"-ERR Protocol error")

    @pytest.mark.parametrize("how", ["fin", "rst"])
    def test_client_that_leaves_while_blocked(self, sidecar: Sidecar, direct: redis.Redis, how: str) -> None:
        """Redis must not go on to deliver a job to nobody."""
        with sidecar.connect() as sock:
            sock.sendall(b"*3\r\n$5\r\nBRPOP\r\n$4\r\njobs\r\n$1\r\n0\r\n")
            wait_for(lambda: blocked(direct) == 1, "not blocked")
            if how == "rst":
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
        wait_for(lambda: blocked(direct) == 0, "still there")
        direct.lpush("jobs", "kept")
        assert direct.lrange("jobs", 0, -1) == [b"kept"]

    def test_bytes_before_a_reset_arrive_before_it(self, start_sidecar: StartSidecar, fake: socket.socket) -> None:
        sidecar = start_sidecar({"listeners": [{"upstream": f"redis://127.0.0.1:{fake.getsockname()[1]}"}]})
        with sidecar.connect() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
            for number in range(500):
                sock.sendall(b"RPUSH sent %d\r\n" % number)
            # Closing without lingering throws away what has not left this end yet.
            wait_for(lambda: unacknowledged(sock) == 0, "not sent")
        upstream, _ = fake.accept()
        with upstream:
            got, reset = read_to_reset(upstream)
        assert reset
        assert got == b"".join(b"RPUSH sent %d\r\n" % number for number in range(500))

    def test_reset_of_redis_is_passed_on(self, start_sidecar: StartSidecar, fake: socket.socket) -> None:
        sidecar = start_sidecar({"listeners": [{"upstream": f"redis://127.0.0.1:{fake.getsockname()[1]}"}]})
        with sidecar.connect() as sock:
            sock.sendall(b"PING\r\n")
            upstream, _ = fake.accept()
            with upstream:
                upstream.recv(64)
                upstream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
            with pytest.raises(ConnectionResetError):
                sock.recv(64)

    def test_half_close_of_redis_is_passed_on(self, start_sidecar: StartSidecar, fake: socket.socket) -> None:
        sidecar = start_sidecar({"listeners": [{"upstream": f"redis://127.0.0.1:{fake.getsockname()[1]}"}]})
        with sidecar.connect() as sock:
            upstream, _ = fake.accept()
            with upstream:
                upstream.settimeout(PATIENCE)
                upstream.sendall(b"+bye\r\n")
                upstream.shutdown(socket.SHUT_WR)
                assert read_all(sock) == b"+bye\r\n"
                sock.sendall(b"PING\r\n")
                assert upstream.recv(64) == b"PING\r\n"
                sock.shutdown(socket.SHUT_WR)
                assert upstream.recv(64) == b""

    def test_bytes_and_end_before_the_upstream_is_connected(self, start_sidecar: StartSidecar) -> None:
        """A listen queue that is full makes connecting slow; nothing that comes meanwhile is lost."""
        with socket.socket() as fake:
            fake.bind(("127.0.0.1", 0))
            fake.listen(0)
            fake.settimeout(PATIENCE)
            place = fake.getsockname()
            with socket.create_connection(place):
                sidecar = start_sidecar({"listeners": [{"upstream": f"redis://127.0.0.1:{place[1]}"}]})
                with sidecar.connect() as sock:
                    sock.sendall(b"PING\r\n" * 20_000)
                    sock.shutdown(socket.SHUT_WR)
                    time.sleep(0.2)
                    fake.accept()[0].close()
                    upstream, _ = fake.accept()
                    with upstream:
                        upstream.settimeout(PATIENCE)
                        assert read_all(upstream) == b"PING\r\n" * 20_000


class TestBackPressure:
    def test_slow_reader(self, sidecar: Sidecar, direct: redis.Redis) -> None:
        """A client that asks for much and reads nothing costs no memory."""
        direct.set("big", b"x" * 1_000_000)
        before = resident_memory(sidecar.pid)
        with sidecar.connect() as sock:
            sock.sendall(b"GET big\r\n" * 200)
            time.sleep(1.0)
            grown = resident_memory(sidecar.pid) - before
            with redis.Redis.from_url(sidecar.url) as other:
                assert other.ping()
            left = 200 * (1_000_000 + len(b"$1000000\r\n\r\n"))
            while left:
                chunk = sock.recv(1 << 20)
                assert chunk
                left -= len(chunk)
        assert grown < 20_000_000

    def test_redis_that_does_not_read(self, tmp_path: Path, start_sidecar: StartSidecar) -> None:
        with RedisServer(tmp_path) as server:
            sidecar = start_sidecar({"listeners": [{"upstream": server.url}]})
            before = resident_memory(sidecar.pid)
            with sidecar.connect() as sock:
                sock.sendall(b"PING\r\n")
                assert sock.recv(64) == b"+PONG\r\n"
                server.stop()
                sock.setblocking(False)
                sent = 0
                command = b"SET k " + b"x" * 10_000 + b"\r\n"
                quiet = time.monotonic() + 1.0
                while time.monotonic() < quiet and sent < 400_000_000:
                    if select.select([], [sock], [], 0.05)[1]:
                        sent += sock.send(command * 100)
                        quiet = time.monotonic() + 1.0
                assert sent < 400_000_000, "it swallows everything"
                assert resident_memory(sidecar.pid) - before < 20_000_000
                server.cont()


def test_many_clients_at_once(sidecar: Sidecar, direct: redis.Redis) -> None:
    """Each counts to a hundred; none is mixed up with another."""
    failures: list[str] = []

    def count(name: str) -> None:
        with redis.Redis.from_url(sidecar.url) as client:
            counted = [client.incr(name) for _ in range(100)]
            if counted != list(range(1, 101)):
                failures.append(name)

    threads = [threading.Thread(target=count, args=(f"counter:{number}",)) for number in range(30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert direct.dbsize() == 30
