"""What a job framework is to redspan.

A framework says, of one job library, what its commands mean.  It is pure: no I/O, no clock, no state between
calls.  The relay asks `read` of a command whose key the framework claims, `slot` and `identity` of each job in an
enqueue, and the `Intent`'s ``finish`` of the reply.  The tracer, in its own process, asks `fields` of the same value.

A command can mean several things (acknowledge this job, fetch the next), and some are only known from the reply (a
job id, a popped job): `Intent.finish` therefore answers any number of operations.

How four different systems fit, checked before this was frozen:

================== ============================= =========================== ==============================
what               go-redis-work-queue           Celery                      RQ / BullMQ
================== ============================= =========================== ==============================
enqueue            LPUSH key value               LPUSH key value             HSET job + RPUSH id / EVALSHA
`Job.index`        2…                            2…                          HSET: its fields / ARGV[3]
`slot` writes      two ids in place              inside ``headers``          hash fields appended / msgpack
id comes from      `fields` (value)              `fields` (value)            `Operation.ref` (key / reply)
dequeue            BRPOPLPUSH reply              BRPOP reply                 BLMOVE id, then HGETALL
                                                                             (DESCRIBE) / EVALSHA reply
end                LPUSH completed (OUTCOME)     SETEX result (SETTLE),      HSET status (SETTLE) /
                   then LREM (ACK)               HDEL unacked (ACK, ref=tag) EVALSHA (SETTLE and DEQUEUE)
================== ============================= =========================== ==============================
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from enum import IntEnum
from typing import Final, Protocol, TypeAlias

import msgspec

from proxy.context.slot import Slot
from proxy.events import Op, Verdict
from proxy.frameworks.scripts import Scripts
from proxy.resp.reply import Reply

HEAD: Final = 6
"""First bytes of a job that show whose it may be, where its key does not: `Framework.heads`."""


class Role(IntEnum):
    """What a key is for. A key takes the first role that matches, in this order."""

    DEAD_LETTER = 1
    COMPLETED = 2
    PROCESSING = 3
    QUEUE = 4
    HEARTBEAT = 5
    SCHEDULED = 6
    JOB = 7
    """Holds one job's data under a key of its own."""
    OTHER = 8


class End(IntEnum):
    """How the end of a job is seen."""

    ACK = 1
    NEXT_POP = 2
    NONE = 3
    THREADS = 4
    """Nobody says so: a thread of the worker, whose connections they all share, asks for its next job."""


class Identity(msgspec.Struct, frozen=True, gc=False):
    """Names one submission of a job. Its retries repeat ``submission``; never queue, attempt or host."""

    submission: bytes
    attempt: int = 0
    hop: bytes = b""
    """``b"z"`` for the stay in a scheduled set, else empty."""


class Fields(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """What a job says of itself. Absent is empty, zero or -1. Times are nanoseconds since the epoch."""

    id: str = ""
    type: str = ""
    attempt: int = 0
    """0 for the first attempt; -1 where the job does not say: the tracer counts."""
    max_attempts: int = -1
    created_at: int = 0
    """When it was submitted: repeated by its retries."""
    enqueued_at: int = 0
    """When it was put on the queue this time."""
    scheduled_at: int = 0
    held_until: int = 0
    """A worker who gets it earlier holds it until then."""
    priority: str = ""
    tenant: str = ""
    correlation_id: str = ""
    idempotency_key: str = ""
    parent_id: str = ""
    depends_on: tuple[str, ...] = ()
    next_id: str = ""
    """Id of the job that its worker will submit when this one has succeeded."""
    batch_id: str = ""
    error: str = ""
    worker: str = ""
    trace_id: str = ""
    """Its trace id as it is written there, where that is not how W3C writes one."""
    handle: str = ""
    """What its acknowledgement will name it by (`Operation.ref`), where that is not its id."""
    fails_silently: bool = False
    """If it fails, nothing on the wire says so."""


class Operation(msgspec.Struct, gc=False):
    """One thing a command did. The relay adds connection, times and context and sends it as a `JobEvent`."""

    op: Op
    key: bytes
    queue: str = ""
    dest: bytes = b""
    ref: bytes = b""
    value: bytes = b""
    number: int = -1
    verdict: Verdict = Verdict.NONE
    error: str = ""
    worker: str = ""
    job: int = -1
    """Which of `Intent.jobs` this is of (its context travels along); -1: none of them."""


class Job(msgspec.Struct, gc=False):
    """A job inside an enqueue command: argument ``index`` holds ``value``, or what its slot writes of it."""

    index: int
    value: bytes


Finish: TypeAlias = "Callable[[Intent, Reply], Iterable[Operation]]"
"""Operations, once the reply is known. A reply of a type that the command cannot have: raise `Mismatch`."""


class Intent(msgspec.Struct, gc=False):
    """What a command is about to do. ``args`` are those that reach Redis: after injection the new ones."""

    framework: Framework
    args: list[bytes]
    finish: Finish
    key: bytes = b""
    """The queue's key, for what is reported of ``jobs`` when there is no reply to go by."""
    jobs: list[Job] = []
    pops: bool = False
    """Asks for a job: whoever sends it is ready for the next one."""
    unseen: Op | None = None
    """What to report of each of ``jobs`` if the reply is an error or will never be seen; None: nothing."""
    strange: bool = False
    """A script of this framework's, in a form that it does not know: it passes untouched, and is counted."""


class Mismatch(Exception):
    """A reply that cannot belong to its command: whoever matched them has lost count."""


class Framework(Protocol):
    name: str
    """As in the configuration: ``frameworks.<name>``."""
    family: str
    """Frameworks of one family pass jobs on to each other: they share identities, and so traces."""
    commands: frozenset[bytes]
    """Upper-case names of the commands it wants to see."""
    rewritable: frozenset[bytes]
    """Those of ``commands``, besides pushes and XADD, that may be rewritten if their argument 1 is a key of ours."""
    heads: frozenset[bytes]
    """What its jobs begin with (`HEAD` bytes each), if their keys may have any name; else none.

    `read` is then asked of commands on keys that nobody claims, of scripts by their arguments alone, and answers None
    unless the job is surely its own.
    """
    inject: bool
    end: End
    acked: Verdict
    """What an `ACK` says of the attempt when nothing else did."""
    backs_off_inside: bool
    """A failed attempt lasts until its back-off is over: the worker waits while it holds the job."""
    exclusive: bool
    """A job has an id of its own and one holder at a time: who gets it has taken it from whoever had it."""

    @property
    def scripts(self) -> Scripts | None:
        """The Lua scripts that it runs in Redis, if it does: `read` is asked of those that may be among them."""

    def role(self, key: bytes) -> Role | None:
        """What ``key`` is for; None: not ours. Called once per key, then remembered."""

    def read(self, name: bytes, args: list[bytes]) -> Intent | None:
        """What the command means; ``name`` in upper case, ``args[0]`` as it was sent. None: nothing to us."""

    def slot(self, value: bytes) -> Slot:
        """Where a context rides in this job."""

    def identity(self, value: bytes) -> Identity | None:
        """The bytes that name this submission; None where the framework has no need of them."""

    def queue(self, key: bytes) -> str:
        """The queue's name in the framework's own word; empty for a key that names none."""

    def fields(self, value: bytes) -> Fields:
        """What the job says of itself; empty `Fields` for a foreign value, never an exception."""

    def summary(self, value: bytes) -> bytes:
        """A value of the same shape with nothing but what `fields`, `slot` and `identity` read (≤ 4 KiB)."""


Frameworks: TypeAlias = Sequence[Framework]
