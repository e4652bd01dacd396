r"""bee-queue 2 (run: 2.0.0 and 1.7.1, on the node_redis that they bring).

======================= ========================================================================================
what                    on the wire (J: ``{"data", "options", "status", "progress"}``; id: unique within its queue)
======================= ========================================================================================
enqueue                 the script addJob: ``id or "", J``, answered with the id, or nil if it is there already
later                   the script addDelayedJob: ``id or "", J, time``
dequeue                 ``BRPOPLPUSH <queue>:waiting <queue>:active``, which tells the id alone, then, on another
                        connection, ``HGET <queue>:jobs id``
success, failure        in a transaction: ``HSET <queue>:jobs id J`` with its status; ``HDEL`` where jobs are removed,
                        and ``PUBLISH <queue>:events {"id", "event", …}``
retry                   in such a transaction: ``LPUSH <queue>:waiting id``, at once; ``ZADD <queue>:delayed``, later
stalled                 the ids in the reply of the script checkStalledJobs
======================= ========================================================================================

Its scripts are known by their keys.  Their digests have been the same since 1.2.5, but one without the keys is nothing.

**Where the context rides**: ``options.traceparent``, which its retries repeat and the job reads as
``job.options.traceparent``.  Workers write the whole of J again, and would drop a member beside ``options``.

**Not to be seen**: a job's type: it has none.  Who runs it.  How a job ended that is removed at once, by a worker with
``sendEvents: false``: no process span.  When a delayed job came to its queue: it waits from when it was due.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import msgspec

from proxy.context.fields_slot import pack, unpack
from proxy.context.nested_slot import nested_slot
from proxy.context.slot import NoSlot, Slot, State
from proxy.events import VALUE_LIMIT, Op, Verdict
from proxy.frameworks import paths
from proxy.frameworks.base import End, Fields, Identity, Intent, Job, Mismatch, Operation, Role
from proxy.frameworks.scripts import Script, Scripts
from proxy.frameworks.wire import integer, name
from proxy.resp.commands import RUNS
from proxy.resp.reply import Reply

if TYPE_CHECKING:
    from proxy.config import BeeQueueSettings

SCRIPTS: Final = Scripts(
    {
        "add": ("id jobs waiting",),
        "delay": ("id jobs delayed earlierDelayed",),
        "stalled": ("stallBlock stalling waiting active",),
        "remove": ("succeeded failed waiting active stalling jobs delayed",),
    },
    r"\A--\[\[\s+key 1 -> bq:name:id \(job ID counter\)",
    ("6ecea656d685389e1ac506df66563aa29424c126", "6833c273e2b297b642fd0acc85899ac2b161aea7"),
)
_ROLES: Final = {
    b"waiting": Role.QUEUE,
    b"active": Role.PROCESSING,
    b"delayed": Role.SCHEDULED,
    b"jobs": Role.JOB,
    b"stalling": Role.HEARTBEAT,
    b"events": Role.OTHER,
}
_ERROR: Final = re.compile(r"(?:[A-Z][A-Za-z]{0,60})?(?:Error|Exception)\b")
_FOREIGN: Final = NoSlot(State.REFUSED, "foreign")


class _Options(msgspec.Struct):
    timestamp: object = None
    retries: object = None
    delay: object = None
    stacktraces: list[object] = []


class _Job(msgspec.Struct):
    """What every job has. Its data are not looked at."""

    data: msgspec.Raw
    options: _Options
    status: str
    progress: msgspec.Raw


class _Said(msgspec.Struct):
    id: str
    event: str


_job: Final = msgspec.json.Decoder(_Job)
_said: Final = msgspec.json.Decoder(_Said)
_members: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])


class BeeQueue:
    name = "bee-queue"
    family = "bee-queue"
    commands = RUNS | {b"BRPOPLPUSH", b"HGET", b"HSET", b"LPUSH", b"ZADD", b"SREM", b"PUBLISH", b"DEL"}
    rewritable: frozenset[bytes] = RUNS
    heads: frozenset[bytes] = frozenset()
    scripts = SCRIPTS
    end = End.ACK
    acked = Verdict.SUCCESS
    backs_off_inside = False
    exclusive = True

    def __init__(self, options: BeeQueueSettings) -> None:
        self.inject = options.inject
        self._prefix = options.prefix.encode() + b":"

    def role(self, key: bytes) -> Role | None:
        return _ROLES.get(key.rpartition(b":")[2]) if key.startswith(self._prefix) else None

    def queue(self, key: bytes) -> str:
        return name(key.rpartition(b":")[0].removeprefix(self._prefix))

    def slot(self, value: bytes) -> Slot:
        job = _json(value)
        return nested_slot(job, "options") if job else _FOREIGN

    def identity(self, value: bytes) -> Identity | None:
        return None

    def fields(self, value: bytes) -> Fields:
        job = _read(_json(value))
        if job is None:
            return Fields()
        options = job.options
        attempt, created, due = len(options.stacktraces), paths.when(options.timestamp), paths.when(options.delay)
        return Fields(
            id=name(unpack(value)[0]),
            attempt=attempt,
            max_attempts=1 + attempt + paths.integer(options.retries),
            created_at=created,
            enqueued_at=0 if attempt else due or created,
            scheduled_at=due,
        )

    def summary(self, value: bytes) -> bytes:
        """Its stack traces are only counted."""
        job_id, json = unpack(value)[0], _json(value)
        job = _read(json)
        if job is None:
            return b""
        options = _members.decode(_members.decode(json)["options"])
        options["stacktraces"] = msgspec.Raw(msgspec.json.encode([""] * len(job.options.stacktraces)))
        kept = msgspec.json.encode({"data": None, "options": options, "status": job.status, "progress": 0})
        return pack(job_id, [kept]) if len(kept) + len(job_id) < VALUE_LIMIT - 16 else b""

    def read(self, name: bytes, args: list[bytes]) -> Intent | None:
        if name in RUNS:
            return self._script(args)
        if len(args) < 3:
            return None
        key = args[1]
        role = self.role(key)
        if name == b"BRPOPLPUSH":
            return Intent(self, args, self._popped) if role is Role.QUEUE else None
        if name == b"HGET":
            return Intent(self, args, self._described) if role is Role.JOB else None
        if name == b"HSET":
            return self._written(args) if role is Role.JOB and len(args) == 4 else None
        if name == b"LPUSH":
            return Intent(self, args, self._pushed) if role is Role.QUEUE else None
        if name == b"ZADD":
            return Intent(self, args, self._put_aside) if role is Role.SCHEDULED and len(args) == 4 else None
        if name == b"SREM":
            return Intent(self, args, self._lives) if role is Role.HEARTBEAT else None
        return self._published(args) if name == b"PUBLISH" and role is Role.OTHER else None

    # ---- scripts

    def _script(self, args: list[bytes]) -> Intent | None:
        script = SCRIPTS.read(args)
        if script is None or not script.base.startswith(self._prefix):
            return None
        if script.kind in ("add", "delay"):
            return self._add(script, args)

        def finish(intent: Intent, reply: Reply) -> Iterator[Operation]:
            if script.kind == "remove":
                yield self._about(Op.CANCEL, script.base, script.args[0], number=1)
                return
            for job_id in reply if isinstance(reply, list) else ():
                if isinstance(job_id, bytes):
                    yield self._about(Op.RECLAIM, script.base, job_id)
                    yield self._about(Op.MOVE, script.base, job_id)

        return Intent(self, args, finish) if len(script.args) == 1 else None

    def _add(self, script: Script, args: list[bytes]) -> Intent | None:
        later = script.kind == "delay"
        if len(script.args) != 2 + later or _read(script.args[1]) is None:
            return None
        op, at = Op.SCHEDULE if later else Op.ENQUEUE, script.at + 1
        due = int(script.args[2]) if later and script.args[2].isdigit() and len(script.args[2]) < 16 else -1

        def added(intent: Intent, reply: Reply) -> Iterator[Operation]:
            if isinstance(reply, bytes) and reply:
                value = pack(reply, [intent.args[at]])
                yield self._about(op, script.base, reply, value=value, number=due, job=0)

        jobs = [Job(at, pack(b"", [script.args[1]]))]
        return Intent(self, args, added, script.base + b"waiting", jobs, unseen=op)

    # ---- commands

    def _popped(self, intent: Intent, reply: Reply) -> Iterator[Operation]:
        if isinstance(reply, bytes):
            yield self._about(Op.DEQUEUE, _base(intent), reply)
        elif reply is not None:
            raise Mismatch("BRPOPLPUSH")

    def _described(self, intent: Intent, reply: Reply) -> Iterator[Operation]:
        if isinstance(reply, bytes) and _read(reply) is not None:
            job_id = intent.args[2]
            yield self._about(Op.DESCRIBE, _base(intent), job_id, value=pack(job_id, [reply]))

    def _written(self, args: list[bytes]) -> Intent | None:
        job = _read(args[3])
        if job is None or job.status not in ("succeeded", "retrying", "failed"):
            return None
        traces = job.options.stacktraces
        found = _ERROR.match(traces[0]) if traces and isinstance(traces[0], str) else None
        error = found[0] if found else ""

        def written(intent: Intent, reply: Reply) -> Iterator[Operation]:
            integer(reply)
            base, job_id = _base(intent), args[2]
            if job.status == "succeeded":
                yield self._about(Op.SETTLE, base, job_id, verdict=Verdict.SUCCESS)
            elif job.status == "failed":
                yield self._about(Op.DEAD_LETTER, base, job_id, verdict=Verdict.FAILURE, error=error)
            else:
                yield self._about(Op.RETRY, base, job_id, error=error)

        return Intent(self, args, written)

    def _pushed(self, intent: Intent, reply: Reply) -> Iterator[Operation]:
        integer(reply)
        for job_id in intent.args[2:]:
            yield self._about(Op.MOVE, _base(intent), job_id)

    def _put_aside(self, intent: Intent, reply: Reply) -> Iterator[Operation]:
        integer(reply)
        score, job_id = intent.args[2:]
        due = int(score) if score.isdigit() and len(score) < 16 else -1
        yield self._about(Op.SCHEDULE, _base(intent), job_id, number=due)

    def _lives(self, intent: Intent, reply: Reply) -> Iterator[Operation]:
        integer(reply)
        for job_id in intent.args[2:]:
            yield self._about(Op.HEARTBEAT, _base(intent), job_id)

    def _published(self, args: list[bytes]) -> Intent | None:
        """What a worker tells of a job's end. Where the job is kept, that has been seen already."""
        try:
            said = _said.decode(args[2])
        except paths.UNREADABLE:
            return None
        verdict = {"succeeded": Verdict.SUCCESS, "failed": Verdict.FAILURE}.get(said.event)
        if verdict is None:
            return None

        def published(intent: Intent, reply: Reply) -> Iterator[Operation]:
            integer(reply)
            yield self._about(Op.SETTLE, _base(intent), said.id.encode(), verdict=verdict)

        return Intent(self, args, published)

    def _about(
        self,
        op: Op,
        base: bytes,
        job_id: bytes,
        *,
        value: bytes = b"",
        number: int = -1,
        verdict: Verdict = Verdict.NONE,
        error: str = "",
        job: int = -1,
    ) -> Operation:
        """One thing done to a job. Ids are those of a queue: what names a job is both."""
        key = base + b"waiting"
        return Operation(
            op,
            key,
            self.queue(key),
            ref=base + job_id,
            value=value,
            number=number,
            verdict=verdict,
            error=error,
            job=job,
        )


def _base(intent: Intent) -> bytes:
    """What the keys of the queue begin with, up to a colon."""
    head, colon, _ = intent.args[1].rpartition(b":")
    return head + colon


def _json(value: bytes) -> bytes:
    """The job itself, of a value that has its id beside it."""
    _, parts = unpack(value)
    return parts[0] if len(parts) == 1 else b""


def _read(json: bytes) -> _Job | None:
    return paths.read(_job, json)
