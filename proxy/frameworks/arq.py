r"""arq (run: 0.28.0 and 0.26.3 on redis-py 5.3.1, 0.25.0 on 8.1.0).

====================== =========================================================================================
what                   on the wire (id: the job's)
====================== =========================================================================================
enqueue                ``PSETEX arq:job:<id> <ms> <pickle>``, ``ZADD arq:queue <due ms> id``
dequeue                ``ZSCORE arq:queue id``, then ``PSETEX arq:in-progress:<id> <ms> 1`` in a transaction that
                       only one of the workers who watch that key will win
start                  ``GET arq:job:<id>``, ``INCRBY arq:retry:<id> 1``, which says the how manieth attempt it is
success, failure       ``SET arq:result:<id> <pickle>``, ``DEL … arq:job:<id>``, in this order or the other
retry                  ``DEL arq:in-progress:<id>``, with a delay ``ZINCRBY arq:queue <ms> id`` before
====================== =========================================================================================

A job is known by reference: the queue has its id, a key of its own the rest.  Nothing is unpickled: what a job calls is
the first thing in its pickle, when it was enqueued the last; how it ended stands between two other things.

**Nothing is ever written**: a task does not see its pickle.  The trace follows from the id and the time of the enqueue,
which stay the same for all of its attempts.

**Not to be seen**: how a job ended whose result is not kept (``keep_result=0``, as of cron jobs).  Type and time of
jobs with a serializer of one's own.  Jobs on queues that ``queues`` does not name have no enqueue.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Final

from proxy.context.fields_slot import pack, unpack
from proxy.context.slot import ABSENT, Slot
from proxy.events import VALUE_LIMIT, Op, Verdict
from proxy.frameworks.base import End, Fields, Identity, Intent, Job, Operation, Role
from proxy.frameworks.globs import compile_globs
from proxy.frameworks.pickled import Scanner, Sign, Unreadable
from proxy.frameworks.wire import integer, name
from proxy.resp.reply import Reply

if TYPE_CHECKING:
    from proxy.config import ArqSettings

_JOB: Final = b"arq:job:"
_CLAIM: Final = b"arq:in-progress:"
_RESULT: Final = b"arq:result:"
_RETRY: Final = b"arq:retry:"
_OWN: Final = (_JOB, _CLAIM, _RESULT, _RETRY)
_ABORT: Final = b"arq:abort"
_BEFORE: Final = rb"|h.|j.{4})"
"""A key of a pickled dict may be where it stood before."""
_ENQUEUED: Final = re.compile(rb"(?:\x8c\x02et\x94" + _BEFORE + rb"\x8a\x06(.{6})u\.\Z", re.DOTALL)
_ENDED: Final = re.compile(
    rb"(?:\x8c\x02et\x94%b\x8a\x06.{6}(?:\x8c\x01s\x94%b([\x88\x89])(?:\x8c\x01r\x94%b" % ((_BEFORE,) * 3), re.DOTALL
)
_TAIL: Final = 32
"""Bytes of a job that the time of its enqueue is looked for in."""
_WITHIN: Final = 256 * 1024
"""Bytes of a result that its end is looked for in."""
_TYPE_LIMIT: Final = 256
_USUAL: Final = b"arq:queue"
"""What a job is takes effect before where it goes: all go by the rate of this queue."""


class Arq:
    name = "arq"
    family = "arq"
    commands = frozenset(
        (b"PSETEX", b"ZADD", b"ZINCRBY", b"ZSCORE", b"GET", b"INCRBY", b"SET", b"DEL"),
    )
    rewritable: frozenset[bytes] = frozenset()
    scripts = None
    heads: frozenset[bytes] = frozenset()
    inject = False
    end = End.ACK
    acked = Verdict.SUCCESS
    backs_off_inside = False
    exclusive = True

    def __init__(self, options: ArqSettings) -> None:
        self._queues = compile_globs(options.queues)

    def role(self, key: bytes) -> Role | None:
        if key.startswith(_OWN):
            return Role.JOB
        return Role.QUEUE if key != _ABORT and self._queues.match(key) else None

    def queue(self, key: bytes) -> str:
        return "" if key.startswith(_OWN) else name(key)

    def slot(self, value: bytes) -> Slot:
        return ABSENT

    def identity(self, value: bytes) -> Identity | None:
        job_id, _, enqueued = _read(value)
        return Identity(b"%d:%s%d" % (len(job_id), job_id, enqueued)) if job_id else None

    def fields(self, value: bytes) -> Fields:
        job_id, function, enqueued = _read(value)
        if not job_id:
            return Fields()
        return Fields(id=name(job_id), type=function, attempt=-1, created_at=enqueued * 1_000_000)

    def summary(self, value: bytes) -> bytes:
        job_id, function, enqueued = _read(value)
        return pack(job_id[:VALUE_LIMIT], [function.encode(errors="replace"), b"%d" % enqueued]) if job_id else b""

    def read(self, name: bytes, args: list[bytes]) -> Intent | None:
        if len(args) < 2:
            return None
        key = args[1]
        if name == b"DEL":
            return Intent(self, args, self._deleted)
        if name in (b"ZADD", b"ZINCRBY", b"ZSCORE"):
            return self._about_a_queue(name, args) if self.role(key) is Role.QUEUE else None
        if name == b"GET":
            return Intent(self, args, self._described) if key.startswith(_JOB) else None
        if name == b"INCRBY":
            return Intent(self, args, self._begun) if key.startswith(_RETRY) else None
        if name == b"SET":
            return Intent(self, args, self._ended) if key.startswith(_RESULT) and len(args) > 2 else None
        if len(args) != 4:
            return None
        if key.startswith(_CLAIM):
            return Intent(self, args, self._claimed)
        if key.startswith(_JOB):
            return Intent(self, args, self._stored, _USUAL, [Job(3, _packed(key, args[3]))])
        return None

    def _about_a_queue(self, name: bytes, args: list[bytes]) -> Intent | None:
        if name == b"ZSCORE":
            return Intent(self, args, self._scored) if len(args) == 3 else None
        return Intent(self, args, self._queued if name == b"ZADD" else self._delayed) if len(args) == 4 else None

    def _describe(self, key: bytes, value: bytes, job: int = -1) -> Operation:
        ref = key.removeprefix(_JOB)
        return Operation(Op.DESCRIBE, _USUAL, self.queue(_USUAL), ref=ref, value=_packed(key, value), job=job)

    def _stored(self, intent: Intent, reply: Reply) -> Iterator[Operation]:
        yield self._describe(intent.args[1], intent.args[3], 0)

    def _described(self, intent: Intent, reply: Reply) -> Iterator[Operation]:
        if isinstance(reply, bytes):
            yield self._describe(intent.args[1], reply)

    def _queued(self, intent: Intent, reply: Reply) -> Iterator[Operation]:
        integer(reply)
        key, score, ref = intent.args[1:]
        yield self._waits(key, ref, score)

    def _delayed(self, intent: Intent, reply: Reply) -> Iterator[Operation]:
        yield self._waits(intent.args[1], intent.args[3], reply)

    def _waits(self, key: bytes, ref: bytes, score: Reply) -> Operation:
        return Operation(Op.SCHEDULE, key, self.queue(key), dest=key, ref=ref, number=_due(score))

    def _scored(self, intent: Intent, reply: Reply) -> Iterator[Operation]:
        if reply is not None:
            _, key, ref = intent.args
            yield Operation(Op.DESCRIBE, key, self.queue(key), ref=ref, number=_due(reply))

    def _claimed(self, intent: Intent, reply: Reply) -> Iterator[Operation]:
        # Which queue it was on has been said by then.
        yield Operation(Op.DEQUEUE, _USUAL, ref=intent.args[1].removeprefix(_CLAIM))

    def _begun(self, intent: Intent, reply: Reply) -> Iterator[Operation]:
        yield Operation(Op.START, _USUAL, ref=intent.args[1].removeprefix(_RETRY), number=integer(reply))

    def _ended(self, intent: Intent, reply: Reply) -> Iterator[Operation]:
        verdict, error = _verdict(intent.args[2])
        yield Operation(Op.SETTLE, _USUAL, ref=intent.args[1].removeprefix(_RESULT), verdict=verdict, error=error)

    def _deleted(self, intent: Intent, reply: Reply) -> Iterator[Operation]:
        keys = intent.args[1:] if integer(reply) else []
        jobs = [key for key in keys if key.startswith(_JOB)]
        for key in jobs:
            yield Operation(Op.OVER, _USUAL, ref=key.removeprefix(_JOB), verdict=Verdict.UNKNOWN)
        for key in keys if not jobs else ():
            if key.startswith(_CLAIM):
                yield Operation(Op.RETRY, _USUAL, ref=key.removeprefix(_CLAIM))


def _packed(key: bytes, value: bytes) -> bytes:
    return pack(key.removeprefix(_JOB), [value])


def _read(value: bytes) -> tuple[bytes, str, int]:
    """Id, what it calls, and when it was enqueued, ms; of a summary, too."""
    job_id, parts = unpack(value)
    if len(parts) == 2:
        return job_id, parts[0].decode(errors="replace"), int(parts[1])
    if len(parts) != 1:
        return b"", "", 0
    try:
        scanner = Scanner(parts[0])
        scanner.expect(Sign.DICT, Sign.MARK, "t")
        scanner.take()
        scanner.expect("f")
        function = scanner.take()
    except Unreadable:
        return job_id, "", 0
    found = _ENQUEUED.search(parts[0], max(0, len(parts[0]) - _TAIL))
    enqueued = 0 if found is None else int.from_bytes(found[1], "little", signed=True)
    return job_id, function[:_TYPE_LIMIT] if isinstance(function, str) else "", max(0, enqueued)


def _verdict(result: bytes) -> tuple[Verdict, str]:
    """How it ended; unknown where it cannot be read, or where arguments look like another result."""
    ends = [*islice(_ENDED.finditer(result, 0, _WITHIN), 2)]
    if len(ends) != 1:
        return Verdict.UNKNOWN, ""
    found = ends[0]
    if found[1] == b"\x88":
        return Verdict.SUCCESS, ""
    try:
        scanner = Scanner.within(result, found.end())
        scanner.take()
        raised = scanner.take()
        scanner.expect(Sign.GLOBAL)
    except Unreadable:
        return Verdict.FAILURE, ""
    return Verdict.FAILURE, raised[:_TYPE_LIMIT] if isinstance(raised, str) else ""


def _due(score: Reply) -> int:
    """A time in ms; -1: it is none."""
    try:
        due = int(float(score)) if isinstance(score, bytes | int | float) else -1
    except (ValueError, OverflowError):
        return -1
    return due if 0 < due < 1 << 53 else -1
