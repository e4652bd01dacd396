"""taskiq with taskiq-redis (run: 0.13.0 with 1.2.4, redis-py 8.1.0, RESP2 and RESP3): lists and streams.

======================= ========================================================================================
what                    on the wire (M: the message; id: its ``task_id``)
======================= ========================================================================================
enqueue                 ListQueueBroker: ``LPUSH <queue> M``; RedisStreamBroker: ``XADD <queue> * data M``
dequeue                 ``BRPOP <queue> 0``, or ``XREADGROUP GROUP <group> <consumer> … STREAMS <queue> >``
success, failure        ``SET [<prefix>:]<id> {is_err …}``, from the result backend
end                     of a stream's entry: ``XACK <queue> <group> <entry>``, after its result
retry                   the enqueue of a message with the same id and ``labels._retries`` + 1; nothing is SET
retry later             ``SET schedule:data:<schedule> {… labels: _retries … task_id …}`` (SmartRetryMiddleware with a
                        ListRedisScheduleSource); when it is due, the scheduler sends what is under "retry"
redelivery              ``XAUTOCLAIM`` of a stream's entries that were not acknowledged in time
purge                   ``DEL <queue> …``
======================= ========================================================================================

Queues may have any name: a message is known by its fields, alone in its command or alone in its entry.

**Where the context rides**: ``labels.traceparent``, where taskiq's own OpenTelemetryMiddleware has it; retries repeat
it, and tasks read it as ``Context.message.labels``.

**Not to be seen**: the end of a list's task without a result backend in the same Redis, or whose id is neither 32 hex
digits nor a UUID where the backend has no prefix: no process span.  How a stream's task ended without a result.  When a
task begins: what a worker has read from a stream beyond what it runs at once counts as being processed.  Schedules: a
trace begins when the scheduler enqueues.  Messages that are not JSON, and PubSubBroker, which is no queue.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final

import msgspec

from proxy.context.fields_slot import pack, unpack
from proxy.context.nested_slot import nested_slot
from proxy.context.slot import NoSlot, Slot, State
from proxy.events import VALUE_LIMIT, Op, Verdict
from proxy.frameworks import paths
from proxy.frameworks.base import End, Fields, Finish, Identity, Intent, Job, Mismatch, Operation, Role
from proxy.frameworks.entries import Entry, entries, entry
from proxy.frameworks.wire import integer, name
from proxy.resp.commands import stream_keys
from proxy.resp.reply import Reply

if TYPE_CHECKING:
    from proxy.config import TaskiqSettings

_ID: Final = re.compile(rb"[0-9a-f]{32}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_RESULT: Final = re.compile(
    rb"""(?s).{1,24}?is_err (?:\x94|["]\s*:\s*)? (?P<error>\x88|true|\xc3|\xf5 | \x89|false|\xc2|\xf4) .{1,12}?log\b""",
    re.VERBOSE,
)
"""How a result begins: in pickle, JSON, msgpack or CBOR."""
_FAILED: Final = frozenset((b"\x88", b"true", b"\xc3", b"\xf5"))
_RAISED: Final = re.compile(rb"""(?s)error\W{1,8}exc_type(?:\x94\x8c(.)|"\s*:\s*")""")
"""Where the exception's class stands; in pickle its length comes first."""
_CLASS: Final = re.compile(rb"[A-Za-z_]\w{0,99}")
_AGAIN: Final = re.compile(rb"\b_retries\b")
_SCHEDULED: Final = re.compile(rb"\btask_id[^0-9A-Za-z]{1,8}([0-9a-f-]{32,36})[^0-9A-Za-z]{1,8}schedule_id")
"""In a schedule, the id of the task that it is of; in pickle or JSON."""
_WITHIN: Final = 64 * 1024
_SAVED: Final = "when_saved"
_RECEIVED: Final = "when_received"
_FOREIGN: Final = NoSlot(State.REFUSED, "foreign")


class _Labels(msgspec.Struct):
    """What can be of any type cannot make a message foreign."""

    retries: Any = msgspec.field(default=0, name="_retries")
    requeues: Any = msgspec.field(default=0, name="X-Taskiq-requeue")
    queued_at: Any = msgspec.field(default=None, name="_taskiq_queue_time")
    max_retries: Any = None
    schedule_id: Any = None
    ack_type: Any = None


class _Message(msgspec.Struct):
    task_id: str
    task_name: str
    labels: _Labels
    args: msgspec.Raw
    kwargs: msgspec.Raw


class _Parts(msgspec.Struct):
    task_id: msgspec.Raw
    task_name: msgspec.Raw
    labels: dict[str, msgspec.Raw]
    args: msgspec.Raw = msgspec.Raw(b"[]")
    kwargs: msgspec.Raw = msgspec.Raw(b"{}")


_message: Final = msgspec.json.Decoder(_Message)
_parts: Final = msgspec.json.Decoder(_Parts)
_KEPT: Final = (*_Labels.__struct_encode_fields__, "traceparent", "tracestate")


class Taskiq:
    """A job's value is its message; where it was read from a stream, packed behind what will acknowledge it."""

    name = "taskiq"
    family = "taskiq"
    commands = frozenset(b"LPUSH BRPOP XADD XREADGROUP XAUTOCLAIM XACK SET DEL UNLINK".split())
    rewritable: frozenset[bytes] = frozenset()
    scripts = None
    heads = frozenset((b'{"task',))
    end = End.ACK
    acked = Verdict.UNKNOWN
    backs_off_inside = False
    exclusive = True

    def __init__(self, options: TaskiqSettings) -> None:
        self.inject = options.inject
        self._results = f"{options.result_prefix}:".encode() if options.result_prefix else b""
        self._schedules = f"{options.schedule_prefix}:data:".encode()
        self._ack_type = options.ack_type

    def role(self, key: bytes) -> Role | None:
        if key.startswith(self._schedules):
            return Role.OTHER
        if self._results:
            return Role.JOB if key.startswith(self._results) else None
        return Role.JOB if _ID.fullmatch(key) else None

    def queue(self, key: bytes) -> str:
        return name(key) if self.role(key) is None else ""

    def slot(self, value: bytes) -> Slot:
        text = _open(value)[1]
        return nested_slot(text, "labels") if _read(text) is not None else _FOREIGN

    def identity(self, value: bytes) -> Identity | None:
        return None

    def fields(self, value: bytes) -> Fields:
        handle, text = _open(value)
        message = _read(text)
        if message is None:
            return Fields()
        labels = message.labels
        return Fields(
            id=paths.text(message.task_id),
            type=paths.text(message.task_name),
            attempt=paths.integer(labels.retries) + paths.integer(labels.requeues),
            max_attempts=paths.integer(labels.max_retries, -1),
            enqueued_at=paths.when(labels.queued_at),
            correlation_id=paths.text(labels.schedule_id),
            handle=handle.decode(errors="replace"),
        )

    def summary(self, value: bytes) -> bytes:
        handle, text = _open(value)
        try:
            message = _parts.decode(text)
        except paths.UNREADABLE:
            return b""
        labels = {name: message.labels[name] for name in _KEPT if name in message.labels}
        kept = msgspec.json.encode(_Parts(message.task_id, message.task_name, labels))
        if handle:
            kept = pack(handle, [kept])
        return kept if len(kept) <= VALUE_LIMIT else b""

    def read(self, name: bytes, args: list[bytes]) -> Intent | None:
        if len(args) < 2:
            return None
        if name == b"LPUSH":
            return self._enqueue(args, self._pushed) if len(args) == 3 else None
        if name == b"XADD":
            alone = len(args) > 4 and args[-3] == b"*" and args[-2] == b"data"
            return self._enqueue(args, self._added) if alone else None
        if name == b"BRPOP":
            return Intent(self, args, self._popped)
        if name == b"XREADGROUP":
            return Intent(self, args, self._entries_read) if len(args) > 6 and args[1].upper() == b"GROUP" else None
        if name == b"XAUTOCLAIM":
            return Intent(self, args, self._claimed) if len(args) > 5 else None
        if name == b"XACK":
            return Intent(self, args, self._acked) if len(args) > 3 else None
        role = self.role(args[1])
        if name == b"SET":
            return Intent(self, args, self._stored) if len(args) > 2 and role is not None else None
        return Intent(self, args, self._deleted) if len(args) == 2 and role is None else None

    def _enqueue(self, args: list[bytes], finish: Finish) -> Intent | None:
        if _read(args[-1]) is None:
            return None
        return Intent(self, args, finish, args[1], [Job(len(args) - 1, args[-1])], unseen=Op.ENQUEUE)

    def _pushed(self, intent: Intent, reply: Reply) -> Iterator[Operation]:
        key, length = intent.args[1], integer(reply)
        yield Operation(Op.ENQUEUE, key, self.queue(key), value=intent.args[-1], number=length, job=0)

    def _added(self, intent: Intent, reply: Reply) -> Iterator[Operation]:
        if not isinstance(reply, bytes):
            raise Mismatch("XADD")
        key = intent.args[1]
        yield Operation(Op.ENQUEUE, key, self.queue(key), value=intent.args[-1], job=0)

    def _popped(self, intent: Intent, reply: Reply) -> Iterator[Operation]:
        if reply is None:
            return
        if not isinstance(reply, list) or len(reply) != 2 or not isinstance(reply[0], bytes):
            raise Mismatch("BRPOP")
        key, value = reply[0], reply[1]
        if isinstance(value, bytes) and _read(value) is not None:
            yield Operation(Op.DEQUEUE, key, self.queue(key), value=value)

    def _entries_read(self, intent: Intent, reply: Reply) -> Iterator[Operation]:
        args = intent.args
        keys = stream_keys(args)
        new = {key for key, start in zip(keys, args[len(args) - len(keys) :], strict=True) if start == b">"}
        read = ((key, one) for key, one in entries(reply) if key in new)
        yield from self._delivered(read, args[2], name(args[3]))

    def _claimed(self, intent: Intent, reply: Reply) -> Iterator[Operation]:
        args = intent.args
        items = reply[1] if isinstance(reply, list) and len(reply) > 1 else None
        if not isinstance(items, list):
            raise Mismatch("XAUTOCLAIM")
        claimed = ((args[1], entry(item)) for item in items if isinstance(item, list))
        yield from self._delivered(claimed, args[2], name(args[3]))

    def _delivered(self, found: Iterable[tuple[bytes, Entry]], group: bytes, worker: str) -> Iterator[Operation]:
        for key, (entry_id, fields) in found:
            message = _read(fields[1]) if fields[:1] == [b"data"] and len(fields) == 2 else None
            if message is not None:
                value = pack(_handle(key, group, entry_id), fields[1:])
                held = group if self._ack(message) == _SAVED else b""
                yield Operation(Op.DEQUEUE, key, self.queue(key), dest=held, value=value, worker=worker)

    def _acked(self, intent: Intent, reply: Reply) -> Iterator[Operation]:
        number = min(1, integer(reply))
        _, key, group, *ids = intent.args
        for handle in (_handle(key, group, entry_id) for entry_id in ids):
            yield Operation(Op.ACK, key, self.queue(key), dest=group, ref=handle, number=number)
            if self._ack_type == _RECEIVED:
                yield Operation(Op.START, key, self.queue(key), ref=handle)

    def _ack(self, message: _Message) -> str:
        """When a task is acknowledged: what it says itself goes before what its worker was told."""
        return message.labels.ack_type.lower() if isinstance(message.labels.ack_type, str) else self._ack_type

    def _stored(self, intent: Intent, reply: Reply) -> Iterator[Operation]:
        key, value = intent.args[1:3]
        if key.startswith(self._schedules):
            task = _SCHEDULED.search(value, 0, _WITHIN)
            if task is not None and _AGAIN.search(value, 0, _WITHIN) is not None:
                yield Operation(Op.RETRY, key, ref=task[1])
            return
        result = _RESULT.match(value)
        if result is None or reply is None:
            return
        failed = result["error"] in _FAILED
        verdict = Verdict.FAILURE if failed else Verdict.SUCCESS
        yield Operation(
            Op.OUTCOME,
            key,
            ref=key.removeprefix(self._results),
            verdict=verdict,
            error=_raised(value) if failed else "",
        )

    def _deleted(self, intent: Intent, reply: Reply) -> Iterator[Operation]:
        if integer(reply):
            yield Operation(Op.PURGE, intent.args[1], self.queue(intent.args[1]))


def _handle(key: bytes, group: bytes, entry_id: bytes) -> bytes:
    """What an entry will be acknowledged by."""
    return b"%s %s %s" % (key, group, entry_id)


def _raised(value: bytes) -> str:
    """The class of a failed task's exception; not what it said."""
    found = _RAISED.search(value, 0, _WITHIN)
    if found is None:
        return ""
    text = value[found.end() :][: found[1][0] if found[1] else 100]
    named = _CLASS.match(text)
    return named[0].decode() if named is not None else ""


def _open(value: bytes) -> tuple[bytes, bytes]:
    """What a job will be acknowledged by, if it was read from a stream, and its message."""
    if value[:1] == b"{":
        return b"", value
    handle, packed = unpack(value)
    return handle, packed[0] if packed else b""


def _read(text: bytes) -> _Message | None:
    return paths.read(_message, text)
