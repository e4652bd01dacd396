r"""Celery on kombu's Redis transport (run: celery 5.7.0 and 5.3.6, redis-py 8.1.0 and 5.0.8, RESP2 and RESP3).

======================= ========================================================================================
what                    on the wire (M: the message; tag: ``properties.delivery_tag``; id: ``headers.id``)
======================= ========================================================================================
enqueue                 ``LPUSH <queue>[\x06\x16<priority>] M``
dequeue                 ``BRPOP <queue> <queue>\x06\x163 … 1``, then ``HSET unacked tag [M, …]``;
                        with an ETA long before: a worker holds it until then
start                   ``HDEL unacked tag``: with early acknowledgement, Celery's default, that is when a task begins
success, failure        ``SETEX celery-task-meta-<id> … {"status": …}`` (or SET), from the pool's child
                        and, with ``worker -E``, ``PUBLISH /0.celeryev/task.multi``: start, end and worker, too
retry                   ``LPUSH`` of a message with the same id and ``headers.retries`` + 1
redelivery              ``RPUSH`` of a message that says ``redelivered``: a worker that shut down gives back what it
                        had, or another one does, after the visibility timeout
purge                   ``DEL <queue> …``
======================= ========================================================================================

Queues may have any name: a message is known by its ``headers.task``, ``headers.id`` and ``properties.delivery_tag``.

**Where the context rides**: ``headers.traceparent``, which Celery's own retry repeats, where OpenTelemetry's
instrumentation looks, and which the task reads as ``self.request.traceparent``.

**Not to be seen**: the end of a task with ``ignore_result`` and without ``-E``: no process span (a late
acknowledgement looks like an early one).  When a task began that is acknowledged late: as soon as its worker has it, or
at its ETA, which is marked (``redspan.start.inferred``).  Messages that are not JSON outside (kombu always writes JSON
there).
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import msgspec

from proxy.context.nested_slot import nested_slot
from proxy.context.slot import NoSlot, Slot, State
from proxy.events import VALUE_LIMIT, Op, Verdict
from proxy.frameworks import paths
from proxy.frameworks.base import End, Fields, Identity, Intent, Job, Mismatch, Operation, Role
from proxy.frameworks.wire import integer, name
from proxy.resp.reply import Reply

if TYPE_CHECKING:
    from proxy.config import CelerySettings

_PRIORITY: Final = re.compile(rb"\x06\x16\d+\Z")
_EVENTS: Final = re.compile(rb"/\d*\.celeryev/task\.")
_STATUS: Final = re.compile(rb"\bstatus\b.{0,12}?(PENDING|STARTED|SUCCESS|FAILURE|RETRY|REVOKED|IGNORED)", re.DOTALL)
_STATUS_WITHIN: Final = 4096
_EVENTS_LIMIT: Final = 1000
_FOREIGN: Final = NoSlot(State.REFUSED, "foreign")


class _Headers(msgspec.Struct):
    task: str
    id: str
    retries: int | None = 0
    eta: str | None = None
    group: str | None = None
    parent_id: str | None = None
    redelivered: bool = False


class _DeliveryInfo(msgspec.Struct):
    redelivered: bool = False


class _Properties(msgspec.Struct):
    delivery_tag: str
    correlation_id: str | None = None
    priority: int | None = None
    delivery_info: _DeliveryInfo | None = None


class _Message(msgspec.Struct):
    headers: _Headers
    properties: _Properties


class _Parts(msgspec.Struct):
    headers: dict[str, msgspec.Raw]
    properties: dict[str, msgspec.Raw]


class _Event(msgspec.Struct):
    """What ``worker -E`` says of a task. Neither arguments nor results are read."""

    type: str
    uuid: str
    hostname: str = ""
    exception: str = ""


class _Publication(msgspec.Struct):
    body: str


class _Result(msgspec.Struct):
    status: str
    result: msgspec.Raw = msgspec.Raw(b"null")


class _Raised(msgspec.Struct):
    exc_type: str


_message: Final = msgspec.json.Decoder(_Message)
_publication: Final = msgspec.json.Decoder(_Publication)
_events: Final = msgspec.json.Decoder(_Event | list[_Event])
_result: Final = msgspec.json.Decoder(_Result)
_raised: Final = msgspec.json.Decoder(_Raised)
_parts: Final = msgspec.json.Decoder(_Parts)
_KEPT: Final = {
    "headers": (*_Headers.__struct_fields__, "traceparent", "tracestate"),
    "properties": ("delivery_tag", "correlation_id", "priority"),
}


class Celery:
    name = "celery"
    family = "celery"
    commands = frozenset((b"LPUSH", b"RPUSH", b"BRPOP", b"RPOP", b"HDEL", b"SET", b"SETEX", b"PUBLISH", b"DEL"))
    rewritable: frozenset[bytes] = frozenset()
    heads = frozenset((b'{"body',))
    scripts = None
    end = End.ACK
    acked = Verdict.UNKNOWN
    backs_off_inside = False
    exclusive = True

    def __init__(self, options: CelerySettings) -> None:
        self.inject = options.inject
        self._prefix = options.prefix.encode()
        self._unacked = self._prefix + options.unacked_key.encode()
        self._meta = self._prefix + b"celery-task-meta-"

    def role(self, key: bytes) -> Role | None:
        if key == self._unacked:
            return Role.PROCESSING
        if key.startswith(self._meta):
            return Role.JOB
        if _PRIORITY.search(key):
            return Role.QUEUE
        return Role.OTHER if _EVENTS.search(key) else None

    def queue(self, key: bytes) -> str:
        if self.role(key) not in (None, Role.QUEUE):
            return ""
        return name(_PRIORITY.sub(b"", key.removeprefix(self._prefix)))

    def slot(self, value: bytes) -> Slot:
        return nested_slot(value, "headers") if _read(value) is not None else _FOREIGN

    def identity(self, value: bytes) -> Identity | None:
        return None

    def fields(self, value: bytes) -> Fields:
        message = _read(value)
        if message is None:
            return Fields()
        headers, properties = message.headers, message.properties
        correlation, due = properties.correlation_id or "", paths.when(headers.eta)
        return Fields(
            id=paths.text(headers.id),
            type=paths.text(headers.task),
            attempt=paths.integer(headers.retries),
            scheduled_at=due,
            held_until=due,
            priority=paths.text(properties.priority),
            correlation_id=paths.text(correlation) if correlation != headers.id else "",
            parent_id=paths.text(headers.parent_id),
            batch_id=paths.text(headers.group),
            handle=paths.text(properties.delivery_tag),
        )

    def summary(self, value: bytes) -> bytes:
        try:
            message = _parts.decode(value)
        except paths.UNREADABLE:
            return b""
        parts = {"headers": message.headers, "properties": message.properties}
        kept = {
            part: {name: parts[part][name] for name in names if name in parts[part]} for part, names in _KEPT.items()
        }
        summary = msgspec.json.encode(kept)
        return summary if len(summary) <= VALUE_LIMIT else b""

    def read(self, name: bytes, args: list[bytes]) -> Intent | None:
        if len(args) < 2:
            return None
        if name in (b"LPUSH", b"RPUSH"):
            return self._push(args)
        if name in (b"BRPOP", b"RPOP"):
            return Intent(self, args, self._popped)
        if name == b"HDEL":
            return Intent(self, args, self._begun) if args[1] == self._unacked else None
        if name == b"DEL":
            return Intent(self, args, self._deleted)
        if name == b"PUBLISH":
            return Intent(self, args, self._published) if _EVENTS.search(args[1]) else None
        return Intent(self, args, self._stored) if args[1].startswith(self._meta) else None

    def _push(self, args: list[bytes]) -> Intent | None:
        if not all(_read(value) is not None for value in args[2:]):
            return None
        jobs = [Job(index, args[index]) for index in range(2, len(args))]
        return Intent(self, args, self._pushed, args[1], jobs, unseen=Op.ENQUEUE)

    def _pushed(self, intent: Intent, reply: Reply) -> Iterator[Operation]:
        length, key = integer(reply), intent.args[1]
        for number, job in enumerate(intent.jobs):
            value = intent.args[job.index]
            if _redelivered(value):
                yield Operation(Op.RECLAIM, self._unacked, value=value)
            yield Operation(Op.ENQUEUE, key, self.queue(key), value=value, number=length, job=number)

    def _popped(self, intent: Intent, reply: Reply) -> Iterator[Operation]:
        key, value = intent.args[1], reply
        if isinstance(reply, list):
            if len(reply) != 2 or not isinstance(reply[0], bytes):
                raise Mismatch("BRPOP")
            key, value = reply[0], reply[1]
        if isinstance(value, bytes) and _read(value) is not None:
            yield Operation(Op.DEQUEUE, key, self.queue(key), value=value)

    def _begun(self, intent: Intent, reply: Reply) -> Iterator[Operation]:
        if integer(reply):
            for tag in intent.args[2:]:
                yield Operation(Op.START, self._unacked, ref=tag)

    def _stored(self, intent: Intent, reply: Reply) -> Iterator[Operation]:
        args = intent.args
        value = args[3 if args[0].upper() == b"SETEX" else 2] if len(args) > 3 else args[-1]
        status, error = _status(value)
        operation = _ended(status, self._meta, args[1].removeprefix(self._meta), error)
        if operation is not None:
            yield operation

    def _published(self, intent: Intent, reply: Reply) -> Iterator[Operation]:
        for event in _said(intent.args[-1]):
            status = _SAID.get(event.type, "")
            error = event.exception.partition("(")[0] if event.exception else ""
            operation = _ended(status, intent.args[1], event.uuid.encode(), error, event.hostname)
            if operation is not None:
                yield operation

    def _deleted(self, intent: Intent, reply: Reply) -> Iterator[Operation]:
        count, queues = integer(reply), intent.args[1:]
        sure = Verdict.NONE if count == len(queues) else Verdict.UNKNOWN
        for key in queues if count else ():
            if self.role(key) in (None, Role.QUEUE):
                yield Operation(Op.PURGE, key, self.queue(key), verdict=sure)


_SAID: Final = {
    "task-started": "STARTED",
    "task-succeeded": "SUCCESS",
    "task-failed": "FAILURE",
    "task-rejected": "FAILURE",
    "task-revoked": "REVOKED",
}
_VERDICTS: Final = {"SUCCESS": Verdict.SUCCESS, "FAILURE": Verdict.FAILURE, "IGNORED": Verdict.UNKNOWN}


def _ended(status: str, key: bytes, ref: bytes, error: str, worker: str = "") -> Operation | None:
    """What a status says of the task ``ref``. A RETRY has been seen already, as a push."""
    worker = worker[:256]
    if status == "STARTED":
        return Operation(Op.START, key, ref=ref, worker=worker)
    if status == "REVOKED":
        return Operation(Op.SETTLE, key, ref=ref, verdict=Verdict.FAILURE, error="revoked", worker=worker)
    verdict = _VERDICTS.get(status)
    if verdict is None:
        return None
    return Operation(Op.SETTLE, key, ref=ref, verdict=verdict, error=error[:256], worker=worker)


def _status(value: bytes) -> tuple[str, str]:
    """A result's status and exception type. Of one that is not JSON (pickle, msgpack, YAML) the status alone."""
    try:
        result = _result.decode(value)
    except paths.UNREADABLE:
        found = _STATUS.search(value, 0, _STATUS_WITHIN)
        return (found[1].decode(), "") if found else ("", "")
    if result.status != "FAILURE":
        return result.status, ""
    try:
        return result.status, _raised.decode(result.result).exc_type
    except paths.UNREADABLE:
        return result.status, ""


def _said(publication: bytes) -> list[_Event]:
    try:
        said = _events.decode(binascii.a2b_base64(_publication.decode(publication).body))
    except (*paths.UNREADABLE, ValueError):
        return []
    return said[:_EVENTS_LIMIT] if isinstance(said, list) else [said]


def _redelivered(value: bytes) -> bool:
    message = _read(value)
    if message is None:
        return False
    info = message.properties.delivery_info
    return message.headers.redelivered or (info is not None and info.redelivered)


def _read(value: bytes) -> _Message | None:
    return paths.read(_message, value)
