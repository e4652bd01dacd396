"""Queues made of Redis lists: what each list command means, by the roles of its keys.

==================== ======================= ======================================================
command              keys                    means
==================== ======================= ======================================================
LPUSH RPUSH (X)      queue                   ENQUEUE of each value (the context goes in here)
                     completed               OUTCOME success
                     dead letter             DEAD_LETTER
LPOP RPOP BLPOP …    queue                   DEQUEUE
                     processing              RECLAIM: only a reaper pops there
RPOPLPUSH LMOVE …    queue → processing      DEQUEUE, ``dest`` is the worker's list
                     queue → queue           MOVE
                     queue → dead letter     DEAD_LETTER
                     processing → queue      RECLAIM and ENQUEUE of the same bytes
                     processing → completed  SETTLE success
                     processing → dead let.  DEAD_LETTER and ACK
                     dead letter → queue     MOVE
LREM                 processing              ACK (reply: 1, or 0 where somebody was faster)
                     queue                   CANCEL
SET, SETEX           heartbeat               HEARTBEAT with the job as value
DEL UNLINK           heartbeat               HEARTBEAT taken back
                     any list                PURGE
LTRIM to nothing     any list                PURGE
LLEN                 queue                   PEEK (``number``: how many)
LRANGE LINDEX        queue, dead letter      PEEK, if that is wanted (`looked_at`)
==================== ======================= ======================================================
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Final

from proxy.context.slot import Slot
from proxy.events import Op, Verdict
from proxy.frameworks.base import End, Fields, Identity, Intent, Job, Mismatch, Operation, Role
from proxy.frameworks.globs import compile_globs
from proxy.frameworks.purge import purged
from proxy.frameworks.wire import integer, name
from proxy.resp.reply import Reply

PUSHES: Final = frozenset((b"LPUSH", b"RPUSH", b"LPUSHX", b"RPUSHX"))
_POPS: Final = frozenset((b"LPOP", b"RPOP", b"BLPOP", b"BRPOP", b"LMPOP", b"BLMPOP"))
_LOOKS: Final = frozenset((b"LRANGE", b"LINDEX"))
_MOVES: Final = frozenset((b"RPOPLPUSH", b"BRPOPLPUSH", b"LMOVE", b"BLMOVE"))
_REMEMBERED: Final = 1024
"""Keys whose role and name are kept at hand."""
_BEATS: Final = frozenset((b"SET", b"SETEX"))
"""Write heartbeats."""
_EXPIRY: Final = {b"EX": 1, b"PX": 1000}


class ListShape:
    """A framework on lists. A subclass says what its keys and its envelope are."""

    name: str
    family: str
    commands: frozenset[bytes]
    rewritable: frozenset[bytes] = frozenset()
    heads: frozenset[bytes] = frozenset()
    scripts = None
    inject: bool
    end: End
    acked = Verdict.SUCCESS
    backs_off_inside = False
    exclusive = False

    def __init__(self, globs: Mapping[Role, Sequence[str]]) -> None:
        """``globs``: patterns of the keys of each role, as `fnmatch` reads them."""
        roles = [(role, compile_globs(globs[role])) for role in sorted(globs) if globs[role]]
        anything = compile_globs([glob for patterns in globs.values() for glob in patterns])
        self.commands = PUSHES | _POPS | _MOVES | {b"LREM", b"LTRIM", b"LLEN", b"DEL", b"UNLINK"}
        if globs.get(Role.HEARTBEAT):
            # Otherwise the keys of a cache, ever new ones, need not be looked at.
            self.commands |= _BEATS

        def find(key: bytes) -> Role | None:
            if anything.match(key) is None:
                return None
            return next(role for role, pattern in roles if pattern.match(key))

        # Both are asked several times of each command, and of the same few keys.
        self._role = lru_cache(_REMEMBERED)(find)
        self._queue = lru_cache(_REMEMBERED)(self._name)

    def looked_at(self) -> None:
        """Read commands that only look at a queue, too."""
        self.commands |= _LOOKS

    def role(self, key: bytes) -> Role | None:
        return self._role(key)

    def queue(self, key: bytes) -> str:
        return self._queue(key)

    def _name(self, key: bytes) -> str:
        named = self.role(key) in (Role.QUEUE, Role.DEAD_LETTER, Role.COMPLETED)
        return name(key) if named else ""

    def worker(self, key: bytes) -> str:
        """The worker that a processing list or a heartbeat names; empty for a key that names none."""
        return ""

    def slot(self, value: bytes) -> Slot:
        raise NotImplementedError

    def identity(self, value: bytes) -> Identity | None:
        raise NotImplementedError

    def fields(self, value: bytes) -> Fields:
        raise NotImplementedError

    def summary(self, value: bytes) -> bytes:
        raise NotImplementedError

    def read(self, name: bytes, args: list[bytes]) -> Intent | None:
        reader = _READERS.get(name)
        if reader is None or len(args) < 2:
            return None
        return reader(self, name, args)

    def operation(self, op: Op, key: bytes, **more: object) -> Operation:
        """Of a job at ``key``; ``more`` are fields of `Operation`."""
        return Operation(op, key, self.queue(key), **more)  # type: ignore[arg-type]


def _push(shape: ListShape, name: bytes, args: list[bytes]) -> Intent | None:
    key, role = args[1], shape.role(args[1])
    if role is Role.QUEUE:
        jobs = [Job(2, args[2])] if len(args) == 3 else [Job(index, args[index]) for index in range(2, len(args))]
        return Intent(shape, args, enqueued, key, jobs, unseen=Op.ENQUEUE)
    if role is Role.COMPLETED or role is Role.DEAD_LETTER:
        return Intent(shape, args, _settled if role is Role.COMPLETED else _buried, key)
    return None


def enqueued(intent: Intent, reply: Reply) -> list[Operation]:
    """Each job of a push is in the list that is its first key."""
    length, args, key = integer(reply), intent.args, intent.args[1]
    if length <= 0:
        # LPUSHX to a list that does not exist: nothing was pushed.
        return []
    queue = intent.framework.queue(key)
    return [
        Operation(Op.ENQUEUE, key, queue, value=args[job.index], number=length, job=number)
        for number, job in enumerate(intent.jobs)
    ]


def _settled(intent: Intent, reply: Reply) -> Iterator[Operation]:
    length = integer(reply)
    for value in intent.args[2:]:
        yield _shape(intent).operation(Op.OUTCOME, intent.args[1], value=value, number=length, verdict=Verdict.SUCCESS)


def _buried(intent: Intent, reply: Reply) -> Iterator[Operation]:
    length = integer(reply)
    for value in intent.args[2:]:
        yield _shape(intent).operation(
            Op.DEAD_LETTER, intent.args[1], value=value, number=length, verdict=Verdict.FAILURE
        )


def _pop(shape: ListShape, name: bytes, args: list[bytes]) -> Intent | None:
    return Intent(shape, args, _popped, pops=True)


def _popped(intent: Intent, reply: Reply) -> Iterator[Operation]:
    """LPOP: a value, or an array of them where a count was given. BLPOP: key, value. LMPOP: key, values."""
    if reply is None:
        return
    name, key = intent.args[0].upper(), intent.args[1]
    values: object = reply
    if name not in (b"LPOP", b"RPOP"):
        if not isinstance(reply, list) or len(reply) != 2 or not isinstance(reply[0], bytes):
            raise Mismatch(name)
        key, values = reply[0], reply[1]
    for value in values if isinstance(values, list) else [values]:
        if not isinstance(value, bytes):
            raise Mismatch(name)
        yield from _taken(_shape(intent), key, value)


def _taken(shape: ListShape, key: bytes, value: bytes) -> Iterator[Operation]:
    role = shape.role(key)
    if role is Role.QUEUE:
        yield shape.operation(Op.DEQUEUE, key, value=value)
    elif role is Role.PROCESSING:
        yield shape.operation(Op.RECLAIM, key, value=value)


def _move(shape: ListShape, name: bytes, args: list[bytes]) -> Intent | None:
    if len(args) < 3:
        return None
    return Intent(shape, args, _moved, pops=shape.role(args[1]) is Role.QUEUE)


def _moved(intent: Intent, reply: Reply) -> Iterator[Operation]:
    if reply is None:
        return
    if not isinstance(reply, bytes):
        raise Mismatch(intent.args[0])
    shape = _shape(intent)
    source, dest = intent.args[1], intent.args[2]
    come, gone = shape.role(source), shape.role(dest)
    if come is Role.PROCESSING and gone is Role.QUEUE:
        yield shape.operation(Op.RECLAIM, source, value=reply)
        yield shape.operation(Op.ENQUEUE, dest, value=reply)
    elif gone is Role.DEAD_LETTER:
        yield shape.operation(Op.DEAD_LETTER, dest, dest=source, value=reply, verdict=Verdict.FAILURE)
        if come is Role.PROCESSING:
            yield shape.operation(Op.ACK, source, value=reply, number=1)
    elif come is Role.PROCESSING and gone is Role.COMPLETED:
        yield shape.operation(Op.SETTLE, source, dest=dest, value=reply, verdict=Verdict.SUCCESS)
    elif gone is Role.QUEUE and come is not None:
        yield shape.operation(Op.MOVE, dest, dest=source, value=reply)
    elif come is Role.QUEUE:
        yield shape.operation(Op.DEQUEUE, source, dest=dest, value=reply, worker=shape.worker(dest))


def _remove(shape: ListShape, name: bytes, args: list[bytes]) -> Intent | None:
    op = {Role.PROCESSING: Op.ACK, Role.QUEUE: Op.CANCEL}.get(shape.role(args[1]) or Role.OTHER)
    if op is None or len(args) != 4:
        return None

    def removed(intent: Intent, reply: Reply) -> Iterator[Operation]:
        number = integer(reply)
        if number or op is Op.ACK:
            yield shape.operation(op, args[1], value=args[3], number=number)

    return Intent(shape, args, removed)


def _length(shape: ListShape, name: bytes, args: list[bytes]) -> Intent | None:
    return Intent(shape, args, _counted) if shape.role(args[1]) is Role.QUEUE else None


def _counted(intent: Intent, reply: Reply) -> Iterator[Operation]:
    yield _shape(intent).operation(Op.PEEK, intent.args[1], number=integer(reply))


def _look(shape: ListShape, name: bytes, args: list[bytes]) -> Intent | None:
    return Intent(shape, args, _looked) if shape.role(args[1]) in (Role.QUEUE, Role.DEAD_LETTER) else None


def _looked(intent: Intent, reply: Reply) -> Iterator[Operation]:
    yield _shape(intent).operation(Op.PEEK, intent.args[1])


def _trim(shape: ListShape, name: bytes, args: list[bytes]) -> Intent | None:
    try:
        start, stop = int(args[2]), int(args[3])
    except (ValueError, IndexError):
        return None
    empties = start > stop >= 0
    return Intent(shape, args, _trimmed) if empties and _is_list(shape.role(args[1])) else None


def _trimmed(intent: Intent, reply: Reply) -> Iterator[Operation]:
    yield _shape(intent).operation(Op.PURGE, intent.args[1])


def _delete(shape: ListShape, name: bytes, args: list[bytes]) -> Intent | None:
    return Intent(shape, args, _deleted)


def _deleted(intent: Intent, reply: Reply) -> Iterator[Operation]:
    shape = _shape(intent)
    for operation in purged(shape, intent, reply):
        if _is_list(shape.role(operation.key)):
            yield operation
    for key in intent.args[1:]:
        if shape.role(key) is Role.HEARTBEAT:
            expired = len(intent.args) == 2 and not reply
            yield shape.operation(Op.HEARTBEAT, key, number=0, error="expired" if expired else "")


def _set(shape: ListShape, name: bytes, args: list[bytes]) -> Intent | None:
    if shape.role(args[1]) is not Role.HEARTBEAT or len(args) < 3:
        return None
    value, seconds = args[2], 0
    if name == b"SETEX" and len(args) == 4:
        value, seconds = args[3], _seconds(args[2], 1)
    for option, amount in pairwise(args[3:]):
        if option.upper() in _EXPIRY:
            seconds = _seconds(amount, _EXPIRY[option.upper()])

    def beaten(intent: Intent, reply: Reply) -> Iterator[Operation]:
        if reply is not None:  # SET NX that did not take
            yield shape.operation(Op.HEARTBEAT, args[1], value=value, number=seconds, worker=shape.worker(args[1]))

    return Intent(shape, args, beaten)


def _seconds(amount: bytes, per_second: int) -> int:
    return int(amount) // per_second if amount.isdigit() and len(amount) < 12 else 0


def _is_list(role: Role | None) -> bool:
    return role in (Role.QUEUE, Role.DEAD_LETTER, Role.COMPLETED, Role.PROCESSING)


def _shape(intent: Intent) -> ListShape:
    shape = intent.framework
    assert isinstance(shape, ListShape)
    return shape


_READERS: Final[Mapping[bytes, Callable[[ListShape, bytes, list[bytes]], Intent | None]]] = {
    **dict.fromkeys(PUSHES, _push),
    **dict.fromkeys(_POPS, _pop),
    **dict.fromkeys(_MOVES, _move),
    b"LREM": _remove,
    b"LTRIM": _trim,
    b"LLEN": _length,
    **dict.fromkeys(_LOOKS, _look),
    b"DEL": _delete,
    b"UNLINK": _delete,
    **dict.fromkeys(_BEATS, _set),
}
