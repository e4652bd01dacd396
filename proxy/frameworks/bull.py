r"""Bull 4 (run: 4.16.5 and 4.8.4, on the ioredis that they bring), the forerunner of BullMQ.

======================= ========================================================================================
what                    on the wire (EVAL or EVALSHA; id: the job's, unique within its queue)
======================= ========================================================================================
enqueue                 addJob: ``prefix, id or "", name, data, {opts}, time, delay, due, priority, …``; answered with
                        the id. ``addBulk`` is a transaction of them
dequeue                 ``BRPOPLPUSH <queue>:wait <queue>:active``, which tells the id alone, then the reply
                        ``[[name, …, data, …, opts, …], id]`` of moveToActive; or of moveToFinished
success, failure        moveToFinished: ``id time returnvalue | failedReason …``, on the keys of completed or failed
retry                   in a transaction: retryJob, at once; moveToDelayed, later
stalled                 the ids in the reply of moveStalledJobsToWait
by hand                 reprocessJob, promote, removeJob; pause and obliterate for all of a queue
======================= ========================================================================================

**Where the context rides**: in the options, ``opts.traceparent``, which every retry repeats and the job reads as
``job.opts.traceparent``.  They are JSON, since 4.12.6 packed as one text of MessagePack.  The next job of those that
repeat is a copy of the last: it gets a context of its own, linked to that of the one before.

**Not to be seen**: the same as with BullMQ (`proxy.frameworks.bullmq`); and when a delayed job came to its queue, which
a script of the workers sees to: it waits from when it was due.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Final

from proxy.context.msgpack_slot import text_slot, unpacked
from proxy.context.slot import NoSlot, Slot, State
from proxy.events import Op
from proxy.frameworks import bulls_job as job
from proxy.frameworks.base import Intent, Operation
from proxy.frameworks.bulls import FINE_TIME, Bulls, done
from proxy.frameworks.scripts import Script, Scripts
from proxy.resp.commands import RUNS
from proxy.resp.reply import Reply

if TYPE_CHECKING:
    from proxy.config import BullSettings

_FOREIGN: Final = NoSlot(State.REFUSED, "foreign")
_RETRY: Final = "active wait *"
_REMOVE: Final = "active wait delayed paused completed failed priority * * *"
_ENDS: Final = ("completed", "failed")
SCRIPTS: Final = Scripts(
    {
        "add": ("wait paused meta-paused id delayed priority",),
        "take": ("wait active priority * stalled limiter delayed drained",),
        "finish": tuple(
            f"active {end} * wait priority * delayed stalled{more}" for end in _ENDS for more in ("", f" metrics:{end}")
        ),
        "later": ("active delayed *", "active delayed * stalled"),
        "retry": (
            _RETRY,
            f"{_RETRY} meta-paused paused",
            f"{_RETRY} meta-paused paused stalled",
            f"{_RETRY} meta-paused paused stalled priority",
        ),
        "stalled": ("stalled wait active failed stalled-check meta-paused paused",),
        "reprocess": tuple(f"* * {end} wait{more}" for end in _ENDS for more in ("", " meta-paused paused")),
        "promote": ("delayed wait paused priority", "delayed wait paused meta-paused priority"),
        "remove": (_REMOVE, f"{_REMOVE} ."),
        "pause": ("wait paused meta-paused paused meta", "paused wait meta-paused resumed meta"),
        "obliterate": ("meta-paused .",),
    },
    # BullMQ's texts begin with the same words, but have no such keys.
    r"(?s)\A(?=.{0,1500}(?:meta-paused|priority key))--\[\[\s+(?:"
    r"Adds a job to the queue by doing|Move next job to be processed to active|Move job from active to a finished"
    r"|Retries a failed job by moving it back)",
)


class Bull(Bulls):
    name = "bull"
    scripts = SCRIPTS

    def __init__(self, options: BullSettings) -> None:
        super().__init__(options.prefix, inject=options.inject)

    def slot(self, value: bytes) -> Slot:
        options = job.hash_of(value)[1].get(b"opts", b"")
        return text_slot(options, copied=job.repeated(options)) if options else _FOREIGN

    def read(self, name: bytes, args: list[bytes]) -> Intent | None:
        script = SCRIPTS.read(args) if name in RUNS else None
        if script is None:
            return None
        if script.kind == "add":
            return self._add(script, args)
        least, operations = _MEANS[script.kind]
        if len(script.args) < least:
            return None

        def finish(intent: Intent, reply: Reply) -> Iterable[Operation]:
            return operations(self, script, reply)

        return Intent(self, args, finish)

    def _add(self, script: Script, args: list[bytes]) -> Intent | None:
        given = script.args
        if not 11 <= len(given) <= 14 or given[0] != script.base or not unpacked(given[4]).startswith(b"{"):
            return None
        fields = [b"name", given[2], b"data", given[3], b"timestamp", given[5]]
        due = job.number(given[7])
        if not due:
            return self.enqueue(Op.ENQUEUE, script, args, 4, fields, lambda _: -1)
        return self.enqueue(Op.SCHEDULE, script, args, 4, fields, lambda _: due)


def _taken(queue: Bull, script: Script, reply: Reply) -> Iterator[Operation]:
    return queue.delivered(script, reply, script.args[1].decode(errors="replace")[:256])


def _finished(queue: Bull, script: Script, reply: Reply) -> Iterator[Operation]:
    args = script.args
    if done(reply):
        target = script.keys[1].removeprefix(script.base)
        yield queue.ended(script, args[0], target, kept=job.keeps(args[5]))
    worker = args[10] if len(args) > 10 else b""
    yield from queue.delivered(script, reply, worker.decode(errors="replace")[:256])


def _later(queue: Bull, script: Script, reply: Reply) -> Iterator[Operation]:
    if reply == 0:
        due, job_id = job.number(script.args[0]), script.args[1]
        yield queue.about(Op.RETRY, script, job_id)
        yield queue.about(Op.SCHEDULE, script, job_id, number=due // 0x1000 if due >= FINE_TIME else due)


def _retried(queue: Bull, script: Script, reply: Reply) -> Iterator[Operation]:
    if reply == 0:
        yield from queue.again(script, script.args[1])


def _reprocessed(queue: Bull, script: Script, reply: Reply) -> Iterator[Operation]:
    if reply == 1:
        yield queue.about(Op.MOVE, script, script.args[0])


def _promoted(queue: Bull, script: Script, reply: Reply) -> Iterator[Operation]:
    if reply == 0:
        yield queue.about(Op.MOVE, script, script.args[1])


def _removed(queue: Bull, script: Script, reply: Reply) -> Iterator[Operation]:
    if reply == 1:
        yield queue.about(Op.CANCEL, script, script.args[0], number=1)


_MEANS: Final[Mapping[str, tuple[int, Callable[[Bull, Script, Reply], Iterable[Operation]]]]] = {
    "take": (5, _taken),
    "finish": (9, _finished),
    "later": (3, _later),
    "retry": (3, _retried),
    "stalled": (4, Bull.stalled),
    "reprocess": (4, _reprocessed),
    "promote": (2, _promoted),
    "remove": (2, _removed),
    "pause": (1, Bull.paused),
    "obliterate": (1, Bull.emptied),
}
"""By kind of script: how many arguments it has at least, and what it has done, by its reply."""
