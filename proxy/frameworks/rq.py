"""RQ (run: 3.0.0 and 1.16.2 on redis-py 8.1.0 and 5.0.8).

====================== =========================================================================================
what                   on the wire (id: the job's)
====================== =========================================================================================
enqueue                ``HSET rq:job:<id> created_at … data … enqueued_at …``, ``RPUSH rq:queue:<queue> id``
later                  the same without a time in ``enqueued_at``, ``ZADD rq:scheduled:<queue> <time> id``; then the
                       scheduler sends what is under "enqueue", and ``ZREM``
dequeue                ``BLMOVE rq:queue:<queue> rq:queue:<queue>:intermediate``, or BLPOP, LMOVE, LPOP; only then
                       ``HGETALL rq:job:<id>`` says what the job is
start                  ``HSET rq:job:<id> status started … worker_name …``, from the work horse's own connection
success, failure       ``HSET rq:job:<id> status finished | failed | stopped``
retry                  ``HSET rq:job:<id> status queued`` and the push, or ``status scheduled`` and the ZADD
suspended              a worker finds it by ``EXISTS rq:suspended``, each second; ended by ``DEL rq:suspended``
cancelled              ``HSET rq:job:<id> status canceled``, or ``DEL rq:job:<id>`` while it waits
====================== =========================================================================================

A job is known by reference: the queue has its id, the hash the rest.

**Where the context rides**: two more fields of the hash, which RQ never removes.  The trace id follows from id and
``created_at``: RQ's scheduler writes the whole hash again, without fields that it does not know of, and so the same
bytes are written twice.  Only an enqueue is written into: the same HSET without ``started_at``.

**Not to be seen**: since when it is suspended before a worker asks, and that a suspension for some time is over.  Why
a job failed (``exc_info`` is never read), which attempt this is (RQ counts down from a number that it does not keep:
the tracer counts).  A job that is deleted while it is held has succeeded with ``result_ttl=0``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Final

from proxy.context.fields_slot import fields_slot, pack, unpack
from proxy.context.slot import Slot
from proxy.events import VALUE_LIMIT, Op, Verdict
from proxy.frameworks import paths
from proxy.frameworks.base import End, Fields, Identity, Intent, Job, Mismatch, Operation, Role
from proxy.frameworks.wire import integer, name
from proxy.resp.reply import Reply

if TYPE_CHECKING:
    from proxy.config import RqSettings

_POPS: Final = frozenset((b"LPOP", b"BLPOP", b"LMOVE", b"BLMOVE", b"RPOPLPUSH", b"BRPOPLPUSH"))
_KEPT: Final = frozenset(
    (b"created_at", b"enqueued_at", b"origin", b"description", b"group_id", b"traceparent", b"tracestate")
)
"""Fields that anything is read of. Not ``data``, which holds the arguments."""
_ENDS: Final = {b"finished": Verdict.SUCCESS, b"failed": Verdict.FAILURE, b"stopped": Verdict.FAILURE}
_INTERMEDIATE: Final = b":intermediate"
_TYPE_LIMIT: Final = 256


class Rq:
    name = "rq"
    family = "rq"
    commands = _POPS | {b"HSET", b"HGETALL", b"LPUSH", b"RPUSH", b"ZADD", b"LREM", b"DEL", b"EXISTS"}
    rewritable = frozenset((b"HSET",))
    heads: frozenset[bytes] = frozenset()
    scripts = None
    end = End.ACK
    acked = Verdict.SUCCESS
    backs_off_inside = False
    exclusive = True

    def __init__(self, options: RqSettings) -> None:
        prefix = options.prefix.encode()
        self.inject = options.inject
        self._job = prefix + b"job:"
        self._queue = prefix + b"queue:"
        self._suspended = prefix + b"suspended"
        self._scheduled = prefix + b"scheduled:"

    def role(self, key: bytes) -> Role | None:
        if key.startswith(self._queue):
            return Role.PROCESSING if key.endswith(_INTERMEDIATE) else Role.QUEUE
        if key.startswith(self._job):
            return Role.JOB
        if key == self._suspended:
            return Role.OTHER
        return Role.SCHEDULED if key.startswith(self._scheduled) else None

    def queue(self, key: bytes) -> str:
        for prefix in (self._queue, self._scheduled):
            if key.startswith(prefix):
                return name(key.removeprefix(prefix).removesuffix(_INTERMEDIATE))
        return ""

    def slot(self, value: bytes) -> Slot:
        return fields_slot(value)

    def identity(self, value: bytes) -> Identity | None:
        job_id, hash_ = _hash(value)
        created = hash_.get(b"created_at")
        if not job_id or not created:
            return None
        # Without a time it is put aside: another stay, and another span, than the push that will follow.
        hop = b"" if hash_.get(b"enqueued_at") else b"z"
        return Identity(b"%d:%s%s" % (len(job_id), job_id, created), hop=hop)

    def fields(self, value: bytes) -> Fields:
        job_id, hash_ = _hash(value)
        if not hash_:
            return Fields()
        text = {key: found.decode(errors="replace") for key, found in hash_.items() if key in _KEPT}
        return Fields(
            id=name(job_id),
            type=text.get(b"description", "").partition("(")[0][:_TYPE_LIMIT],
            attempt=-1,
            created_at=paths.when(text.get(b"created_at")),
            enqueued_at=paths.when(text.get(b"enqueued_at")),
            batch_id=paths.text(text.get(b"group_id")),
        )

    def summary(self, value: bytes) -> bytes:
        job_id, hash_ = _hash(value)
        kept = pack(job_id, [part for key in _KEPT if key in hash_ for part in (key, hash_[key][:_TYPE_LIMIT])])
        return kept if len(kept) <= VALUE_LIMIT else pack(job_id, [])

    def read(self, name: bytes, args: list[bytes]) -> Intent | None:
        if len(args) < 2:
            return None
        role = self.role(args[1])
        if role is Role.JOB:
            return self._about_a_job(name, args)
        if role is Role.OTHER:
            means = {b"EXISTS": self._paused, b"DEL": self._resumed}.get(name)
            return None if means is None or len(args) != 2 else Intent(self, args, means)
        if name in _POPS:
            return Intent(self, args, self._popped, pops=True)
        if name in (b"RPUSH", b"LPUSH") and role is Role.QUEUE:
            return Intent(self, args, self._pushed)
        if name == b"ZADD" and role is Role.SCHEDULED and len(args) >= 4:
            return Intent(self, args, self._put_aside)
        if name == b"LREM" and role is Role.QUEUE and len(args) == 4:
            return Intent(self, args, self._taken_out)
        return Intent(self, args, self._emptied) if name == b"DEL" and role is Role.QUEUE else None

    def _paused(self, intent: Intent, reply: Reply) -> Iterator[Operation]:
        if integer(reply):
            yield Operation(Op.PAUSE, intent.args[1])

    def _resumed(self, intent: Intent, reply: Reply) -> Iterator[Operation]:
        if integer(reply):
            yield Operation(Op.RESUME, intent.args[1])

    def _about_a_job(self, name: bytes, args: list[bytes]) -> Intent | None:
        if name == b"HGETALL":
            return Intent(self, args, self._read)
        if name == b"DEL":
            return Intent(self, args, self._deleted)
        if name != b"HSET" or len(args) % 2:
            return None
        hash_ = _pairs(args[2:])
        if hash_.keys() >= {b"data", b"created_at"} and not hash_.get(b"started_at"):
            # So that the rates of queues apply.
            queue = self._queue + hash_.get(b"origin", b"")
            return Intent(self, args, self._stored, queue, [Job(2, pack(self._id(args[1]), args[2:]))])
        return Intent(self, args, self._changed) if b"status" in hash_ else None

    def _id(self, key: bytes) -> bytes:
        return key.removeprefix(self._job)

    def _stored(self, intent: Intent, reply: Reply) -> Iterator[Operation]:
        integer(reply)
        key = intent.args[1]
        yield Operation(Op.DESCRIBE, key, ref=self._id(key), value=pack(self._id(key), intent.args[2:]), job=0)
        yield from self._changed(intent, reply)

    def _changed(self, intent: Intent, reply: Reply) -> Iterator[Operation]:
        integer(reply)
        key, hash_ = intent.args[1], _pairs(intent.args[2:])
        status = hash_.get(b"status", b"")
        if status == b"started":
            worker = name(hash_.get(b"worker_name", b""))
            yield Operation(Op.START, key, ref=self._id(key), worker=worker)
        elif status in _ENDS:
            error = "stopped" if status == b"stopped" else ""
            yield Operation(Op.SETTLE, key, ref=self._id(key), verdict=_ENDS[status], error=error)
        elif status == b"canceled":
            yield Operation(Op.CANCEL, key, ref=self._id(key), number=1, verdict=Verdict.FAILURE, error="cancelled")

    def _read(self, intent: Intent, reply: Reply) -> Iterator[Operation]:
        if isinstance(reply, dict):
            parts = [part for pair in reply.items() for part in pair]
        elif isinstance(reply, list):
            parts = reply
        else:
            raise Mismatch("HGETALL")
        if parts:
            key = intent.args[1]
            value = pack(self._id(key), [part for part in parts if isinstance(part, bytes)])
            yield Operation(Op.DESCRIBE, key, ref=self._id(key), value=value)

    def _pushed(self, intent: Intent, reply: Reply) -> Iterator[Operation]:
        length, key = integer(reply), intent.args[1]
        for job_id in intent.args[2:]:
            yield Operation(Op.ENQUEUE, key, self.queue(key), ref=job_id, number=length)

    def _put_aside(self, intent: Intent, reply: Reply) -> Iterator[Operation]:
        integer(reply)
        key, (score, job_id) = intent.args[1], intent.args[-2:]
        seconds = int(score) if score.isdigit() and len(score) < 12 else -1
        yield Operation(Op.SCHEDULE, key, self.queue(key), ref=job_id, number=seconds * 1000 if seconds >= 0 else -1)

    def _popped(self, intent: Intent, reply: Reply) -> Iterator[Operation]:
        key, job_id = intent.args[1], reply
        if isinstance(reply, list):
            if len(reply) != 2 or not isinstance(reply[0], bytes):
                raise Mismatch("BLPOP")
            key, job_id = reply[0], reply[1]
        if isinstance(job_id, bytes) and self.role(key) is Role.QUEUE:
            yield Operation(Op.DEQUEUE, key, self.queue(key), ref=job_id)

    def _taken_out(self, intent: Intent, reply: Reply) -> Iterator[Operation]:
        if integer(reply):
            key = intent.args[1]
            yield Operation(Op.CANCEL, key, self.queue(key), ref=intent.args[3], number=1)

    def _deleted(self, intent: Intent, reply: Reply) -> Iterator[Operation]:
        if integer(reply):
            for key in intent.args[1:]:
                if self.role(key) is Role.JOB and not key.endswith(b":dependents"):
                    yield Operation(Op.CANCEL, key, ref=self._id(key), number=1, verdict=Verdict.SUCCESS)

    def _emptied(self, intent: Intent, reply: Reply) -> Iterator[Operation]:
        if integer(reply):
            yield Operation(Op.PURGE, intent.args[1], self.queue(intent.args[1]))


def _hash(value: bytes) -> tuple[bytes, Mapping[bytes, bytes]]:
    job_id, flat = unpack(value)
    return job_id, _pairs(flat)


def _pairs(flat: list[bytes]) -> Mapping[bytes, bytes]:
    return dict(zip(flat[::2], flat[1::2], strict=False))
