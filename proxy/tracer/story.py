"""What the index knows of one job: as objects while things happen to it, as bytes once it has been left alone.

As objects a job with three spans takes more than 3 kB, most of it heads of objects; as bytes a sixth of that.
"""

from __future__ import annotations

from typing import Final

import msgspec

from proxy.frameworks.base import Fields
from proxy.tracer import attributes as a
from proxy.tracer.span import JobFacts, Kind, Link, Operation, Span, SpanEvent, Value


class Story(msgspec.Struct, gc=False, eq=False):
    """What a job says of itself, and its spans in the order in which they were heard of."""

    fields: Fields
    spans: list[Span] = []

    @property
    def attempt(self) -> int:
        """From 1: as it says itself, or as often as it was delivered."""
        given = sum(1 for span in self.spans if span.operation is Operation.DEQUEUE)
        return max(self.fields.attempt + 1, given, 1)

    @property
    def enqueued_at(self) -> int:
        """When it came to its queue for the first time, ns; 0: that was not seen, and it does not say."""
        for span in self.spans:
            if span.operation is Operation.ENQUEUE:
                return span.end
        return self.fields.created_at or self.fields.enqueued_at

    @property
    def wait_ms(self) -> float | None:
        """How long it waited for its latest delivery."""
        for span in reversed(self.spans):
            if span.operation is Operation.DEQUEUE:
                wait = span.facts.get(a.WAIT_MS)
                return float(wait) if isinstance(wait, int | float) else None
        return None

    @property
    def process_ms(self) -> float | None:
        """How long its latest attempt took."""
        for span in reversed(self.spans):
            if span.operation is Operation.PROCESS:
                return (span.end - span.start) / 1e6
        return None


class _Row(msgspec.Struct, array_like=True, gc=False):
    """A span, without what most spans of a job share. It is written as a tuple: that costs less than to make one."""

    operation: Operation
    kind: Kind
    trace_id: bytes
    """Empty: that of the row before."""
    span_id: bytes
    parent_id: bytes
    start: int
    """Since the first row's."""
    lasted: int
    job: int
    """Its place among `_Packed.jobs`."""
    sampled: bool
    flags: int
    tracestate: str
    error: str
    message: str
    facts: dict[str, Value]
    events: tuple[SpanEvent, ...]
    links: tuple[Link, ...]
    service: str


class _Packed(msgspec.Struct, array_like=True, gc=False):
    begin: int
    fields: Fields | int
    """A number: those of that one among ``jobs``."""
    jobs: list[JobFacts]
    rows: list[_Row]


_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(_Packed)


def pack(story: Story) -> bytes:
    """Raises ValueError or OverflowError for what bytes cannot hold: half of a surrogate pair, an enormous number."""
    spans, known, at = story.spans, None, -1
    begin, trace_id = spans[0].start if spans else 0, b""
    jobs: list[JobFacts] = []
    rows = []
    for span in spans:
        job, start = span.job, span.start
        if job is not known:
            known = job
            if job not in jobs:
                jobs.append(job)
            at = jobs.index(job)
        rows.append(
            (
                span.operation,
                span.kind,
                b"" if span.trace_id == trace_id else span.trace_id,
                span.span_id,
                span.parent_id,
                start - begin,
                span.end - start,
                at,
                span.sampled,
                span.flags,
                span.tracestate,
                span.error,
                span.message,
                span.facts,
                span.events,
                span.links,
                span.service,
            )
        )
        trace_id = span.trace_id
    fields: Fields | int = story.fields
    for number, job in enumerate(jobs):
        if job.fields == story.fields:
            fields = number
            break
    return _encoder.encode((begin, fields, jobs, rows))


def unpack(data: bytes) -> Story:
    packed = _decoder.decode(data)
    spans, trace_id = [], b""
    for row in packed.rows:
        trace_id = row.trace_id or trace_id
        start = packed.begin + row.start
        spans.append(
            Span(
                row.operation,
                row.kind,
                trace_id,
                row.span_id,
                row.parent_id,
                start,
                start + row.lasted,
                packed.jobs[row.job],
                row.sampled,
                row.flags,
                row.tracestate,
                row.error,
                row.message,
                row.facts,
                row.events,
                row.links,
                row.service,
            )
        )
    fields = packed.fields
    return Story(packed.jobs[fields].fields if isinstance(fields, int) else fields, spans)
