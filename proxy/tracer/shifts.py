"""Workers come and go: spans of their own, and an event on what they leave undone."""

from __future__ import annotations

from typing import Final

from proxy.context.traceparent import SpanContext
from proxy.events import Op
from proxy.frameworks.base import Fields
from proxy.tracer import attributes as a
from proxy.tracer.book import Book, Seen
from proxy.tracer.crew import Name, Worker
from proxy.tracer.home import home
from proxy.tracer.jobs import Delivery, Job
from proxy.tracer.span import JobFacts, Kind, Link, Operation, Span, SpanEvent

NAMING: Final = (Op.DEQUEUE, Op.HEARTBEAT)
"""What a worker does by a connection that it keeps; a job may report its start and its end by one of its own."""
_LINKS: Final = 100
"""Jobs in hand that a worker's last span is linked to."""
_NAMED: Final = 20
"""Of these, whose ids it shows."""


def heard(book: Book, seen: Seen) -> None:
    """A command named a worker."""
    event = seen.event
    name = (seen.upstream, event.framework, home(event.worker).name)
    worker = book.crew.heard(name, event.worker, seen.conn, event.at)
    if worker is not None and book.policy.health:
        span = _span(book, Operation.WORKER_STARTED, name, worker, event.at)
        span.service = seen.service
        book.name_client(seen, span)


def takes(book: Book, job: Job, delivery: Delivery) -> None:
    """Its worker is known."""
    if delivery.holder is None and delivery.open:
        delivery.holder = (job.key[0], delivery.facts.framework, home(delivery.worker).name)
        book.crew.takes(delivery.holder, job, delivery)


def leave(book: Book, now: int) -> None:
    """Those whose connections have all gone."""
    for name, worker in book.crew.gone(now):
        held = [delivery for _, delivery in worker.held.values()]
        for delivery in held:
            delivery.events += (SpanEvent(str(Operation.WORKER_SHUTDOWN), worker.left, {a.WORKER_ID: delivery.worker}),)
        if book.policy.health:
            span = _span(book, Operation.WORKER_SHUTDOWN, name, worker, worker.left)
            span.facts[a.WORKER_JOBS] = len(held)
            if held:
                span.facts[a.WORKER_HELD] = ",".join(one.facts.fields.id for one in held[:_NAMED])
                span.links = tuple(Link(one.trace_id, one.dequeue_id, "in_flight", one.flags) for one in held[:_LINKS])


def _span(book: Book, operation: Operation, name: Name, worker: Worker, at: int) -> Span:
    context: SpanContext = book.root("", b"")
    span = Span(
        operation=operation,
        kind=Kind.INTERNAL,
        trace_id=context.trace_id,
        span_id=book.ids.span_id(),
        parent_id=b"",
        start=at,
        end=at,
        job=JobFacts(framework=name[1], queue="", key="", fields=Fields(), upstream=name[0]),
        sampled=context.sampled,
        flags=context.flags,
    )
    span.facts = a.worker(worker.home)
    book.spans.append(span)
    return span
