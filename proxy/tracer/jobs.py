"""The jobs a tracer knows of: bounded, and forgotten in the order in which they were last heard of."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from enum import StrEnum
from typing import Final

import msgspec

from proxy.context.traceparent import SpanContext
from proxy.events import Carry, Verdict
from proxy.frameworks.base import Fields, Framework
from proxy.tracer.entry import Entry
from proxy.tracer.span import JobFacts, Link, Span, SpanEvent

JobKey = tuple[str, int, str, bytes, int]
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


class Waiting(msgspec.Struct, gc=False):
    """One stay in a queue."""

    context: SpanContext
    """Its trace, and the span that is to be the parent of whoever dequeues it."""
    since: int
    """When the enqueue was answered, ns."""
    links: tuple[Link, ...] = ()
    scheduled: bool = False
    """In a scheduled set, not in a queue."""
    key: bytes = b""
    """Of the scheduled set."""
    due: int = 0
    """When it may leave the scheduled set, ns; 0: at any time."""
    queue: str = ""
    before: int = 0
    """ns that it had spent in a scheduled set before it came here."""


class Description(msgspec.Struct, gc=False):
    """What was said of a job in passing, for those commands that name it and no more."""

    fields: Fields
    context: SpanContext | None
    """What is stored with it; without a span id where only its trace follows from its identity."""
    carry: Carry
    verified: bool
    at: int
    """When it was said, ns."""
    size: int = 0
    queue: str = ""
    """Where it waits."""
    key: bytes = b""
    due: int = 0
    """When it may leave that, ns; 0: not said."""


class Delivery(msgspec.Struct, gc=False):
    """One time that a job was given to a consumer."""

    framework: Framework
    facts: JobFacts
    trace_id: bytes
    dequeue_id: bytes
    process_id: bytes
    sampled: bool
    flags: int
    tracestate: str
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
    started: int = 0
    """When the worker said that it begins, ns; 0: it has not."""
    handle: tuple[str, int, str, bytes] | None = None
    """Its place among `Book.handles`."""
    open: bool = True
    counted: bool = False
    """Among the jobs in flight: it is known who will end it."""
    paired: bool = False
    """Its enqueue is known."""
    claimed: bool = False
    """Taken out of a scheduled set, by a worker or by somebody who moves it to a queue: a push would tell."""
    stay: Waiting | None = None
    """The stay that this delivery ended."""
    enqueue_id: bytes = b""
    """Span id of the enqueue that its context names."""
    begun: bool = True
    """It is an attempt; else it may still be put back as it was."""
    holder: tuple[str, str, str] | None = None
    """Its worker, as `proxy.tracer.crew` knows it."""
    timeout: int = 0
    """ns after which it counts as timed out; 0: never."""
    said: int = 0
    """How often somebody has put the job on the completed or the dead letter list."""
    gaps: int = 0
    """`proxy.tracer.book.Book.gaps` when it began."""
    taken: bool = False
    """Somebody else took it from its holder."""
    over: int = 0
    """When its worker had done with it, ns; 0: it has not, or it is not known."""
    silent: Verdict = Verdict.NONE
    """How it ended, if nobody says more, now that it is over."""
    dequeue: Span | None = None
    """The dequeue span, while it waits for its enqueue to be heard of."""
    closed: Callable[[], None] | None = None
    """Told once it is not open any more."""


_KEEP_OVER: Final = 2 * 10**9
_WAITING: Final = 1000
_DELIVERIES: Final = 16
_OPEN: Final = 1000


class Job(msgspec.Struct):
    """A job that is waiting, or with a consumer, or whose story may go on.

    There can be very many, so these are lists: an empty deque is ten times as large.
    """

    key: JobKey
    status: Status
    heard: int
    """Of the last event, ns."""
    waiting: list[Waiting] = []
    """Its stays in queues, oldest first; more than one where several submissions cannot be told apart."""
    deliveries: list[Delivery] = []
    enqueues: list[bytes] = []
    """Span ids of the enqueue spans that this tracer made."""
    failed: Link | None = None
    """To the attempt before, for the next one."""
    retries: int = 0
    """Attempts that have failed, for jobs that do not say which one this is."""
    description: Description | None = None
    """Of a job that is known by reference."""
    entry: Entry | None = None
    """What the index has of it."""

    def enqueued(self, stay: Waiting, *, named: bool = False) -> None:
        """It waits once more; ``named``: with the context of an enqueue before this one."""
        self.waiting.append(stay)
        if not named:
            self.enqueues.append(stay.context.span_id)
        del self.waiting[:-_WAITING]
        del self.enqueues[:-_WAITING]

    def delivered(self, delivery: Delivery) -> None:
        """It was given to somebody once more."""
        self.deliveries.append(delivery)
        if len(self.deliveries) > _DELIVERIES:
            # What has ended goes first; many can be open at once where submissions cannot be told apart.
            ended = next((one for one in self.deliveries if not one.open), None)
            if ended is not None:
                self.deliveries.remove(ended)

    @property
    def overfull(self) -> bool:
        """More deliveries than are kept, all of them open."""
        return len(self.deliveries) > _OPEN

    @property
    def over(self) -> bool:
        """It succeeded at the first go: nothing that may still be said of it would change its story."""
        return self.status is Status.SUCCEEDED and len(self.deliveries) == 1 and not self.waiting

    def scheduled(self) -> Waiting | None:
        """Its stay in a scheduled set, if it is in one."""
        return next((stay for stay in self.waiting if stay.scheduled), None)


class Jobs:
    """At most ``limit`` jobs; one that was not heard of for ``keep`` ns is forgotten, one that is over sooner."""

    def __init__(self, limit: int, keep: int) -> None:
        self._limit = limit
        self._keep = keep
        self._jobs: OrderedDict[JobKey, Job] = OrderedDict()
        self._over: OrderedDict[JobKey, Job] = OrderedDict()

    def __len__(self) -> int:
        return len(self._jobs) + len(self._over)

    def get(self, key: JobKey, now: int) -> Job | None:
        job = self._jobs.get(key)
        if job is None:
            job = self._over.pop(key, None)
            if job is None:
                return None
            self._jobs[key] = job
        else:
            self._jobs.move_to_end(key)
        job.heard = now
        return job

    def add(self, key: JobKey, status: Status, now: int) -> Job:
        job = self._jobs[key] = Job(key, status, now)
        return job

    def held(self) -> Iterator[Delivery]:
        """Those that somebody works on, where it is known who will say that they have ended."""
        return (one for job in self._jobs.values() for one in job.deliveries if one.open and one.counted)

    def put_away(self, job: Job) -> None:
        """Nothing more is expected of it but what may come a little late: its enqueue, or the same once more."""
        last = job.deliveries[-1]
        if self._jobs.pop(job.key, None) is not None and (not last.paired or last.framework.exclusive):
            self._over[job.key] = job

    def excess(self) -> Iterator[Job]:
        """Jobs over the limit, taken out."""
        while len(self) > self._limit:
            yield (self._over or self._jobs).popitem(last=False)[1]

    def expired(self, now: int) -> Iterator[Job]:
        """Jobs not heard of for too long, taken out."""
        for jobs, keep in ((self._over, min(_KEEP_OVER, self._keep)), (self._jobs, self._keep)):
            while jobs:
                job = next(iter(jobs.values()))
                if now - job.heard < keep:
                    break
                del jobs[job.key]
                yield job
