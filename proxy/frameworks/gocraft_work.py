r"""gocraft/work (run: v0.5.1, on the redigo that it brings).

======================= ========================================================================================
what                    on the wire (NS: the namespace; J: ``{"name", "id", "t", "args", …}``)
======================= ========================================================================================
enqueue                 ``LPUSH NS:jobs:<name> J``; if it is unique, a script of ``NS:jobs:<name>`` and its lock,
                        answered with ``ok``, or ``dup`` if it is there already
later, periodic         ``ZADD NS:scheduled <time> J``, or such a script
dequeue                 the script fetch, of six keys for each of the worker's jobs: ``[J, queue, NS:…:inprogress]``
over                    in a transaction: ``LREM NS:jobs:<name>:<pool>:inprogress 1 J``
retry, dead             in that transaction: ``ZADD NS:retry <time> J``, ``ZADD NS:dead <time> J``, with a failure more
redelivery              the script re-enqueue of another worker, ten seconds after the last sign of life:
                        ``[J, NS:…:inprogress, queue]``
======================= ========================================================================================

The namespace may be any: a job's list is known by the job in it, which has the same name, all else by both.

**Nothing is ever written**: workers write J again for a retry, and leave out what they do not know.  The trace follows
from the id, the enqueue span from the failures before.

**Not to be seen**: that a job has succeeded: it is over, and there is neither retry nor dead job in the transaction,
marked as inferred; one that failed for good with ``SkipDead`` looks the same.  When a job that was put aside comes to
its queue, which a script sees to: it waits from when it was due.  What is done by hand, to dead jobs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

import msgspec

from proxy.context.slot import ABSENT, Slot
from proxy.events import Op, Verdict
from proxy.frameworks import paths
from proxy.frameworks.base import End, Fields, Identity, Intent, Job, Operation, Role
from proxy.frameworks.scripts import Scripts
from proxy.frameworks.wire import integer, name
from proxy.resp.commands import RUNS, keys
from proxy.resp.reply import Reply

if TYPE_CHECKING:
    from proxy.config import GocraftWorkSettings

_FETCHED: Final = 6
"""Keys that the script fetch is given for each of a worker's jobs."""
_REAPED: Final = 4
"""Keys that the script re-enqueue is given for each of them."""
_MOST: Final = 200
"""Kinds of jobs that a worker may have."""
SCRIPTS: Final = Scripts(
    {},
    r"\A\s*local function (?:acquireLock|releaseLock)\(lockKey, lockInfoKey, workerPoolID\)"
    r"|\A\s*if redis\.call\('set', KEYS\[2\], (?:'1'|ARGV\[2\]), 'NX', 'EX', '86400'\) then\s+redis\.call\('[lz]",
    signatures=(
        (2, b""),
        (2, b"scheduled"),
        *((_FETCHED * kinds, b"") for kinds in range(1, _MOST + 1)),
        *((_REAPED * kinds, b"inprogress") for kinds in range(1, _MOST + 1)),
    ),
)
_LIST: Final = re.compile(rb"((?:.*:)?jobs:)([^:].*)", re.DOTALL)
_HELD: Final = re.compile(rb"((?:.*:)?jobs:.+):([0-9a-f]{24}):inprogress", re.DOTALL)
_ASIDE: Final = (b":scheduled", b":retry", b":dead")
_OF_JOB: Final = (b":paused", b":lock", b":lock_info", b":max_concurrency")
"""What follows the name of a job's list in the last four keys that the script fetch is given of it."""


class _Job(msgspec.Struct):
    """What every job has. Its arguments are not looked at."""

    name: str
    id: str
    t: int
    args: msgspec.Raw
    fails: int = 0


_job: Final = msgspec.json.Decoder(_Job)


class GocraftWork:
    name = "gocraft-work"
    family = "gocraft-work"
    commands = RUNS | {b"LPUSH", b"LREM", b"ZADD"}
    rewritable: frozenset[bytes] = frozenset()
    heads = frozenset((b'{"name',))
    scripts = SCRIPTS
    inject = False
    end = End.ACK
    acked = Verdict.SUCCESS
    backs_off_inside = False
    exclusive = True

    def __init__(self, options: GocraftWorkSettings) -> None:
        pass

    def role(self, key: bytes) -> Role | None:
        if key.endswith(b":inprogress"):
            return Role.PROCESSING if _HELD.fullmatch(key) else None
        if not key.endswith(_ASIDE):
            return None
        return Role.DEAD_LETTER if key.endswith(b":dead") else Role.SCHEDULED

    def queue(self, key: bytes) -> str:
        found = _LIST.fullmatch(key)
        return name(found[2]) if found is not None else ""

    def slot(self, value: bytes) -> Slot:
        return ABSENT

    def identity(self, value: bytes) -> Identity | None:
        job = _read(value)
        return None if job is None else Identity(job.id.encode(), job.fails)

    def fields(self, value: bytes) -> Fields:
        job = _read(value)
        if job is None:
            return Fields()
        since = paths.when(job.t)
        return Fields(id=paths.text(job.id), type=paths.text(job.name), attempt=job.fails, enqueued_at=since)

    def summary(self, value: bytes) -> bytes:
        return paths.reduce(value, ("name", "id", "t", "fails")).removesuffix(b"}") + b',"args":null}'

    def read(self, name: bytes, args: list[bytes]) -> Intent | None:
        if name in RUNS:
            return self._script(args)
        if name == b"LPUSH":
            return self._enqueue(args, 2) if len(args) == 3 else None
        if len(args) != 4:
            return None
        role = self.role(args[1])
        if name == b"LREM":
            return Intent(self, args, self._over) if role is Role.PROCESSING and _read(args[3]) else None
        return self._put(args, 3, paths.due(args[2])) if role in (Role.SCHEDULED, Role.DEAD_LETTER) else None

    def _enqueue(self, args: list[bytes], at: int) -> Intent | None:
        """A push, by itself or by a script; argument ``at`` is the job."""
        key = keys(args[0].upper(), args)[0]
        found, job = _LIST.fullmatch(key), _read(args[at])
        if found is None or job is None or found[2] != job.name.encode():
            return None

        def pushed(intent: Intent, reply: Reply) -> Iterator[Operation]:
            if reply == b"ok" or isinstance(reply, int):
                number = reply if isinstance(reply, int) else -1
                yield Operation(Op.ENQUEUE, key, self.queue(key), value=args[at], number=number, job=0)

        return Intent(self, args, pushed, key, [Job(at, args[at])], unseen=Op.ENQUEUE)

    def _put(self, args: list[bytes], at: int, due: int) -> Intent | None:
        """Into one of the sorted sets."""
        key, job = keys(args[0].upper(), args)[0], _read(args[at])
        if job is None:
            return None
        space, _, what = key.rpartition(b":")
        queue = space + b":jobs:" + job.name.encode()
        value = args[at]

        def put(intent: Intent, reply: Reply) -> Iterator[Operation]:
            if reply != b"ok" and not (isinstance(reply, int) and reply):
                return
            if what == b"dead":
                yield Operation(Op.DEAD_LETTER, key, self.queue(queue), value=value, verdict=Verdict.FAILURE)
                return
            if what == b"retry":
                yield Operation(Op.RETRY, queue, self.queue(queue), value=value)
            yield Operation(Op.SCHEDULE, queue, self.queue(queue), value=value, number=due, job=0)

        jobs = [] if what == b"dead" else [Job(at, value)]
        return Intent(self, args, put, queue, jobs, unseen=Op.SCHEDULE if what == b"scheduled" else None)

    def _over(self, intent: Intent, reply: Reply) -> Iterator[Operation]:
        """If it has failed, the next command of the transaction says so."""
        if integer(reply):
            key, value = intent.args[1], intent.args[3]
            yield Operation(Op.OVER, key, value=value, verdict=Verdict.SUCCESS)

    # ---- scripts

    def _script(self, args: list[bytes]) -> Intent | None:
        given = keys(b"EVAL", args)
        rest = len(args) - 3 - len(given)
        if len(given) == 2:
            return self._unique(args, given, rest)
        if rest != 1 or not given:
            return None
        # There may be hundreds, in a command that is sent for each job.
        if len(given) % _FETCHED == 0 and all(map(_are_of_one_job, (given[:_FETCHED], given[-_FETCHED:]))):
            return Intent(self, args, self._fetched)
        if len(given) % _REAPED == 0 and all(map(_HELD.fullmatch, (given[0], given[-_REAPED]))):
            return Intent(self, args, self._reaped)
        return None

    def _unique(self, args: list[bytes], given: Sequence[bytes], rest: int) -> Intent | None:
        """The job, since 2019 perhaps its newest form beside it, and when it is due if it is for later."""
        space, found, _ = given[1].partition(b"unique:")
        if not found or not given[0].startswith(space) or not 1 <= rest <= 3:
            return None
        if given[0] == space + b"scheduled":
            return self._put(args, 5, paths.due(args[-1])) if rest > 1 else None
        return self._enqueue(args, 5)

    def _fetched(self, intent: Intent, reply: Reply) -> Iterator[Operation]:
        if isinstance(reply, list) and len(reply) == 3:
            value, key, held = reply
            if isinstance(value, bytes) and isinstance(key, bytes) and isinstance(held, bytes) and _read(value):
                pool = _HELD.fullmatch(held)
                worker = "" if pool is None else pool[2].decode()
                yield Operation(Op.DEQUEUE, key, self.queue(key), value=value, worker=worker)

    def _reaped(self, intent: Intent, reply: Reply) -> Iterator[Operation]:
        if isinstance(reply, list) and len(reply) == 3:
            value, held, key = reply
            if isinstance(value, bytes) and isinstance(key, bytes) and isinstance(held, bytes) and _read(value):
                yield Operation(Op.RECLAIM, held, self.queue(key), value=value)
                yield Operation(Op.MOVE, key, self.queue(key), dest=held, value=value)


def _are_of_one_job(given: Sequence[bytes]) -> bool:
    queue, held = given[0], _HELD.fullmatch(given[1])
    return held is not None and held[1] == queue and [*given[2:]] == [queue + word for word in _OF_JOB]


def _read(value: bytes) -> _Job | None:
    job = paths.read(_job, value)
    return job if job is not None and job.name and job.id and 0 <= job.fails < 1 << 31 else None
