"""What goes wrong with a job that somebody has: taken away and lost, done twice, not done in time."""

from __future__ import annotations

from typing import Final

from proxy.events import Verdict
from proxy.tracer import attributes as a
from proxy.tracer.book import Book, Seen, label
from proxy.tracer.end import end
from proxy.tracer.happened import TIMED_OUT, by_delivery
from proxy.tracer.home import home
from proxy.tracer.jobs import Job, Status
from proxy.tracer.span import Kind, Link, Operation, Span, SpanEvent

LOST_AFTER: Final = 5 * 10**9
"""ns in which a job that was taken from its holder has to be on a queue again."""


def given_to_another(book: Book, job: Job) -> None:
    """The job that was taken from its holder is on its way again."""
    for delivery in job.deliveries:
        if delivery.open and delivery.taken:
            end(book, job, delivery, delivery.over)


def lost(book: Book, now: int | None) -> None:
    """Jobs that somebody took, and that nobody has seen again by ``now``; None: nor ever will."""
    # One that is to wait for longer than any was put there while the clock was set back.
    while book.taken and (now is None or not now < book.taken[0][0] <= now + LOST_AFTER):
        _, job, delivery = book.taken.popleft()
        if delivery.open:
            if now is not None and not job.waiting and job.deliveries[-1] is delivery:
                delivery.error, delivery.status = "lost", Status.LOST
                book.measures.trouble(label(delivery.facts), "lost")
            end(book, job, delivery, delivery.over, inferred=delivery.status is Status.LOST)


def timed_out(book: Book, now: int) -> None:
    """Attempts that take too long. They are not over: whoever has them may still end them."""
    for timeout, deliveries in book.timed.items():
        while deliveries:
            key, (job, delivery) = next(iter(deliveries.items()))
            at = (delivery.started or delivery.at) + timeout
            if now < at:
                break
            del deliveries[key]
            delivery.timeout = 0
            delivery.events += (SpanEvent(TIMED_OUT, at),)
            book.measures.trouble(label(delivery.facts), "timed_out")
            if book.happened is not None:
                told = by_delivery(TIMED_OUT, job, delivery, at, inferred=True)
                told.duration = timeout
                book.happened.append(told)


def too_late(book: Book, job: Job, seen: Seen) -> bool:
    """Whoever acknowledges had the job, until somebody took it from him: if another one has it, it is done twice."""
    event = seen.event
    dest = event.dest or event.key
    mine = next((one for one in reversed(job.deliveries) if one.taken and one.dest == dest), None)
    if mine is None:
        return False
    after = job.deliveries[job.deliveries.index(mine) + 1 :]
    span = Span(
        operation=Operation.ACK,
        kind=Kind.CLIENT,
        trace_id=mine.trace_id,
        span_id=book.ids.span_id(),
        parent_id=mine.dequeue_id if mine.facts.framework in book.policy.without_process else mine.process_id,
        start=event.at,
        end=max(event.at, event.done),
        job=mine.facts,
        sampled=mine.sampled,
        flags=mine.flags,
        tracestate=mine.tracestate,
        service=mine.service,
        error="executed_twice" if after else "ack_lost",
    )
    if mine.worker:
        span.facts = a.worker(home(mine.worker))
    for other in after[:1]:
        span.links = (Link(other.trace_id, other.process_id, "executed_again", other.flags),)
        # What was put on the completed list, he may have put there.
        if other.open and other.said == 1:
            other.verdict, other.status, other.said = Verdict.NONE, Status.RUNNING, 0
    book.name_client(seen, span)
    book.spans.append(span)
    book.note(job, span)
    book.measures.trouble(label(mine.facts), span.error)
    return True
