"""A job is given to a consumer."""

from __future__ import annotations

from collections import OrderedDict

from proxy.context.traceparent import SpanContext
from proxy.events import Op, Outcome, Verdict
from proxy.frameworks.base import End
from proxy.tracer import attributes as a
from proxy.tracer import silence
from proxy.tracer.book import HOLD, KEY_LIMIT, Book, Seen, label
from proxy.tracer.happened import LOST, STARTED, by_span
from proxy.tracer.jobs import Delivery, Job, Status, Waiting
from proxy.tracer.measures import place_of
from proxy.tracer.note import has_own_id, note
from proxy.tracer.relatives import begun
from proxy.tracer.settle import removed, taken_over
from proxy.tracer.shifts import takes
from proxy.tracer.span import Kind, Link, Operation, Span, Value
from proxy.tracer.trouble import given_to_another


def claim(book: Book, seen: Seen) -> None:
    """Taken out of a scheduled set: cancelled, if it was not due; else by a worker, unless a push follows."""
    event = seen.event
    job = book.known(seen)
    stay = None if job is None else job.scheduled()
    if job is None or stay is None:
        if job is None:
            dequeue(book, seen)
        return
    if event.done < stay.due:
        job.waiting.remove(stay)
        job.status = Status.CANCELLED
        removed(book, job, seen, stay)
        return
    dequeue(book, seen)


def dequeue(book: Book, seen: Seen) -> None:
    event, framework = seen.event, seen.framework
    job, _ = book.job(seen, Status.RUNNING)
    if framework.exclusive:
        taken_over(book, job, seen)
    elif book.taken:
        given_to_another(book, job)
    carried = book.recover(seen)
    stored = carried.context
    waiting = _stay(job, stored, own=has_own_id(seen))
    facts: dict[str, Value] = {}
    if waiting is not None and stored is None:
        stored = waiting.context
        if not event.ref:
            facts[a.PAIRING] = "digest"
    elif waiting is not None and stored is not None and stored.trace_id == waiting.context.trace_id:
        # The same, or the better one: a slot that was left empty says nothing of the parent.
        stored = waiting.context
    # What the enqueue has to say of the attempt before, its own span says.
    links = waiting.links if waiting is not None else ()
    shown: tuple[Link, ...] = ()
    if waiting is None and job.failed is not None:
        links = shown = (job.failed,)
        job.failed = None
    if stored is not None and too_old(book, seen, waiting):
        shown += (Link(stored.trace_id, stored.span_id, "previous", stored.flags),) if stored.span_id else ()
        stored = None
    if stored is None:
        stored = book.begin(seen)
    elif not carried.verified and stored.parent and stored.span_id not in job.enqueues:
        facts[a.PARENT_UNVERIFIED] = True
    note(seen, job, stored)
    span = seen.span(Operation.DEQUEUE, Kind.CLIENT, stored, book.ids.span_id())
    span.parent_id, span.links, span.facts = stored.parent, shown, facts
    _describe_dequeue(book, seen, span, waiting)
    delivery = Delivery(
        framework=framework,
        facts=span.job,
        trace_id=span.trace_id,
        dequeue_id=span.span_id,
        process_id=book.ids.span_id(),
        sampled=span.sampled,
        flags=span.flags,
        tracestate=span.tracestate,
        at=span.end,
        conn=seen.conn,
        dest=event.dest,
        attempt=seen.fields.attempt,
        worker=event.worker,
        service=seen.service,
        verdict=event.verdict,
        links=links,
        # One that waited elsewhere has been pushed in the meantime: that is yet to be heard of.
        paired=waiting is not None and not (waiting.scheduled and waiting.key != event.key),
        claimed=event.op is Op.CLAIM,
        begun=event.op is not Op.DEQUEUE or event.number != 0,
        enqueue_id=b"" if carried.context is None else carried.context.span_id,
        stay=waiting,
        gaps=book.gaps_before(event.done),
    )
    if seen.fields.handle:
        delivery.handle = (*job.key[:3], seen.fields.handle.encode(errors="replace"))
        book.handles[delivery.handle] = job.key
    book.expect(seen, delivery)
    if book.policy.related:
        begun(book, seen, Link(span.trace_id, delivery.process_id, "", span.flags))
    _give(book, seen, job, delivery, span, undelivered=event.outcome is Outcome.UNDELIVERED)


def _stay(job: Job, stored: SpanContext | None, *, own: bool) -> Waiting | None:
    """The stay that this dequeue ends: the one whose context the job carries, else the oldest."""
    if own and stored is not None and stored.span_id:
        # Others are of an earlier job that had this id, and was removed where nobody saw it.
        job.waiting = [stay for stay in job.waiting if stay.context.span_id == stored.span_id]
    at = 0
    if stored is not None and len(job.waiting) > 1:
        spans = [stay.context.span_id for stay in job.waiting]
        at = spans.index(stored.span_id) if stored.span_id in spans else 0
    return job.waiting.pop(at) if job.waiting else None


def _give(book: Book, seen: Seen, job: Job, delivery: Delivery, span: Span, *, undelivered: bool) -> None:
    if undelivered:
        span.error = span.facts[a.OUTCOME] = "undelivered"
        book.close(delivery)
        book.measures.end(label(span.job), span.job.fields.type, "undelivered")
        job.status = Status.LOST
        if book.happened is not None:
            book.happened.append(by_span(LOST, job, span, span.end))
    else:
        job.delivered(delivery)
        if job.overfull:
            book.measures.evicted += 1
            book.drop(job, job.deliveries[0])
        delivery.open = delivery.framework.end is not End.NONE and delivery.verdict is not Verdict.UNKNOWN
        delivery.counted = delivery.open and _sure_to_end(delivery)
        # Of one whose end nothing shows, it cannot be said that it still runs.
        runs = delivery.counted or (delivery.open and book.shows_ends(span.job))
        job.status = Status.RUNNING if runs else Status.UNKNOWN
        book.measures.flight(label(span.job), int(delivery.counted))
        book.measures.begin(label(span.job), span.job.fields.type)
        if book.happened is not None and delivery.begun:
            book.happened.append(by_span(STARTED, job, span, span.end))
        if delivery.worker:
            takes(book, job, delivery)
        timeout = book.policy.timeouts.get(span.job.framework, 0) if book.policy.timeouts else 0
        if timeout and delivery.open:
            delivery.timeout = timeout
            book.timed.setdefault(timeout, OrderedDict())[id(delivery)] = (job, delivery)
        if delivery.framework.end is End.NEXT_POP:
            book.popped.setdefault(delivery.conn, []).append((job, delivery))
        elif delivery.framework.end is End.THREADS and not delivery.dest and delivery.open:
            silence.taken(book, seen, job, delivery)
    book.note(job, span)
    if not delivery.paired or delivery.claimed:
        delivery.dequeue = span
        book.held.append((span.end + HOLD, delivery))
    else:
        book.spans.append(span)


def _sure_to_end(delivery: Delivery) -> bool:
    """It is known who will say that it has ended."""
    framework = delivery.framework
    always = framework.exclusive and framework.acked is not Verdict.UNKNOWN
    return bool(delivery.dest) or framework.end is End.NEXT_POP or always


def too_old(book: Book, seen: Seen, waiting: Waiting | None) -> bool:
    policy, event = book.policy, seen.event
    fields = seen.fields
    # When a retry was put on the queue does not follow from when its job was created.
    since = fields.enqueued_at or (0 if fields.attempt else fields.created_at)
    if waiting is not None:
        since = waiting.since
    linked = book.linked(event) if policy.relations else event.framework in policy.linked
    return linked or bool(since and event.done - since > policy.max_age)


def _describe_dequeue(book: Book, seen: Seen, span: Span, waiting: Waiting | None) -> None:
    event, fields = seen.event, seen.fields
    place = place_of(span.job)
    depth = book.measures.depth_at(place)
    if depth:
        asked = place in book.measures.asked
        book.measures.depth_is(place, depth - 1, asked=asked)
        span.facts[a.DEPTH] = depth - 1
        if asked:
            span.facts[a.DEPTH_SOURCE] = "llen"
    if waiting is not None:
        span.start = max(span.start, min(waiting.since, span.end))
        ready = max(waiting.since, min(waiting.due, span.end))
        if waiting.since:
            book.wait(span, ready, "wire")
        if (waiting.scheduled and waiting.since) or waiting.before:
            span.facts[a.SCHEDULED_MS] = (waiting.before or ready - waiting.since) / 1e6
    else:
        stamped = fields.enqueued_at or (fields.created_at if not fields.attempt else 0)
        if seen.described is not None and seen.described.due:
            stamped = seen.described.due
        if stamped:
            book.wait(span, stamped, "envelope")
    if event.dest:
        span.facts[a.PROCESSING_LIST] = event.dest[:KEY_LIMIT].decode(errors="backslashreplace")
    if event.worker:
        span.facts[a.WORKER_ID] = event.worker
    if event.batch > 1:
        span.facts[a.BATCH_COUNT] = event.batch
    book.name_client(seen, span)
