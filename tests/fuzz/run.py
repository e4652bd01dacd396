"""What must hold of every input: no byte lost or changed but for contexts written, nothing raised, nothing grows."""

from __future__ import annotations

from collections import Counter
from typing import Any

from proxy.context.carry import Carrier
from proxy.context.derive import Deriver
from proxy.context.sampling import Rates
from proxy.events import Record
from proxy.frameworks.router import Router
from proxy.relay.context import RelayContext
from proxy.relay.session import Session
from tests.frameworks import (
    arq,
    asynq,
    bee_queue,
    bull,
    bullmq,
    celery,
    dramatiq,
    go_redis_work_queue,
    gocraft_work,
    huey,
    laravel,
    lists,
    machinery,
    resque,
    rq,
    script,
    sidekiq,
    streams,
    streaq,
    taskiq,
)
from tests.fuzz.mutator import Input, Mutator, plain

LIMIT = 64 * 1024
"""``max_inspect_bytes``."""
TRACE, SPAN = b"\xaa" * 16, b"\xbb" * 8
MEMBER = TRACE.hex().encode()


ENTRIES: tuple[dict[str, Any], ...] = (
    {"keys": 1, "key": "mine", "does": "enqueue", "first_argument": "add", "job": "arguments 2"},
    {"keys": 1, "key": "mine", "does": "enqueue", "id": "argument 1", "job": "argument 2"},
    {"keys": 2, "key": "mine", "does": "dequeue", "id": "reply 1", "job": "reply 2", "held": 2},
    {"keys": 2, "key": "work", "key_position": 2, "does": "ack", "job": "argument 1", "if_reply": True},
)
"""Scripts of the user's own."""


class Ids:
    def trace_id(self) -> bytes:
        return TRACE

    def span_id(self) -> bytes:
        return SPAN

    def both(self) -> tuple[bytes, bytes]:
        return self.trace_id(), self.span_id()


class Failure(Exception):
    """Which input, and what was wrong."""


class Fuzz:
    def __init__(self) -> None:
        self.notices: Counter[str] = Counter()
        self.records = 0
        observed = (streams(queues=("stream",), inject=False), rq(inject=False), huey(), arq(), streaq())
        scripted = (bullmq(inject=False), bull(inject=False), bee_queue(inject=False), laravel())
        others = (script(*ENTRIES, inject=True), asynq(inject=False), machinery(), gocraft_work(), sidekiq(), resque())
        own = (lists(), *observed, go_redis_work_queue(), celery(), dramatiq(), taskiq())
        self._context = RelayContext(
            Router((*own, *scripted, *others)),
            Carrier(Deriver(), Ids()),
            Rates(lambda queue, key: 1.0),
            self._emit,
            self._notice,
            max_inspect=LIMIT,
        )
        self._detail = ""

    def _emit(self, record: Record) -> None:
        self.records += 1

    def _notice(self, reason: str, conn: int, detail: str) -> None:
        self.notices[reason] += 1
        self._detail = detail

    def play(self, one: Input) -> None:
        session = Session(self._context, 1, "l", "u", "c")
        sent: list[bytes] = []
        bugs = self.notices["bug"]
        replies = iter(one.replies)
        came = 0
        for chunk in one.commands:
            sent.append(session.client_data(chunk, 1))
            came += len(chunk)
            held = came - len(b"".join(sent))
            if held > LIMIT + len(chunk):
                raise Failure(f"{held} bytes are held: {one}")
            reply = next(replies, None)
            if reply is not None:
                session.upstream_data(reply, 2, delivered=True)
        for reply in replies:
            session.upstream_data(reply, 3, delivered=False)
        sent.append(session.client_eof(4))
        session.closed(5)
        if self.notices["bug"] != bugs:
            raise Failure(f"{self._detail}: {one}")
        if plain(sent, MEMBER) != b"".join(one.commands):
            raise Failure(f"other bytes: {one}")


def fuzz(seed: int, count: int) -> Fuzz:
    """Raises `Failure`."""
    run, mutator = Fuzz(), Mutator(seed)
    for _ in range(count):
        run.play(mutator.next())
    return run
