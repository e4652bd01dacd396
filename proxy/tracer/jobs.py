"""The jobs a tracer knows of: bounded, and forgotten in the order in which they were last heard of."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterator
from enum import StrEnum
from typing import Final

import msgspec

from proxy.context.traceparent import SpanContext
from proxy.events import Verdict
from proxy.frameworks.base import Framework
from proxy.tracer.span import JobFacts, Link, Span, SpanEvent

JobKey = tuple[str, int, str, object, int]
"""Upstream, database, framework, then id and creation time, or the digest of the stored bytes and 0."""


class Status(StrEnum):
    SCHEDULED = "scheduled"
    ENQUEUED = "enqueued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    RETRYING = "retrying"
    DEAD = "dead"
    CANCELLED = "cancelled"
    LOST = "lost"
    UNKNOWN = "unknown"


class Waiting(msgspec.Struct):
    """One stay in a queue."""

    context: SpanContext
    """Its trace, and the span that is to be the parent of whoever dequeues it."""
    since: int
    """When the enqueue was answered, ns."""
    links: tuple[Link, ...] = ()
    scheduled: bool = False
    """In a scheduled set, not in a queue."""
    due: int = 0
    """When it may leave the scheduled set, ns; 0: at any time."""
    before: int = 0
    """ns that it had spent in a scheduled set before it came here."""


class Delivery(msgspec.Struct):
    """One time that a job was given to a consumer."""

    framework: Framework
    facts: JobFacts
    trace_id: bytes
    dequeue_id: bytes
    process_id: bytes
    sampled: bool
    flags: int
    at: int
    """When it was written to the client: the process span's start."""
    conn: tuple[int, int]
    dest: bytes
    """The processing list; empty where there is none."""
    attempt: int
    worker: str = ""
    service: str = ""
    links: tuple[Link, ...] = ()
    verdict: Verdict = Verdict.NONE
    error: str = ""
    """``error.type`` of the process span to come."""
    message: str = ""
    """What the job itself says of its failure."""
    status: Status = Status.RUNNING
    """What the job will be once this delivery has ended."""
    events: tuple[SpanEvent, ...] = ()
    open: bool = True
    paired: bool = False
    """Its enqueue is known."""
    claimed: bool = False
    """Taken out of a scheduled set, by a worker or by somebody who moves it to a queue: a push would tell."""
    stay: Waiting | None = None
    """The stay that this delivery ended."""
    dequeue: Span | None = None
    """The dequeue span, while it waits for its enqueue to be heard of."""


_WAITING_LIMIT: Final = 1000
_DELIVERIES: Final = 16


class Job(msgspec.Struct):
    key: JobKey
    status: Status
    heard: int
    """Of the last event, ns."""
    waiting: deque[Waiting] = msgspec.field(default_factory=lambda: deque(maxlen=_WAITING_LIMIT))
    deliveries: deque[Delivery] = msgspec.field(default_factory=lambda: deque(maxlen=_DELIVERIES))
    enqueues: deque[bytes] = msgspec.field(default_factory=lambda: deque(maxlen=_DELIVERIES))
    """Span ids of the enqueue spans that this tracer made."""
    failed: Link | None = None
    """To the attempt before, for the next one."""

    def scheduled(self) -> Waiting | None:
        """Its stay in a scheduled set, if it is in one."""
        return next((stay for stay in self.waiting if stay.scheduled), None)


class Jobs:
    """At most ``limit`` jobs; one that was not heard of for ``keep`` ns is forgotten."""

    def __init__(self, limit: int, keep: int) -> None:
        self._limit = limit
        self._keep = keep
        self._jobs: OrderedDict[JobKey, Job] = OrderedDict()

    def __len__(self) -> int:
        return len(self._jobs)

    def get(self, key: JobKey, now: int) -> Job | None:
        job = self._jobs.get(key)
        if job is not None:
            job.heard = now
            self._jobs.move_to_end(key)
        return job

    def add(self, key: JobKey, status: Status, now: int) -> Job:
        job = self._jobs[key] = Job(key, status, now)
        self._jobs.move_to_end(key)
        return job

    def excess(self) -> Iterator[Job]:
        """Jobs over the limit, taken out."""
        while len(self._jobs) > self._limit:
            yield self._jobs.popitem(last=False)[1]

    def expired(self, now: int) -> Iterator[Job]:
        """Jobs not heard of for too long, taken out."""
        while self._jobs:
            job = next(iter(self._jobs.values()))
            if now - job.heard < self._keep:
                return
            del self._jobs[job.key]
            yield job
