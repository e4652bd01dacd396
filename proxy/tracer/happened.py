"""What happened to a job, in a word and a few members: for those who want events rather than spans.

Made only while somebody listens (`proxy.tracer.book.Book.happened`); shown by `proxy.tracer.stories`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from proxy.tracer.jobs import Delivery, Job, Status
from proxy.tracer.span import JobFacts, Span

ENQUEUED: Final = "job.enqueued"
STARTED: Final = "job.started"
COMPLETED: Final = "job.completed"
FAILED: Final = "job.failed"
RETRIED: Final = "job.retried"
DEAD: Final = "job.dead"
TIMED_OUT: Final = "job.timed_out"
CANCELLED: Final = "job.cancelled"
LOST: Final = "job.lost"
EVENTS: Final = (ENQUEUED, STARTED, COMPLETED, FAILED, RETRIED, DEAD, TIMED_OUT, CANCELLED, LOST)

ENDS: Final[Mapping[Status, str]] = {
    Status.SUCCEEDED: COMPLETED,
    Status.FAILED: FAILED,
    Status.RETRYING: RETRIED,
    Status.DEAD: DEAD,
    Status.CANCELLED: CANCELLED,
    Status.LOST: LOST,
}
"""By what an attempt has made of its job. An end of which nobody knows how it was is no event."""


class Happened(msgspec.Struct, gc=False):
    event: str
    at: int
    """ns."""
    job_id: str
    facts: JobFacts
    trace_id: bytes
    span_id: bytes
    """Of the span that shows it."""
    sampled: bool = True
    service: str = ""
    duration: int = -1
    """ns that the attempt took; -1: it is not over."""
    error: str = ""
    inferred: bool = False
    """Not seen, but concluded."""


def by_span(event: str, job: Job, span: Span, at: int) -> Happened:
    return Happened(
        event, at, name(job, span.job), span.job, span.trace_id, span.span_id, span.sampled, span.service,
        error=span.error,
    )  # fmt: skip


def by_delivery(event: str, job: Job, delivery: Delivery, at: int, *, inferred: bool = False) -> Happened:
    return Happened(
        event,
        at,
        name(job, delivery.facts),
        delivery.facts,
        delivery.trace_id,
        delivery.process_id,
        delivery.sampled,
        delivery.service,
        error=delivery.error,
        inferred=inferred,
    )


def name(job: Job, facts: JobFacts) -> str:
    """A job's id; else the digest of its bytes, in hex."""
    return facts.fields.id or job.key[3].hex()
