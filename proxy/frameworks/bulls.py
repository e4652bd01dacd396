"""What BullMQ and Bull, its forerunner, have in common: a job is a hash, and scripts move its id from key to key."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from proxy.context.fields_slot import pack
from proxy.events import VALUE_LIMIT, Op, Verdict
from proxy.frameworks import bulls_job as job
from proxy.frameworks.base import End, Fields, Framework, Identity, Intent, Job, Operation, Role
from proxy.frameworks.scripts import Script
from proxy.frameworks.wire import name
from proxy.resp.commands import RUNS
from proxy.resp.reply import Reply

FINE_TIME: Final = 10**15
"""From here on a time is in units of 1/4096 ms."""
_KEPT: Final = (b"name", b"timestamp", b"opts", b"atm", b"ats", b"attemptsMade", b"parentKey")
"""Fields of a job that anything is read of. Not ``data``."""


class Bulls(Framework):
    family = "bull"
    commands = RUNS
    rewritable = RUNS
    heads = frozenset()
    end = End.ACK
    acked = Verdict.SUCCESS
    backs_off_inside = False
    exclusive = True
    counts_begun = False
    """Its jobs' ``attemptsMade`` counts the attempt that begins, too."""

    def __init__(self, prefix: str, *, inject: bool) -> None:
        self.inject = inject
        self._prefix = prefix.encode() + b":"

    def role(self, key: bytes) -> Role | None:
        return None

    def queue(self, key: bytes) -> str:
        """All keys of a queue stand for it. After another prefix than the one that is set, its name has no colon."""
        base = key.rpartition(b":")[0]
        own = base.startswith(self._prefix)
        return name(base.removeprefix(self._prefix) if own else base.rpartition(b":")[2])

    def identity(self, value: bytes) -> Identity | None:
        return None

    def fields(self, value: bytes) -> Fields:
        return job.fields_of(value, counts_begun=self.counts_begun)

    def summary(self, value: bytes) -> bytes:
        job_id, hash_ = job.hash_of(value)
        kept = pack(job_id, [part for field in _KEPT if field in hash_ for part in (field, hash_[field])])
        return kept if len(kept) <= VALUE_LIMIT else pack(job_id, [])

    def enqueue(
        self, op: Op, script: Script, args: list[bytes], at: int, fields: list[bytes], due: Callable[[bytes], int]
    ) -> Intent:
        """``at``: which of the script's arguments the options are; ``due``: when, by the job's id."""
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

    def delivered(self, script: Script, reply: Reply, worker: str) -> Iterator[Operation]:
        """The job that a reply brings along, if it does."""
        if not isinstance(reply, list) or len(reply) < 2 or not isinstance(reply[0], list):
            return
        fields, job_id = [part for part in reply[0] if isinstance(part, bytes)], reply[1]
        if fields and isinstance(job_id, bytes):
            yield self.about(Op.DEQUEUE, script, job_id, value=pack(job_id, fields), worker=worker)

    def ended(self, script: Script, job_id: bytes, target: bytes, *, kept: bool, error: str = "") -> Operation:
        """It has finished for good; ``kept``: among those that have failed, where somebody may look for it."""
        if target == b"completed":
            return self.about(Op.SETTLE, script, job_id, verdict=Verdict.SUCCESS)
        op = Op.DEAD_LETTER if kept else Op.SETTLE
        return self.about(op, script, job_id, verdict=Verdict.FAILURE, error=error)

    def again(
        self, script: Script, job_id: bytes, verdict: Verdict = Verdict.NONE, *, error: str = ""
    ) -> Iterator[Operation]:
        """Given back, and waits once more."""
        yield self.about(Op.RETRY, script, job_id, verdict=verdict, error=error)
        yield self.about(Op.MOVE, script, job_id)

    def stalled(self, script: Script, reply: Reply) -> Iterator[Operation]:
        """Ids; before BullMQ 5.53.2 a list of those that have stalled too often, and one of the others."""
        lists = reply if isinstance(reply, list) else []
        failed, stalled = lists if len(lists) == 2 and isinstance(lists[0], list) else ([], lists)
        for job_id in _ids(failed):
            yield self.about(Op.DEAD_LETTER, script, job_id, verdict=Verdict.FAILURE, error="stalled")
        for job_id in _ids(stalled):
            yield self.about(Op.RECLAIM, script, job_id)
            yield self.about(Op.MOVE, script, job_id)

    def paused(self, script: Script, reply: Reply) -> Iterator[Operation]:
        # BullMQ 6 goes on in pieces, and only the first one is an event.
        if script.args[1:2] != [b"0"]:
            key = script.base + b"wait"
            yield Operation(Op.PAUSE if script.args[0] == b"paused" else Op.RESUME, key, self.queue(key))

    def drained(self, script: Script, reply: Reply) -> Iterator[Operation]:
        key = script.base + b"wait"
        yield Operation(Op.DRAIN, key, self.queue(key), verdict=Verdict.UNKNOWN)

    def emptied(self, script: Script, reply: Reply) -> Iterator[Operation]:
        # It is obliterated in pieces, and 1 asks for the next one.
        if reply in (0, None):
            key = script.base + b"wait"
            yield Operation(Op.PURGE, key, self.queue(key), verdict=Verdict.UNKNOWN)


def done(reply: Reply) -> bool:
    """It brought the next job along, or counted without an error."""
    return isinstance(reply, list) or (isinstance(reply, int) and reply >= 0)


def nothing(*_: object) -> Iterator[Operation]:
    yield from ()


def _ids(found: object) -> Iterator[bytes]:
    yield from (one for one in found if isinstance(one, bytes)) if isinstance(found, list) else ()
