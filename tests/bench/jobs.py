"""Events of jobs that never were: what a relay would say of them, for a tracer that is measured alone."""

from __future__ import annotations

import os
import random
import string

from proxy.context.traceparent import RANDOM, SAMPLED, SpanContext
from proxy.events import Carry, Connection, JobEvent, Op
from tests.bench.contenders import QUEUE

CONNECTIONS = (1, 2)
"""The producer's and the worker's."""
SPANS = 3
"""Of each job."""
PROCESSING = f"{QUEUE}:processing:1".encode()
_POOL = "".join(random.choices(string.ascii_letters + string.digits + " ", k=1 << 16))


def connections(now: int) -> list[Connection]:
    return [
        Connection(0, conn, now, True, "127.0.0.1:6380", "127.0.0.1:6379", f"127.0.0.1:{40_000 + conn}")
        for conn in CONNECTIONS
    ]


class Jobs:
    """Each one with an id, a context and a text of its own; ``size`` bytes as it is stored."""

    def __init__(self, size: int = 372) -> None:
        self._size = size
        self._number = random.getrandbits(40) << 24

    def events(self, now: int, *, acknowledged: bool = True, delivered: bool = True) -> list[JobEvent]:
        """Enqueued, delivered, acknowledged, as if all of it happened just before ``now``."""
        self._number += 1
        context = SpanContext(os.urandom(16), os.urandom(8), RANDOM | SAMPLED)
        head = f'{{"id": "{self._number:016x}", "type": "send_email", "args": ["'
        tail = f'"], "traceparent": "{context.header().decode()}"}}'
        filler = max(0, self._size - len(head) - len(tail))
        at = random.randrange(len(_POOL) - filler)
        value = (head + _POOL[at : at + filler] + tail).encode()
        producer, worker = CONNECTIONS

        def event(op: Op, conn: int, ago: int, **more: object) -> JobEvent:
            fields = {"key": QUEUE.encode(), "queue": QUEUE, "value": value, "size": len(value), **more}
            return JobEvent(op, "list", conn, 0, now - ago, now - ago + 200_000, **fields)  # type: ignore[arg-type]

        made = [event(Op.ENQUEUE, producer, 3_000_000, context=context.pack(), carry=Carry.WRITTEN, number=1)]
        if delivered:
            made.append(event(Op.DEQUEUE, worker, 2_000_000, dest=PROCESSING))
        if delivered and acknowledged:
            made.append(event(Op.ACK, worker, 1_000_000, key=PROCESSING, queue="", number=1))
        return made
