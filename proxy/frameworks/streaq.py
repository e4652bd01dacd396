"""streaq (run: 7.2.0 on coredis 6.9.0, which speaks RESP3).

====================== =========================================================================================
what                   on the wire (id: the task's; P: ``streaq:<queue>:``; S: ``P queues:<priority>``, a stream)
====================== =========================================================================================
enqueue                ``FCALL publish_task 6 S … id <pickle> 0 …``, which answers with the entry's id
later                  the same with a time instead of 0; ``1`` is the answer to this, and to a task that waits for
                       others: that is added by the worker who ended the last of them, by ``XADD S * task_id id …``
cron                   ``FCALL schedule_cron_job 4 … P task:data:<id> id <time> …``, from each worker
dequeue                ``FCALL read_streams 1 P queues: workers <worker> …``, or XREADGROUP: entries that say
                       ``task_id``, several at once; the same function moves what is due from a sorted set
start                  ``GET P task:data:<id>``, ``INCR P task:retry:<id>``, which says the how manieth attempt it is
success, failure       ``PUBLISH P channels:<id> <pickle>``
retry                  ``ZADD P queues:delayed:<priority> <time> id``
cancelled              ``ZREM`` of the same
====================== =========================================================================================

A task is known by reference, as entries and sorted sets have only its id.  Nothing is unpickled: what it calls is the
first thing in its pickle, and so is how it ended in that of its result.

**Nothing is ever written**: a task does not see its pickle.  The trace follows from the id, which is a new one for each
task, and for each run of a cron job.

**Not to be seen**: when a delayed task comes to its stream, inside Redis: it has waited since it was due.  Whose word
counted of several workers that schedule a cron job: behind several sidecars its enqueue is exported by each.  That a
worker gives back what it cannot finish on its way out: its attempt lasts until the next worker has the task.  How a
task ended, with a serializer of one's own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Final

from proxy.context.fields_slot import pack, unpack
from proxy.context.slot import ABSENT, Slot
from proxy.events import VALUE_LIMIT, Op, Verdict
from proxy.frameworks.base import End, Fields, Identity, Intent, Job, Mismatch, Operation, Role
from proxy.frameworks.pickled import Scanner, Sign, Unreadable
from proxy.frameworks.wire import integer, name
from proxy.resp.reply import Reply

if TYPE_CHECKING:
    from proxy.config import StreaqSettings

_STREAMS: Final = b":queues:"
_DELAYED: Final = b":queues:delayed:"
_DATA: Final = b":task:data:"
_RETRY: Final = b":task:retry:"
_CHANNEL: Final = b":channels:"
_USUAL: Final = b"default"
_TYPE_LIMIT: Final = 256


class Streaq:
    name = "streaq"
    family = "streaq"
    commands = frozenset((b"FCALL", b"XREADGROUP", b"XADD", b"ZADD", b"ZREM", b"GET", b"INCR", b"PUBLISH"))
    rewritable: frozenset[bytes] = frozenset()
    scripts = None
    heads: frozenset[bytes] = frozenset()
    inject = False
    end = End.ACK
    acked = Verdict.SUCCESS
    backs_off_inside = False
    exclusive = True

    def __init__(self, options: StreaqSettings) -> None:
        self._prefix = options.prefix.encode()

    def role(self, key: bytes) -> Role | None:
        if not key.startswith(self._prefix):
            return None
        if _DELAYED in key:
            return Role.SCHEDULED
        if _STREAMS in key:
            return Role.QUEUE
        if _DATA in key or _RETRY in key:
            return Role.JOB
        return Role.OTHER if _CHANNEL in key or key.endswith(b":cron:schedule") else None

    def queue(self, key: bytes) -> str:
        return name(key.removeprefix(self._prefix).partition(_STREAMS)[0]) if _STREAMS in key else ""

    def slot(self, value: bytes) -> Slot:
        return ABSENT

    def identity(self, value: bytes) -> Identity | None:
        ref, _ = unpack(value)
        return Identity(ref) if ref else None

    def fields(self, value: bytes) -> Fields:
        _, parts = unpack(value)
        if not parts:
            return Fields()
        return Fields(id=name(parts[0]), type=_function(parts[1]) if len(parts) > 1 else "", attempt=-1)

    def summary(self, value: bytes) -> bytes:
        ref, parts = unpack(value)
        kept = pack(ref, [parts[0], parts[1][: 2 * _TYPE_LIMIT]]) if len(parts) > 1 else value
        return kept if len(kept) <= VALUE_LIMIT else b""

    def read(self, name: bytes, args: list[bytes]) -> Intent | None:
        if name == b"FCALL":
            return self._called(args)
        if name == b"XREADGROUP":
            return Intent(self, args, self._delivered, pops=True) if args[1].upper() == b"GROUP" else None
        if name == b"XADD":
            return self._added(args)
        key, role = args[1], self.role(args[1])
        if name in (b"ZADD", b"ZREM"):
            at = {b"ZADD": 4, b"ZREM": 3}[name]
            if role is not Role.SCHEDULED or len(args) != at:
                return None
            return Intent(self, args, self._delayed if name == b"ZADD" else self._cancelled)
        if name == b"PUBLISH":
            return Intent(self, args, self._ended) if _CHANNEL in key and len(args) == 3 else None
        if role is not Role.JOB or (_DATA in key) is not (name == b"GET"):
            return None
        return Intent(self, args, self._described if name == b"GET" else self._begun)

    def _called(self, args: list[bytes]) -> Intent | None:
        function, count = args[1], args[2] if len(args) > 2 else b""
        if function == b"read_streams" and count == b"1" and len(args) > 6:
            return Intent(self, args, self._delivered, pops=True)
        if function == b"publish_task" and count == b"6" and len(args) >= 14:
            stream, task_id, data = args[3], args[9], args[10]
            jobs = [Job(10, pack(self._ref(stream, task_id), [task_id, data]))]
            return Intent(self, args, self._published, self._base(stream), jobs)
        if function == b"schedule_cron_job" and count == b"4" and len(args) == 10:
            delayed, task_id = args[4], args[7]
            jobs = [Job(7, pack(self._ref(delayed, task_id), [task_id]))]
            return Intent(self, args, self._cron, self._base(delayed), jobs)
        return None

    def _added(self, args: list[bytes]) -> Intent | None:
        """A task that had waited for others."""
        entry = _pairs(args[3:])
        task_id = entry.get(b"task_id")
        if self.role(args[1]) is not Role.QUEUE or args[2:3] != [b"*"] or not task_id:
            return None
        jobs = [Job(args.index(task_id, 3), pack(self._ref(args[1], task_id), [task_id]))]
        return Intent(self, args, self._follows, self._base(args[1]), jobs)

    def _space(self, key: bytes) -> bytes:
        """The part of a key that tells one set of queues from another."""
        rest = key.removeprefix(self._prefix)
        ends = [rest.find(mark) for mark in (_STREAMS, _DATA, _RETRY, _CHANNEL)]
        return rest[: min((end for end in ends if end >= 0), default=0)]

    def _ref(self, key: bytes, task_id: bytes) -> bytes:
        """The id, with its queue where that is not the usual one: cron jobs of the same name have the same ids."""
        space = self._space(key)
        return task_id if space == _USUAL else b"%s:%s" % (space, task_id)

    def _base(self, key: bytes) -> bytes:
        """What all commands about a task know of where it goes: by this its rate is looked up."""
        return self._prefix + self._space(key) + _STREAMS

    def _named(self, key: bytes) -> tuple[bytes, bytes]:
        """Id and `_ref` of the task that has a key of its own."""
        mark = next(mark for mark in (_DATA, _RETRY, _CHANNEL) if mark in key)
        task_id = key.partition(mark)[2]
        return task_id, self._ref(key, task_id)

    def _operation(self, op: Op, key: bytes, ref: bytes, *, dest: bytes = b"", number: int = -1) -> Operation:
        return Operation(op, key, self.queue(key), dest=dest, ref=ref, number=number)

    def _submitted(self, intent: Intent) -> tuple[bytes, Operation]:
        """What it is; all else is said by its name."""
        value, key = intent.jobs[0].value, intent.key
        ref = unpack(value)[0]
        return ref, Operation(Op.DESCRIBE, key, self.queue(key), ref=ref, value=value, job=0)

    def _published(self, intent: Intent, reply: Reply) -> Iterator[Operation]:
        stream, due = intent.args[3], _time(intent.args[11])
        if not isinstance(reply, bytes) and not integer(reply):
            return  # there is such a task already
        ref, submitted = self._submitted(intent)
        yield submitted
        if isinstance(reply, bytes):
            yield self._operation(Op.ENQUEUE, stream, ref)
        elif due:
            yield self._operation(Op.SCHEDULE, stream, ref, dest=stream, number=due)
        else:  # until others are done
            yield self._operation(Op.SCHEDULE, stream, ref)

    def _cron(self, intent: Intent, reply: Reply) -> Iterator[Operation]:
        stream = intent.args[4].replace(_DELAYED, _STREAMS)
        ref, submitted = self._submitted(intent)
        yield submitted
        yield self._operation(Op.SCHEDULE, stream, ref, dest=stream, number=_time(intent.args[8]))

    def _follows(self, intent: Intent, reply: Reply) -> Iterator[Operation]:
        if not isinstance(reply, bytes):
            raise Mismatch("XADD")
        stream, (ref, known) = intent.args[1], self._submitted(intent)
        yield known
        # It was submitted before, perhaps by way of another sidecar.
        yield Operation(Op.MOVE, intent.key, self.queue(stream), ref=ref, value=known.value)
        yield self._operation(Op.ENQUEUE, stream, ref)

    def _delivered(self, intent: Intent, reply: Reply) -> Iterator[Operation]:
        args = intent.args
        worker = name(args[5 if args[0].upper() == b"FCALL" else 3])
        for stream, entry in _entries(reply):
            task_id = entry.get(b"task_id")
            if task_id and self.role(stream) is Role.QUEUE:
                ref = self._ref(stream, task_id)
                yield self._operation(Op.DESCRIBE, stream, ref, number=_time(entry.get(b"enqueue_time", b"")) or -1)
                yield Operation(Op.DEQUEUE, stream, self.queue(stream), ref=ref, worker=worker)

    def _described(self, intent: Intent, reply: Reply) -> Iterator[Operation]:
        if isinstance(reply, bytes):
            task_id, ref = self._named(intent.args[1])
            base = self._base(intent.args[1])
            yield Operation(Op.DESCRIBE, base, self.queue(base), ref=ref, value=pack(ref, [task_id, reply]))

    def _begun(self, intent: Intent, reply: Reply) -> Iterator[Operation]:
        yield Operation(Op.START, intent.args[1], ref=self._named(intent.args[1])[1], number=integer(reply))

    def _ended(self, intent: Intent, reply: Reply) -> Iterator[Operation]:
        key, ref = intent.args[1], self._named(intent.args[1])[1]
        verdict, error = _verdict(intent.args[2])
        if verdict is Verdict.NONE:
            yield Operation(Op.CANCEL, key, ref=ref, number=1)
        else:
            yield Operation(Op.SETTLE, key, ref=ref, verdict=verdict, error=error)

    def _delayed(self, intent: Intent, reply: Reply) -> Iterator[Operation]:
        integer(reply)
        key, score, task_id = intent.args[1:]
        stream = key.replace(_DELAYED, _STREAMS)
        yield self._operation(Op.SCHEDULE, stream, self._ref(key, task_id), dest=stream, number=_time(score))

    def _cancelled(self, intent: Intent, reply: Reply) -> Iterator[Operation]:
        if integer(reply):
            key, task_id = intent.args[1:]
            yield self._operation(Op.CANCEL, key, self._ref(key, task_id), number=1)


def _verdict(result: bytes) -> tuple[Verdict, str]:
    """How a task ended; NONE if it was not even tried, as one that it had waited for has failed."""
    try:
        scanner = Scanner(result)
        scanner.expect(Sign.DICT, Sign.MARK)
        first = scanner.take()
        if first == "s":
            return Verdict.NONE, ""
        if first != "f":
            return Verdict.UNKNOWN, ""
        for before in ("ct", "et", "s"):
            scanner.take()
            scanner.expect(before)
        success = scanner.take()
    except Unreadable:
        return Verdict.UNKNOWN, ""
    if not isinstance(success, bool):
        return Verdict.UNKNOWN, ""
    return (Verdict.SUCCESS, "") if success else (Verdict.FAILURE, _raised(scanner))


def _raised(scanner: Scanner) -> str:
    try:
        scanner.expect("r")
        scanner.take()
        raised = scanner.take()
        scanner.expect(Sign.GLOBAL)
    except Unreadable:
        return ""
    return raised[:_TYPE_LIMIT] if isinstance(raised, str) else ""


def _function(data: bytes) -> str:
    try:
        scanner = Scanner(data)
        scanner.expect(Sign.DICT, Sign.MARK, "f")
        function = scanner.take()
    except Unreadable:
        return ""
    return function[:_TYPE_LIMIT] if isinstance(function, str) else ""


def _entries(reply: Reply) -> Iterator[tuple[bytes, Mapping[bytes, bytes]]]:
    """Streams and what their entries say: of XREADGROUP (RESP3: a map) or of the function."""
    if reply is None:
        return
    if not isinstance(reply, list | dict):
        raise Mismatch("no entries")
    for stream, entries in reply.items() if isinstance(reply, dict) else _twos(reply):
        if not isinstance(stream, bytes) or not isinstance(entries, list):
            raise Mismatch("no entries of a stream")
        for _, said in _twos(entries):
            if isinstance(said, list):
                yield stream, _pairs([part for part in said if isinstance(part, bytes)])


def _twos(items: list[Reply]) -> Iterator[tuple[Reply, Reply]]:
    """The first two of each; there may be more, of entries that are claimed."""
    for item in items:
        if not isinstance(item, list) or len(item) < 2:
            raise Mismatch("not two")
        yield item[0], item[1]


def _pairs(flat: list[bytes]) -> Mapping[bytes, bytes]:
    return dict(zip(flat[::2], flat[1::2], strict=False))


def _time(text: bytes) -> int:
    """A time in ms; 0: it is none."""
    return int(text) if text.isdigit() and len(text) < 16 else 0
