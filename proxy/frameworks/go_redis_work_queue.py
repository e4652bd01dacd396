"""go-redis-work-queue (flyingrobots, read and replayed at commit a38bd19, client go-redis v9.14.0).

====================== =========================================================================================
what                   on the wire (P: the job as stored; P': marshalled again with ``retries`` + 1; W: the worker)
====================== =========================================================================================
enqueue                ``lpush <queue> P``
dequeue                ``brpoplpush <queue> …worker:W:processing 1``
start, heartbeat       ``set …processing:worker:W P ex 30``, once, never renewed
success                ``lpush …completed P``, ``lrem …worker:W:processing 1 P``, ``del …processing:worker:W``
retry                  (after the back-off) ``lpush <queue> P'``, ``lrem … P``, ``del …``
dead letter            ``lpush …dead_letter P``, ``lrem … P``, ``del …``
throttled              ``incr <limiter>``, and only then ``ttl <limiter>``: so long the producer waits
poison                 ``lrem … P``, ``del …`` and no push: the worker could not read the job
reaped                 ``rpop …worker:W:processing``, ``lpush <queue> P``: the same bytes
====================== =========================================================================================

**Where the context rides**: its own ``trace_id`` and ``span_id``, which survive the retry's struct (a member of any
other name is lost there).  Producers whose own tracing is off invent both, so the span id they wrote is the
enqueue's parent, but unverified.

**Not to be seen**: the error's text (never written), what part of a failed attempt was its back-off (the worker sleeps
while it holds the job: ``redspan.includes_backoff``), a circuit breaker, pause and resume (it has none).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import msgspec

from proxy.context import bare
from proxy.context.adopted import adopted_slot
from proxy.context.slot import NoSlot, Slot, State
from proxy.events import Op, Verdict
from proxy.frameworks import paths
from proxy.frameworks.base import End, Fields, Identity, Intent, Operation, Role
from proxy.frameworks.list_shape import ListShape
from proxy.frameworks.wire import integer
from proxy.resp.reply import Reply

if TYPE_CHECKING:
    from proxy.config import GoRedisWorkQueueSettings

_WORKER: Final = re.compile(rb"([^:]+-\d+-\d{16,20}-[0-9a-f]{4}-\d+)")
"""``<hostname>-<pid>-<unix ns>-<4 hex>-<goroutine>``, inside a processing or heartbeat key."""


class _Envelope(msgspec.Struct):
    """``internal/queue/job.go``. The first six members are what marks a job: every one of its producers writes them."""

    id: str
    retries: int
    creation_time: str
    priority: str
    filepath: str
    filesize: int
    trace_id: str | None = None


_envelope: Final = msgspec.json.Decoder(_Envelope)
_NAMES: Final = (*_Envelope.__struct_fields__, "span_id")
_FOREIGN: Final = NoSlot(State.REFUSED, "foreign")


class GoRedisWorkQueue(ListShape):
    name = "go-redis-work-queue"
    family = "go-redis-work-queue"
    end = End.ACK
    acked = Verdict.FAILURE
    backs_off_inside = True

    def __init__(self, options: GoRedisWorkQueueSettings) -> None:
        super().__init__(
            {
                Role.DEAD_LETTER: options.dead_letter,
                Role.COMPLETED: options.completed,
                Role.PROCESSING: options.processing,
                Role.HEARTBEAT: options.heartbeat,
                Role.QUEUE: options.queues,
                Role.OTHER: options.rate_limit,
            }
        )
        if options.rate_limit:
            self.commands |= {b"TTL"}
        self.inject = options.inject
        self._max_attempts = options.max_retries

    def read(self, name: bytes, args: list[bytes]) -> Intent | None:
        if name != b"TTL" or len(args) != 2:
            return super().read(name, args)
        return Intent(self, args, self._throttled) if self.role(args[1]) is Role.OTHER else None

    def _throttled(self, intent: Intent, reply: Reply) -> Iterator[Operation]:
        yield self.operation(Op.THROTTLE, intent.args[1], number=max(0, integer(reply)) * 1000)

    def slot(self, value: bytes) -> Slot:
        return adopted_slot(value) if _read(value) is not None else _FOREIGN

    def identity(self, value: bytes) -> Identity | None:
        # Both: its benchmarks number their jobs from 0 each time. Neither changes with a retry.
        job = _read(value)
        if job is None:
            return None
        return Identity(f"{len(job.id)}:{job.id}{job.creation_time}".encode(), job.retries)

    def fields(self, value: bytes) -> Fields:
        job = _read(value)
        if job is None:
            return Fields()
        return Fields(
            id=job.id,
            attempt=job.retries,
            max_attempts=self._max_attempts,
            created_at=paths.when(job.creation_time),
            enqueued_at=paths.when(job.creation_time) if job.retries == 0 else 0,
            priority=job.priority,
            trace_id=bare.otherwise(job.trace_id or ""),
        )

    def summary(self, value: bytes) -> bytes:
        return paths.reduce(value, _NAMES)

    def worker(self, key: bytes) -> str:
        """The worker whose processing list or heartbeat ``key`` is; empty for any other key."""
        found = _WORKER.search(key)
        return found[1].decode(errors="backslashreplace") if found else ""


def _read(value: bytes) -> _Envelope | None:
    if value[:1] != b"{":
        return None
    try:
        return _envelope.decode(value)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None
