"""Laravel's queues on Redis, also with Horizon (run: 8.83.26, phpredis 5.3.7 and predis 1.1.10; 12.45.1, 13.26.1).

Its scripts are sent as text, and known by their keys: Q, which is ``<any prefix>queues:<name>``, and ``Q:notify``,
``Q:delayed``, ``Q:reserved``.  These are the same from 5.8 to 13.

======================= ========================================================================================
what                    on the wire (J: the payload, JSON; R: what the script pop makes of it)
======================= ========================================================================================
enqueue                 the script push: ``J``; in a transaction for ``bulk``
later                   ``ZADD Q:delayed time J``; from 12.45 on the script later: ``time J``
dequeue                 the script pop, answered with ``[J, R]``: R is J written anew, with ``attempts`` + 1, and put
                        into ``Q:reserved``; before that, with ``block_for``, ``BLPOP Q:notify``
success, failure        ``ZREM Q:reserved R``: one as the other
retry                   the script release: ``R time``, which moves it to ``Q:delayed``
due, redelivery         the script migrateExpiredJobs, which every worker runs each time it looks for a job, for
                        ``Q:delayed`` and for ``Q:reserved``: answered with what it has put back onto Q
failure, with Horizon   ``HMSET <any prefix>horizon:<id> … status failed …``, soon after the ZREM
======================= ========================================================================================

**Where the context rides**: a top-level ``traceparent``: where opentelemetry-auto-laravel injects (a hook on
``createPayloadArray``) and extracts (``$job->payload()``), and what the job reads as
``$this->job->payload()['traceparent']``.  The script pop keeps it in R, which is never touched: it is acknowledged by
value.  A payload in any other form (phpredis' own serializer or compression) passes as it is.

**Not to be seen**: whether a job that was removed has failed for good.  With tries left it has succeeded, marked as
inferred: else it would have been released (but for ``fail()`` and ``maxExceptions``).  In its last attempt, and with
``retryUntil``, that is unknown, unless Horizon says at once that it failed.  (What it calls completed may have failed.)
Whether a job was released because it failed, or by itself: it counts as failed.  Who runs a job.  How long it
waited, if another sidecar saw it pushed: before 12.11 that is absent, since then in seconds; with Horizon it is exact.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

import msgspec

from proxy.context.json_slot import json_slot
from proxy.context.slot import NoSlot, Slot, State
from proxy.events import VALUE_LIMIT, Op, Verdict
from proxy.frameworks import paths
from proxy.frameworks.base import End, Fields, Identity, Intent, Job, Operation, Role
from proxy.frameworks.scripts import Script, Scripts
from proxy.frameworks.wire import integer, name
from proxy.resp.commands import RUNS
from proxy.resp.reply import Reply

if TYPE_CHECKING:
    from proxy.config import LaravelSettings

SCRIPTS: Final = Scripts(
    {
        "push": ("- notify",),
        "later": ("delayed",),
        "pop": ("- reserved notify",),
        "release": ("delayed reserved",),
        "due": ("delayed - notify",),
        "expired": ("reserved - notify",),
        "clear": ("- delayed reserved notify",),
        "aside": ("- delayed reserved",),
    },
    r"\A-- (?:Push the job onto the (?:delayed )?queue|Pop the first job off of the queue|"
    r'Remove the job from the current queue|Get all of the jobs with an expired "score")\.\.\.\n',
)
_QUEUES: Final = b"queues:"
_RESERVED: Final = b":reserved"
_DELAYED: Final = b":delayed"
_ROLES: Final = {_RESERVED: Role.PROCESSING, _DELAYED: Role.SCHEDULED}
_HORIZON: Final = re.compile(rb"horizon:[0-9A-Za-z-]{32,36}\Z")
_RAISED: Final = re.compile(rb"[A-Za-z_][\w\\]{0,255}(?=:)")
_SECONDS: Final = 11
"""Digits of a time."""
_MOVED: Final = 10_000
"""Jobs of one reply that are looked at."""
_FOREIGN: Final = NoSlot(State.REFUSED, "foreign")


class _Data(msgspec.Struct, rename="camel"):
    batch_id: Any = None


class _Payload(msgspec.Struct, rename="camel"):
    """What every payload has; of the rest any type will do. The command itself is not looked at."""

    display_name: str | None
    job: str
    data: msgspec.Raw
    id: str
    attempts: int
    uuid: str | None = None
    max_tries: Any = None
    retry_until: Any = None
    timeout_at: Any = None
    created_at: Any = None
    pushed_at: Any = None
    delay: Any = None

    @property
    def name(self) -> str:
        """What Laravel shows of it, and the same for all its attempts."""
        return self.uuid or self.id


_payload: Final = msgspec.json.Decoder(_Payload)
_data: Final = msgspec.json.Decoder(_Data)
_members: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_KEPT: Final = (*_Payload.__struct_encode_fields__, "traceparent", "tracestate")


class Laravel:
    name = "laravel"
    family = "laravel"
    commands = RUNS | {b"ZADD", b"ZREM", b"HMSET"}
    rewritable: frozenset[bytes] = RUNS | {b"ZADD"}
    heads: frozenset[bytes] = frozenset()
    scripts = SCRIPTS
    end = End.ACK
    acked = Verdict.UNKNOWN
    backs_off_inside = False
    exclusive = True

    def __init__(self, options: LaravelSettings) -> None:
        self.inject = options.inject
        self._tries = options.tries

    def role(self, key: bytes) -> Role | None:
        for suffix, role in _ROLES.items():
            if key.endswith(suffix) and _QUEUES in key.removesuffix(suffix):
                return role
        return Role.JOB if _HORIZON.search(key) else None

    def queue(self, key: bytes) -> str:
        """Without the braces that it has in a cluster."""
        _, found, rest = key.rpartition(_QUEUES)
        return name(rest.removeprefix(b"{").removesuffix(b"}")) if found else ""

    def slot(self, value: bytes) -> Slot:
        return json_slot(value) if _read(value) is not None else _FOREIGN

    def identity(self, value: bytes) -> Identity | None:
        return None

    def fields(self, value: bytes) -> Fields:
        payload = _read(value)
        if payload is None:
            return Fields()
        created = paths.when(payload.created_at)
        # Horizon's is a float in a string.
        queued = paths.when(_number(payload.pushed_at)) or created
        later = paths.integer(payload.delay) * 10**9
        return Fields(
            id=paths.text(payload.name),
            type=paths.text(payload.display_name or payload.job),
            attempt=paths.integer(payload.attempts),
            max_attempts=paths.integer(payload.max_tries) or -1,
            created_at=created,
            enqueued_at=queued + later if queued and not payload.attempts else 0,
            batch_id=_batch(payload.data),
        )

    def summary(self, value: bytes) -> bytes:
        try:
            payload = _members.decode(value)
            kept: dict[str, Any] = {name: payload[name] for name in _KEPT if name in payload}
            kept["data"] = {"batchId": _batch(payload["data"])}
        except (*paths.UNREADABLE, KeyError):
            return b""
        summary = msgspec.json.encode(kept)
        return summary if len(summary) <= VALUE_LIMIT else b""

    def read(self, name: bytes, args: list[bytes]) -> Intent | None:
        if name in RUNS:
            return self._script(args)
        if len(args) < 3:
            return None
        role = self.role(args[1])
        if name == b"ZADD":
            later = role is Role.SCHEDULED and len(args) == 4
            return self._later(args[1].removesuffix(_DELAYED), args, 3) if later else None
        if name == b"ZREM":
            return self._removes(args) if role is Role.PROCESSING and len(args) == 3 else None
        return self._told(args) if role is Role.JOB else None

    # ---- scripts

    def _script(self, args: list[bytes]) -> Intent | None:
        script = SCRIPTS.read(args)
        queue = b"" if script is None else script.base[:-1]
        if script is None or _QUEUES not in queue:
            return None
        given = len(script.args)
        if script.kind == "push":
            return self._add(Op.ENQUEUE, queue, args, script.at) if given == 1 else None
        if script.kind == "later":
            return self._later(queue, args, script.at + 1) if given == 2 else None
        least, operations = _MEANS[script.kind]
        if given < least:
            return None

        def finish(intent: Intent, reply: Reply) -> Iterator[Operation]:
            return operations(self, script, queue, reply)

        return Intent(self, args, finish)

    def _add(self, op: Op, queue: bytes, args: list[bytes], at: int, due: int = -1) -> Intent | None:
        """``at``: which argument the payload is; ``due``: ms."""
        payload = _read(args[at])
        if payload is None:
            return None

        def added(intent: Intent, reply: Reply) -> Iterator[Operation]:
            # A member that was there already is not added.
            if reply != 0:
                yield self._about(op, queue, payload, value=intent.args[at], number=due, job=0)

        return Intent(self, args, added, queue, [Job(at, args[at])], unseen=op)

    def _later(self, queue: bytes, args: list[bytes], at: int) -> Intent | None:
        due = _due(args[at - 1])
        return self._add(Op.SCHEDULE, queue, args, at, due) if due >= 0 else None

    def popped(self, script: Script, queue: bytes, reply: Reply) -> Iterator[Operation]:
        value = reply[0] if isinstance(reply, list) and len(reply) == 2 else None
        payload = _read(value) if isinstance(value, bytes) else None
        if payload is not None and isinstance(value, bytes):
            yield self._about(Op.DEQUEUE, queue, payload, dest=script.keys[1], value=value)

    def released(self, script: Script, queue: bytes, reply: Reply) -> Iterator[Operation]:
        payload, due = _read(script.args[0]), _due(script.args[1])
        if payload is not None:
            yield self._about(Op.RETRY, queue, payload)
            yield self._about(Op.ACK, queue, payload, dest=script.keys[1], number=1)
            yield self._about(Op.SCHEDULE, queue, payload, number=due)

    def migrated(self, script: Script, queue: bytes, reply: Reply) -> Iterator[Operation]:
        for value in reply[:_MOVED] if isinstance(reply, list) else ():
            payload = _read(value) if isinstance(value, bytes) else None
            if payload is not None:
                if script.kind == "expired":
                    yield self._about(Op.RECLAIM, queue, payload)
                yield self._about(Op.MOVE, queue, payload)

    def cleared(self, script: Script, queue: bytes, reply: Reply) -> Iterator[Operation]:
        if integer(reply):
            yield Operation(Op.PURGE, queue, self.queue(queue))

    # ---- commands

    def _removes(self, args: list[bytes]) -> Intent | None:
        payload, queue = _read(args[2]), args[1].removesuffix(_RESERVED)
        if payload is None:
            return None

        def removed(intent: Intent, reply: Reply) -> Iterator[Operation]:
            if integer(reply):
                yield self._about(Op.OVER, queue, payload, verdict=self._ended(payload))
            else:
                yield self._about(Op.ACK, queue, payload, dest=args[1], number=0)

        return Intent(self, args, removed)

    def _ended(self, payload: _Payload) -> Verdict:
        """How an attempt ended after which the job was removed."""
        most = self._tries if payload.max_tries is None else paths.integer(payload.max_tries)
        last = payload.retry_until or payload.timeout_at or 0 < most <= payload.attempts
        return Verdict.UNKNOWN if last else Verdict.SUCCESS

    def _told(self, args: list[bytes]) -> Intent | None:
        """What Horizon says of a job that has failed."""
        said = dict(zip(args[2::2], args[3::2], strict=False))
        if said.get(b"status") != b"failed":
            return None
        raised = _RAISED.match(said.get(b"exception", b""))
        ref, error = args[1].rpartition(b":")[2], name(raised[0]) if raised else ""

        def told(intent: Intent, reply: Reply) -> Iterator[Operation]:
            yield Operation(Op.SETTLE, args[1], ref=ref, verdict=Verdict.FAILURE, error=error)

        return Intent(self, args, told)

    def _about(self, op: Op, queue: bytes, payload: _Payload, **more: Any) -> Operation:
        """One thing done to a job; ``more`` are fields of `Operation`."""
        return Operation(op, queue, self.queue(queue), ref=payload.name.encode(errors="replace"), **more)


def _nothing(*_: object) -> Iterator[Operation]:
    yield from ()


_MEANS: Final[Mapping[str, tuple[int, Callable[[Laravel, Script, bytes, Reply], Iterator[Operation]]]]] = {
    "pop": (1, Laravel.popped),
    "release": (2, Laravel.released),
    "due": (1, Laravel.migrated),
    "expired": (1, Laravel.migrated),
    "clear": (0, Laravel.cleared),
    "aside": (0, _nothing),
}
"""By kind of script: how many arguments it has at least, and what it has done, by its reply."""


def _due(text: bytes) -> int:
    """A time in seconds as ms; -1 if it is none."""
    return int(text) * 1000 if text.isdigit() and len(text) <= _SECONDS else -1


def _number(found: object) -> object:
    try:
        return float(found) if isinstance(found, str) and len(found) < 32 else found
    except ValueError:
        return None


def _batch(data: msgspec.Raw) -> str:
    try:
        return paths.text(_data.decode(data).batch_id)
    except paths.UNREADABLE:
        return ""


def _read(value: bytes) -> _Payload | None:
    payload = paths.read(_payload, value)
    return payload if payload is not None and payload.id else None
