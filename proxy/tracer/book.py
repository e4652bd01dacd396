"""What a tracer has in mind while it reads events: jobs, connections, spans that are not finished; and its policy."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Final

import msgspec

from proxy.context.carry import NOTHING, Carried, Carrier, Named
from proxy.context.sampling import Rates
from proxy.context.traceparent import RANDOM, SAMPLED, SpanContext
from proxy.context.tracestate import shown
from proxy.events import Carry, Connection, JobEvent, digest
from proxy.frameworks.base import Fields, Framework
from proxy.tracer import attributes as a
from proxy.tracer.content import Content
from proxy.tracer.crew import Crew
from proxy.tracer.happened import Happened
from proxy.tracer.index import Index
from proxy.tracer.jobs import Delivery, Description, Job, JobKey, Jobs, Status
from proxy.tracer.measures import Measures
from proxy.tracer.span import JobFacts, Kind, Link, Operation, Span, Value
from proxy.tracer.threads import Threads

KEY_LIMIT: Final = 1024
"""Bytes of a key that a span shows."""
HOLD: Final = 250_000_000
"""ns that a dequeue span waits for its enqueue's event, and a process span for how it ended."""
_ENDINGS: Final = 10_000
_QUEUES: Final = 1000
_LATE: Final = 60 * 10**9
"""ns that an event may come after others. More than that is a clock that was set back."""
_EXPECTED: Final = 5000
"""Jobs that are kept in mind because another one will submit them."""


class Policy(msgspec.Struct, frozen=True):
    """The parts of the configuration that change what spans say."""

    inject: bool = True
    max_age: int = 3600 * 10**9
    """ns after which a job starts a new trace, linked to the old one."""
    linked: frozenset[str] = frozenset()
    """Frameworks with ``relation: link``."""
    relations: Mapping[str, str] = {}
    """``parent`` or ``link`` by name or glob of queues, whatever their framework has."""
    without_process: frozenset[str] = frozenset()
    """Frameworks with ``process_span: false``."""
    services: Mapping[str, str] = {}
    """``service.name`` by listener, for listeners that have one of their own."""
    jobs: int = 50_000
    """Jobs that are remembered: about 1 kB each while they wait, 2 kB while they run."""
    content: Content = Content()
    """Which content of jobs spans show."""
    keep: int = 3600 * 10**9
    """ns that a job nobody hears of is remembered."""
    indexed: int = 0
    """Jobs that are kept to be shown, whether they go on or not."""
    indexed_bytes: int = 16 * 2**20
    """Bytes that these may take."""
    related: frozenset[str] = frozenset()
    """Frameworks whose jobs name others."""
    batches: bool = False
    """A span more for a command with several jobs."""
    health: bool = False
    """Spans of workers that come and go, too."""
    timeouts: Mapping[str, int] = {}
    """ns after which an attempt counts as timed out, by framework; frameworks without have none."""


class Seen(msgspec.Struct, gc=False):
    """An event, and what was made out of it."""

    conn: tuple[int, int]
    """Worker and connection number."""
    framework: Framework
    event: JobEvent
    fields: Fields
    upstream: str = ""
    service: str = ""
    context: SpanContext | None = None
    """What is stored with the job, as the relay saw or wrote it, or as an earlier description has it."""
    carry: Carry = Carry.NONE
    content: dict[str, Value] = {}
    """What of the job the settings let be seen."""
    described: Description | None = None
    """What was said of a job that this event only refers to."""
    job: Job | None = None
    """The job that it is about, once it is known."""

    def facts(self) -> JobFacts:
        event = self.event
        return JobFacts(
            framework=event.framework,
            queue=event.queue,
            key=event.key[:KEY_LIMIT].decode(errors="backslashreplace"),
            fields=self.fields,
            upstream=self.upstream,
            db=event.db,
            size=event.size,
            content=self.content,
        )

    def span(self, operation: Operation, kind: Kind, context: SpanContext, span_id: bytes) -> Span:
        """A span in the context's trace, over the command; no parent yet."""
        event = self.event
        return Span(
            operation=operation,
            kind=kind,
            trace_id=context.trace_id,
            span_id=span_id,
            parent_id=b"",
            start=event.at,
            end=max(event.at, event.done),
            job=self.facts(),
            sampled=context.sampled,
            flags=context.flags,
            tracestate=shown(context.tracestate) if context.tracestate else "",
            service=self.service,
        )


class Batch(msgspec.Struct):
    """A command with several jobs."""

    span: Span
    left: int
    """Jobs that are yet to be heard of."""


def label(facts: JobFacts) -> tuple[str, str]:
    return (facts.framework, facts.queue)


class Book:
    def __init__(self, frameworks: Iterable[Framework], carrier: Carrier, rates: Rates, policy: Policy) -> None:
        self.frameworks: Final = {framework.name: framework for framework in frameworks}
        self.carrier: Final = carrier
        self.ids: Final = carrier.ids
        self.rates: Final = rates
        self.policy: Final = policy
        self.measures: Final = Measures()
        self.jobs: Final = Jobs(policy.jobs, policy.keep)
        self.connections: Final[dict[tuple[int, int], Connection]] = {}
        self.popped: Final[dict[tuple[int, int], list[tuple[Job, Delivery]]]] = {}
        """By connection: deliveries that end with its next pop."""
        self.held: Final[deque[tuple[int, Delivery]]] = deque()
        """Deliveries whose dequeue span waits, and until when."""
        self.over: Final[deque[tuple[int, Job, Delivery]]] = deque()
        """Deliveries that are over, and until when somebody may say how they ended."""
        self.threads: Final[OrderedDict[tuple[str, int, str, str], Threads]] = OrderedDict()
        """By upstream, database, framework and host of the worker."""
        self.asking: Final[dict[tuple[int, int], Threads]] = {}
        """By connection that a thread has asked on."""
        self.handles: Final[dict[tuple[str, int, str, bytes], JobKey]] = {}
        """Names that jobs which are held go by until they are acknowledged."""
        self.descriptions: Final[OrderedDict[JobKey, Description]] = OrderedDict()
        """Of jobs that nobody has queued or taken yet, as far as is known here."""
        self.early: Final[OrderedDict[JobKey, Seen]] = OrderedDict()
        """What put a job where it waits, before anybody has said what it is."""
        self._endings: Final[set[tuple[str, str, str]]] = set()
        self._expected: Final[OrderedDict[tuple[str, int, str, bytes], Link]] = OrderedDict()
        self.index: Final = Index(policy.indexed, policy.indexed_bytes)
        self._linked: dict[tuple[str, str], bool] = {}
        self.related: Final[OrderedDict[tuple[str, int, str, str], Link]] = OrderedDict()
        """To the span of each job, and the first one of each batch, that others may name."""
        self.batches: Final[OrderedDict[tuple[int, int, int, bytes], Batch]] = OrderedDict()
        """By connection, time and key."""
        self.gaps = 0
        """How often something was lost of what the relay had to say."""
        self.latest = 0
        """The time of the latest event that was heard of, ns."""
        self._lost_by = 0
        self.crew: Final = Crew()
        self.taken: Final[deque[tuple[int, Job, Delivery]]] = deque()
        """Deliveries that somebody has taken from their holder, and until when he may put them anywhere."""
        self.timed: Final[dict[int, OrderedDict[int, tuple[Job, Delivery]]]] = {}
        """Deliveries that may time out, by how long they may take, in the order in which they will."""
        self.throttled: Final[OrderedDict[tuple[int, int], tuple[int, int]]] = OrderedDict()
        """By connection: since when its client was told to wait, ns, and for how long, ms."""
        self.paused: Final[OrderedDict[tuple[str, int, str, bytes], None]] = OrderedDict()
        """Keys of queues that are."""
        self.happened: list[Happened] | None = None
        """What happened to jobs since that was last taken; None: nobody listens."""
        self.spans: list[Span] = []
        """Finished since they were last taken."""

    def job(self, seen: Seen, status: Status) -> tuple[Job, bool]:
        """The job that an event is about, and whether it was known."""
        key, now = self.key(seen), seen.event.done
        job = seen.job = self.jobs.get(key, now)
        if job is not None:
            return job, True
        job = seen.job = self.jobs.add(key, status, now)
        job.description = self.descriptions.pop(key, None)
        for old in self.jobs.excess():
            self.measures.evicted += 1
            self.forget(old)
        return job, False

    def known(self, seen: Seen) -> Job | None:
        seen.job = self.jobs.get(self.key(seen), seen.event.done)
        return seen.job

    def note(self, job: Job, span: Span | None) -> None:
        """For the index: this span is the job's; None: its state has changed."""
        if self.index.limit:
            self.index.note(job, span)

    def key(self, seen: Seen) -> JobKey:
        """Which job an event is about: by reference, by what names it while it is held, or by what is in it."""
        event, fields, family = seen.event, seen.fields, seen.framework.family
        if event.ref:
            place = (seen.upstream, event.db, family, event.ref)
            return self.handles.get(place) or (*place, 0)
        identity = fields.id.encode(errors="replace") or event.digest or digest(event.value)
        return (seen.upstream, event.db, family, identity, fields.created_at if fields.id else 0)

    def expect(self, seen: Seen, delivery: Delivery) -> None:
        """Whoever has this job will submit another one, if it names one."""
        if seen.fields.next_id:
            place = (seen.upstream, seen.event.db, seen.framework.family, seen.fields.next_id.encode(errors="replace"))
            self._expected[place] = Link(delivery.trace_id, delivery.process_id, "follows", delivery.flags)
            if len(self._expected) > _EXPECTED:
                self._expected.popitem(last=False)

    def ended(self, facts: JobFacts) -> None:
        """The end of this job was seen: that of others of its type on this queue will be, too."""
        if len(self._endings) < _ENDINGS:
            self._endings.add((*label(facts), facts.fields.type))

    def shows_ends(self, facts: JobFacts) -> bool:
        """The end of such a job has been seen."""
        return (*label(facts), facts.fields.type) in self._endings

    def expected(self, seen: Seen) -> tuple[Link, ...]:
        """To the process span of the job that said it would submit this one."""
        link = self._expected.pop(self.key(seen)[:4], None) if self._expected else None
        return () if link is None else (link,)

    def linked(self, event: JobEvent) -> bool:
        """A dequeue gets a trace of its own, with a link: by `Policy.relations`, else by its framework."""
        policy, key = self.policy, (event.framework, event.queue)
        known = self._linked.get(key)
        if known is None:
            if len(self._linked) >= _QUEUES:
                self._linked.clear()
            fitting = (relation for glob, relation in policy.relations.items() if fnmatchcase(event.queue, glob))
            relation = policy.relations.get(event.queue) or next(fitting, "")
            known = self._linked[key] = relation == "link" if relation else event.framework in policy.linked
        return known

    def gap(self) -> None:
        """Something was lost: of the time until now, or a little later."""
        self.gaps += 1
        self._lost_by = self.latest + HOLD

    def gaps_before(self, at: int) -> int:
        """`gaps` for a delivery at ``at``; -1: something may have been lost since, though it is heard of only now."""
        return -1 if 0 <= self._lost_by - at < _LATE else self.gaps

    def forget(self, job: Job) -> None:
        for delivery in job.deliveries:
            self.close(delivery)

    def close(self, delivery: Delivery) -> None:
        """Nothing that is still said of the job is about this delivery."""
        if delivery.open:
            delivery.open = False
            self.measures.flight(label(delivery.facts), -int(delivery.counted))
            if delivery.closed is not None:
                delivery.closed()
            if delivery.holder is not None:
                self.crew.done(delivery.holder, delivery)
            if delivery.timeout:
                self.timed[delivery.timeout].pop(id(delivery), None)
        if delivery.handle is not None:
            self.handles.pop(delivery.handle, None)
            delivery.handle = None

    def hold(self, job: Job, delivery: Delivery, dest: bytes) -> None:
        """Only now it is known what will name the delivery when it is acknowledged."""
        if delivery.handle is not None:
            self.handles.pop(delivery.handle, None)
        delivery.dest, delivery.handle = dest, (*job.key[:3], dest)
        self.handles[delivery.handle] = job.key
        if not delivery.counted:
            delivery.counted = True
            self.measures.flight(label(delivery.facts), 1)

    def recover(self, seen: Seen) -> Carried:
        """The context that the job's value holds, or that follows from its identity."""
        event, framework = seen.event, seen.framework
        if event.ref and not event.value:
            told = seen.described
            return NOTHING if told is None else Carried(Carry.FOUND, told.context, verified=told.verified)
        identity = framework.identity(event.value)
        named = (
            None if identity is None else Named(framework.family, identity.submission, identity.attempt, identity.hop)
        )
        slot = self.carrier.stored(framework.slot(event.value), event.value, named)
        sampler = self.rates.sampler(event.queue, event.key)
        inject = self.policy.inject and framework.inject
        return self.carrier.recover(slot, named, sampler, inject=inject)

    def begin(self, seen: Seen) -> SpanContext:
        """A new trace, in which nobody has a span yet."""
        return self.root(seen.event.queue, seen.event.key)

    def root(self, queue: str, key: bytes) -> SpanContext:
        trace_id = self.ids.trace_id()
        state = self.rates.sampler(queue, key)(trace_id)
        return SpanContext(trace_id, b"", RANDOM if state is None else RANDOM | SAMPLED, state or b"")

    def name_client(self, seen: Seen, span: Span) -> None:
        connection = self.connections.get(seen.conn)
        if connection is None:
            return
        for name, value in (
            (a.CLIENT_NAME, connection.name),
            (a.CLIENT_LIBRARY, connection.library),
            (a.CLIENT_ADDRESS, connection.client),
        ):
            if value:
                span.facts[name] = value

    def wait(self, dequeue: Span, since: int, source: str) -> None:
        """Say how long the job had waited; ``source``: wire, envelope or stamp."""
        first = a.WAIT_MS not in dequeue.facts
        waited = max(0, dequeue.end - since)
        dequeue.facts[a.WAIT_MS], dequeue.facts[a.WAIT_SOURCE] = waited / 1e6, source
        if first:
            self.measures.waited(label(dequeue.job), waited, dequeue.trace_id if dequeue.sampled else b"")

    def drop(self, job: Job, delivery: Delivery) -> None:
        """It was none."""
        self.close(delivery)
        self.index.dropped(job, delivery.dequeue)
        delivery.dequeue = None
        job.deliveries.remove(delivery)

    def release(self, delivery: Delivery) -> None:
        """The dequeue span has waited long enough."""
        if delivery.dequeue is not None:
            self.spans.append(delivery.dequeue)
            delivery.dequeue = None
