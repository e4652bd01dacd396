"""What Redis says without being asked: messages, confirmations, invalidations. None of it answers a command."""

from __future__ import annotations

import contextlib

import hiredis
import pytest
import redis

from tests.redis import RedisServer
from tests.sidecar import resident_memory
from tests.wire.conftest import StartCorner, StartScripted
from tests.wire.corners import JOB, Corner, ask, bulk, command, read_until

PING = command("PING")
ID = r"\bid\r\n:\d+"


@pytest.mark.parametrize("protocol", ["2", "3"])
@pytest.mark.parametrize(
    "words",
    [
        # envoy#4424, twemproxy#519: one answer for each request was all that they knew.
        ["SUBSCRIBE a b", "PSUBSCRIBE c* d*", "PING", "UNSUBSCRIBE", "PUNSUBSCRIBE c*", "PING x", "PUNSUBSCRIBE"],
        ["SUBSCRIBE a a", "SUBSCRIBE a", "UNSUBSCRIBE a a", "UNSUBSCRIBE"],
        ["UNSUBSCRIBE", "PUNSUBSCRIBE", "SUNSUBSCRIBE", "UNSUBSCRIBE a b", "PUNSUBSCRIBE a b"],
        ["SSUBSCRIBE a b", "SUBSCRIBE a", "UNSUBSCRIBE", "SUNSUBSCRIBE b", "SUNSUBSCRIBE"],
        # sidekiq#3886: a subscriber of RESP2 may do nothing else. One of RESP3 may.
        ["SUBSCRIBE a", "LLEN jobs:a", "MULTI", "EXEC", "UNSUBSCRIBE"],
        ["SUBSCRIBE", "UNSUBSCRIBE a", "SUBSCRIBE a", "PUBLISH a x", "UNSUBSCRIBE a"],
    ],
)
def test_confirmations_are_counted(protocol: str, words: list[str], corner: Corner) -> None:
    corner.same(command("HELLO", protocol), *(command(*line.split()) for line in words), differs=ID)


@pytest.mark.parametrize("protocol", ["2", "3"])
def test_thousands_of_channels_in_one_command(protocol: str, corner: Corner) -> None:
    names = [f"channel-{number}" for number in range(3000)]
    corner.same(command("HELLO", protocol), command("SUBSCRIBE", *names), command("UNSUBSCRIBE"), differs=ID)


@pytest.mark.parametrize("size", [0, 100, 70_000, 3_000_000])
@pytest.mark.parametrize("protocol", ["2", "3"])
def test_messages_of_any_size(protocol: str, size: int, corner: Corner, direct: redis.Redis) -> None:
    """Also of more than relay.max_inspect_bytes."""
    message = b"x" * size
    with corner.sidecar.connect() as sock:
        ask(sock, command("HELLO", protocol))
        sock.sendall(command("SUBSCRIBE", "news"))
        read_until(sock, b"news\r\n:1\r\n")
        for _ in range(3):
            assert direct.publish("news", message) == 1
            assert read_until(sock, bulk(message)).endswith(b"3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n" + bulk(message))
        sock.sendall(command("UNSUBSCRIBE"))
        read_until(sock, b"news\r\n:0\r\n")
        corner.follows(sock)


def test_a_subscription_that_is_not_allowed(start_corner: StartCorner) -> None:
    with RedisServer() as server:
        corner = start_corner(server)
        with server.connect() as sock:
            ask(sock, b"ACL SETUSER limited on nopass ~* resetchannels &ours:* +@all\r\n")
        for protocol in ("2", "3"):
            with corner.sidecar.connect() as sock:
                ask(sock, command("HELLO", protocol, "AUTH", "limited", "any"))
                answer = ask(sock, command("SUBSCRIBE", "ours:a", "theirs:a"))
                assert answer.startswith(b"-NOPERM ")
                assert answer.count(b"\r\n") == 1
                corner.follows(sock)


class TestTracking:
    def test_invalidations_in_the_midst_of_a_pipeline(self, corner: Corner) -> None:
        """redis#8935: a push must not be taken for an answer, nor for the part of one."""
        steps = [command("GET", f"key-{number}") + command("SET", f"key-{number}", "x") for number in range(500)]
        with corner.sidecar.connect() as sock:
            ask(sock, command("HELLO", "3"))
            reader = hiredis.Reader()
            reader.feed(ask(sock, command("CLIENT", "TRACKING", "ON"), *steps, command("CLIENT", "TRACKING", "OFF")))
            answers: list[object] = []
            while (answer := reader.gets()) is not False:
                answers.append(answer)
            pushes = [answer for answer in answers if isinstance(answer, hiredis.PushNotification)]
            assert sum(len(push[1]) for push in pushes) == 500
            assert [answer for answer in answers if answer not in pushes] == [b"OK", *[None, b"OK"] * 500, b"OK"]
            corner.follows(sock)

    @pytest.mark.parametrize("words", [["SET a 2"], ["FLUSHALL"], ["SET a 2", "GET a", "SET a 3", "FLUSHDB"]])
    def test_invalidations_by_a_transaction(self, words: list[str], corner: Corner) -> None:
        """redis#11038, mended in 7.0.5: they stood within the answer to EXEC."""
        steps = [command(*line.split()) for line in words]
        corner.same(
            command("HELLO", "3"),
            command("CLIENT", "TRACKING", "ON"),
            command("GET", "a"),
            command("MULTI"),
            *steps,
            command("EXEC"),
            command("CLIENT", "TRACKING", "OFF"),
            differs=ID,
        )

    def test_invalidations_sent_to_another_connection(self, corner: Corner) -> None:
        """In RESP2 they are messages, whose payload is an array, or nothing at all."""
        with corner.sidecar.connect() as other, corner.sidecar.connect() as sock:
            number = ask(other, command("CLIENT", "ID"))[1:-2]
            other.sendall(command("SUBSCRIBE", "__redis__:invalidate"))
            read_until(other, b":1\r\n")
            ask(sock, command("CLIENT", "TRACKING", "ON", "REDIRECT", number))
            ask(sock, command("GET", "a"), command("SET", "a", "1"))
            assert read_until(other, b"*1\r\n" + bulk(b"a")).startswith(b"*3\r\n$7\r\nmessage\r\n")
            ask(sock, command("FLUSHALL"))
            assert read_until(other, b"-1\r\n").startswith(b"*3\r\n$7\r\nmessage\r\n")
            other.sendall(command("UNSUBSCRIBE"))
            read_until(other, b":0\r\n")
            corner.follows(other)
            corner.follows(sock)

    def test_an_invalidation_before_the_confirmation(self, start_scripted: StartScripted) -> None:
        """redis#13645: a redirected one comes in before the answer to SUBSCRIBE."""
        scripted = start_scripted()
        invalidation = b">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\na\r\n"
        confirmation = b">3\r\n$9\r\nsubscribe\r\n$20\r\n__redis__:invalidate\r\n:1\r\n"
        with scripted.connection() as (client, upstream):
            scripted.exchange(client, upstream, command("HELLO", "3"), b"%1\r\n$5\r\nproto\r\n:3\r\n")
            request = command("SUBSCRIBE", "__redis__:invalidate")
            scripted.exchange(client, upstream, request, invalidation + confirmation + invalidation)
            for number in (b":1\r\n", b":2\r\n"):
                sent = scripted.exchange(client, upstream, command("RPUSH", "jobs:a", JOB), invalidation + number)
                assert b"traceparent" in sent


def test_a_subscriber_that_does_not_read_is_closed_by_redis(start_corner: StartCorner) -> None:
    """envoy#46354: what is not read must neither fill the proxy, nor keep Redis from its own limit."""
    with RedisServer() as server, redis.Redis.from_url(server.url) as direct:
        direct.config_set("client-output-buffer-limit", "pubsub 4mb 0 0")
        corner = start_corner(server)
        before = resident_memory(corner.sidecar.pid)
        with corner.sidecar.connect() as sock:
            sock.sendall(command("SUBSCRIBE", "news"))
            read_until(sock, b":1\r\n")
            sent = 0
            while direct.publish("news", b"x" * 500_000):
                sent += 1
                assert sent < 200, "Redis keeps it"
            assert resident_memory(corner.sidecar.pid) - before < 12_000_000
            left = sent * 500_000
            with contextlib.suppress(ConnectionResetError):
                while chunk := sock.recv(1 << 20):
                    left -= len(chunk)
            assert left > 0
