"""dramatiq on Redis (run: 2.2.1 and 1.17.1, redis-py 8.1.0 and 5.0.8, RESP2 and RESP3).

Everything is one script, `dispatch`: ``EVALSHA sha 1 <namespace> <command> <ms> <queue> <worker> <heartbeat timeout>
<dead letters' age> <maintenance> <most> …``.

====================== =========================================================================================
what                   command and the rest of its arguments (M: the message; rid: ``options.redis_message_id``)
====================== =========================================================================================
enqueue                ``enqueue … <queue> … rid M``
later                  ``enqueue … <queue>.DQ … rid M`` with ``options.eta``; a worker fetches it long before, and when
                       it is due sends what is under "enqueue" with another rid, then ``ack … <queue>.DQ … rid``
dequeue                ``fetch … <queue> … count``: an array of messages
success                ``ack … rid``
retry                  what is under "later", the same ``message_id`` and ``options.retries`` + 1; then ``ack … rid``
dead letter            ``nack … rid``: the script moves it to ``<queue>.XQ``
given back             ``requeue … rid …``: what a worker had not begun when it was told to stop
redelivery             by the script, from workers without a heartbeat: the same message is fetched again
purge                  ``purge … <queue>``
====================== =========================================================================================

Namespace and queues may have any name: the script is known by its arguments, never by its digest, and a message by
its fields and by the rid that stands beside it.

**Where the context rides**: ``options.traceparent``.  Options survive retries and both legs of a delay, and actors read
them as ``CurrentMessage.get_current_message().options``.  A member more at the top level would stop the consumer.  The
messages of a pipeline are one trace each, linked: ``options.pipe_target`` names the next.

**Not to be seen**: when an actor begins (a worker fetches twice as many messages as it has threads, and what waits in
its memory counts as being processed), and why it failed (its traceback is never read).  Messages that are not JSON.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

import msgspec

from proxy.context.nested_slot import nested_slot
from proxy.context.slot import NoSlot, Slot, State
from proxy.events import VALUE_LIMIT, Op, Verdict
from proxy.frameworks import paths
from proxy.frameworks.base import End, Fields, Finish, Identity, Intent, Job, Operation, Role
from proxy.frameworks.wire import name
from proxy.resp.reply import Reply

if TYPE_CHECKING:
    from proxy.config import DramatiqSettings

_NAMESPACE: Final = 3
_COMMAND: Final = 4
_QUEUE: Final = 6
_WORKER: Final = 7
_OWN: Final = 12
"""Places among the arguments; from the last one on they are the command's own."""
_NUMBERS: Final = (5, 8, 9, 10, 11)
_QUEUE_NAME: Final = re.compile(rb"[A-Za-z_][A-Za-z0-9._-]{0,255}")
_WORKER_ID: Final = re.compile(rb"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_DIGITS: Final = 16
_LATER: Final = b".DQ"
_FOREIGN: Final = NoSlot(State.REFUSED, "foreign")


class _Next(msgspec.Struct):
    message_id: str = ""


class _Options(msgspec.Struct):
    """Of some, any type will do: what cannot be read is as if it were not there."""

    redis_message_id: str
    retries: Any = 0
    max_retries: Any = None
    eta: Any = None
    group_completion_uuid: Any = None
    pipe_target: _Next | None = None


class _Message(msgspec.Struct):
    queue_name: str
    actor_name: str
    message_id: str
    options: _Options
    message_timestamp: int


class _Parts(msgspec.Struct):
    queue_name: msgspec.Raw
    actor_name: msgspec.Raw
    message_id: msgspec.Raw
    message_timestamp: msgspec.Raw
    options: dict[str, msgspec.Raw]


_message: Final = msgspec.json.Decoder(_Message)
_parts: Final = msgspec.json.Decoder(_Parts)
_next: Final = msgspec.json.Decoder(_Next | None)
_KEPT: Final = (*_Options.__struct_fields__, "traceparent", "tracestate")


class Dramatiq:
    name = "dramatiq"
    family = "dramatiq"
    commands = frozenset((b"EVALSHA", b"EVAL"))
    rewritable = commands
    scripts = None
    heads = frozenset((b'{"queu',))
    end = End.ACK
    acked = Verdict.SUCCESS
    backs_off_inside = False
    exclusive = True

    def __init__(self, options: DramatiqSettings) -> None:
        self.inject = options.inject

    def role(self, key: bytes) -> Role | None:
        return None

    def queue(self, key: bytes) -> str:
        return name(key.rpartition(b":")[2].removesuffix(_LATER))

    def slot(self, value: bytes) -> Slot:
        return nested_slot(value, "options") if _read(value) is not None else _FOREIGN

    def identity(self, value: bytes) -> Identity | None:
        return None

    def fields(self, value: bytes) -> Fields:
        message = _read(value)
        if message is None:
            return Fields()
        options = message.options
        return Fields(
            id=paths.text(message.message_id),
            type=paths.text(message.actor_name),
            attempt=paths.integer(options.retries),
            max_attempts=paths.integer(options.max_retries, -1),
            created_at=paths.when(message.message_timestamp),
            scheduled_at=paths.when(options.eta),
            batch_id=paths.text(options.group_completion_uuid),
            next_id=paths.text(options.pipe_target.message_id) if options.pipe_target is not None else "",
            handle=paths.text(options.redis_message_id),
        )

    def summary(self, value: bytes) -> bytes:
        try:
            message = _parts.decode(value)
            options = {name: message.options[name] for name in _KEPT if name in message.options}
            if "pipe_target" in options:
                # It holds the arguments of the jobs that follow.
                options["pipe_target"] = msgspec.Raw(msgspec.json.encode(_next.decode(options["pipe_target"])))
        except paths.UNREADABLE:
            return b""
        summary = msgspec.json.encode(msgspec.structs.replace(message, options=options))
        return summary if len(summary) <= VALUE_LIMIT else b""

    def read(self, name: bytes, args: list[bytes]) -> Intent | None:
        if len(args) < _OWN or args[2] != b"1" or not _dispatches(args):
            return None
        key = b"%s:%s" % (args[_NAMESPACE], args[_QUEUE])
        command, rest = args[_COMMAND], len(args) - _OWN
        if command == b"enqueue":
            return self._enqueue(args, key) if rest == 2 else None
        if key.endswith(_LATER) and command != b"purge":
            # No attempt at the job: a worker holds it until it is due, and then enqueues it.
            return None
        finish, counts = _COMMANDS.get(command, (None, range(0)))
        return Intent(self, args, finish, key) if finish is not None and rest in counts else None

    def _enqueue(self, args: list[bytes], key: bytes) -> Intent | None:
        at = _OWN + 1
        message = _read(args[at])
        if message is None or message.options.redis_message_id.encode(errors="replace") != args[_OWN]:
            return None
        later = key.endswith(_LATER)
        op, due = (Op.SCHEDULE, paths.when(message.options.eta) // 1_000_000) if later else (Op.ENQUEUE, 0)

        def enqueued(intent: Intent, reply: Reply) -> Iterator[Operation]:
            yield _operation(op, intent, value=intent.args[at], number=due or -1, job=0)

        return Intent(self, args, enqueued, key, [Job(at, args[at])], unseen=op)


def _fetched(intent: Intent, reply: Reply) -> Iterator[Operation]:
    acks, worker = _acks(intent.args), name(intent.args[_WORKER])
    for value in reply if isinstance(reply, list) else ():
        if isinstance(value, bytes) and _read(value) is not None:
            yield _operation(Op.DEQUEUE, intent, dest=acks, value=value, worker=worker)


def _acked(intent: Intent, reply: Reply) -> Iterator[Operation]:
    yield _operation(Op.ACK, intent, dest=_acks(intent.args), ref=intent.args[_OWN], number=1)


def _buried(intent: Intent, reply: Reply) -> Iterator[Operation]:
    acks, message_id = _acks(intent.args), intent.args[_OWN]
    yield _operation(Op.DEAD_LETTER, intent, dest=acks, ref=message_id, verdict=Verdict.FAILURE)
    yield _operation(Op.ACK, intent, dest=acks, ref=message_id, number=1)


def _given_back(intent: Intent, reply: Reply) -> Iterator[Operation]:
    acks = _acks(intent.args)
    for message_id in intent.args[_OWN:]:
        yield _operation(Op.RECLAIM, intent, dest=acks, ref=message_id)


def _purged(intent: Intent, reply: Reply) -> Iterator[Operation]:
    yield _operation(Op.PURGE, intent, verdict=Verdict.UNKNOWN)


_COMMANDS: Final[dict[bytes, tuple[Finish, range]]] = {
    b"fetch": (_fetched, range(1, 2)),
    b"ack": (_acked, range(1, 2)),
    b"nack": (_buried, range(1, 2)),
    b"requeue": (_given_back, range(1, 100_000)),
    b"purge": (_purged, range(1)),
}
"""What each means, and how many arguments of its own it has."""


def _operation(op: Op, intent: Intent, **more: Any) -> Operation:
    return Operation(op, intent.key, intent.framework.queue(intent.key), **more)


def _dispatches(args: list[bytes]) -> bool:
    """Whether these are the script's arguments, whatever it is called."""
    return (
        all(args[at].isdigit() and len(args[at]) <= _DIGITS for at in _NUMBERS)
        and _QUEUE_NAME.fullmatch(args[_QUEUE]) is not None
        and _WORKER_ID.fullmatch(args[_WORKER]) is not None
    )


def _acks(args: list[bytes]) -> bytes:
    """The set of what this worker has of this queue."""
    return b"%s:__acks__.%s.%s" % (args[_NAMESPACE], args[_WORKER], args[_QUEUE])


def _read(value: bytes) -> _Message | None:
    return paths.read(_message, value)
