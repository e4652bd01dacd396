"""Events in, spans out: what happened to each job, as far as the wire shows it.

Pure: it is handed every time, and its ids come from a source it is handed.  Events may come in any order: a consumer
can have a job before its producer has the reply, and one job's commands travel on several connections.

========== ===============================================================================================
span       is made
========== ===============================================================================================
enqueue    by ENQUEUE, at once
dequeue    by DEQUEUE; where nothing is known of the enqueue yet, it is held for `HOLD` and starts no earlier than that
process    by what ends the delivery: ACK, SETTLE, RETRY, RECLAIM, NEXT_POP; or, without a processing list, by OUTCOME,
           DEAD_LETTER or the push of the retry; or `HOLD` after OVER; or as `proxy.tracer.threads` concludes.  Never by
           expiry: an end that nobody saw is not made up.
others     by what was done to a whole queue (`queues`), to a job that waits (`settle.removed`), too late
           (`trouble.too_late`); and by workers that come and go (`shifts`)
========== ===============================================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from proxy.context.carry import Carrier
from proxy.context.sampling import Rates
from proxy.context.traceparent import unpack
from proxy.events import Connection, JobEvent, Op, Record
from proxy.frameworks.base import End, Framework
from proxy.tracer import queues, settle, shifts, silence, trouble
from proxy.tracer.book import HOLD, Book, Policy, Seen, label
from proxy.tracer.crew import Crew
from proxy.tracer.dequeue import claim, dequeue
from proxy.tracer.enqueue import enqueue, schedule
from proxy.tracer.happened import Happened
from proxy.tracer.index import Index
from proxy.tracer.jobs import Status, Waiting
from proxy.tracer.measures import Label, Measures
from proxy.tracer.reference import complete, describe, early, forget_descriptions
from proxy.tracer.span import Span


class Lifecycle:
    def __init__(self, frameworks: Iterable[Framework], carrier: Carrier, rates: Rates, policy: Policy) -> None:
        self._book = Book(frameworks, carrier, rates, policy)

    @property
    def measures(self) -> Measures:
        return self._book.measures

    def longest(self, now: int) -> dict[Label, float]:
        """How long, in seconds, the job has been worked on that somebody has had for longest, by queue."""
        longest: dict[Label, float] = {}
        for one in self._book.jobs.held():
            queue, lasts = label(one.facts), (now - (one.started or one.at)) / 1e9
            longest[queue] = max(longest.get(queue, 0.0), lasts)
        return longest

    @property
    def index(self) -> Index:
        return self._book.index

    def feed(self, worker: int, record: Record) -> list[Span]:
        """Take a record of a relay worker in; the spans that it finished."""
        if isinstance(record, JobEvent):
            self._event(worker, record)
        elif isinstance(record, Connection):
            self._connection(worker, record)
        return self._finished()

    def gap(self, worker: int, count: int) -> None:
        """``count`` records of this worker were lost."""
        self._book.measures.lost_events += count
        self._book.gap()
        # What was lost may have been where it went.
        trouble.lost(self._book, None)
        silence.gap(self._book)

    def worker_gone(self, worker: int, now: int) -> list[Span]:
        """A relay worker has died, and its connections with it."""
        for conn in [conn for conn in self._book.connections if conn[0] == worker]:
            self._gone(conn, now)
        return self._finished()

    def tick(self, now: int) -> list[Span]:
        """Let time pass: spans that have waited long enough."""
        book = self._book
        # One that is to wait for longer than any was held while the clock was set back.
        while book.held and not now < book.held[0][0] <= now + HOLD:
            book.release(book.held.popleft()[1])
        settle.in_silence(book, now)
        if book.taken:
            trouble.lost(book, now)
        if book.timed:
            trouble.timed_out(book, now)
        shifts.leave(book, now)
        for job in book.jobs.expired(now):
            book.index.expired(job)
            book.forget(job)
        forget_descriptions(book, now)
        return self._finished()

    def flush(self) -> list[Span]:
        """Every span that is held: the tracer is about to stop."""
        while self._book.held:
            self._book.release(self._book.held.popleft()[1])
        settle.in_silence(self._book, None)
        trouble.lost(self._book, None)
        return self._finished()

    def listen(self) -> None:
        """From now on note what happens to jobs."""
        if self._book.happened is None:
            self._book.happened = []

    def happened(self) -> list[Happened]:
        """What has happened since the last time; nothing where nobody listens."""
        if not self._book.happened:
            return []
        happened, self._book.happened = self._book.happened, []
        return happened

    @property
    def crew(self) -> Crew:
        return self._book.crew

    def _finished(self) -> list[Span]:
        spans, self._book.spans = self._book.spans, []
        return spans

    def _event(self, worker: int, event: JobEvent) -> None:
        book, conn = self._book, (worker, event.conn)
        framework = book.frameworks.get(event.framework)
        if framework is None:
            return
        if event.op is Op.NEXT_POP:
            settle.next_pop(book, conn, event.at, framework)
            return
        if event.op in _OF_THREADS:
            silence.heard(book, conn, event, framework)
            return
        handler = _HANDLERS.get(event.op)
        if handler is not None:
            book.latest = max(book.latest, event.done)
            context = unpack(event.context) if event.context else None
            seen = Seen(conn, framework, event, framework.fields(event.value), context=context, carry=event.carry)
            connection = book.connections.get(conn)
            if connection is not None:
                seen.upstream = connection.upstream
                seen.service = book.policy.services.get(connection.listener, "")
            seen.content = book.policy.content.of(event.framework, event.queue, event.value)
            self._handle(handler, seen)
            before = early(book, seen) if event.op is Op.DESCRIBE else None
            if before is not None:
                self._handle(_HANDLERS[before.event.op], before)

    def _handle(self, handler: Callable[[Book, Seen], None], seen: Seen) -> None:
        book, event = self._book, seen.event
        complete(book, seen)
        if event.worker and event.op in shifts.NAMING:
            shifts.heard(book, seen)
        handler(book, seen)
        if seen.job is not None and book.policy.indexed:
            book.index.heard(seen.job, event, seen.fields)

    def _connection(self, worker: int, record: Connection) -> None:
        conn = (worker, record.conn)
        if record.open:
            self._book.connections[conn] = record
        else:
            self._gone(conn, record.at)

    def _gone(self, conn: tuple[int, int], at: int) -> None:
        book = self._book
        settle.next_pop(book, conn, at, None)
        book.connections.pop(conn, None)
        book.asking.pop(conn, None)
        book.crew.closed(conn, at)
        book.throttled.pop(conn, None)


def _move(book: Book, seen: Seen) -> None:
    event, job = seen.event, book.known(seen)
    if event.value and not event.dest:
        job, _ = book.job(seen, Status.ENQUEUED)
        if job.scheduled() is None:
            # Somebody else has seen how it came there.
            context = book.recover(seen).context or book.begin(seen)
            job.waiting.append(Waiting(context, 0, scheduled=True, key=event.key))
    if job is None:
        return
    if event.ref and not event.value:
        stay = job.scheduled()
        if stay is None:
            if job.description is not None:
                enqueue(book, seen)
            return
        stay.due = event.done
    job.status = Status.ENQUEUED


def _start(book: Book, seen: Seen) -> None:
    settle.start(book, seen)
    if seen.framework.end is End.THREADS:
        silence.kept(book, seen)


def _heard(book: Book, seen: Seen) -> None:
    if seen.event.value:
        book.known(seen)
    if seen.framework.end is End.THREADS:
        silence.listed(book, seen)


_OF_THREADS: Final = (Op.ASK, Op.EMPTY, Op.BEAT)
_HANDLERS: Final[dict[Op, Callable[[Book, Seen], None]]] = {
    Op.ENQUEUE: enqueue,
    Op.SCHEDULE: schedule,
    Op.DEQUEUE: dequeue,
    Op.CLAIM: claim,
    Op.OUTCOME: settle.outcome,
    Op.DEAD_LETTER: settle.outcome,
    Op.SETTLE: settle.settle,
    Op.ACK: settle.ack,
    Op.RECLAIM: settle.reclaim,
    Op.CANCEL: settle.cancel,
    Op.DESCRIBE: describe,
    Op.START: _start,
    Op.OVER: settle.over,
    Op.RETRY: settle.retry,
    Op.MOVE: _move,
    Op.HEARTBEAT: _heard,
    Op.PURGE: queues.purge,
    Op.DRAIN: queues.purge,
    Op.PAUSE: queues.pause,
    Op.RESUME: queues.resume,
    Op.PEEK: queues.peek,
    Op.THROTTLE: queues.throttle,
}
