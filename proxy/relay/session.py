"""One client's conversation with Redis, without I/O: bytes in, bytes out, events on the side.

`client_data` answers what goes to Redis: the client's bytes, except that an enqueued job may carry a context now.
`upstream_data` is told of replies after they were written to the client, and only looks.  Whatever goes wrong in here,
the bytes go on: the session turns blind, counts why, and from then on gives back what it gets.
"""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from msgspec.structs import replace

from proxy.context.carry import NOTHING, Carried, Named
from proxy.events import VALUE_LIMIT, Connection, JobEvent, Op, Outcome, digest
from proxy.frameworks.base import End, Framework, Intent, Mismatch, Operation
from proxy.relay.context import RelayContext
from proxy.relay.ledger import CONTROLS, Ledger, Lost, OutOfStep, Pending, Place
from proxy.resp.commands import encode
from proxy.resp.numbers import Malformed
from proxy.resp.reply import Reply, ReplyError
from proxy.resp.requests import Command, RequestFramer

_BLIND_BY_DESIGN = {b"MONITOR": "monitor", b"SYNC": "replication", b"PSYNC": "replication"}
_NAME_LIMIT = 128
_JOBS_LIMIT = 1000
"""Jobs of one command that are looked at: about 20 ms."""
_PENDING_LIMIT = 8 * 1024 * 1024
"""Bytes of commands whose replies are awaited, for each connection."""


class Session:
    """``now`` is always nanoseconds since the epoch. No method raises."""

    __slots__ = ("_announced", "_client", "_conn", "_context", "_done", "_framer", "_ledger", "_library", "_listener",
                 "_name", "_out", "_popping", "_upstream", "blind")  # fmt: skip

    def __init__(self, context: RelayContext, conn: int, listener: str, upstream: str, client: str) -> None:
        self._context = context
        self._conn = conn
        self._listener = listener
        self._upstream = upstream
        self._client = client
        self._framer = RequestFramer(context.watched, context.router.claims, context.max_inspect)
        self._ledger = Ledger(context.max_inspect)
        self.blind = not context.router.frameworks
        """From now on bytes are passed without a look; from the start, where there is nothing to look for."""
        self._out: list[bytes] = []  # for Redis, from the chunk being read
        self._done = 0  # how much of the framer's buffer is in there
        self._announced = -1  # the tracer that knows this connection
        self._name = ""
        self._library = ""
        self._popping: set[Framework] | None = None  # frameworks whose last job ends with this connection's next pop

    def settings_changed(self) -> None:
        """The context goes by other settings now. What waits for its reply is finished as it was begun.

        One that is blind stays so: nobody knows where in its streams a command begins.
        """
        context = self._context
        self._framer.watch(context.watched, context.router.claims, context.max_inspect)

    # ---- from the client

    def client_data(self, data: bytes, now: int) -> bytes:
        """Bytes for Redis; fewer than came while a job is held, more where a context went in."""
        if self.blind:
            return self.client_eof(now) + data
        try:
            return self._read(data, now)
        except Exception as error:  # noqa: BLE001 - whatever it is, the bytes go on
            return self._out_of_sight(error, now)

    def client_eof(self, now: int) -> bytes:
        """What is still held, as it came: for when the client sends no more, or the session has turned blind."""
        framer = self._framer
        held = framer.held
        framer.released += len(held)
        return held

    def _read(self, data: bytes, now: int) -> bytes:
        framer = self._framer
        self._done = framer.released
        passed = framer.feed(data)
        if passed is not None:
            return passed
        out = self._out
        self._done = framer.released
        while (command := framer.next()) is not None:
            if command.plain:
                self._plain(command.plain)
            self._command(command, now)
        if framer.plain:
            self._plain(framer.plain)
            framer.plain = 0
        if framer.oversize:
            self._missed()
        if self._done < framer.free:
            out.append(framer.buffer[self._done : framer.free])
            self._done = framer.free
        framer.keep()
        if len(out) == 1:
            return out.pop()
        joined = b"".join(out)
        out.clear()
        return joined

    def _plain(self, count: int) -> None:
        self._ledger.plain(count)
        self._context.counters.commands += count

    def _missed(self) -> None:
        """Jobs too big to look at went by."""
        for key in self._framer.oversize:
            framework = self._context.router.owner(key)
            if framework is not None:
                self._context.counters.injection(framework.name, "oversize")
        self._framer.oversize.clear()

    def _command(self, command: Command, now: int) -> None:
        name, ledger = command.name, self._ledger
        self._context.counters.commands += 1
        if name in CONTROLS:
            reason = _BLIND_BY_DESIGN.get(name)
            if reason is not None:
                raise OutOfStep(reason)
            self._introduce(name, command.args)
            ledger.control(name, command.args)
            return
        intent = self._context.router.read(name, command.args)
        if intent is not None and intent.strange:
            self._context.unrecognised(intent.framework.name, self._conn)
            intent = None
        if intent is None or not self._bearable(intent):
            ledger.plain(1)
            return
        if intent.pops:
            self._next_pop(intent.framework, now)
        carried = self._carry(intent, inject=not command.inline)
        if any(one.edit is not None for one in carried) and not self._rewrite(command, intent, carried):
            carried = [replace(one, reason=one.reason and "split") for one in self._carry(intent, inject=False)]
        for one in carried:
            self._context.counters.carried(intent.framework.name, one)
        size = sum(map(len, intent.args))
        pending = Pending(Place.JOB, at=now, intent=intent, carried=carried, size=size)
        if ledger.size + size > _PENDING_LIMIT:
            # Its client does not read replies. What becomes of the job is not waited for.
            ledger.plain(1)
            self._unseen(pending, Outcome.UNKNOWN, now)
        elif not ledger.expect(pending):
            self._unseen(pending, Outcome.UNKNOWN, now)

    def _bearable(self, intent: Intent) -> bool:
        """Not so many jobs in one command that all other clients would have to wait for them to be looked at."""
        if len(intent.jobs) <= _JOBS_LIMIT:
            return True
        self._context.counters.injection(intent.framework.name, "oversize", len(intent.jobs))
        return False

    def _introduce(self, name: bytes, args: list[bytes]) -> None:
        """Who the client says it is: CLIENT SETNAME, CLIENT SETINFO, HELLO … SETNAME. Never a credential."""
        if name == b"HELLO":
            # AUTH takes two arguments, and a user may be called "setname".
            at = 2
            while at + 1 < len(args):
                option = args[at].upper()
                if option == b"SETNAME":
                    self._name = _text(args[at + 1])
                at += 3 if option == b"AUTH" else 2
        elif name == b"CLIENT" and len(args) >= 3:
            word = args[1].upper()
            if word == b"SETNAME":
                self._name = _text(args[2])
            elif word == b"SETINFO" and len(args) == 4:
                value = _text(args[3])
                self._library = f"{self._library}/{value}" if args[2].upper() == b"LIB-VER" else value

    def _carry(self, intent: Intent, *, inject: bool) -> list[Carried]:
        """What goes with each job of an enqueue."""
        framework, context = intent.framework, self._context
        inject = inject and context.inject and framework.inject
        sampler = context.rates.sampler(framework.queue(intent.key), intent.key)
        carried = []
        for job in intent.jobs:
            identity = framework.identity(job.value)
            named = None
            if identity is not None:
                named = Named(framework.family, identity.submission, identity.attempt, identity.hop)
            carried.append(context.carrier.carry(framework.slot(job.value), named, sampler, inject=inject))
        return carried

    def _rewrite(self, command: Command, intent: Intent, carried: list[Carried]) -> bool:
        """Send the command with what it carries.

        False: too much of it has gone out already, from an earlier chunk, or it is not written as clients write it.
        """
        args, buffer = list(command.args), self._framer.buffer
        if encode(args) != buffer[command.start : command.end]:
            return False
        for job, one in zip(intent.jobs, carried, strict=True):
            if isinstance(one.edit, bytes):
                args[job.index] = one.edit
            elif one.edit is not None:
                args.extend(one.edit)
        rewritten = encode(args)
        gone = max(0, self._done - command.start)
        if rewritten[:gone] != buffer[command.start : command.start + gone]:
            return False
        for job, one in zip(intent.jobs, carried, strict=True):
            if isinstance(one.edit, bytes) and job.value is command.args[job.index]:
                job.value = one.edit
        intent.args = args
        self._out.append(buffer[self._done : command.start])
        self._out.append(rewritten[gone:])
        self._done = command.end
        return True

    # ---- from Redis

    def upstream_data(self, data: bytes, now: int, delivered: bool) -> None:
        """Replies that were written to the client at ``now``; ``delivered=False``: there was no client any more."""
        if self.blind:
            return
        try:
            for pending, reply in self._ledger.feed(data):
                self._resolve(pending, reply, now, Outcome.OK if delivered else Outcome.UNDELIVERED)
            self._framer.heads = self._ledger.admitted
        except Exception as error:  # noqa: BLE001 - it only observes
            # What the client had sent and is held goes out with its next bytes, or with its end.
            self._turn_blind(error, now)

    def _resolve(self, pending: Pending, reply: Reply | Lost, now: int, outcome: Outcome) -> None:
        intent = pending.intent
        assert intent is not None
        if reply is Lost.ABORTED:
            return
        if reply is Lost.UNREADABLE:
            self._unseen(pending, Outcome.UNKNOWN, now)
        elif isinstance(reply, ReplyError):
            if reply.word != "NOSCRIPT":
                self._unseen(pending, Outcome.ERROR, now, reply.word)
        else:
            assert not isinstance(reply, Lost)
            self._report(pending, intent.finish(intent, reply), now, outcome)

    def _unseen(self, pending: Pending, outcome: Outcome, now: int, error: str = "") -> None:
        """Report of an enqueue whose reply is an error, or will not come."""
        intent = pending.intent
        if intent is None or intent.unseen is None:
            return
        queue = intent.framework.queue(intent.key)
        operations = [
            Operation(intent.unseen, intent.key, queue, value=value, job=number, error=error)
            for number, value in enumerate(job.value for job in intent.jobs)
        ]
        self._report(pending, operations, now, outcome)

    def _report(self, pending: Pending, operations: Iterable[Operation], now: int, outcome: Outcome) -> None:
        intent = pending.intent
        assert intent is not None
        batch = list(operations)
        alike = Counter(operation.op for operation in batch)
        framework = intent.framework  # only now: it may be known by the reply alone
        for operation in batch:
            if operation.op is Op.DEQUEUE and framework.end is End.NEXT_POP:
                self._popping = (self._popping or set()) | {framework}
            carried = pending.carried[operation.job] if operation.job >= 0 else NOTHING
            value, named = operation.value, b""
            if len(value) > VALUE_LIMIT:
                named = digest(value)
                value = framework.summary(value)
            context = carried.context
            self._emit(
                JobEvent(
                    operation.op,
                    framework.name,
                    self._conn,
                    self._ledger.db,
                    pending.at,
                    now,
                    operation.key,
                    operation.queue,
                    dest=operation.dest,
                    ref=operation.ref,
                    value=value,
                    digest=named,
                    size=len(operation.value),
                    context=b"" if context is None else context.pack(),
                    carry=carried.how,
                    previous=carried.previous,
                    number=operation.number,
                    verdict=operation.verdict,
                    outcome=outcome,
                    error=operation.error,
                    worker=operation.worker,
                    batch=alike[operation.op],
                )
            )

    def _next_pop(self, framework: Framework, now: int) -> None:
        if self._popping and framework in self._popping:
            self._popping.discard(framework)
            self._emit(JobEvent(Op.NEXT_POP, framework.name, self._conn, self._ledger.db, now, now, b"", ""))

    def _emit(self, event: JobEvent) -> None:
        context = self._context
        if self._announced != context.epoch:
            self._announced = context.epoch
            context.emit(self._connection(event.at, opened=True))
        context.counters.job(event)
        context.emit(event)

    def _connection(self, at: int, *, opened: bool) -> Connection:
        return Connection(
            self._context.worker, self._conn, at, opened, self._listener, self._upstream, self._client, self._name,
            self._library,
        )  # fmt: skip

    # ---- the end, of one kind or the other

    def closed(self, now: int) -> None:
        """Either side is gone for good."""
        if not self.blind:
            self._give_up(now)
        if self._announced >= 0:
            self._context.emit(self._connection(now, opened=False))
            self._announced = -1

    def _out_of_sight(self, error: Exception, now: int) -> bytes:
        """Turn blind in the midst of a chunk from the client; what of it is not in ``_out`` yet follows as it came."""
        self._framer.released = self._done
        out = b"".join((*self._out, self.client_eof(now)))
        self._out.clear()
        self._turn_blind(error, now)
        return out

    def _turn_blind(self, error: Exception, now: int) -> None:
        if isinstance(error, OutOfStep):
            reason = error.reason
        elif isinstance(error, Mismatch):
            reason = "reply_mismatch"
        else:
            reason = "unknown_type" if isinstance(error, Malformed) else "bug"
        self.blind = True
        self._context.counters.blind[reason] += 1
        self._context.notice(reason, self._conn, _place(error) if reason == "bug" else "")
        self._give_up(now)

    def _give_up(self, now: int) -> None:
        """Nothing that is pending will have a reply."""
        try:
            for pending in self._ledger.unresolved():
                self._unseen(pending, Outcome.UNKNOWN, now)
        except Exception:  # noqa: BLE001 - there is nothing left to protect but the count
            self._context.counters.blind["bug"] += 1


def _place(error: Exception) -> str:
    """Where an unexpected error came from. Not its text: that may quote what a client sent."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{type(error).__name__} at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""


def _text(value: bytes) -> str:
    return value[:_NAME_LIMIT].decode(errors="backslashreplace")
