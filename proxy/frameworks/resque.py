r"""Resque (replayed: 3.0.0).

======================= ========================================================================================
what                    on the wire (J: ``{"class", "args"}``, JSON; W: ``<host>:<pid>:<queues>``, a worker's id)
======================= ========================================================================================
enqueue                 ``RPUSH resque:queue:<name> J``
dequeue                 ``LPOP resque:queue:<name>``, by turns of all queues
start                   ``SET resque:worker:W {"queue", "run_at", "payload": J}``, before the fork
failure                 ``RPUSH resque:failed {"payload": J, "exception", "worker": W, "queue", …}``, from the child's
                        own connection; from the parent's, if the child was killed
end                     ``DEL resque:worker:W``, by the parent; of one that was killed, by whoever prunes it
cancelled               ``LREM resque:queue:<name> 0 J``
======================= ========================================================================================

Known by both: the key's role, whatever the namespace, and an envelope that has exactly ``class`` and ``args``.

**Where the context rides**: a member ``traceparent`` of J, where OpenTelemetry's instrumentation for Ruby has it, too
(opentelemetry-instrumentation-resque: ``propagation.inject(item)`` in ``Resque.push``, ``extract(@payload)`` in
``Job#perform``).  ``perform`` does not see it.  ``Resque.dequeue`` with arguments deletes what equals a job that it
builds itself: to use that, set ``inject: false`` (OpenTelemetry's instrumentation breaks it just so).

**The end is exact**: a worker has one job at a time.  Jobs have no id; one of ActiveJob has its ``job_id``, which
its own retries repeat, and the trace follows from that.  A job that fails is put among the failed ones, and no more
happens; what takes it from there, or a plugin that enqueues it again, makes a new job, in a trace of its own.

**Not to be seen**: jobs of resque-scheduler until they are due.  Queues that are emptied.  Which of two equal jobs is
which, without a context in them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec

from proxy.context.json_slot import json_slot
from proxy.context.slot import NoSlot, Slot, State
from proxy.events import Op, Verdict
from proxy.frameworks import active_job, paths
from proxy.frameworks.base import End, Fields, Identity, Intent, Job, Operation, Role
from proxy.frameworks.list_shape import enqueued
from proxy.frameworks.wire import integer, name
from proxy.resp.reply import Reply

if TYPE_CHECKING:
    from proxy.config import ResqueSettings

_KEY: Final = re.compile(
    rb"""(?sx) (?: \A | .*? : ) (?:
        queue: (?P<queue>[^\0-\x1f]+)
      | worker: (?P<worker>[^:]+:\d+:(?!.*:started\Z).+)
      | (?P<failed>(?:\w+_)?failed)
    ) \Z"""
)
_ROLES: Final = {"queue": Role.QUEUE, "worker": Role.HEARTBEAT, "failed": Role.DEAD_LETTER}
_REMEMBERED: Final = 1024
_FOREIGN: Final = NoSlot(State.REFUSED, "foreign")
_T = TypeVar("_T")


class _Job(msgspec.Struct, forbid_unknown_fields=True):
    """With what tracers add, and no more."""

    class_: str = msgspec.field(name="class")
    args: msgspec.Raw
    traceparent: Any = None
    tracestate: Any = None
    baggage: Any = None


class _Working(msgspec.Struct):
    queue: str
    run_at: str
    payload: msgspec.Raw


class _Failed(msgspec.Struct):
    payload: msgspec.Raw
    exception: str
    worker: str
    queue: str
    failed_at: str


_job: Final = msgspec.json.Decoder(_Job)
_working: Final = msgspec.json.Decoder(_Working)
_failed: Final = msgspec.json.Decoder(_Failed)


@lru_cache(_REMEMBERED)
def _parts(key: bytes) -> tuple[Role, bytes] | None:
    """A key's role, and what it names: the queue, the worker."""
    found = _KEY.match(key)
    if found is None or found.lastgroup is None:
        return None
    return _ROLES[found.lastgroup], found[found.lastgroup]


class Resque:
    name = "resque"
    family = "resque"
    commands = frozenset(b"RPUSH LPOP LREM SET DEL".split())
    rewritable: frozenset[bytes] = frozenset()
    scripts = None
    heads: frozenset[bytes] = frozenset()
    end = End.ACK
    acked = Verdict.SUCCESS
    backs_off_inside = False
    exclusive = False

    def __init__(self, options: ResqueSettings) -> None:
        self.inject = options.inject

    def role(self, key: bytes) -> Role | None:
        parts = _parts(key)
        return None if parts is None else parts[0]

    def queue(self, key: bytes) -> str:
        parts = _parts(key)
        return name(parts[1]) if parts is not None and parts[0] is Role.QUEUE else ""

    def slot(self, value: bytes) -> Slot:
        return json_slot(value) if _read(value) is not None else _FOREIGN

    def identity(self, value: bytes) -> Identity | None:
        job = _read(value)
        wrapped = None if job is None else active_job.read(job.class_, job.args)
        if wrapped is None:
            return None
        return Identity(wrapped.job_id.encode(errors="replace"), paths.integer(wrapped.executions))

    def fields(self, value: bytes) -> Fields:
        job = _read(value)
        if job is None:
            return Fields()
        wrapped = active_job.read(job.class_, job.args)
        handle = paths.text(job.traceparent)
        if wrapped is None:
            return Fields(type=job.class_[:1024], handle=handle)
        return Fields(
            id=paths.text(wrapped.job_id),
            type=paths.text(wrapped.job_class),
            attempt=paths.integer(wrapped.executions),
            handle=handle,
        )

    def summary(self, value: bytes) -> bytes:
        job = _read(value)
        if job is None:
            return b""
        said = {"traceparent": job.traceparent, "tracestate": job.tracestate}
        kept = {name: member for name, member in said.items() if member is not None}
        return paths.fitting({"class": job.class_, "args": active_job.reduce(job.args), **kept})

    def read(self, name: bytes, args: list[bytes]) -> Intent | None:
        role = self.role(args[1]) if len(args) > 1 else None
        if role is Role.HEARTBEAT and name in (b"SET", b"DEL"):
            return self._worker(name, args)
        if role is Role.QUEUE and name == b"RPUSH":
            return self._push(args)
        if role is Role.QUEUE and name == b"LPOP":
            return Intent(self, args, self._popped) if len(args) == 2 else None
        if role is Role.QUEUE and name == b"LREM":
            return self._remove(args)
        return self._fail(args) if role is Role.DEAD_LETTER and name == b"RPUSH" else None

    def _push(self, args: list[bytes]) -> Intent | None:
        if len(args) < 3 or not all(_read(value) is not None for value in args[2:]):
            return None
        jobs = [Job(index, args[index]) for index in range(2, len(args))]
        return Intent(self, args, enqueued, args[1], jobs, unseen=Op.ENQUEUE)

    def _popped(self, intent: Intent, reply: Reply) -> Iterator[Operation]:
        if isinstance(reply, bytes) and _read(reply) is not None:
            key = intent.args[1]
            yield Operation(Op.DEQUEUE, key, self.queue(key), value=reply)

    def _remove(self, args: list[bytes]) -> Intent | None:
        if len(args) != 4 or _read(args[3]) is None:
            return None

        def removed(intent: Intent, reply: Reply) -> Iterator[Operation]:
            if number := integer(reply):
                yield Operation(Op.CANCEL, args[1], self.queue(args[1]), value=args[3], number=number)

        return Intent(self, args, removed)

    def _worker(self, name: bytes, args: list[bytes]) -> Intent | None:
        if name == b"DEL":
            return Intent(self, args, self._done) if len(args) == 2 else None
        if len(args) != 3 or _decoded(_working, args[2]) is None:
            return None
        return Intent(self, args, self._begun)

    def _begun(self, intent: Intent, reply: Reply) -> Iterator[Operation]:
        key, said = intent.args[1:3]
        working, parts = _decoded(_working, said), _parts(key)
        assert working is not None
        assert parts is not None
        payload = bytes(working.payload)
        job = _read(payload)
        if job is not None:
            # Written anew by the worker, its bytes may differ from those that it was given.
            ref = paths.text(job.traceparent).encode()
            yield Operation(
                Op.START, key, paths.text(working.queue), dest=key, ref=ref, value=payload, worker=name(parts[1])
            )

    def _done(self, intent: Intent, reply: Reply) -> Iterator[Operation]:
        if integer(reply):
            key = intent.args[1]
            yield Operation(Op.ACK, key, dest=key, ref=key, number=1)

    def _fail(self, args: list[bytes]) -> Intent | None:
        failed = _decoded(_failed, args[2]) if len(args) == 3 else None
        if failed is None or _read(bytes(failed.payload)) is None:
            return None
        key = args[1]
        prefix = key[: key.rfind(b":") + 1]
        worker = prefix + b"worker:" + failed.worker.encode(errors="replace")

        def failed_for_good(intent: Intent, reply: Reply) -> Iterator[Operation]:
            integer(reply)
            yield Operation(
                Op.DEAD_LETTER,
                key,
                paths.text(failed.queue),
                ref=worker,
                verdict=Verdict.FAILURE,
                error=failed.exception[:256],
            )

        return Intent(self, args, failed_for_good)


def _decoded(decoder: msgspec.json.Decoder[_T], value: bytes) -> _T | None:
    try:
        return decoder.decode(value)
    except paths.UNREADABLE:
        return None


def _read(value: bytes) -> _Job | None:
    job = paths.read(_job, value)
    return job if job is not None and paths.is_array(job.args) else None
