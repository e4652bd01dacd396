"""An attempt ends: how, by whose word, and when."""

from __future__ import annotations

from typing import Final

from msgspec.structs import replace

from proxy.events import Op, Verdict
from proxy.frameworks.base import Framework
from proxy.tracer import attributes as a
from proxy.tracer.book import HOLD, Book, Seen
from proxy.tracer.end import end
from proxy.tracer.happened import CANCELLED, STARTED, by_delivery, by_span
from proxy.tracer.jobs import Delivery, Job, Status, Waiting
from proxy.tracer.shifts import takes
from proxy.tracer.span import Kind, Link, Operation, SpanEvent
from proxy.tracer.trouble import LOST_AFTER, too_late

_GIVEN_BACK: Final = (Op.RETRY, Op.RECLAIM)
"""After these somebody else may have the job before they are heard of."""


def _find(job: Job, seen: Seen, dest: bytes | None) -> Delivery | None:
    """The open delivery an event speaks of: by its handle; else of the same attempt, the oldest of those."""
    ready = [one for one in job.deliveries if one.open and (dest is None or one.dest == dest)]
    # What was said before a delivery is not about it, though it may be heard of later.
    before = [one for one in ready if one.at <= seen.event.at]
    ready = before if before or seen.event.op in _GIVEN_BACK else ready
    named = [one for one in ready if one.handle is not None and one.handle[3] == seen.event.ref]
    same = [one for one in ready if one.attempt == seen.fields.attempt]
    decided = [one for one in same or ready if (one.verdict is Verdict.NONE) is (dest is None)]
    return next(iter(named or decided or same or ready), None)


def outcome(book: Book, seen: Seen) -> None:
    """The job was put on the completed or the dead letter list; a processing list may still hold it."""
    event, job = seen.event, book.known(seen)
    delivery = None if job is None else _find(job, seen, None)
    if job is None or delivery is None:
        book.measures.orphans += 1
        return
    delivery.verdict = event.verdict
    delivery.said += 1
    delivery.message = seen.fields.error or event.error or delivery.message
    if event.op is Op.DEAD_LETTER:
        delivery.error, delivery.status = "dead_letter", Status.DEAD
        delivery.events += (SpanEvent("job.dead_letter", event.done, {a.QUEUE_NAME: event.queue}),)
        job.failed = Link(delivery.trace_id, delivery.process_id, "requeued_from", delivery.flags)
    elif event.verdict is Verdict.SUCCESS:
        delivery.status = Status.SUCCEEDED
    else:
        delivery.error = event.error or delivery.error
    if not delivery.dest or delivery.taken:
        end(book, job, delivery, event.done)


def settle(book: Book, seen: Seen) -> None:
    job = book.known(seen)
    delivery = None if job is None else _find(job, seen, None)
    if job is None or delivery is None:
        # One that has ended may be said to have, twice.
        book.measures.orphans += job is None or not job.deliveries
        if job is not None and job.over:
            book.jobs.put_away(job)
        return
    event = seen.event
    delivery.begun = True
    delivery.verdict = event.verdict
    if delivery.verdict is Verdict.FAILURE:
        delivery.error = event.error or delivery.error or "failure"
    delivery.worker = event.worker or delivery.worker
    end(book, job, delivery, event.done)


def start(book: Book, seen: Seen) -> None:
    """The worker begins: what it had received before was waiting there."""
    job = book.known(seen)
    delivery = None if job is None else _find(job, seen, None)
    if job is not None and delivery is not None:
        if not delivery.begun and book.happened is not None:
            book.happened.append(by_delivery(STARTED, job, delivery, seen.event.done))
        delivery.begun = True
        delivery.started = delivery.started or seen.event.done
        if seen.event.number > 0:
            _count(job, delivery, seen.event.number - 1)
        delivery.worker = seen.event.worker or delivery.worker
        if delivery.worker:
            takes(book, job, delivery)
        if seen.event.dest:
            book.hold(job, delivery, seen.event.dest)


def _count(job: Job, delivery: Delivery, attempt: int) -> None:
    """Which attempt it is, whoever has seen those before."""
    job.retries = delivery.attempt = attempt
    facts = delivery.facts
    delivery.facts = replace(facts, fields=replace(facts.fields, attempt=attempt))
    if delivery.dequeue is not None:
        delivery.dequeue.job = delivery.facts


def over(book: Book, seen: Seen) -> None:
    """The worker has done with it. If it says how it ended, then at once."""
    event, job = seen.event, book.known(seen)
    delivery = None if job is None else _find(job, seen, None)
    if job is not None and delivery is not None and not delivery.over:
        delivery.begun = True
        delivery.over, delivery.silent = event.done, event.verdict
        book.over.append((event.done + HOLD, job, delivery))


def in_silence(book: Book, now: int | None) -> None:
    """Deliveries that are over and of which nobody has said how they ended, by ``now`` (None: nobody ever will)."""
    # One that is to wait for longer than any was put there while the clock was set back.
    while book.over and (now is None or not now < book.over[0][0] <= now + HOLD):
        _, job, delivery = book.over.popleft()
        if delivery.open:
            delivery.verdict = delivery.silent
            end(book, job, delivery, delivery.over, inferred=delivery.verdict is not Verdict.UNKNOWN)


def retry(book: Book, seen: Seen) -> None:
    """The attempt has failed, and there will be another."""
    job = book.known(seen)
    delivery = None if job is None else _find(job, seen, None)
    if job is None or delivery is None:
        book.measures.orphans += job is None or not job.deliveries
        return
    given_back(book, job, delivery, seen)


def given_back(book: Book, job: Job, delivery: Delivery, seen: Seen) -> None:
    event, fields = seen.event, seen.fields
    delivery.status = Status.RETRYING
    if event.verdict is Verdict.UNKNOWN:
        # It did not fail, but goes on later.
        delivery.verdict = event.verdict
        job.failed = Link(delivery.trace_id, delivery.process_id, "previous", delivery.flags)
    else:
        job.retries += 1
        count = fields.attempt if fields.attempt > delivery.attempt else job.retries
        delivery.verdict, delivery.error = Verdict.FAILURE, "retry"
        delivery.message = fields.error or event.error or delivery.message
        delivery.events += (SpanEvent("job.retry", event.done, {a.RETRY_COUNT: count}),)
        job.failed = Link(delivery.trace_id, delivery.process_id, "retry_of", delivery.flags)
        if job.description is not None and job.description.fields.attempt >= 0:
            job.description.fields = replace(job.description.fields, attempt=delivery.attempt + 1)
    if not delivery.dest:
        end(book, job, delivery, event.done)


def taken_over(book: Book, job: Job, seen: Seen) -> None:
    """The job is given to somebody: who had it before has it no more."""
    for delivery in job.deliveries:
        if delivery.open and delivery.verdict is Verdict.NONE and delivery.attempt == seen.fields.attempt:
            job.retries += 1
            error, relation = "redelivered", "redelivered_from"
            if delivery.over:
                # Its worker gave it back, and that is yet to be heard of: this is the next attempt.
                error, relation = "retry", "retry_of"
                seen.fields = replace(seen.fields, attempt=job.retries)
            delivery.verdict, delivery.error, delivery.status = Verdict.FAILURE, error, Status.RETRYING
            job.failed = Link(delivery.trace_id, delivery.process_id, relation, delivery.flags)
            end(book, job, delivery, seen.event.done)


def cancel(book: Book, seen: Seen) -> None:
    """Removed: while it waits, nobody will get it; from whoever has it, the event says how that ended."""
    event, job = seen.event, book.known(seen)
    if job is None:
        return
    if job.waiting:
        stay = job.waiting.pop(0)
        job.status = Status.CANCELLED
        removed(book, job, seen, stay)
    elif event.verdict is not Verdict.NONE and (delivery := _find(job, seen, None)) is not None:
        delivery.verdict, delivery.error = event.verdict, event.error
        if event.error == "cancelled":
            delivery.status = Status.CANCELLED
        end(book, job, delivery, event.done)


def removed(book: Book, job: Job, seen: Seen, stay: Waiting) -> None:
    """It waited, and nobody will get it."""
    context = stay.context
    seen.event.queue = seen.event.queue or stay.queue
    span = seen.span(Operation.CANCEL, Kind.CLIENT, context, book.ids.span_id())
    span.parent_id = context.parent
    book.name_client(seen, span)
    book.spans.append(span)
    book.note(job, span)
    if book.happened is not None:
        book.happened.append(by_span(CANCELLED, job, span, span.end))


def ack(book: Book, seen: Seen) -> None:
    event, job = seen.event, book.known(seen)
    delivery = None if job is None else _find(job, seen, event.dest or event.key)
    if job is None or delivery is None:
        if job is not None and not event.number and too_late(book, job, seen):
            return
        # Where an acknowledgement says nothing of the attempt, it need not be the end of one.
        book.measures.orphans += seen.framework.acked is not Verdict.UNKNOWN
        return
    if not event.number:
        delivery.verdict, delivery.error = Verdict.FAILURE, "ack_lost"
    elif delivery.verdict is Verdict.NONE:
        # Where something was lost, that may have been how it ended.
        sure = delivery.gaps == book.gaps
        delivery.verdict = (event.verdict or seen.framework.acked) if sure else Verdict.UNKNOWN
        delivery.error = "poison" if delivery.verdict is Verdict.FAILURE else ""
    end(book, job, delivery, event.done)


def reclaim(book: Book, seen: Seen) -> None:
    event = seen.event
    job, _ = book.job(seen, Status.UNKNOWN)
    delivery = _find(job, seen, None if seen.framework.exclusive else event.dest or event.key)
    if delivery is None:
        book.measures.orphans += not job.deliveries
        return
    job.retries += 1
    delivery.verdict, delivery.error, delivery.status = Verdict.FAILURE, "reclaimed", Status.RETRYING
    delivery.taken = True
    job.failed = Link(delivery.trace_id, delivery.process_id, "reclaimed_from", delivery.flags)
    if seen.framework.exclusive or event.dest:
        end(book, job, delivery, event.done)
    else:
        # Who has popped it has to put it somewhere.
        delivery.over = event.done
        book.taken.append((event.done + LOST_AFTER, job, delivery))


def next_pop(book: Book, conn: tuple[int, int], at: int, framework: Framework | None) -> None:
    """The connection wants its next job, or is gone (no framework): what it had is over."""
    popped = book.popped.pop(conn, [])
    for job, delivery in popped:
        if framework is not None and delivery.framework is not framework:
            book.popped.setdefault(conn, []).append((job, delivery))
        elif delivery.open:
            end(book, job, delivery, at, inferred=True)
