"""What is kept of a job's own words, for commands that only name it."""

from __future__ import annotations

from proxy.context.traceparent import SpanContext
from proxy.events import Carry
from proxy.tracer.book import Seen
from proxy.tracer.jobs import Description, Job


def has_own_id(seen: Seen) -> bool:
    """The event shows the job, and an id that no other job has at the same time."""
    return bool(seen.framework.exclusive and seen.event.ref and seen.event.value)


def note(seen: Seen, job: Job, context: SpanContext) -> None:
    """An event has shown what the job is, and ``context`` goes with it: retries and recoveries will name it alone."""
    event = seen.event
    if has_own_id(seen):
        how = Carry.FOUND if context.span_id else Carry.NONE
        job.description = Description(seen.fields, context, how, True, event.done, event.size)
