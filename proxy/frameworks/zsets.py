"""``frameworks.zset``: sorted sets of the user's own that hold jobs until they are due, or by priority.

====================== ====================================================================================
command                means
====================== ====================================================================================
ZADD                   SCHEDULE of each member that is new; its score is when it is due (or a priority)
ZPOPMIN BZPOPMIN …     DEQUEUE
ZREM                   CLAIM: whoever removes a job that is due has it; before that, he cancels it
DEL, UNLINK            PURGE
====================== ====================================================================================

**Nothing is ever written**: a member is its own identity, to ZREM, to ``ZADD NX``, to the next ZADD.  A context that
is in it already is used; else trace and span are derived, where ``identity`` names a job.  Identities are shared with
``frameworks.list``: with the same paths in both, a job that moves from a sorted set to a list stays in its trace.

**Not to be seen**: whether a removal that is due is a worker's or a mover's, until a push of the same job follows;
with ``CH``, whether a member was added or changed, unless this tracer knew it; how a job ended.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from proxy.context.slot import Slot
from proxy.events import Op, Verdict
from proxy.frameworks import paths
from proxy.frameworks.base import End, Fields, Identity, Intent, Job, Mismatch, Operation, Role
from proxy.frameworks.envelope import Envelope
from proxy.frameworks.globs import compile_globs
from proxy.frameworks.purge import purged
from proxy.frameworks.wire import integer, name
from proxy.resp.reply import Reply

if TYPE_CHECKING:
    from proxy.config import ZsetSettings

_OPTIONS: Final = frozenset((b"NX", b"XX", b"GT", b"LT", b"CH", b"INCR"))
_POPS: Final = frozenset((b"ZPOPMIN", b"ZPOPMAX", b"BZPOPMIN", b"BZPOPMAX", b"ZMPOP", b"BZMPOP"))


class Zsets:
    name = "zset"
    family = "list"
    commands = _POPS | {b"ZADD", b"ZREM", b"DEL", b"UNLINK"}
    inject = False
    rewritable: frozenset[bytes] = frozenset()
    heads: frozenset[bytes] = frozenset()
    scripts = None
    acked = Verdict.UNKNOWN
    backs_off_inside = False
    exclusive = False

    def __init__(self, options: ZsetSettings) -> None:
        self.end = End[options.end.upper()]
        self._queues = compile_globs(options.queues)
        self._envelope = Envelope(options)
        self._identified = bool(options.identity)

    def role(self, key: bytes) -> Role | None:
        return Role.SCHEDULED if self._queues.match(key) else None

    def queue(self, key: bytes) -> str:
        return name(key)

    def slot(self, value: bytes) -> Slot:
        return self._envelope.slot(value)

    def identity(self, value: bytes) -> Identity | None:
        found = self._envelope.identity(paths.members(value)) if self._identified else None
        return None if found is None else Identity(found.submission, found.attempt, b"z")

    def fields(self, value: bytes) -> Fields:
        job = paths.members(value)
        return self._envelope.fields(job) if job else Fields()

    def summary(self, value: bytes) -> bytes:
        return paths.reduce(value, sorted({*self._envelope.heads, "tracestate"}))

    def read(self, name: bytes, args: list[bytes]) -> Intent | None:
        if name == b"ZADD":
            return self._add(args)
        if name == b"ZREM":
            return self._remove(args)
        if name in _POPS:
            return Intent(self, args, self._popped, pops=True)
        return Intent(self, args, self._deleted)

    def _operation(self, op: Op, key: bytes, value: bytes = b"", *, number: int = -1, job: int = -1) -> Operation:
        return Operation(op, key, self.queue(key), value=value, number=number, job=job)

    def _add(self, args: list[bytes]) -> Intent | None:
        at = 2
        options = set()
        while at < len(args) and args[at].upper() in _OPTIONS:
            options.add(args[at].upper())
            at += 1
        if len(args) - at < 2 or (len(args) - at) % 2 or options & {b"XX", b"INCR"}:
            return None
        jobs = [Job(index, args[index]) for index in range(at + 1, len(args), 2)]

        def added(intent: Intent, reply: Reply) -> Iterator[Operation]:
            if integer(reply):
                for number, job in enumerate(jobs):
                    due = paths.due(args[job.index - 1])
                    yield self._operation(Op.SCHEDULE, args[1], job.value, number=due, job=number)

        return Intent(self, args, added, args[1], jobs, unseen=Op.SCHEDULE)

    def _remove(self, args: list[bytes]) -> Intent | None:
        def removed(intent: Intent, reply: Reply) -> Iterator[Operation]:
            # Of several members it is not said which were there.
            if integer(reply) == len(args) - 2:
                yield from (self._operation(Op.CLAIM, args[1], member) for member in args[2:])

        return Intent(self, args, removed)

    def _popped(self, intent: Intent, reply: Reply) -> Iterator[Operation]:
        """ZPOPMIN: members and scores, flat or in pairs. BZPOPMIN: key, member, score. ZMPOP: key, pairs."""
        name, key = intent.args[0].upper(), intent.args[1]
        if reply is None:
            return
        if not isinstance(reply, list):
            raise Mismatch(name)
        items: object = reply
        if name not in (b"ZPOPMIN", b"ZPOPMAX"):
            if len(reply) not in (2, 3) or not isinstance(reply[0], bytes):
                raise Mismatch(name)
            key, items = reply[0], reply[1] if len(reply) == 2 else reply[1:]
        for member in _members(items):
            if self.role(key) is not None:
                yield self._operation(Op.DEQUEUE, key, member)

    def _deleted(self, intent: Intent, reply: Reply) -> Iterator[Operation]:
        yield from purged(self, intent, reply)


def _members(items: object) -> Iterator[bytes]:
    if not isinstance(items, list):
        raise Mismatch("not members and scores")
    pairs = items if items and isinstance(items[0], list) else [items[at : at + 2] for at in range(0, len(items), 2)]
    for pair in pairs:
        if not isinstance(pair, list) or len(pair) != 2 or not isinstance(pair[0], bytes):
            raise Mismatch("not a member and its score")
        yield pair[0]
