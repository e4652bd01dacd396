r"""Sidekiq (run: 6.4.1, with GitLab's reliable fetch 0.8 and ActiveJob 6.1; replayed: 7.3.9, 8.1.7).

======================= ========================================================================================
what                    on the wire (J: the job, JSON; all keys may have a namespace before them)
======================= ========================================================================================
enqueue                 ``LPUSH queue:<name> J …``, in bulk up to 1,000
later                   ``ZADD schedule <time> J …``; when it is due, the scheduler of some worker takes it out by a
                        script, ``EVALSHA … 1 schedule <now>``, and sends what is under "enqueue"
dequeue                 ``BRPOP queue:a queue:b … 2``
reliably                ``LMOVE`` or ``RPOPLPUSH`` to ``queue:sq|…`` (Pro's super_fetch) or ``working:queue:…``
                        (GitLab's; its semi-reliable one is BRPOP, then ``LPUSH working:queue:…``)
acknowledgement         ``LREM <that list> … J``, only with these; after a retry or a death, too
retry                   ``ZADD retry <time> J`` with ``retry_count`` and ``error_class``, then as under "later"
dead                    ``ZADD dead <time> J``, in a transaction
given back              ``RPUSH queue:<name> J …`` by a worker that shuts down
heartbeat               ``HSET <host>:<pid>:<nonce>:work <thread> {"payload": J …}`` (6.4: ``…:workers``) of each job
                        in hand, then ``HSET <host>:<pid>:<nonce> info …``, each 10 s (6.4: 5 s)
cancelled               ``LREM queue:<name> 1 J``, ``ZREM schedule J``
======================= ========================================================================================

Known by both: the key's role, whatever the namespace, and an envelope that has ``class``, ``args`` and ``jid``.

**Where the context rides**: a member ``traceparent`` of J, where OpenTelemetry's instrumentation for Ruby has it, too
(opentelemetry-instrumentation-sidekiq: ``propagation.inject(job)`` in the client's middleware, ``extract(job)`` in the
server's).  Retries, schedules and the dead set repeat it.  What deletes a job does so by the value that it has read.

**The end of a success is not on the wire**, but with a reliable fetch: nothing says it, and threads share their
connections.  It is inferred, as `proxy.tracer.threads` describes: exactly with one job in hand; with several the end
is a bound, and ``redspan.end.uncertain_ms`` says how loose.  That such a job has succeeded is inferred, too; one whose
failure would leave no trace (``retry: false``, or ``dead: false`` at the last attempt) has no status then.  Failures
are exact.

**ActiveJob**: id is its ``job_id``, which its own retries (``retry_on``: a new job to Sidekiq) repeat, and the trace
follows from that; ``jid`` is the correlation id.

**Not to be seen**: a failure that ``sidekiq_retry_in`` or ``discard_on`` discards: it passes for success, marked as
inferred.  A job that is lost with its worker (plain fetch): no process span.  Queues and sets that are emptied.  "Retry
now" of a set: the job comes to its queue again, by ``LPUSH``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from proxy.context.json_slot import json_slot
from proxy.context.slot import NoSlot, Slot, State
from proxy.events import Op, Verdict
from proxy.frameworks import paths, sidekiq_job
from proxy.frameworks.base import End, Fields, Identity, Intent, Job, Mismatch, Operation, Role
from proxy.frameworks.wire import integer, name
from proxy.resp.commands import RUNS
from proxy.resp.reply import Reply

if TYPE_CHECKING:
    from proxy.config import SidekiqSettings

_KEY: Final = re.compile(
    rb"""(?sx) (?: \A | .*? : ) (?:
        (?P<processing> working:queue: (?P<of>.+?) : (?P<worker>[^:]+:\d+(?::[0-9a-f]+)?)
                      | queue:sq\| (?P<holder>.+) )
      | queue: (?P<queue>[^\0-\x1f]+)
      | (?P<scheduled>schedule|retry)
      | (?P<dead>dead|interrupted)
      | (?P<busy>[^:]+:\d+:[0-9a-f]{12}) :work(?:ers)?
      | (?P<process>[^:]+:\d+:[0-9a-f]{12})
      | (?P<processes>processes)
    ) \Z"""
)
_ROLES: Final = {
    "processing": Role.PROCESSING,
    "queue": Role.QUEUE,
    "scheduled": Role.SCHEDULED,
    "dead": Role.DEAD_LETTER,
    "busy": Role.HEARTBEAT,
    "process": Role.HEARTBEAT,
    "processes": Role.OTHER,
}
_TIMEOUT: Final = b"2"
"""Seconds that a thread waits for a job, in every version."""
_BEAT: Final = frozenset((b"info", b"busy", b"beat"))
"""What a heartbeat says of the worker, among others."""
_MOVES: Final = frozenset((b"LMOVE", b"BLMOVE", b"RPOPLPUSH", b"BRPOPLPUSH"))
_POPS: Final = frozenset((b"LPOP", b"RPOP"))
_REMEMBERED: Final = 1024
_FOREIGN: Final = NoSlot(State.REFUSED, "foreign")


@lru_cache(_REMEMBERED)
def _parts(key: bytes) -> tuple[Role, bytes] | None:
    """A key's role, and what it names: the queue, the sorted set, or the worker."""
    found = _KEY.match(key)
    if found is None or found.lastgroup is None:
        return None
    role = next(role for group, role in _ROLES.items() if found[group] is not None)
    return role, found["worker"] or (found["holder"] or b"").partition(b"|")[0] or found[found.lastgroup]


class Sidekiq:
    name = "sidekiq"
    family = "sidekiq"
    commands = RUNS | _MOVES | _POPS | frozenset(b"LPUSH RPUSH BRPOP ZADD ZREM LREM HSET HMSET SREM".split())
    rewritable: frozenset[bytes] = frozenset((b"ZADD",))
    scripts = None
    heads: frozenset[bytes] = frozenset()
    end = End.THREADS
    acked = Verdict.SUCCESS
    backs_off_inside = False
    exclusive = True

    def __init__(self, options: SidekiqSettings) -> None:
        self.inject = options.inject

    def role(self, key: bytes) -> Role | None:
        parts = _parts(key)
        return None if parts is None else parts[0]

    def queue(self, key: bytes) -> str:
        parts = _parts(key)
        return name(parts[1]) if parts is not None and parts[0] is Role.QUEUE else ""

    def slot(self, value: bytes) -> Slot:
        return json_slot(value) if sidekiq_job.read(value) is not None else _FOREIGN

    def identity(self, value: bytes) -> Identity | None:
        return sidekiq_job.identity(value)

    def fields(self, value: bytes) -> Fields:
        return sidekiq_job.fields(value)

    def summary(self, value: bytes) -> bytes:
        return sidekiq_job.summary(value)

    def read(self, name: bytes, args: list[bytes]) -> Intent | None:
        if len(args) < (2 if name in _POPS else 3):
            return None
        if name in RUNS:
            due = len(args) == 5 and args[2] == b"1" and self.role(args[3]) is Role.SCHEDULED
            return Intent(self, args, self._due) if due else None
        if name == b"BRPOP":
            waits = args[-1] == _TIMEOUT and all(self.role(key) is Role.QUEUE for key in args[1:-1])
            return Intent(self, args, self._popped, pops=True) if waits else None
        role = self.role(args[1])
        if name in _MOVES:
            return self._move(args, role)
        if name in (b"LPUSH", b"RPUSH"):
            return self._push(args, role)
        if name == b"ZADD":
            return self._add(args, role)
        if name in (b"LREM", b"ZREM"):
            return self._remove(name, args, role)
        if name in _POPS:
            return Intent(self, args, self._reclaimed) if role is Role.PROCESSING else None
        if name == b"SREM":
            return Intent(self, args, self._left) if role is Role.OTHER else None
        return Intent(self, args, self._beaten) if role is Role.HEARTBEAT else None

    # ---- enqueues

    def _push(self, args: list[bytes], role: Role | None) -> Intent | None:
        if role not in (Role.QUEUE, Role.PROCESSING) or not all(
            sidekiq_job.read(value) is not None for value in args[2:]
        ):
            return None
        if role is Role.PROCESSING:
            return Intent(self, args, self._kept)
        jobs = [Job(index, args[index]) for index in range(2, len(args))]
        return Intent(self, args, self._pushed, args[1], jobs, unseen=Op.ENQUEUE)

    def _pushed(self, intent: Intent, reply: Reply) -> Iterator[Operation]:
        length, key = integer(reply), intent.args[1]
        back = intent.args[0].upper() == b"RPUSH"
        for number, job in enumerate(intent.jobs):
            value = intent.args[job.index]
            # What it interrupts has not failed.
            verdict = Verdict.UNKNOWN if back or sidekiq_job.interrupted(value) else Verdict.NONE
            yield Operation(Op.ENQUEUE, key, self.queue(key), value=value, number=length, verdict=verdict, job=number)

    def _add(self, args: list[bytes], role: Role | None) -> Intent | None:
        pairs = range(3, len(args), 2)
        if role not in (Role.SCHEDULED, Role.DEAD_LETTER) or len(args) % 2 or not pairs:
            return None
        if not all(sidekiq_job.read(args[at]) is not None for at in pairs):
            return None
        if role is Role.DEAD_LETTER:
            return Intent(self, args, self._buried)
        # So that the rate of its queue applies.
        queue = args[1].removesuffix(_set(args[1])) + b"queue:" + sidekiq_job.queue(args[3]).encode()
        jobs = [Job(at, args[at]) for at in pairs]
        return Intent(self, args, self._put_aside, queue, jobs, unseen=Op.SCHEDULE)

    def _put_aside(self, intent: Intent, reply: Reply) -> Iterator[Operation]:
        integer(reply)
        key = intent.args[1]
        failed = _set(key) == b"retry"
        for number, job in enumerate(intent.jobs):
            value = intent.args[job.index]
            queue = sidekiq_job.queue(value)
            if failed:
                yield Operation(Op.RETRY, key, queue, value=value)
            due = _milliseconds(intent.args[job.index - 1])
            yield Operation(Op.SCHEDULE, key, queue, value=value, number=due, job=number)

    def _buried(self, intent: Intent, reply: Reply) -> Iterator[Operation]:
        integer(reply)
        for value in intent.args[3::2]:
            yield Operation(
                Op.DEAD_LETTER, intent.args[1], sidekiq_job.queue(value), value=value, verdict=Verdict.FAILURE
            )

    # ---- deliveries

    def _popped(self, intent: Intent, reply: Reply) -> Iterator[Operation]:
        if reply is None:
            yield Operation(Op.EMPTY, intent.args[1])
            return
        if not isinstance(reply, list) or len(reply) != 2 or not isinstance(reply[0], bytes):
            raise Mismatch("BRPOP")
        key, value = reply[0], reply[1]
        if isinstance(value, bytes) and sidekiq_job.read(value) is not None:
            yield Operation(Op.DEQUEUE, key, self.queue(key), value=value)
        else:
            yield Operation(Op.EMPTY, key)

    def _move(self, args: list[bytes], role: Role | None) -> Intent | None:
        source, dest = args[1:3]
        if {role, self.role(dest)} != {Role.QUEUE, Role.PROCESSING}:
            return None

        def moved(intent: Intent, reply: Reply) -> Iterator[Operation]:
            if not isinstance(reply, bytes) or sidekiq_job.read(reply) is None:
                return
            if role is Role.QUEUE:
                worker = _holder(dest)
                yield Operation(Op.DEQUEUE, source, self.queue(source), dest=dest, value=reply, worker=worker)
            else:
                yield Operation(Op.RECLAIM, source, value=reply)
                yield Operation(Op.MOVE, dest, self.queue(dest), dest=source, value=reply)

        return Intent(self, args, moved)

    def _kept(self, intent: Intent, reply: Reply) -> Iterator[Operation]:
        integer(reply)
        key = intent.args[1]
        for value in intent.args[2:]:
            yield Operation(Op.START, key, dest=key, value=value, worker=_holder(key))

    def _reclaimed(self, intent: Intent, reply: Reply) -> Iterator[Operation]:
        for value in reply if isinstance(reply, list) else [reply]:
            if isinstance(value, bytes) and sidekiq_job.read(value) is not None:
                yield Operation(Op.RECLAIM, intent.args[1], value=value)

    def _remove(self, name: bytes, args: list[bytes], role: Role | None) -> Intent | None:
        value = args[-1]
        lists = name == b"LREM" and len(args) == 4 and role in (Role.QUEUE, Role.PROCESSING)
        sets = name == b"ZREM" and len(args) == 3 and role is Role.SCHEDULED
        if not (lists or sets) or sidekiq_job.read(value) is None:
            return None

        def removed(intent: Intent, reply: Reply) -> Iterator[Operation]:
            number, key = integer(reply), args[1]
            if role is Role.PROCESSING:
                verdict = Verdict.UNKNOWN if self.fields(value).fails_silently else Verdict.NONE
                yield Operation(Op.ACK, key, value=value, number=number, verdict=verdict)
            elif number:
                yield Operation(Op.CANCEL, key, sidekiq_job.queue(value), value=value, number=number)

        return Intent(self, args, removed)

    def _due(self, intent: Intent, reply: Reply) -> Iterator[Operation]:
        if isinstance(reply, bytes) and sidekiq_job.read(reply) is not None:
            yield Operation(Op.MOVE, intent.args[3], sidekiq_job.queue(reply), value=reply)

    # ---- heartbeats

    def _beaten(self, intent: Intent, reply: Reply) -> Iterator[Operation]:
        key, rest = intent.args[1], intent.args[2:]
        parts = _parts(key)
        assert parts is not None
        worker = name(parts[1])
        if not key.endswith(parts[1]):
            for value in filter(None, map(sidekiq_job.in_hand, rest[1::2])):
                yield Operation(Op.HEARTBEAT, key, sidekiq_job.queue(value), value=value, worker=worker)
        elif _BEAT.issubset(rest[0::2]):
            yield Operation(Op.BEAT, key, worker=worker)

    def _left(self, intent: Intent, reply: Reply) -> Iterator[Operation]:
        for worker in filter(self._is_worker, intent.args[2:]):
            yield Operation(Op.BEAT, intent.args[1], number=0, worker=name(worker))

    def _is_worker(self, key: bytes) -> bool:
        return self.role(key) is Role.HEARTBEAT


def _set(key: bytes) -> bytes:
    return key.rpartition(b":")[2]


def _holder(key: bytes) -> str:
    """The worker that a list of jobs in hand is of."""
    parts = _parts(key)
    return "" if parts is None else name(parts[1])


def _milliseconds(score: bytes) -> int:
    """When it is due; -1 for a score that is no time."""
    try:
        return paths.when(float(score)) // 1_000_000 or -1
    except ValueError:
        return -1
