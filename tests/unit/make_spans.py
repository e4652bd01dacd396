"""Spans for tests: `make` for a plain one, `spans` for hypothesis to think of."""

from __future__ import annotations

import os
from typing import Any

from hypothesis import strategies as st

from proxy.frameworks.base import Fields
from proxy.tracer.span import JobFacts, Kind, Link, Operation, Span, SpanEvent

START = 1_700_000_000_000_000_000
MS = 1_000_000

KINDS = {Operation.ENQUEUE: Kind.PRODUCER, Operation.PROCESS: Kind.CONSUMER}


def make(
    operation: Operation = Operation.ENQUEUE,
    *,
    fields: Fields | None = None,
    framework: str = "rq",
    queue: str = "orders",
    key: str = "rq:queue:orders",
    upstream: str = "127.0.0.1:6379",
    db: int = 0,
    size: int = 0,
    at: int = 0,
    lasts: int = 5,
    **rest: Any,
) -> Span:
    """A span that starts ``at`` and ``lasts`` so many milliseconds; ids are random unless given."""
    job = JobFacts(framework, queue, key, fields or Fields(id="job-1", type="mail"), upstream, db, size)
    rest = {"trace_id": os.urandom(16), "span_id": os.urandom(8), "parent_id": b""} | rest
    rest.setdefault("kind", KINDS.get(operation, Kind.CLIENT))
    return Span(operation=operation, start=START + at * MS, end=START + (at + lasts) * MS, job=job, **rest)


# Everything that a str can hold, lone surrogates included.
text = st.text(st.characters(), max_size=40) | st.sampled_from(["", "\ud800", "é", "x" * 127, "y" * 128, "z" * 20_000])
integers = st.integers() | st.sampled_from([0, -1, 2**63 - 1, 2**63, -(2**63), -(2**63) - 1, 2**64, 10**50])
values = text | integers | st.booleans() | st.floats()
# No surrogates here: two names that differ in nothing else would become one.
names = st.builds(
    lambda name, long: f"x.{name * 20 if long else name}",
    st.text(st.characters(codec="utf-8"), max_size=20),
    st.booleans(),
)
SHARED = ["queue.name", "messaging.message.id", "server.port", "error.type"]
"""Names that a fact takes away from the rest."""
times = st.integers(0, 2**64 - 1)
trace_ids = st.binary(min_size=16, max_size=16)
span_ids = st.binary(min_size=8, max_size=8)

fields = st.builds(
    Fields,
    id=text,
    type=text,
    attempt=st.integers(0, 2**40),
    max_attempts=st.integers(-1, 2**40),
    priority=text,
    tenant=text,
    correlation_id=text,
    idempotency_key=text,
)
jobs = st.builds(
    JobFacts,
    framework=st.sampled_from(["", "list", "rq", "go-redis-work-queue"]) | text,
    queue=text,
    key=text,
    fields=fields,
    upstream=st.sampled_from(["127.0.0.1:6379", "[::1]:6380", "/run/redis.sock", ""]) | text,
    db=st.integers(0, 2**31),
    size=st.integers(0, 2**40),
)
events = st.builds(SpanEvent, name=text, at=times, attributes=st.dictionaries(names, values, max_size=5))
links = st.builds(Link, trace_id=trace_ids, span_id=span_ids, relation=text, flags=st.integers(0, 255))
tracestates = st.sampled_from(["", "ot=th:c", "ot=th:fd70a4;rv:ffffffffffffff,rojo=00f067aa0ba902b7"])


@st.composite
def spans(draw: st.DrawFn) -> Span:
    """Any span that the types allow."""
    return Span(
        operation=draw(st.sampled_from(Operation)),
        kind=draw(st.sampled_from(Kind)),
        trace_id=draw(trace_ids),
        span_id=draw(span_ids),
        parent_id=draw(st.just(b"") | span_ids),
        start=draw(times),
        end=draw(times),
        job=draw(jobs),
        flags=draw(st.integers(0, 255)),
        tracestate=draw(tracestates),
        error=draw(st.just("") | text),
        message=draw(text),
        facts=draw(st.dictionaries(names | st.sampled_from(SHARED), values, max_size=10)),
        events=tuple(draw(st.lists(events, max_size=3))),
        links=tuple(draw(st.lists(links, max_size=3))),
        service=draw(st.sampled_from(["", "", "shop", "wor\ud800ker"])),
    )
