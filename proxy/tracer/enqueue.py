"""A job comes to a queue: for the first time, given back by its worker, recovered, or taken from the dead letters."""

from __future__ import annotations

from proxy.context.traceparent import SpanContext, unpack
from proxy.events import Carry, JobEvent, Op, Outcome, Verdict
from proxy.tracer import attributes as a
from proxy.tracer.book import Book, Seen
from proxy.tracer.happened import ENQUEUED, by_span
from proxy.tracer.jobs import Delivery, Job, Status, Waiting
from proxy.tracer.measures import place_of
from proxy.tracer.note import has_own_id, note
from proxy.tracer.queues import waited
from proxy.tracer.reference import set_aside, tell
from proxy.tracer.relatives import in_one_command, relate
from proxy.tracer.settle import given_back
from proxy.tracer.span import Kind, Link, Operation, Span
from proxy.tracer.trouble import given_to_another


def enqueue(book: Book, seen: Seen) -> None:
    event = seen.event
    if seen.context is None and event.value and not event.ref:
        _find(book, seen)
    before = book.known(seen)
    if before is not None and book.taken:
        given_to_another(book, before)
    late = None if before is None else _late(before, event)
    named = before is not None and _named(before, seen, late)
    span, context = _span(book, seen)
    if event.outcome is Outcome.ERROR:
        span.error = event.error
        return
    job, known = book.job(seen, Status.ENQUEUED)
    if known and _is_there(job, seen):
        _repeated(job, span)
        return
    note(seen, job, context)
    if late is not None:
        if not named:
            job.enqueues.append(context.span_id)
        moved = job.scheduled()
        if moved is not None and not moved.since:
            job.waiting.remove(moved)
        # A retry can be taken by a worker who was waiting for it before it is known to be one.
        if late.stay is not None:
            _leave(late.stay, span, event)
        _again(book, job, seen, span, late)
        late.links += span.links
        if job.description is not None and has_own_id(seen):
            tell(book, seen, job, late, job.description)
        book.note(job, span)
        _tell(book, job, span, event)
        _pair(book, job, late, span, seen)
        return
    stay = _moved(book, job, span, event)
    if known and stay is None:
        _again(book, job, seen, span)
    job.status = Status.ENQUEUED
    aside = 0 if stay is None or not stay.since else max(0, event.at - stay.since)
    book.note(job, span)
    _tell(book, job, span, event)
    links = span.links if stay is None else (*stay.links, *span.links)
    job.enqueued(Waiting(context, event.done, links, queue=event.queue, before=aside), named=named)
    if event.number >= 0 and event.op is Op.ENQUEUE:
        book.measures.depth_is(place_of(span.job), event.number)


def schedule(book: Book, seen: Seen) -> None:
    """The job is put aside until a time. Once more: that time has changed."""
    event = seen.event
    if event.dest and event.number * 1_000_000 <= event.done:
        enqueue(book, seen)
        return
    if event.ref and not event.value and seen.described is None and book.known(seen) is None:
        set_aside(book, seen)
        return
    job, known = book.job(seen, Status.SCHEDULED)
    due = max(0, event.number * 1_000_000)
    if book.taken:
        given_to_another(book, job)
    stay, repeated = job.scheduled(), known and _is_there(job, seen)
    if stay is not None and event.outcome is not Outcome.ERROR and not repeated:
        stay.due = due
        return
    named = _named(job, seen, None)
    span, context = _span(book, seen)
    if event.outcome is Outcome.ERROR:
        span.error = event.error
        return
    if repeated:
        _repeated(job, span)
        return
    note(seen, job, context)
    _put_back(book, job)
    if job.deliveries:
        _again(book, job, seen, span)
    job.status = Status.SCHEDULED
    book.note(job, span)
    _tell(book, job, span, event)
    job.enqueued(
        Waiting(context, event.done, span.links, scheduled=True, key=event.key, due=due, queue=event.queue), named=named
    )


def _tell(book: Book, job: Job, span: Span, event: JobEvent) -> None:
    if book.happened is not None:
        book.happened.append(by_span(ENQUEUED, job, span, event.done))


def _named(job: Job, seen: Seen, late: Delivery | None) -> bool:
    """What follows from the job's identity names an enqueue before this one: then this one goes by it, too.

    ``late``: the delivery of this very enqueue, which was heard of before it.
    """
    if seen.carry is not Carry.DERIVED or seen.context is None:
        return False
    known = [*job.enqueues, *(stay.context.span_id for stay in job.waiting)]
    known += [one.enqueue_id for one in job.deliveries if one is not late or one.stay is not None]
    if seen.context.span_id not in known:
        return False
    seen.carry = Carry.FOUND
    return True


def _put_back(book: Book, job: Job) -> None:
    """The deliveries that were no attempts: the job is put aside as it was."""
    for delivery in [one for one in job.deliveries if one.open and not one.begun]:
        book.release(delivery)
        book.close(delivery)
        job.deliveries.remove(delivery)


def _span(book: Book, seen: Seen) -> tuple[Span, SpanContext]:
    """The enqueue span, finished but for what other events say of the job; and the context that goes with the job."""
    event, context = seen.event, seen.context
    if context is None or not context.span_id:
        begun = context or book.begin(seen)
        context = SpanContext(begun.trace_id, book.ids.span_id(), begun.flags, begun.tracestate)
    found = seen.carry is Carry.FOUND and seen.context is not None and bool(seen.context.span_id)
    span_id = book.ids.span_id() if found else context.span_id
    span = seen.span(Operation.ENQUEUE, Kind.CLIENT if found else Kind.PRODUCER, context, span_id)
    span.parent_id = context.parent if found else event.previous
    if seen.carry is Carry.REPLACED:
        span.parent_id, old = b"", unpack(event.previous)
        span.links += (Link(old.trace_id, old.span_id, "previous", old.flags),)
    if seen.carry is Carry.ADOPTED and event.previous:
        span.facts[a.PARENT_UNVERIFIED] = True
    _describe_enqueue(book, seen, span)
    if event.outcome is not Outcome.ERROR:
        span.links += book.expected(seen)
        if book.policy.related:
            relate(book, seen, span)
    book.spans.append(span)
    if event.batch > 1 and book.policy.batches and event.outcome is not Outcome.ERROR:
        in_one_command(book, seen, span)
    return span, context


def _is_there(job: Job, seen: Seen) -> bool:
    """The id is that of a job which is waiting or worked on: nothing was stored, and that job was named instead."""
    if not has_own_id(seen):
        return False
    return bool(job.waiting) or any(one.open and one.paired for one in job.deliveries)


def _repeated(job: Job, span: Span) -> None:
    span.facts[a.OUTCOME] = "duplicate"
    told = job.description
    if told is not None and told.context is not None and told.context.span_id:
        span.links += (Link(told.context.trace_id, told.context.span_id, "duplicate_of", told.context.flags),)


def _moved(book: Book, job: Job, span: Span, event: JobEvent) -> Waiting | None:
    """The stay in a scheduled set that this push ends, if there was one: it is the second leg of one enqueue."""
    stay = job.scheduled()
    if stay is not None:
        job.waiting.remove(stay)
    else:
        claim = next((one for one in job.deliveries if one.claimed and one.dequeue is not None), None)
        if claim is None or claim.stay is None:
            return None
        # It was no worker who took it.
        book.drop(job, claim)
        stay = claim.stay
    _leave(stay, span, event)
    return stay


def _leave(stay: Waiting, span: Span, event: JobEvent) -> None:
    """The push ``span`` goes on with what began when the job was put aside."""
    if stay.context.trace_id != span.trace_id:
        span.links += (Link(stay.context.trace_id, stay.context.span_id, "scheduled", stay.context.flags),)
    elif not span.parent_id:
        span.parent_id = stay.context.parent
    if stay.since:
        span.facts[a.SCHEDULED_MS] = max(0, event.at - stay.since) / 1e6
    if stay.due:
        span.facts[a.LATE_MS] = max(0, event.at - stay.due) / 1e6


def _describe_enqueue(book: Book, seen: Seen, span: Span) -> None:
    event = seen.event
    if event.number >= 0 and event.op is Op.ENQUEUE:
        span.facts[a.DEPTH] = event.number
    if event.batch > 1:
        span.facts[a.BATCH_COUNT] = event.batch
    if event.outcome is Outcome.UNKNOWN:
        span.facts[a.OUTCOME] = "unknown"
    if book.throttled:
        waited(book, seen, span)
    book.name_client(seen, span)


def _pair(book: Book, job: Job, delivery: Delivery, enqueue: Span, seen: Seen) -> None:
    """The consumer was faster than the producer's reply: put the two together after all."""
    event = seen.event
    delivery.paired = True
    dequeue = delivery.dequeue
    if dequeue is None:
        return
    dequeue.start = min(max(dequeue.start, event.done), dequeue.end)
    dequeue.facts.pop(a.PARENT_UNVERIFIED, None)
    stay, context = delivery.stay, seen.context
    if stay is not None and stay.since:
        dequeue.facts[a.SCHEDULED_MS] = max(0, event.at - stay.since) / 1e6
    # What was known of the job when it was taken may have been said of an earlier stay.
    if context is not None and context.span_id and context.trace_id == dequeue.trace_id:
        dequeue.parent_id = context.parent
    book.wait(dequeue, event.done, "wire")
    if seen.carry is Carry.NONE and not dequeue.parent_id:
        # Nothing is stored that could have told the consumer: it is put into the trace now.
        dequeue.trace_id, dequeue.parent_id, dequeue.flags = enqueue.trace_id, enqueue.span_id, enqueue.flags
        dequeue.sampled, dequeue.tracestate = enqueue.sampled, enqueue.tracestate
        if not event.ref:
            dequeue.facts[a.PAIRING] = "digest"
        delivery.trace_id, delivery.sampled, delivery.flags = enqueue.trace_id, enqueue.sampled, enqueue.flags
        book.index.joined(job, enqueue.trace_id)
        delivery.tracestate = enqueue.tracestate
    book.release(delivery)


def _again(book: Book, job: Job, seen: Seen, span: Span, late: Delivery | None = None) -> None:
    """A job that is known comes to a queue once more: given back, recovered, taken from the dead letters.

    ``late``: the delivery of this very push, which was heard of before it.
    """
    event, fields = seen.event, seen.fields
    before = (one for one in reversed(job.deliveries) if one is not late and one.at <= event.done)
    undecided = (one for one in before if one.open and one.verdict is Verdict.NONE and one.attempt <= fields.attempt)
    delivery = next(undecided, None)
    if delivery is not None and _is_its(delivery, seen):
        given_back(book, job, delivery, seen)
    elif late is None and job.failed is None and not job.waiting and job.deliveries:
        last = job.deliveries[-1]
        job.failed = Link(last.trace_id, last.process_id, "previous", last.flags)
    if job.failed is not None:
        span.links += (job.failed,)
        job.failed = None


def _find(book: Book, seen: Seen) -> None:
    """What was moved to a queue as it is, by its key alone, has the context that it had."""
    found = book.recover(seen).context
    if found is not None and found.span_id:
        seen.context, seen.carry = found, Carry.FOUND


def _is_its(delivery: Delivery, seen: Seen) -> bool:
    """The push gives this delivery back: it has its context, is named as its next attempt, or its list tells.

    Else it may as well be another job of the same id: a daily one, say.
    """
    if seen.carry is not Carry.WRITTEN or delivery.dest or seen.fields.attempt > delivery.attempt:
        return True
    return seen.framework.exclusive or seen.framework.identity(seen.event.value) is not None


def _late(job: Job, event: JobEvent) -> Delivery | None:
    """The delivery that overtook this enqueue on its way here."""
    for delivery in job.deliveries:
        if not delivery.paired and event.at <= delivery.at:
            return delivery
    return None
