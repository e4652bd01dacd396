"""The end of an attempt, once it is known: its process span."""

from __future__ import annotations

from typing import Final

from proxy.events import Verdict
from proxy.tracer import attributes as a
from proxy.tracer.book import Book, label
from proxy.tracer.happened import ENDS, by_delivery
from proxy.tracer.home import home
from proxy.tracer.how import how
from proxy.tracer.jobs import Delivery, Job, Status
from proxy.tracer.span import Kind, Operation, Span

_STATUS: Final = {Verdict.SUCCESS: Status.SUCCEEDED, Verdict.FAILURE: Status.FAILED}


def end(book: Book, job: Job, delivery: Delivery, at: int, *, inferred: bool = False, uncertain: int = 0) -> None:
    """``uncertain``: ns by which it may have ended before ``at``."""
    book.close(delivery)
    book.release(delivery)
    if delivery.status is Status.RUNNING:
        delivery.status = _STATUS.get(delivery.verdict, Status.UNKNOWN)
    if job.deliveries[-1] is delivery and not job.waiting:
        job.status = delivery.status
        if job.over:
            book.jobs.put_away(job)
    facts = delivery.facts
    begun = delivery.started or delivery.at
    last = max(delivery.over or at, begun)
    held = not delivery.started and begun < facts.fields.held_until <= last
    if held:
        begun = facts.fields.held_until
    _count(book, delivery, None if uncertain else last - begun)
    if book.happened is not None and delivery.status in ENDS:
        told = by_delivery(ENDS[delivery.status], job, delivery, last, inferred=inferred)
        told.duration = last - begun
        book.happened.append(told)
    if job.entry is not None and delivery.worker:
        job.entry.worker = delivery.worker
    if facts.framework in book.policy.without_process:
        book.note(job, None)
        return
    span = Span(
        operation=Operation.PROCESS,
        kind=Kind.CONSUMER,
        trace_id=delivery.trace_id,
        span_id=delivery.process_id,
        parent_id=delivery.dequeue_id,
        start=begun,
        end=last,
        job=facts,
        sampled=delivery.sampled,
        flags=delivery.flags,
        tracestate=delivery.tracestate,
        links=delivery.links,
        events=delivery.events,
        service=delivery.service,
    )
    span.facts = {a.DURATION_MS: (last - begun) / 1e6}
    _describe_end(delivery, span)
    if held:
        span.facts[a.START_INFERRED] = True
    if inferred:
        span.facts[a.END_INFERRED] = True
    if uncertain:
        span.facts[a.END_UNCERTAIN] = uncertain / 1e6
    book.spans.append(span)
    book.note(job, span)


def _count(book: Book, delivery: Delivery, lasted: int | None) -> None:
    """``lasted``: ns; None: that is not known."""
    facts, measures = delivery.facts, book.measures
    if delivery.status is not Status.RETRYING:
        book.ended(facts)
    if lasted is not None:
        measures.processed(label(facts), lasted, delivery.trace_id if delivery.sampled else b"")
    measures.end(label(facts), facts.fields.type, how(delivery.verdict, delivery.error))


def _describe_end(delivery: Delivery, span: Span) -> None:
    again = delivery.status is Status.RETRYING
    if delivery.verdict is Verdict.FAILURE:
        span.error = delivery.error or "failure"
        if delivery.message:
            span.facts[a.JOB_ERROR] = delivery.message
        if delivery.framework.backs_off_inside and delivery.error in ("retry", "dead_letter"):
            span.facts[a.INCLUDES_BACKOFF] = True
        span.facts[a.STATUS] = "retry" if again else "failure"
    elif delivery.verdict is Verdict.SUCCESS:
        span.facts[a.STATUS] = "success"
    elif again:
        span.facts[a.STATUS] = "retry"
    if delivery.worker:
        span.facts.update(a.worker(home(delivery.worker)))
        span.facts[a.WORKER_ID] = delivery.worker
