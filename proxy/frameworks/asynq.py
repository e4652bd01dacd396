r"""asynq (run: 0.26.0 and 0.25.1, on the go-redis that they bring; 0.24.1 by its source).

All that matters is done by Lua scripts, whose keys all begin with ``asynq:{<queue>}:``.  They are known by their keys
in all versions from 0.24 to 0.26.

======================= ========================================================================================
what                    on the wire (M: the task, in protobuf; id: unique within its queue)
======================= ========================================================================================
enqueue                 the script enqueue: ``M id now``, or ``id ttl M now`` with a lock that makes it unique; answered
                        with 1, or 0 or -1 if it is there already
later                   the script schedule: ``M time id`` or ``id ttl time M``
in groups               the script addToGroup: ``M id now group``
dequeue                 the script dequeue, which answers M or nil, on one queue after the other
success                 the scripts done and markAsComplete: ``id …``
retry                   the script retry: ``id M time …`` with a new M, for later
dead                    the script archive: ``id M …``
given back              the script requeue: ``id``, by a server that shuts down
taken back              the script retry, or archive, by a server that found the lease expired, as M says
sign of life            ``ZADD <queue>:lease XX time id …``
by hand                 runTask, archiveTask, deleteTask; removeQueue and deleteAllPending for all of a queue
======================= ========================================================================================

**Where the context rides**: ``headers["traceparent"]``, a map of the task since 0.26, which its retries repeat and its
handler reads with ``Headers()``.  Older versions leave out what they do not know when they write the task again, for a
retry.  So the trace follows from the id, where that is one that asynq has made: then all attempts are in it.

**Not to be seen**: why it failed; who runs it; when a task that was put aside comes to its queue, which a script sees
to: it waits from when it was due.  What becomes of grouped tasks: they are read, and the task that is made of them is a
trace of its own.  Tasks moved by the hundred (RunAll…, ArchiveAll…, DeleteAll… but the pending ones).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Final

from proxy.context.protobuf_slot import map_slot
from proxy.context.slot import Slot
from proxy.events import Op, Verdict
from proxy.frameworks import asynq_task as task
from proxy.frameworks.base import End, Fields, Identity, Intent, Job, Operation, Role
from proxy.frameworks.scripts import Script, Scripts
from proxy.frameworks.wire import integer, name
from proxy.resp.commands import RUNS
from proxy.resp.reply import Reply

if TYPE_CHECKING:
    from proxy.config import AsynqSettings

_PREFIX: Final = b"asynq:{"
_HELD: Final = "active lease"
SCRIPTS: Final = Scripts(
    {
        "enqueue": ("* pending", "* * pending"),
        "schedule": ("* scheduled", "* * scheduled"),
        "run": ("* pending groups",),
        "archive by hand": ("* archived groups",),
        "group": ("* * groups", "* * groups *"),
        "take": ("pending paused active lease",),
        "done": tuple(
            f"{_HELD} {more}" for more in ("* * processed", "* * processed *", "completed * * processed",
                                           "completed * * processed *")
        ),
        "requeue": (f"{_HELD} pending *",),
        "retry": (f"* {_HELD} retry * * processed failed",),
        "archive": (f"* {_HELD} archived * * processed failed", f"* {_HELD} archived * * processed failed t:"),
        "delete": ("* groups",),
        "empty": ("pending", "pending active scheduled retry archived lease"),
        "aside": ("scheduled pending", "retry pending", "archived pending", "pending archived", "scheduled archived",
                  "retry archived"),
    },
    r'(?s)\A\s*(?:if|local)\b(?:.*"msg", ARGV\[\d\],\s+"state", "\w+"'
    r'|.*redis\.call\("RPOPLPUSH", KEYS\[1\], KEYS\[3\]\)\s.*"state", "active"'
    r'| redis\.call\("LREM", KEYS\[[12]\], 0, ARGV\[1\]\) == 0 then\s+return redis\.error_reply\("NOT FOUND"\))',
    (
        "98d28b42650870a743450ffda9791e9e19c6991b",  # enqueue
        "297b3f9abfd963a3316434ef9d88fc5bf8a7ddc3",  # the same, if it is unique
        "8ce6b38a99b73194585c251eb3c2a89559f37a87",  # schedule
        "e9b8aa859a976a1fce09eaf723b4fccd02ba799e",  # the same, if it is unique
        "a8153319360adc71cdc370107f8ab9786f204765",  # dequeue
        "1241eaa1c73409baaf1fea0c08d203a4911bda15",  # done
        "65fa409c88198a681c53e0892d8276eca0145694",  # retry
    ),
)  # fmt: skip
_ADDS: Final = {
    ("enqueue", 2): (0, 1, None),
    ("enqueue", 3): (2, 0, None),
    ("schedule", 2): (0, 2, 1),
    ("schedule", 3): (3, 0, 2),
    ("group", 3): (0, 1, None),
    ("group", 4): (0, 1, None),
}
"""By kind of script and how many keys it has: which of its arguments are the task, its id, and when it is due."""
_MADE: Final = re.compile(rb"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
"""An id that asynq has made: no other task will ever have it."""
_ROLES: Final = {
    b"pending": Role.QUEUE,
    b"active": Role.PROCESSING,
    b"lease": Role.HEARTBEAT,
    b"scheduled": Role.SCHEDULED,
    b"retry": Role.SCHEDULED,
    b"archived": Role.DEAD_LETTER,
    b"completed": Role.COMPLETED,
}


class Asynq:
    name = "asynq"
    family = "asynq"
    commands = RUNS | {b"ZADD"}
    rewritable: frozenset[bytes] = RUNS
    heads: frozenset[bytes] = frozenset()
    scripts = SCRIPTS
    end = End.ACK
    acked = Verdict.SUCCESS
    backs_off_inside = False
    exclusive = True

    def __init__(self, options: AsynqSettings) -> None:
        self.inject = options.inject

    def role(self, key: bytes) -> Role | None:
        base, rest = _split(key)
        return _ROLES.get(rest, Role.OTHER) if base else None

    def queue(self, key: bytes) -> str:
        return name(_split(key)[0][len(_PREFIX) : -2])

    def slot(self, value: bytes) -> Slot:
        return map_slot(value, task.HEADERS)

    def identity(self, value: bytes) -> Identity | None:
        found = task.read(value)
        if found is None or not _MADE.fullmatch(found.id):
            return None
        return Identity(found.id, found.retried)

    def fields(self, value: bytes) -> Fields:
        found = task.read(value)
        if found is None:
            return Fields()
        return Fields(
            id=name(found.id),
            type=name(found.type),
            attempt=found.retried,
            max_attempts=1 + found.retry,
            batch_id=name(found.group),
        )

    def summary(self, value: bytes) -> bytes:
        return task.summary(value)

    def read(self, name: bytes, args: list[bytes]) -> Intent | None:
        if name not in RUNS:
            alive = name == b"ZADD" and len(args) > 4 and args[2].upper() == b"XX"
            return Intent(self, args, self._lives) if alive and self.role(args[1]) is Role.HEARTBEAT else None
        script = SCRIPTS.read(args)
        if script is None:
            return self._group(args)
        if not script.base.startswith(_PREFIX) or not script.base.endswith(b"}:"):
            return None
        if script.kind in ("enqueue", "schedule", "group"):
            return self._add(script, args)
        if script.kind == "retry":
            return self._retry(script, args)
        alone, operations = _MEANS[script.kind]
        if not script.args or (alone and not _names_its_task(script)):
            return None

        def finish(intent: Intent, reply: Reply) -> Iterable[Operation]:
            return operations(self, script, reply)

        return Intent(self, args, finish)

    def _add(self, script: Script, args: list[bytes]) -> Intent | None:
        at, named, due_at = _ADDS[script.kind, len(script.keys)]
        if len(script.args) < 3 or len(script.args) <= at:
            return None
        job_id = script.args[named]
        if not _is_of(script, script.args[at], job_id):
            return None
        op = Op.ENQUEUE if due_at is None else Op.SCHEDULE
        due = -1 if due_at is None else _ms(script.args[due_at])

        def added(intent: Intent, reply: Reply) -> Iterator[Operation]:
            if integer(reply) == 1:
                value = intent.args[script.at + at]
                yield self.about(op, script.base, job_id, value=value, number=due, job=0)

        job = Job(script.at + at, args[script.at + at])
        return Intent(self, args, added, script.base + b"pending", [job], unseen=op)

    def _retry(self, script: Script, args: list[bytes]) -> Intent | None:
        """A task written again. One that is of an older version than 0.26 has lost its context by that."""
        given = script.args
        if len(given) < 5 or not _is_of(script, given[1], given[0]):
            return None
        due, failed = _ms(given[2]), given[4] != b"0"
        op = Op.RECLAIM if task.lease_expired(given[1]) else Op.RETRY

        def retried(intent: Intent, reply: Reply) -> Iterator[Operation]:
            verdict = Verdict.NONE if failed else Verdict.UNKNOWN
            yield self.about(op, script.base, given[0], verdict=verdict)
            value = intent.args[script.at + 1]
            yield self.about(Op.SCHEDULE, script.base, given[0], value=value, number=due, job=0)

        return Intent(self, args, retried, script.base + b"pending", [Job(script.at + 1, given[1])])

    def _group(self, args: list[bytes]) -> Intent | None:
        """The tasks of a group are read, to be made into one: the only script of a key that has no name of its own."""
        if len(args) != 5 or args[2] != b"1":
            return None
        base, rest = _split(args[3])
        if not base or not rest.startswith(b"g:") or args[4] != base + b"t:":
            return None

        def gathered(intent: Intent, reply: Reply) -> Iterator[Operation]:
            for value in reply if isinstance(reply, list) else ():
                found = task.read(value) if isinstance(value, bytes) else None
                if found is not None and isinstance(value, bytes):
                    yield self.about(Op.DEQUEUE, base, found.id, value=value, verdict=Verdict.UNKNOWN)

        return Intent(self, args, gathered)

    def _lives(self, intent: Intent, reply: Reply) -> Iterator[Operation]:
        integer(reply)
        base, _ = _split(intent.args[1])
        for job_id in intent.args[4::2]:
            yield self.about(Op.HEARTBEAT, base, job_id)

    def about(
        self,
        op: Op,
        base: bytes,
        job_id: bytes,
        *,
        value: bytes = b"",
        number: int = -1,
        verdict: Verdict = Verdict.NONE,
        job: int = -1,
    ) -> Operation:
        """One thing done to a task, which is known by its key. For the queue's key stands that of its list."""
        key = base + b"pending"
        ref = base + b"t:" + job_id
        return Operation(op, key, self.queue(key), ref=ref, value=value, number=number, verdict=verdict, job=job)


def _taken(queue: Asynq, script: Script, reply: Reply) -> Iterator[Operation]:
    found = task.read(reply) if isinstance(reply, bytes) else None
    if found is not None and isinstance(reply, bytes):
        yield queue.about(Op.DEQUEUE, script.base, found.id, value=reply)


def _done(queue: Asynq, script: Script, reply: Reply) -> Iterator[Operation]:
    yield queue.about(Op.SETTLE, script.base, script.args[0], verdict=Verdict.SUCCESS)


def _archived(queue: Asynq, script: Script, reply: Reply) -> Iterator[Operation]:
    yield queue.about(Op.DEAD_LETTER, script.base, script.args[0], verdict=Verdict.FAILURE)


def _given_back(queue: Asynq, script: Script, reply: Reply) -> Iterator[Operation]:
    yield queue.about(Op.RETRY, script.base, script.args[0], verdict=Verdict.UNKNOWN)
    yield queue.about(Op.MOVE, script.base, script.args[0])


def _run(queue: Asynq, script: Script, reply: Reply) -> Iterator[Operation]:
    if reply == 1:
        yield queue.about(Op.MOVE, script.base, script.args[0])


def _removed(queue: Asynq, script: Script, reply: Reply) -> Iterator[Operation]:
    if reply == 1:
        yield queue.about(Op.CANCEL, script.base, script.args[0], number=1)


def _emptied(queue: Asynq, script: Script, reply: Reply) -> Iterator[Operation]:
    if isinstance(reply, int) and reply >= 0:
        key = script.base + b"pending"
        yield Operation(Op.PURGE, key, queue.queue(key))


def _nothing(*_: object) -> Iterator[Operation]:
    yield from ()


_MEANS: Final[Mapping[str, tuple[bool, Callable[[Asynq, Script, Reply], Iterable[Operation]]]]] = {
    "take": (False, _taken),
    "done": (True, _done),
    "requeue": (True, _given_back),
    "archive": (True, _archived),
    "run": (True, _run),
    "archive by hand": (True, _removed),
    "delete": (True, _removed),
    "empty": (False, _emptied),
    "aside": (False, _nothing),
}
"""By kind of script: whether it is about one task, its first argument's; and what it has done, by its reply."""


def _split(key: bytes) -> tuple[bytes, bytes]:
    """What all keys of the queue begin with, and the rest; nothing of a key that is not asynq's."""
    queue, ends, rest = key.partition(b"}:")
    return (queue + ends, rest) if ends and queue.startswith(_PREFIX) else (b"", b"")


def _names_its_task(script: Script) -> bool:
    return script.base + b"t:" + script.args[0] in script.keys


def _is_of(script: Script, message: bytes, job_id: bytes) -> bool:
    """The task says what the keys say."""
    found = task.read(message)
    if found is None or found.id != job_id or script.base != b"%s%s}:" % (_PREFIX, found.queue):
        return False
    return script.base + b"t:" + job_id in script.keys


def _ms(seconds: bytes) -> int:
    return int(seconds) * 1000 if seconds.isdigit() and len(seconds) < 14 else -1
