r"""BullMQ (run: 4.18.2, 5.12.0, 5.81.5 and 6.7.0, on ioredis and node-redis).

All that matters is done by Lua scripts, whose keys all begin with ``<prefix>:<queue>:``.  They are known by their keys
in all versions from 4.18 to 6.7; `msgpack` stands for MessagePack.

======================= ========================================================================================
what                    on the wire (EVAL or EVALSHA; id: the job's, unique within its queue)
======================= ========================================================================================
enqueue                 addStandardJob, addPrioritizedJob, addParentJob: ``msgpack[prefix, id or "", name, time, …]
                        data msgpack{opts}``; answered with the id
later                   addDelayedJob, the same; addJobScheduler, and for the next job of a scheduler, by its
                        worker, updateJobScheduler: ``… msgpack{opts} …``
dequeue                 the reply ``[[name, …, data, …, opts, …], id, …]``, of moveToActive; but of moveToFinished
                        and moveToDelayed, too, which bring the next job along
success, failure        moveToFinished: ``id time returnvalue | failedReason … completed | failed …``
retry                   retryJob, at once; moveToDelayed, later
given back              moveToDelayed, moveJobFromActiveToWait or moveToWaitingChildren, by the job itself
stalled                 the ids in the reply of moveStalledJobsToWait
by hand                 reprocessJob, promote, changeDelay, removeJob; drain and obliterate for all of a queue
======================= ========================================================================================

**Where the context rides**: in the options, which every retry repeats: ``opts.tm``, the carrier that BullMQ's own
telemetry reads, and ``opts.traceparent``, where others look (the job reads it as ``job.opts.traceparent``).  The next
job of a scheduler is a copy of the last: it gets a context of its own, linked to that of the one before.

**Not to be seen**: whether an id that was added again was there already, unless it is known to wait or run (then it is
marked ``duplicate``).  What a parent waits for, its children, is part of its wait.  In 4.18, whether a job was delayed
because it failed or by itself: it counts as failed.  Jobs moved by the hundred (moveJobsToWait, clean).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Final

from proxy.context.fields_slot import pack
from proxy.context.msgpack_slot import carried_slot, is_map, msgpack_slot
from proxy.context.slot import NoSlot, Slot, State
from proxy.events import VALUE_LIMIT, Op, Verdict
from proxy.frameworks import bullmq_job as job
from proxy.frameworks.base import End, Fields, Identity, Intent, Job, Operation, Role
from proxy.frameworks.bullmq_scripts import SCRIPTS
from proxy.frameworks.scripts import Script
from proxy.frameworks.wire import name
from proxy.resp.commands import RUNS
from proxy.resp.reply import Reply

if TYPE_CHECKING:
    from proxy.config import BullmqSettings

_TWICE: Final = 10**15
"""From here on a time is in units of 1/4096 ms."""
_FOREIGN: Final = NoSlot(State.REFUSED, "foreign")
_KEPT: Final = (b"name", b"timestamp", b"opts", b"atm", b"ats", b"attemptsMade", b"parentKey")
"""Fields of a job that anything is read of. Not ``data``."""
_OPTIONS_AT: Final = {("scheduler", 9): 5, ("next", 7): 3, ("next", 6): 2}
"""By kind of script and how many arguments it has: which of them holds the options."""


class Bullmq:
    name = "bullmq"
    family = "bullmq"
    commands: frozenset[bytes] = RUNS
    rewritable: frozenset[bytes] = RUNS
    heads: frozenset[bytes] = frozenset()
    scripts = SCRIPTS
    end = End.ACK
    acked = Verdict.SUCCESS
    backs_off_inside = False
    exclusive = True

    def __init__(self, options: BullmqSettings) -> None:
        self.inject = options.inject
        self._prefix = options.prefix.encode() + b":"

    def role(self, key: bytes) -> Role | None:
        return None

    def queue(self, key: bytes) -> str:
        """All keys of a queue stand for it. After another prefix than the one that is set, its name has no colon."""
        base = key.rpartition(b":")[0]
        own = base.startswith(self._prefix)
        return name(base.removeprefix(self._prefix) if own else base.rpartition(b":")[2])

    def slot(self, value: bytes) -> Slot:
        options = job.hash_of(value)[1].get(b"opts", b"")
        if options.startswith(b"{"):
            return carried_slot(options)
        return msgpack_slot(options, copied=job.repeated(options)) if options else _FOREIGN

    def identity(self, value: bytes) -> Identity | None:
        return None

    def fields(self, value: bytes) -> Fields:
        return job.fields_of(value)

    def summary(self, value: bytes) -> bytes:
        job_id, hash_ = job.hash_of(value)
        kept = pack(job_id, [part for field in _KEPT if field in hash_ for part in (field, hash_[field])])
        return kept if len(kept) <= VALUE_LIMIT else pack(job_id, [])

    def read(self, name: bytes, args: list[bytes]) -> Intent | None:
        script = SCRIPTS.read(args) if name in RUNS else None
        if script is None:
            return None
        if script.kind in ("add", "delay"):
            return self._add(script, args)
        if script.kind in ("scheduler", "next"):
            return self._schedule(script, args)
        least, operations = _MEANS[script.kind]
        if len(script.args) < least:
            return None

        def finish(intent: Intent, reply: Reply) -> Iterable[Operation]:
            return operations(self, script, reply)

        return Intent(self, args, finish)

    def _add(self, script: Script, args: list[bytes]) -> Intent | None:
        sent = job.sent(script.args[0]) if len(script.args) == 3 and is_map(script.args[2]) else None
        if sent is None or sent.prefix.encode() != script.base:
            return None
        fields = [b"name", sent.name.encode(), b"timestamp", b"%d" % sent.timestamp, b"data", script.args[1]]
        if sent.parent:
            fields += [b"parentKey", sent.parent.encode()]
        if script.kind == "add":
            return self._enqueue(Op.ENQUEUE, script, args, 2, fields, lambda _: -1)
        due = int(sent.timestamp) + job.whole(job.options(script.args[2]).delay)
        return self._enqueue(Op.SCHEDULE, script, args, 2, fields, lambda _: due)

    def _schedule(self, script: Script, args: list[bytes]) -> Intent | None:
        at = _OPTIONS_AT.get((script.kind, len(script.args)))
        if at is None or script.base not in script.args or not is_map(script.args[at]):
            return None
        fields = [b"timestamp", script.args[at + 1]]
        if script.kind == "scheduler":
            fields += [b"name", job.scheduler_name(script.args[1]).encode()]
        # Its id ends with when it is due.
        due: Callable[[bytes], int] = lambda job_id: job.number(job_id.rpartition(b":")[2])  # noqa: E731
        return self._enqueue(Op.SCHEDULE, script, args, at, fields, due)

    def _enqueue(
        self, op: Op, script: Script, args: list[bytes], at: int, fields: list[bytes], due: Callable[[bytes], int]
    ) -> Intent:
        """``at``: which of the script's arguments the options are."""
        options = script.at + at

        def added(intent: Intent, reply: Reply) -> Iterator[Operation]:
            job_id = reply[0] if isinstance(reply, list) and reply else reply
            if isinstance(job_id, bytes) and job_id:
                value = pack(job_id, [*fields, b"opts", intent.args[options]])
                yield self.about(op, script, job_id, value=value, number=due(job_id), index=0)

        value = pack(b"", [*fields, b"opts", args[options]])
        return Intent(self, args, added, script.base + b"wait", [Job(options, value)], unseen=op)

    def about(
        self,
        op: Op,
        script: Script,
        job_id: bytes,
        *,
        value: bytes = b"",
        number: int = -1,
        verdict: Verdict = Verdict.NONE,
        error: str = "",
        worker: str = "",
        index: int = -1,
    ) -> Operation:
        """One thing done to a job, which is known by its key. For the queue's key stands that of its list."""
        key = script.base + b"wait"
        return Operation(
            op,
            key,
            self.queue(key),
            ref=script.base + job_id,
            value=value,
            number=number,
            verdict=verdict,
            error=error,
            worker=worker,
            job=index,
        )


def _delivered(queue: Bullmq, script: Script, reply: Reply) -> Iterator[Operation]:
    """The job that a reply brings along, if it does."""
    if not isinstance(reply, list) or len(reply) < 2 or not isinstance(reply[0], list):
        return
    fields, job_id = [part for part in reply[0] if isinstance(part, bytes)], reply[1]
    if fields and isinstance(job_id, bytes):
        worker = job.worker(script)
        who = "" if worker is None else worker.name or worker.token.partition(":")[0]
        yield queue.about(Op.DEQUEUE, script, job_id, value=pack(job_id, fields), worker=who)


def _finished(queue: Bullmq, script: Script, reply: Reply) -> Iterator[Operation]:
    if _done(reply):
        job_id, worker = script.args[0], job.worker(script)
        if script.args[4] == b"completed":
            yield queue.about(Op.SETTLE, script, job_id, verdict=Verdict.SUCCESS)
        else:
            removed = worker is not None and worker.keep is not None and worker.keep.count == 0
            op, error = Op.SETTLE if removed else Op.DEAD_LETTER, job.error(script.args[-1])
            yield queue.about(op, script, job_id, verdict=Verdict.FAILURE, error=error)
    yield from _delivered(queue, script, reply)


def _later(queue: Bullmq, script: Script, reply: Reply) -> Iterator[Operation]:
    if _done(reply):
        job_id, args = script.keys[4].removeprefix(script.base), script.args
        # Before 5.8.6 the sorted set's score comes before the id.
        at = 2 if args[2] == job_id else 3
        error = job.error(args[at + 4]) if len(args) > at + 4 else ""
        verdict = Verdict.UNKNOWN if args[at + 3 : at + 4] == [b"1"] else Verdict.NONE
        yield queue.about(Op.RETRY, script, job_id, verdict=verdict, error=error)
        yield queue.about(Op.SCHEDULE, script, job_id, number=job.number(args[1]) + job.number(args[at + 2]))
    yield from _delivered(queue, script, reply)


def _again(queue: Bullmq, script: Script, job_id: bytes, verdict: Verdict, error: str = "") -> Iterator[Operation]:
    yield queue.about(Op.RETRY, script, job_id, verdict=verdict, error=error)
    yield queue.about(Op.MOVE, script, job_id)


def _retried(queue: Bullmq, script: Script, reply: Reply) -> Iterator[Operation]:
    if reply == 0:
        yield from _again(queue, script, script.args[3], Verdict.NONE, job.error(script.args[-1]))


def _released(queue: Bullmq, script: Script, reply: Reply) -> Iterator[Operation]:
    if _done(reply):
        yield from _again(queue, script, script.args[0], Verdict.UNKNOWN)


def _waits_for_children(queue: Bullmq, script: Script, reply: Reply) -> Iterator[Operation]:
    if reply == 0:
        yield from _again(queue, script, script.args[3], Verdict.UNKNOWN)


def _stalled(queue: Bullmq, script: Script, reply: Reply) -> Iterator[Operation]:
    """Ids; before 5.53.2 a list of those that have stalled too often, and one of the others."""
    lists = reply if isinstance(reply, list) else []
    failed, stalled = lists if len(lists) == 2 and isinstance(lists[0], list) else ([], lists)
    for job_id in _ids(failed):
        yield queue.about(Op.DEAD_LETTER, script, job_id, verdict=Verdict.FAILURE, error="stalled")
    for job_id in _ids(stalled):
        yield queue.about(Op.RECLAIM, script, job_id)
        yield queue.about(Op.MOVE, script, job_id)


def _reprocessed(queue: Bullmq, script: Script, reply: Reply) -> Iterator[Operation]:
    if reply == 1:
        yield queue.about(Op.MOVE, script, script.args[0])


def _promoted(queue: Bullmq, script: Script, reply: Reply) -> Iterator[Operation]:
    if reply == 0:
        yield queue.about(Op.MOVE, script, script.args[1])


def _changed(queue: Bullmq, script: Script, reply: Reply) -> Iterator[Operation]:
    if reply == 0:
        delay, when, job_id = script.args[:3]
        time = job.number(when)
        due = time // 0x1000 if time >= _TWICE else time + job.number(delay)
        yield queue.about(Op.SCHEDULE, script, job_id, number=due)


def _removed(queue: Bullmq, script: Script, reply: Reply) -> Iterator[Operation]:
    if reply == 1:
        yield queue.about(Op.CANCEL, script, script.args[0], number=1)


def _locked(queue: Bullmq, script: Script, reply: Reply) -> Iterator[Operation]:
    if len(script.keys) == 2:
        yield queue.about(Op.HEARTBEAT, script, script.args[2])
        return
    for job_id in job.strings(script.args[2]):
        yield queue.about(Op.HEARTBEAT, script, job_id.encode())


def _emptied(queue: Bullmq, script: Script, reply: Reply) -> Iterator[Operation]:
    # It is obliterated in pieces, and 1 asks for the next one.
    if reply in (0, None):
        key = script.base + b"wait"
        yield Operation(Op.PURGE, key, queue.queue(key), verdict=Verdict.UNKNOWN)


def _nothing(queue: Bullmq, script: Script, reply: Reply) -> Iterator[Operation]:
    yield from ()


_MEANS: Final[Mapping[str, tuple[int, Callable[[Bullmq, Script, Reply], Iterable[Operation]]]]] = {
    "aside": (0, _nothing),
    "take": (3, _delivered),
    "finish": (8, _finished),
    "later": (6, _later),
    "retry": (5, _retried),
    "release": (3, _released),
    "children": (4, _waits_for_children),
    "stalled": (4, _stalled),
    "reprocess": (4, _reprocessed),
    "promote": (2, _promoted),
    "change": (3, _changed),
    "remove": (2, _removed),
    "lock": (3, _locked),
    "locks": (4, _locked),
    "drain": (1, _emptied),
    "obliterate": (1, _emptied),
}
"""By kind of script: how many arguments it has at least, and what it has done, by its reply."""


def _done(reply: Reply) -> bool:
    """It brought the next job along, or counted without an error."""
    return isinstance(reply, list) or (isinstance(reply, int) and reply >= 0)


def _ids(found: object) -> Iterator[bytes]:
    yield from (one for one in found if isinstance(one, bytes)) if isinstance(found, list) else ()
