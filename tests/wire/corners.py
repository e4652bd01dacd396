r"""Corner cases: the same bytes to Redis directly and through redspan, which must follow the connection afterwards.

answer = corner.same(b"MULTI\r\n", b"EXEC\r\n")          both ways, from an empty Redis; asserts that they are equal
corner.same_end(b"*1\r\nnonsense\r\n")                   the same, where Redis is to close the connection
"""

from __future__ import annotations

import contextlib
import re
import socket
from collections.abc import Iterator
from itertools import count
from typing import Any

import redis

from proxy.resp.commands import encode
from tests.receiver import ReceivedSpan, Receiver
from tests.redis import PATIENCE, RedisServer
from tests.sidecar import Sidecar
from tests.wire.sockets import read_to_reset

QUEUES = "jobs:*"
"""What is traced in corner cases."""

LISTS = {"list": {"queues": [QUEUES], "end": "none"}}

JOB = b'{"id":1}'
_STORED = re.compile(rb'\{"id":1,"traceparent":"00-[0-9a-f]{32}-[0-9a-f]{16}-03"\}')

_numbers = count(1)


def command(*words: bytes | str) -> bytes:
    """As clients send it."""
    return encode([word.encode() if isinstance(word, str) else word for word in words])


def bulk(value: bytes) -> bytes:
    return b"$%d\r\n%s\r\n" % (len(value), value)


def read_until(sock: socket.socket, ending: bytes) -> bytes:
    """All that comes, up to ``ending``, which has to be the last of it."""
    got = bytearray()
    while not got.endswith(ending):
        chunk = sock.recv(1 << 20)
        assert chunk, f"closed after {bytes(got[-200:])!r}"
        got += chunk
    return bytes(got)


def ask(sock: socket.socket, *steps: bytes) -> bytes:
    """What is answered to ``steps``: all that comes before the answer to a last PING."""
    word = b"corner-%d" % next(_numbers)
    sock.sendall(b"".join(steps) + command("PING", word))
    return read_until(sock, bulk(word))[: -len(bulk(word))]


def settings(server: RedisServer, receiver: Receiver) -> dict[str, Any]:
    """Of a redspan in front of ``server`` that looks at the lists `QUEUES`, and sends its spans soon."""
    tracing = {"protocol": "http/protobuf", "endpoint": receiver.url, "export": {"interval": "50ms"}}
    return {"listeners": [{"upstream": server.plain_url}], "frameworks": LISTS, "tracing": tracing}


class Corner:
    """A Redis, and a redspan in front of it."""

    def __init__(self, server: RedisServer, sidecar: Sidecar, receiver: Receiver) -> None:
        self.server = server
        self.sidecar = sidecar
        self.receiver = receiver

    def clear(self) -> None:
        with redis.Redis.from_url(self.server.url) as client:
            client.flushall()

    def same(self, *steps: bytes, differs: str = "", followed: bool = True) -> bytes:
        """What Redis answers, directly; through redspan the same.

        ``differs``: a pattern of what differs from connection to connection.  ``followed``: redspan has to know
        afterwards which reply belongs to which command.
        """
        self.clear()
        with self.server.connect() as sock:
            wanted = ask(sock, *steps)
        self.clear()
        with self.sidecar.connect() as sock:
            got = ask(sock, *steps)
            pattern = differs.encode()
            if pattern:
                assert re.sub(pattern, b"", got) == re.sub(pattern, b"", wanted)
            else:
                assert got == wanted
            if followed:
                self.follows(sock)
        return got

    def same_end(self, *steps: bytes, half_close: bool = False) -> bytes:
        """The same where Redis closes the connection, or the client says that it has no more to say."""

        def converse(sock: socket.socket) -> bytes:
            with contextlib.suppress(OSError):
                for step in steps:
                    sock.sendall(step)
                if half_close:
                    sock.shutdown(socket.SHUT_WR)
            return read_to_reset(sock)[0]

        self.clear()
        with self.server.connect() as sock:
            wanted = converse(sock)
        self.clear()
        with self.sidecar.connect() as sock:
            assert converse(sock) == wanted
        return wanted

    def follows(self, sock: socket.socket) -> None:
        """A job that ``sock`` enqueues now is written into, and is seen to be in the queue and to be taken from it."""
        key = f"jobs:{next(_numbers)}"
        stored = self._enqueued(sock, key)
        assert ask(sock, command("LPOP", key)) == bulk(stored)
        # One whose replies have made it blind writes into no further job.
        self._enqueued(sock, key)
        self.saw(key, "enqueue dequeue enqueue")

    def _enqueued(self, sock: socket.socket, key: str) -> bytes:
        """What Redis has of a job that is enqueued in an empty list."""
        assert ask(sock, command("RPUSH", key, JOB)) == b":1\r\n"
        with redis.Redis.from_url(self.server.url) as client:
            (stored,) = client.lrange(key, 0, -1)
        assert _STORED.fullmatch(stored), f"blind: {stored!r}"
        return bytes(stored)

    def saw(self, key: str, operations: str) -> None:
        """The spans of the jobs of a list, by their start: ``operations`` are their names without "queue."."""

        def found(spans: list[ReceivedSpan]) -> list[str]:
            ours = sorted((span for span in spans if span.attributes["queue.name"] == key), key=lambda span: span.start)
            return [span.name.removeprefix("queue.") for span in ours]

        wanted = operations.split()
        spans = self.receiver.wait_for(lambda spans: len(found(spans)) >= len(wanted))
        assert found(spans) == wanted, found(spans)


class Scripted:
    """A redspan in front of a Redis that says what a test says: for bytes that no real one can be made to send."""

    def __init__(self, sidecar: Sidecar, listening: socket.socket) -> None:
        self.sidecar = sidecar
        self._listening = listening

    @contextlib.contextmanager
    def connection(self) -> Iterator[tuple[socket.socket, socket.socket]]:
        """A client, and what it is connected to in the end."""
        with self.sidecar.connect() as client:
            upstream, _ = self._listening.accept()
            with upstream:
                upstream.settimeout(PATIENCE)
                yield client, upstream

    def exchange(self, client: socket.socket, upstream: socket.socket, request: bytes, answer: bytes) -> bytes:
        """What reaches the server of a request; its answer has to reach the client as it is."""
        client.sendall(request)
        got = read_until(upstream, request[-3:])
        upstream.sendall(answer)
        assert read_until(client, answer) == answer
        return got

    def blind(self, reason: str) -> None:
        """One connection is no longer looked at, for that reason."""
        self.sidecar.wait_for(lambda: self.sidecar.metric("redspan_blind_total", reason=reason) == 1, "not counted")
        assert self.sidecar.metric("redspan_blind_total") == 1

    def jobs(self, event: str, count: int) -> None:
        """So many jobs were seen to do that, and nothing has gone blind."""
        self.sidecar.wait_for(lambda: self.sidecar.metric("redspan_jobs_total", event=event) >= count, "not counted")
        assert self.sidecar.metric("redspan_jobs_total", event=event) == count
        assert self.sidecar.metric("redspan_blind_total") == 0
