"""A finished span, as the tracer keeps it until it is exported: ids, times and facts, not attributes.

Facts become attributes in `proxy.tracer.attributes`, at export time.  What the spans of one delivery have in common
is one `JobFacts` object they share, so a buffered span stays small.
"""

from __future__ import annotations

from enum import IntEnum, StrEnum

import msgspec

from proxy.frameworks.base import Fields

Value = str | int | float | bool
"""What an attribute can be."""


class Operation(StrEnum):
    """A span's name under ``spans.naming: queue``."""

    ENQUEUE = "queue.enqueue"
    DEQUEUE = "queue.dequeue"
    PROCESS = "job.process"
    PURGE = "queue.purge"
    PAUSE = "queue.pause"
    RESUME = "queue.resume"
    DRAIN = "queue.drain"
    PEEK = "queue.peek"
    CANCEL = "queue.cancel"
    ACK = "queue.ack"
    WORKER_STARTED = "worker.started"
    WORKER_SHUTDOWN = "worker.shutdown"

    @property
    def verb(self) -> str:
        """What it does, in a word, as settings name it."""
        return self.value.rpartition(".")[2]


class Kind(IntEnum):
    """The numbers are OTLP's (``Span.SpanKind``)."""

    INTERNAL = 1
    SERVER = 2
    CLIENT = 3
    PRODUCER = 4
    CONSUMER = 5


class SpanEvent(msgspec.Struct, frozen=True, gc=False, array_like=True):
    name: str
    at: int
    attributes: dict[str, Value] = {}


class Link(msgspec.Struct, frozen=True, gc=False, array_like=True):
    trace_id: bytes
    span_id: bytes
    relation: str
    """``redspan.link``: retry_of, reclaimed_from, requeued_from, duplicate_of, executed_again, in_flight, batch,
    child_of, depends_on, recurrence_of, follows, previous."""
    flags: int = 0


class JobFacts(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """What the spans of one delivery share."""

    framework: str
    queue: str
    key: str
    """The Redis key; the queue's name is the framework's own word for it."""
    fields: Fields
    upstream: str = ""
    """``host:port`` or path of Redis: ``server.address`` is the server behind the proxy."""
    db: int = 0
    size: int = 0
    """Bytes of the job as stored."""
    content: dict[str, Value] = {}
    """What of it the settings let be seen, by path."""


class Span(msgspec.Struct, gc=False):
    operation: Operation
    kind: Kind
    trace_id: bytes
    span_id: bytes
    parent_id: bytes
    """Empty for a root."""
    start: int
    end: int
    job: JobFacts
    sampled: bool = True
    flags: int = 1
    tracestate: str = ""
    error: str = ""
    """``error.type``: a word of low cardinality (retry, dead_letter, lost, reclaimed, a word of Redis); else empty."""
    message: str = ""
    """Status description for an error; never payload content."""
    facts: dict[str, Value] = {}
    """Attributes of this span alone, by attribute name; names come from `proxy.tracer.attributes`."""
    events: tuple[SpanEvent, ...] = ()
    links: tuple[Link, ...] = ()
    service: str = ""
    """``service.name`` of the listener it was seen at, where that has one of its own; else empty."""
