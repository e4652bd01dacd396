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
by hand                 reprocessJob, promote, changeDelay, removeJob; pause, drain and obliterate for all of a queue
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

from proxy.context.msgpack_slot import carried_slot, is_map, msgpack_slot
from proxy.context.slot import NoSlot, Slot, State
from proxy.events import Op, Verdict
from proxy.frameworks import bulls_job as job
from proxy.frameworks.base import Intent, Operation
from proxy.frameworks.bullmq_scripts import SCRIPTS
from proxy.frameworks.bulls import FINE_TIME, Bulls, done, nothing
from proxy.frameworks.scripts import Script
from proxy.resp.commands import RUNS
from proxy.resp.reply import Reply

if TYPE_CHECKING:
    from proxy.config import BullmqSettings

_FOREIGN: Final = NoSlot(State.REFUSED, "foreign")
_OPTIONS_AT: Final = {("scheduler", 9): 5, ("next", 7): 3, ("next", 6): 2}
"""By kind of script and how many arguments it has: which of them holds the options."""


class Bullmq(Bulls):
    name = "bullmq"
    scripts = SCRIPTS
    counts_begun = True  # as of 4.18; later versions have other fields

    def __init__(self, options: BullmqSettings) -> None:
        super().__init__(options.prefix, inject=options.inject)

    def slot(self, value: bytes) -> Slot:
        options = job.hash_of(value)[1].get(b"opts", b"")
        if options.startswith(b"{"):
            return carried_slot(options)
        return msgpack_slot(options, copied=job.repeated(options)) if options else _FOREIGN

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
        created = job.whole(sent.timestamp)
        fields = [b"name", sent.name.encode(), b"timestamp", b"%d" % created, b"data", script.args[1]]
        if sent.parent:
            fields += [b"parentKey", sent.parent.encode()]
        if script.kind == "add":
            return self.enqueue(Op.ENQUEUE, script, args, 2, fields, lambda _: -1)
        due = created + job.whole(job.options(script.args[2]).delay)
        return self.enqueue(Op.SCHEDULE, script, args, 2, fields, lambda _: due)

    def _schedule(self, script: Script, args: list[bytes]) -> Intent | None:
        at = _OPTIONS_AT.get((script.kind, len(script.args)))
        if at is None or script.base not in script.args or not is_map(script.args[at]):
            return None
        fields = [b"timestamp", script.args[at + 1]]
        if script.kind == "scheduler":
            fields += [b"name", job.scheduler_name(script.args[1]).encode()]
        # Its id ends with when it is due.
        due: Callable[[bytes], int] = lambda job_id: job.number(job_id.rpartition(b":")[2])  # noqa: E731
        return self.enqueue(Op.SCHEDULE, script, args, at, fields, due)


def _taken(queue: Bullmq, script: Script, reply: Reply) -> Iterator[Operation]:
    worker = job.worker(script)
    return queue.delivered(script, reply, "" if worker is None else worker.name or worker.token.partition(":")[0])


def _finished(queue: Bullmq, script: Script, reply: Reply) -> Iterator[Operation]:
    if done(reply):
        worker, args = job.worker(script), script.args
        kept = worker is None or worker.keep is None or worker.keep.count != 0
        yield queue.ended(script, args[0], args[4], kept=kept, error=job.error(args[-1]))
    yield from _taken(queue, script, reply)


def _later(queue: Bullmq, script: Script, reply: Reply) -> Iterator[Operation]:
    if done(reply):
        job_id, args = script.keys[4].removeprefix(script.base), script.args
        # Before 5.8.6 the sorted set's score comes before the id.
        at = 2 if args[2] == job_id else 3
        error = job.error(args[at + 4]) if len(args) > at + 4 else ""
        verdict = Verdict.UNKNOWN if args[at + 3 : at + 4] == [b"1"] else Verdict.NONE
        yield queue.about(Op.RETRY, script, job_id, verdict=verdict, error=error)
        yield queue.about(Op.SCHEDULE, script, job_id, number=job.number(args[1]) + job.number(args[at + 2]))
    yield from _taken(queue, script, reply)


def _retried(queue: Bullmq, script: Script, reply: Reply) -> Iterator[Operation]:
    return queue.again(script, script.args[3], error=job.error(script.args[-1])) if reply == 0 else nothing()


def _released(queue: Bullmq, script: Script, reply: Reply) -> Iterator[Operation]:
    return queue.again(script, script.args[0], Verdict.UNKNOWN) if done(reply) else nothing()


def _waits_for_children(queue: Bullmq, script: Script, reply: Reply) -> Iterator[Operation]:
    return queue.again(script, script.args[3], Verdict.UNKNOWN) if reply == 0 else nothing()


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
        due = time // 0x1000 if time >= FINE_TIME else time + job.number(delay)
        yield queue.about(Op.SCHEDULE, script, job_id, number=due)


def _removed(queue: Bullmq, script: Script, reply: Reply) -> Iterator[Operation]:
    if reply == 1:
        yield queue.about(Op.CANCEL, script, script.args[0], number=1)


def _locked(queue: Bullmq, script: Script, reply: Reply) -> Iterator[Operation]:
    yield queue.about(Op.HEARTBEAT, script, script.args[2])


def _all_locked(queue: Bullmq, script: Script, reply: Reply) -> Iterator[Operation]:
    for job_id in job.strings(script.args[2]):
        yield queue.about(Op.HEARTBEAT, script, job_id.encode())


_MEANS: Final[Mapping[str, tuple[int, Callable[[Bullmq, Script, Reply], Iterable[Operation]]]]] = {
    "aside": (0, nothing),
    "take": (3, _taken),
    "finish": (8, _finished),
    "later": (6, _later),
    "retry": (5, _retried),
    "release": (3, _released),
    "children": (4, _waits_for_children),
    "stalled": (4, Bullmq.stalled),
    "reprocess": (4, _reprocessed),
    "promote": (2, _promoted),
    "change": (3, _changed),
    "remove": (2, _removed),
    "lock": (3, _locked),
    "locks": (4, _all_locked),
    "pause": (1, Bullmq.paused),
    "drain": (1, Bullmq.drained),
    "obliterate": (1, Bullmq.emptied),
}
"""By kind of script: how many arguments it has at least, and what it has done, by its reply."""
