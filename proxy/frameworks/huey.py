"""huey on Redis, also by priority and with expiring results (run: 3.5.4, 3.2.1, 2.5.5 and 2.4.5 on redis-py 8.1.0).

====================== =========================================================================================
what                   on the wire (M: a pickled ``huey.registry.Message``; id, name, eta, retries … in this order)
====================== =========================================================================================
enqueue                ``LPUSH huey.redis.<app> M``; by priority ``ZADD huey.redis.<app> <-priority> <8 bytes>M``,
                       the bytes being the time in µs
dequeue                ``BRPOP huey.redis.<app> 1``, ``BZPOPMIN …``, RPOP, ZPOPMIN
later                  ``ZADD huey.schedule.<app> <time> M``: a task with an eta goes through the queue, and it is a
                       worker that puts it aside; then the scheduler's script takes out what is due, and it is
                       enqueued once more, the same bytes
start                  ``HMGET huey.results.<app> r:<id> rt:<name>``: has it been revoked? (``Expire``: MGET)
over                   ``HDEL huey.results.<app> r:<id>`` that finds nothing (``Expire``: DEL)
success, failure       ``HSET huey.results.<app> <id> <pickle>`` (``Expire``: ``SET huey.r.<app>.<id>``), a failure
                       being a ``huey.utils.Error``; right after "over", and only if there is something to store
retry                  the same with retries left, or nothing; then "enqueue" or "later" with one retry less
====================== =========================================================================================

Nothing is unpickled: id, name and retries are the first things in M, also behind zlib, gzip or before a signature.

**Nothing is ever written**: a pickle has no slot that the task could read, and huey pickles it anew for each retry.
The trace follows from the id, the enqueue span from the retries that are left, which go down.

**Not to be seen**: how a task ended that stored nothing.  If ``results`` is true, as it is in huey, that is taken for
success, marked as inferred; else it is unknown.  No process span have periodic tasks, those that expired or that a
``pre_execute`` hook cancelled, and, before huey 2.5.5 (``Expire``: 3.3), those that return None: nothing shows their
end.  (A worker's next pop does not: its threads share their connections.)  When a task that was put aside is due: its
score is a local time.  The tasks of a pipeline are traces of their own.  A task whose worker dies is lost, to huey too.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final, NamedTuple

from proxy.context.slot import ABSENT, Slot
from proxy.events import VALUE_LIMIT, Op, Verdict
from proxy.frameworks import paths
from proxy.frameworks.base import End, Fields, Identity, Intent, Job, Mismatch, Operation, Role
from proxy.frameworks.pickled import Scanner, Sign, Unreadable
from proxy.frameworks.purge import purged
from proxy.frameworks.wire import integer, name
from proxy.resp.reply import Reply

if TYPE_CHECKING:
    from proxy.config import HueySettings

_POPS: Final = frozenset((b"BRPOP", b"RPOP", b"BZPOPMIN", b"ZPOPMIN"))
_HEAD: Final = 4096
"""Bytes of a task that its head is looked for in."""
_ETA: Final = 12
"""Parts that a time may have: how it is pickled depends on the protocol."""
_PAIRS: Final = 8
_RAISED: Final = re.compile(r"([A-Za-z_]\w{0,99})\(")
_NO_JOBS: Final = (b"r:", b"rt:", b"chord:")
"""What else is stored among the results."""


class _Message(NamedTuple):
    id: str
    name: str
    retries: int
    """That are left."""
    priority: str
    queued_at: int
    """ns; 0 where it does not say."""
    head: bytes
    """As much of it as was read, uncompressed."""


class Huey:
    name = "huey"
    family = "huey"
    commands = _POPS | {
        b"LPUSH",
        b"ZADD",
        b"EVALSHA",
        b"EVAL",
        b"HMGET",
        b"MGET",
        b"HDEL",
        b"HSET",
        b"SET",
        b"DEL",
    }
    rewritable: frozenset[bytes] = frozenset()
    scripts = None
    heads: frozenset[bytes] = frozenset()
    inject = False
    end = End.ACK
    acked = Verdict.UNKNOWN
    backs_off_inside = False
    exclusive = True

    def __init__(self, options: HueySettings) -> None:
        prefix = options.prefix.encode()
        self._queue = prefix + b"redis."
        self._schedule = prefix + b"schedule."
        self._results = prefix + b"results."
        self._expiring = prefix + b"r."
        self._silent = Verdict.SUCCESS if options.results else Verdict.UNKNOWN

    def role(self, key: bytes) -> Role | None:
        if key.startswith(self._queue):
            return Role.QUEUE
        if key.startswith(self._schedule):
            return Role.SCHEDULED
        return Role.JOB if key.startswith((self._results, self._expiring)) else None

    def queue(self, key: bytes) -> str:
        for prefix in (self._queue, self._schedule):
            if key.startswith(prefix):
                return name(key.removeprefix(prefix))
        return ""

    def slot(self, value: bytes) -> Slot:
        return ABSENT

    def identity(self, value: bytes) -> Identity | None:
        message = _read(value)
        return None if message is None else Identity(message.id.encode(errors="replace"), message.retries)

    def fields(self, value: bytes) -> Fields:
        message = _read(value)
        if message is None:
            return Fields()
        return Fields(
            id=message.id,
            type=message.name,
            attempt=-1,
            priority=message.priority,
            enqueued_at=message.queued_at,
        )

    def summary(self, value: bytes) -> bytes:
        message = _read(value)
        return message.head if message is not None and len(message.head) <= VALUE_LIMIT else b""

    def read(self, name: bytes, args: list[bytes]) -> Intent | None:
        if len(args) < 2:
            return None
        if name in (b"EVALSHA", b"EVAL"):
            scheduler = len(args) == 5 and args[2] == b"1" and self.role(args[3]) is Role.SCHEDULED
            return Intent(self, args, self._due) if scheduler else None
        role = self.role(args[1])
        if role is Role.JOB:
            return self._about_a_result(name, args)
        if name == b"DEL":
            return Intent(self, args, self._emptied)
        if role is Role.SCHEDULED:
            return self._put_aside(args) if name == b"ZADD" else None
        if name in _POPS:
            return Intent(self, args, self._popped)
        at = {b"LPUSH": 2, b"ZADD": 3}.get(name)
        if at is None or len(args) != at + 1 or _read(args[at]) is None:
            return None
        return Intent(self, args, self._pushed, args[1], [Job(at, args[at])], unseen=Op.ENQUEUE)

    def _put_aside(self, args: list[bytes]) -> Intent | None:
        if len(args) != 4 or _read(args[3]) is None:
            return None
        # So that the rate of its queue applies.
        queue = self._queue + args[1].removeprefix(self._schedule)
        return Intent(self, args, self._scheduled, queue, [Job(3, args[3])], unseen=Op.SCHEDULE)

    def _about_a_result(self, name: bytes, args: list[bytes]) -> Intent | None:
        field = self._field(args)
        if name in (b"HMGET", b"MGET"):
            return Intent(self, args, self._begun) if field.startswith(b"r:") else None
        if name in (b"HDEL", b"DEL"):
            return Intent(self, args, self._over) if field.startswith(b"r:") else None
        # Of what else is kept there, nothing has an expiry.
        stores = len(args) == 4 if name == b"HSET" else name == b"SET" and len(args) == 5 and args[3].upper() == b"EX"
        limit = args[1].removeprefix(self._results) + b".rl."
        return Intent(self, args, self._stored) if stores and not field.startswith((*_NO_JOBS, limit)) else None

    def _field(self, args: list[bytes]) -> bytes:
        """What stands under which name: a field of the one hash, or the end of a key."""
        if args[1].startswith(self._results):
            return args[2] if len(args) > 2 else b""
        return args[1].removeprefix(self._expiring).partition(b".")[2]

    def _operation(self, op: Op, key: bytes, value: bytes, *, number: int = -1, job: int = -1) -> Operation:
        return Operation(op, key, self.queue(key), value=value, number=number, job=job)

    def _pushed(self, intent: Intent, reply: Reply) -> Iterator[Operation]:
        length, (job,) = integer(reply), intent.jobs
        # ZADD says how many were new, not how many there are.
        number = length if intent.args[0].upper() == b"LPUSH" else -1
        yield self._operation(Op.ENQUEUE, intent.args[1], job.value, number=number, job=0)

    def _scheduled(self, intent: Intent, reply: Reply) -> Iterator[Operation]:
        integer(reply)
        yield self._operation(Op.SCHEDULE, intent.args[1], intent.jobs[0].value, job=0)

    def _due(self, intent: Intent, reply: Reply) -> Iterator[Operation]:
        for value in reply if isinstance(reply, list) else ():
            if isinstance(value, bytes) and _read(value) is not None:
                yield self._operation(Op.MOVE, intent.args[3], value)

    def _popped(self, intent: Intent, reply: Reply) -> Iterator[Operation]:
        """BRPOP: key, task. BZPOPMIN: key, task, score. RPOP: a task. ZPOPMIN: task, score, or a list of that."""
        found, key = reply, intent.args[1]
        if isinstance(found, list) and found and intent.args[0].upper() in (b"BRPOP", b"BZPOPMIN"):
            if not isinstance(found[0], bytes):
                raise Mismatch(intent.args[0])
            key, found = found[0], found[1:]
        while isinstance(found, list) and found:
            found = found[0]
        if isinstance(found, int | dict):
            raise Mismatch(intent.args[0])
        if isinstance(found, bytes) and _read(found) is not None:
            # Until it starts, it may only be put aside.
            yield self._operation(Op.DEQUEUE, key, found, number=0)

    def _begun(self, intent: Intent, reply: Reply) -> Iterator[Operation]:
        key, ref = intent.args[1], self._field(intent.args).removeprefix(b"r:")
        if not isinstance(reply, list):
            raise Mismatch("HMGET")
        if any(isinstance(found, bytes) and _revokes(found) for found in reply):
            yield Operation(Op.SETTLE, key, ref=ref, verdict=Verdict.FAILURE, error="revoked")
        else:
            yield Operation(Op.START, key, ref=ref)

    def _over(self, intent: Intent, reply: Reply) -> Iterator[Operation]:
        # One that was there is taken back, or used up, before the task may run.
        if not integer(reply):
            ref = self._field(intent.args).removeprefix(b"r:")
            yield Operation(Op.OVER, intent.args[1], ref=ref, verdict=self._silent)

    def _stored(self, intent: Intent, reply: Reply) -> Iterator[Operation]:
        args = intent.args
        ref, error = self._field(args), _error(args[3] if args[0].upper() == b"HSET" else args[2])
        if error is None:
            yield Operation(Op.SETTLE, args[1], ref=ref, verdict=Verdict.SUCCESS)
        elif error.get("task_id", ref.decode(errors="replace")) != ref.decode(errors="replace"):
            return  # that of another task, which was to follow in the pipeline
        elif error.get("retries"):
            yield Operation(Op.RETRY, args[1], ref=ref)
        else:
            raised = _RAISED.match(str(error.get("error", "")))
            yield Operation(Op.SETTLE, args[1], ref=ref, verdict=Verdict.FAILURE, error=raised[1] if raised else "")

    def _emptied(self, intent: Intent, reply: Reply) -> Iterator[Operation]:
        for operation in purged(self, intent, reply):
            if self.role(operation.key) is not Role.JOB:
                yield operation


def _plain(body: bytes) -> bytes:
    """The first bytes of a pickle. Raises `Unreadable`."""
    if body[:1] != b"\x78" and body[:2] != b"\x1f\x8b":
        return body
    try:
        return zlib.decompressobj(zlib.MAX_WBITS | 32).decompress(body[: 2 * _HEAD], _HEAD)
    except zlib.error:
        raise Unreadable from None


def _read(value: bytes) -> _Message | None:
    # 8 bytes of time begin with a zero for some centuries to come, a pickle never does.
    stamp, body = (value[:8], value[8:]) if value[:1] == b"\0" else (b"", value)
    try:
        body = _plain(body)
        scanner = Scanner(body)
        scanner.expect("huey.registry", "Message", Sign.GLOBAL, Sign.MARK)
        job_id, task = scanner.take(), scanner.take()
    except Unreadable:
        return None
    if not isinstance(job_id, str) or not isinstance(task, str) or not job_id:
        return None
    retries, priority = _rest(scanner)
    queued_at = int.from_bytes(stamp, "big") * 1000
    head = stamp + body[: scanner.at]
    return _Message(job_id[:1024], task[:256], retries, priority, queued_at, head)


def _rest(scanner: Scanner) -> tuple[int, str]:
    """Retries and priority, behind the eta."""
    try:
        part = scanner.take()
        for _ in range(_ETA) if part is not None else ():
            # A time ends with a tuple of its state, and the call that takes it.
            before, part = part, scanner.take()
            if before is Sign.TUPLE_OF_1 and part is Sign.REDUCE:
                break
        retries, _, priority = scanner.take(), scanner.take(), scanner.take()
    except Unreadable:
        return 0, ""
    number = retries if isinstance(retries, int) and not isinstance(retries, bool) else 0
    return number, paths.text(priority)


def _revokes(value: bytes) -> bool:
    """Whether a revocation (until when, only once?) holds for sure: it may have passed, but for one without a time."""
    try:
        scanner = Scanner(_plain(value))
        until, once = scanner.take(), scanner.take()
    except Unreadable:
        return False
    return until is None and isinstance(once, bool)


def _error(value: bytes) -> dict[str, str | int] | None:
    """What an error says of itself, as far as it can be read; None: it is no error."""
    try:
        scanner = Scanner(_plain(value))
        scanner.expect("huey.utils", "Error", Sign.GLOBAL)
    except Unreadable:
        return None
    found: dict[str, str | int] = {}
    try:
        scanner.expect(Sign.DICT, Sign.MARK)
        for _ in range(_PAIRS):
            key, said = scanner.take(), scanner.take()
            if isinstance(key, str) and isinstance(said, str | int):
                found[key] = said
    except Unreadable:
        pass
    return found
