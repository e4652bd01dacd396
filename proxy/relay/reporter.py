"""What a session tells the tracer: of each command its framework's operations, with connection, times and context."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from proxy.context.carry import NOTHING
from proxy.events import VALUE_LIMIT, Connection, JobEvent, Op, Outcome, digest
from proxy.frameworks.base import End, Framework, Operation
from proxy.relay.context import RelayContext
from proxy.relay.pending import Lost, Pending
from proxy.resp.reply import Reply, ReplyError

_NAME_LIMIT = 128


class Reporter:
    """For one session. ``now`` is nanoseconds since the epoch, ``db`` the database that the client has selected."""

    __slots__ = (
        "_announced",
        "_client",
        "_conn",
        "_context",
        "_library",
        "_listener",
        "_name",
        "_popping",
        "_upstream",
    )

    def __init__(self, context: RelayContext, conn: int, listener: str, upstream: str, client: str) -> None:
        self._context = context
        self._conn = conn
        self._listener = listener
        self._upstream = upstream
        self._client = client
        self._announced = -1  # the tracer that knows this connection
        self._name = ""
        self._library = ""
        self._popping: set[Framework] | None = None  # frameworks whose last job ends with this connection's next pop

    def introduce(self, name: bytes, args: Sequence[bytes]) -> None:
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

    def resolve(self, pending: Pending, reply: Reply | Lost, db: int, now: int, outcome: Outcome) -> None:
        """A command's reply is known, or that it will not be. Raises `proxy.frameworks.base.Mismatch`."""
        intent = pending.intent
        assert intent is not None
        if isinstance(reply, Lost):
            if reply is Lost.UNREADABLE:
                self.unseen(pending, db, now, Outcome.UNKNOWN)
        elif isinstance(reply, ReplyError):
            if reply.word != "NOSCRIPT":
                self.unseen(pending, db, now, Outcome.ERROR, reply.word)
        else:
            self._report(pending, [*intent.finish(intent, reply)], db, now, outcome)

    def unseen(self, pending: Pending, db: int, now: int, outcome: Outcome, error: str = "") -> None:
        """Report of an enqueue whose reply is an error, or will not come."""
        intent = pending.intent
        if intent is None or intent.unseen is None:
            return
        queue = intent.framework.queue(intent.key)
        operations = [
            Operation(intent.unseen, intent.key, queue, value=value, job=number, error=error)
            for number, value in enumerate(job.value for job in intent.jobs)
        ]
        self._report(pending, operations, db, now, outcome)

    def pops(self, framework: Framework, db: int, now: int) -> None:
        """The client asks for a job: where nothing else ends one, this ends the one it had."""
        if framework.end is End.THREADS:
            self._emit(JobEvent(Op.ASK, framework.name, self._conn, db, now, now, b"", ""))
        elif self._popping and framework in self._popping:
            self._popping.discard(framework)
            self._emit(JobEvent(Op.NEXT_POP, framework.name, self._conn, db, now, now, b"", ""))

    def closed(self, now: int) -> None:
        if self._announced >= 0:
            self._context.emit(self._connection(now, opened=False))
            self._announced = -1

    def _report(self, pending: Pending, operations: list[Operation], db: int, now: int, outcome: Outcome) -> None:
        intent = pending.intent
        assert intent is not None
        framework = intent.framework  # only now: it may be known by the reply alone
        alike = Counter([operation.op for operation in operations]) if len(operations) > 1 else None
        for operation in operations:
            op, value, job = operation.op, operation.value, operation.job
            if op is Op.DEQUEUE and framework.end is End.NEXT_POP:
                self._popping = (self._popping or set()) | {framework}
            carried = pending.carried[job] if job >= 0 else NOTHING
            size, named = len(value), b""
            if size > VALUE_LIMIT:
                summary = framework.summary(value)
                # It takes longer than all else.
                named = b"" if framework.fields(summary).id else digest(value)
                value = summary
            context = carried.context
            self._emit(
                JobEvent(
                    op,
                    framework.name,
                    self._conn,
                    db,
                    pending.at,
                    now,
                    operation.key,
                    operation.queue,
                    operation.dest,
                    operation.ref,
                    value,
                    named,
                    size,
                    b"" if context is None else context.pack(),
                    carried.how,
                    carried.previous,
                    operation.number,
                    operation.verdict,
                    outcome,
                    operation.error,
                    operation.worker,
                    1 if alike is None else alike[op],
                )
            )

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


def _text(value: bytes) -> str:
    return value[:_NAME_LIMIT].decode(errors="backslashreplace")
