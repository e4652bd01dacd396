r"""machinery (run: v2.0.13, on redigo and on go-redis; v1.10.8 sends the same, by its source).

======================= ========================================================================================
what                    on the wire (J: the signature, ``{"UUID", "Name", "RoutingKey", …, "Headers", …}``)
======================= ========================================================================================
enqueue                 ``RPUSH <queue> J``
later                   ``ZADD delayed_tasks <ns> J``; a worker takes out what is due, by WATCH and
                        ``MULTI ZREM delayed_tasks J EXEC``, and pushes it
dequeue                 ``BLPOP <queue> 1``
start, success, failure ``SET <UUID> {"TaskUUID", "State": "STARTED" | "SUCCESS" | "FAILURE", …} EX …``
retry                   such a SET with ``"State": "RETRY"``, then "later" with one retry less, or "enqueue"
======================= ========================================================================================

Queues may have any name: a signature is known by what is in it, and says itself which queue it is for.

**Where the context rides**: ``Headers.traceparent``, which machinery's retry repeats, and where its own tracing, by
OpenTracing, has what it propagates.

**Not to be seen**: the end of a task whose results are not kept in Redis, or whose UUID is not one that machinery has
made: no process span.  Whether a task asked to be tried later or has failed.  A task whose worker dies is lost, to
machinery too; one that its worker does not know is put back, and counts as tried again.  Tasks of a chain and of a
group are traces of their own; those of a chain are linked.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import msgspec

from proxy.context.nested_slot import nested_slot
from proxy.context.slot import NoSlot, Slot, State
from proxy.events import VALUE_LIMIT, Op, Verdict
from proxy.frameworks import paths
from proxy.frameworks.base import End, Fields, Identity, Intent, Job, Mismatch, Operation, Role
from proxy.frameworks.list_shape import enqueued
from proxy.frameworks.wire import integer, name
from proxy.resp.reply import Reply

if TYPE_CHECKING:
    from proxy.config import MachinerySettings

_MADE: Final = re.compile(rb"task_[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_FOREIGN: Final = NoSlot(State.REFUSED, "foreign")
_ENDS: Final = {"SUCCESS": Verdict.SUCCESS, "FAILURE": Verdict.FAILURE}


class _Next(msgspec.Struct):
    UUID: str = ""


class _Signature(msgspec.Struct):
    """What every signature has. Its arguments are not looked at."""

    UUID: str
    Name: str
    RoutingKey: str
    GroupUUID: str
    Args: msgspec.Raw
    Headers: msgspec.Raw
    RetryCount: int
    RetryTimeout: int
    ETA: str | None = None
    Priority: int = 0
    OnSuccess: list[_Next] | None = None


class _State(msgspec.Struct):
    TaskUUID: str
    State: str


_signature: Final = msgspec.json.Decoder(_Signature)
_state: Final = msgspec.json.Decoder(_State)
_headers: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])


class Machinery:
    name = "machinery"
    family = "machinery"
    commands = frozenset((b"RPUSH", b"BLPOP", b"ZADD", b"ZREM", b"SET"))
    rewritable = frozenset((b"ZADD",))
    heads = frozenset((b'{"UUID',))
    scripts = None
    end = End.ACK
    acked = Verdict.UNKNOWN
    backs_off_inside = False
    exclusive = True

    def __init__(self, options: MachinerySettings) -> None:
        self.inject = options.inject
        self._delayed = options.delayed_tasks_key.encode()

    def role(self, key: bytes) -> Role | None:
        if key == self._delayed:
            return Role.SCHEDULED
        return Role.JOB if key.startswith(b"task_") and _MADE.fullmatch(key) else None

    def queue(self, key: bytes) -> str:
        return name(key) if self.role(key) is None else ""

    def slot(self, value: bytes) -> Slot:
        return nested_slot(value, "Headers") if _read(value) is not None else _FOREIGN

    def identity(self, value: bytes) -> Identity | None:
        return None

    def fields(self, value: bytes) -> Fields:
        said = _read(value)
        if said is None:
            return Fields()
        following = said.OnSuccess or []
        return Fields(
            id=paths.text(said.UUID),
            type=paths.text(said.Name),
            attempt=-1,
            scheduled_at=paths.when(said.ETA),
            priority=paths.text(said.Priority or None),
            batch_id=paths.text(said.GroupUUID),
            next_id=paths.text(following[0].UUID) if following else "",
        )

    def summary(self, value: bytes) -> bytes:
        """Of its headers nothing but the context."""
        said = _read(value)
        if said is None:
            return b""
        said.Args = msgspec.Raw(b"null")
        try:
            headers = _headers.decode(said.Headers)
        except paths.UNREADABLE:
            headers = {}
        kept = {name: headers[name] for name in ("traceparent", "tracestate") if name in headers}
        said.Headers = msgspec.Raw(msgspec.json.encode(kept))
        said.OnSuccess = (said.OnSuccess or [])[:1]
        summary = msgspec.json.encode(said)
        return summary if len(summary) <= VALUE_LIMIT else b""

    def read(self, name: bytes, args: list[bytes]) -> Intent | None:
        if len(args) < 3:
            return None
        if name == b"RPUSH":
            return self._push(args)
        if name == b"BLPOP":
            return Intent(self, args, self._popped)
        role = self.role(args[1])
        if name == b"SET":
            return self._said(args) if role is Role.JOB else None
        if role is not Role.SCHEDULED:
            return None
        if name == b"ZREM":
            return Intent(self, args, self._taken_out) if len(args) == 3 else None
        return self._put_aside(args)

    def _push(self, args: list[bytes]) -> Intent | None:
        key, signatures = args[1], [_read(value) for value in args[2:]]
        if not all(said is not None and said.RoutingKey.encode() == key for said in signatures):
            return None
        jobs = [Job(at, args[at]) for at in range(2, len(args))]
        return Intent(self, args, enqueued, key, jobs, unseen=Op.ENQUEUE)

    def _popped(self, intent: Intent, reply: Reply) -> Iterator[Operation]:
        if reply is None:
            return
        if not isinstance(reply, list) or len(reply) != 2 or not isinstance(reply[0], bytes):
            raise Mismatch("BLPOP")
        key, value = reply[0], reply[1]
        if isinstance(value, bytes) and _read(value) is not None:
            yield Operation(Op.DEQUEUE, key, self.queue(key), value=value)

    def _put_aside(self, args: list[bytes]) -> Intent | None:
        said = _read(args[3]) if len(args) == 4 else None
        if said is None:
            return None
        queue, due = said.RoutingKey, paths.due(args[2])

        def put(intent: Intent, reply: Reply) -> Iterator[Operation]:
            if integer(reply):
                yield Operation(Op.SCHEDULE, self._delayed, queue, value=intent.args[3], number=due, job=0)

        return Intent(self, args, put, queue.encode(), [Job(3, args[3])], unseen=Op.SCHEDULE)

    def _taken_out(self, intent: Intent, reply: Reply) -> Iterator[Operation]:
        value = intent.args[2]
        said = _read(value)
        if integer(reply) and said is not None:
            yield Operation(Op.MOVE, self._delayed, said.RoutingKey, value=value)

    def _said(self, args: list[bytes]) -> Intent | None:
        """What a worker tells of a task."""
        try:
            told = _state.decode(args[2])
        except paths.UNREADABLE:
            return None
        ref = args[1]
        if told.TaskUUID.encode() != ref:
            return None
        if told.State == "STARTED":
            one = Operation(Op.START, ref, ref=ref)
        elif told.State == "RETRY":
            one = Operation(Op.RETRY, ref, ref=ref)
        elif told.State in _ENDS:
            one = Operation(Op.SETTLE, ref, ref=ref, verdict=_ENDS[told.State])
        else:
            return None
        return Intent(self, args, lambda intent, reply: (one,))


def _read(value: bytes) -> _Signature | None:
    said = paths.read(_signature, value)
    return said if said is not None and said.UUID and said.Name and said.RoutingKey else None
