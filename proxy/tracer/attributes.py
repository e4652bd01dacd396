"""The table of attribute names, and the one place where a span becomes attributes.

Two vocabularies side by side: the seed's ``queue.*`` and ``job.*`` ("Span Attributes" in
distributed-tracing-integration-design.md) and OpenTelemetry's ``messaging.*`` with the stable ``server.*``, ``db.*``
and ``error.type`` (semantic conventions v1.44; the messaging ones are in Development).  What neither has a word for
is ``redspan.*``.  What is not known gives no attribute.

A span's attributes have two parts.  `static` depends on nothing but queue and operation, so it is rendered once and
kept; `variable` is the job and the delivery.  They share a name only where `Span.facts` has it, which wins.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Final, Literal, TypeAlias
from urllib.parse import urlsplit

from proxy.frameworks.base import Fields
from proxy.tracer.home import Home
from proxy.tracer.span import Operation, Span, Value
from proxy.tracer.when import utc

SCHEMA_URL: Final = "https://opentelemetry.io/schemas/1.44.0"

# The seed's
QUEUE_SYSTEM: Final = "queue.system"
QUEUE_NAME: Final = "queue.name"
OPERATION_TYPE: Final = "queue.operation.type"
QUEUE_MESSAGE_ID: Final = "queue.message.id"
PRIORITY: Final = "queue.message.priority"
TENANT: Final = "queue.message.tenant"
IDEMPOTENCY_KEY: Final = "queue.message.idempotency_key"
WAIT_MS: Final = "queue.wait_time_ms"
DEPTH: Final = "queue.depth"
JOB_ID: Final = "job.id"
JOB_TYPE: Final = "job.type"
RETRY_COUNT: Final = "job.retry_count"
MAX_RETRIES: Final = "job.max_retries"
STATUS: Final = "job.status"
JOB_ERROR: Final = "job.error"
DURATION_MS: Final = "job.duration_ms"
WORKER_ID: Final = "worker.id"
PARENT_ID: Final = "job.parent_id"
DEPENDS_ON: Final = "job.depends_on"
BATCH_ID: Final = "job.batch_id"
SCHEDULED_AT: Final = "job.scheduled_at"

# OpenTelemetry's
MESSAGING_SYSTEM: Final = "messaging.system"
DESTINATION: Final = "messaging.destination.name"
MESSAGING_OPERATION: Final = "messaging.operation.name"
MESSAGING_OPERATION_TYPE: Final = "messaging.operation.type"
MESSAGE_ID: Final = "messaging.message.id"
CONVERSATION_ID: Final = "messaging.message.conversation_id"
ENVELOPE_SIZE: Final = "messaging.message.envelope.size"
BATCH_COUNT: Final = "messaging.batch.message_count"
CLIENT_NAME: Final = "messaging.client.id"
CLIENT_ADDRESS: Final = "client.address"
SERVER_ADDRESS: Final = "server.address"
SERVER_PORT: Final = "server.port"
DB_NAMESPACE: Final = "db.namespace"
ERROR_TYPE: Final = "error.type"

# Ours
FRAMEWORK: Final = "redspan.framework"
KEY: Final = "redspan.key"
WAIT_SOURCE: Final = "redspan.wait.source"
WORKER_HOST: Final = "redspan.worker.host"
WORKER_PID: Final = "redspan.worker.pid"
START_INFERRED: Final = "redspan.start.inferred"
END_INFERRED: Final = "redspan.end.inferred"
END_UNCERTAIN: Final = "redspan.end.uncertain_ms"
PARENT_UNVERIFIED: Final = "redspan.parent.unverified"
OUTCOME: Final = "redspan.outcome"
INCLUDES_BACKOFF: Final = "redspan.includes_backoff"
PROCESSING_LIST: Final = "redspan.processing_list"
ATTEMPT: Final = "redspan.attempt"
PURGED: Final = "redspan.purged"
CLIENT_LIBRARY: Final = "redspan.client.library"
LINK_RELATION: Final = "redspan.link"
WORKER_JOBS: Final = "redspan.worker.jobs_in_flight"
WORKER_HELD: Final = "redspan.worker.jobs"
THROTTLED_MS: Final = "redspan.throttled_ms"
RETRY_AFTER_MS: Final = "redspan.retry_after_ms"
DEPTH_SOURCE: Final = "redspan.depth.source"
PAIRING: Final = "redspan.pairing"
TRACE_ID_ORIGINAL: Final = "redspan.trace_id.original"
SCHEDULED_MS: Final = "redspan.scheduled_ms"
LATE_MS: Final = "redspan.scheduled.late_ms"
SAMPLING_REASON: Final = "redspan.sampling.reason"
PAYLOAD: Final = "redspan.payload."
"""And the path, of content that the settings allow."""

Facts: TypeAlias = dict[str, Value]

Naming: TypeAlias = Literal["queue", "semconv"]
"""``spans.naming``: ``queue.enqueue``, or ``enqueue orders`` as the semantic conventions want it."""

Rule: TypeAlias = Callable[[str, Value], Value | None]
"""Name and value in, the value to export out; None: not at all. It must depend on nothing else: what it says of the
static part is remembered."""

_VERBS: Final[Mapping[str, tuple[str, str]]] = {
    Operation.ENQUEUE.value: ("enqueue", "send"),
    Operation.DEQUEUE.value: ("dequeue", "receive"),
    Operation.PROCESS.value: ("process", "process"),
    # None of the conventions' operation types is what these do to a whole queue.
    Operation.PURGE.value: ("purge", ""),
    Operation.PAUSE.value: ("pause", ""),
    Operation.RESUME.value: ("resume", ""),
    Operation.DRAIN.value: ("drain", ""),
    Operation.PEEK.value: ("peek", ""),
    Operation.CANCEL.value: ("cancel", ""),
    Operation.ACK.value: ("ack", "settle"),
    Operation.WORKER_STARTED.value: ("started", ""),
    Operation.WORKER_SHUTDOWN.value: ("shutdown", ""),
}
"""Operation -> ``messaging.operation.name`` and ``messaging.operation.type``."""

_PLAIN: Final = frozenset({"list", "stream", "zset", "script"})
"""Frameworks that are no library of their own: the messaging system is Redis itself."""

# Bound to names of the module because looking a member up on its class costs more than the comparison.
_ENQUEUE, _PROCESS = Operation.ENQUEUE, Operation.PROCESS

_CACHED: Final = 1024
"""Queues times operations that are kept; more of them are only slower."""


def span_name(span: Span, naming: Naming = "queue", rule: Rule | None = None) -> str:
    """The span's name; under ``semconv`` the verb alone where the queue has no name, or none that may be shown."""
    return name_of(span.operation._value_, span.job.queue, naming, rule)


def name_of(operation: str, queue: str, naming: Naming, rule: Rule | None = None) -> str:
    """`span_name` of an `Operation`'s value."""
    if naming == "queue":
        return operation
    verb = _VERBS[operation][0]
    if rule is not None:
        queue = str(rule(QUEUE_NAME, queue) or "")
    return f"{verb} {queue}" if queue else verb


def attributes(span: Span, rule: Rule | None = None) -> dict[str, Value]:
    """Everything that is known of a span, by attribute name."""
    return apply(rule, {**static(span), **variable(span)})


def apply(rule: Rule | None, rendered: dict[str, Value]) -> dict[str, Value]:
    if rule is None:
        return rendered
    return {name: kept for name, value in rendered.items() if (kept := rule(name, value)) is not None}


def static_key(span: Span) -> tuple[str, str, str, str, str, int]:
    """What the static part depends on, as the arguments of `static_of`."""
    job = span.job
    # The bare value: hashing an enum's member runs Python code.
    return span.operation._value_, job.framework, job.queue, job.key, job.upstream, job.db


def static(span: Span) -> Mapping[str, Value]:
    """The part that all spans of this operation on this queue have in common; shared, not to be changed."""
    return static_of(*static_key(span))


@lru_cache(maxsize=_CACHED)
def static_of(operation: str, framework: str, queue: str, key: str, upstream: str, db: int) -> Mapping[str, Value]:
    verb, kind = _VERBS[operation]
    host, port = server(upstream)
    rendered: dict[str, Value] = {QUEUE_SYSTEM: "redis"}
    if queue:
        rendered[QUEUE_NAME] = queue
    if operation.startswith("queue."):
        rendered[OPERATION_TYPE] = verb
    rendered[MESSAGING_SYSTEM] = "redis" if not framework or framework in _PLAIN else framework
    if queue:
        rendered[DESTINATION] = queue
    rendered[MESSAGING_OPERATION] = verb
    if kind:
        rendered[MESSAGING_OPERATION_TYPE] = kind
    if host:
        rendered[SERVER_ADDRESS] = host
    if port:
        rendered[SERVER_PORT] = port
    rendered[DB_NAMESPACE] = str(db)
    if framework:
        rendered[FRAMEWORK] = framework
    if key:
        rendered[KEY] = key
    return rendered


def variable(span: Span) -> dict[str, Value]:
    """The part that is this span's own."""
    job = span.job
    fields = job.fields
    operation = span.operation
    rendered: dict[str, Value] = {}
    if fields.id:
        rendered[MESSAGE_ID] = fields.id
        rendered[JOB_ID if operation is _PROCESS else QUEUE_MESSAGE_ID] = fields.id
    if fields.correlation_id:
        rendered[CONVERSATION_ID] = fields.correlation_id
    if job.size > 0:
        rendered[ENVELOPE_SIZE] = job.size
    if operation is _ENQUEUE:
        _enqueued(fields, rendered)
    elif operation is _PROCESS:
        _processed(fields, rendered)
    if fields.parent_id or fields.depends_on or fields.batch_id or fields.scheduled_at:
        _related(fields, rendered)
    if fields.trace_id:
        rendered[TRACE_ID_ORIGINAL] = fields.trace_id
    if job.content:
        rendered.update((PAYLOAD + path, value) for path, value in job.content.items())
    if span.error:
        rendered[ERROR_TYPE] = span.error
    if span.facts:
        rendered.update(span.facts)
    return rendered


def _related(fields: Fields, rendered: dict[str, Value]) -> None:
    if fields.parent_id:
        rendered[PARENT_ID] = fields.parent_id
    if fields.depends_on:
        rendered[DEPENDS_ON] = ",".join(fields.depends_on)
    if fields.batch_id:
        rendered[BATCH_ID] = fields.batch_id
    due = utc(fields.scheduled_at)
    if due:
        rendered[SCHEDULED_AT] = due


def worker(home: Home) -> Facts:
    """Who a worker is, as far as its name says."""
    facts: Facts = {WORKER_ID: home.name}
    if home.host:
        facts[WORKER_HOST] = home.host
    if home.pid:
        facts[WORKER_PID] = home.pid
    return facts


def _enqueued(fields: Fields, rendered: dict[str, Value]) -> None:
    if fields.priority:
        rendered[PRIORITY] = fields.priority
    if fields.tenant:
        rendered[TENANT] = fields.tenant
    if fields.idempotency_key:
        rendered[IDEMPOTENCY_KEY] = fields.idempotency_key


def _processed(fields: Fields, rendered: dict[str, Value]) -> None:
    if fields.type:
        rendered[JOB_TYPE] = fields.type
    rendered[RETRY_COUNT] = fields.attempt
    if fields.max_attempts >= 0:
        # As the job has it: whether its library counts the first attempt is the library's affair.
        rendered[MAX_RETRIES] = fields.max_attempts


def server(upstream: str) -> tuple[str, int]:
    """``server.address`` and ``server.port`` of an upstream, 0 where it has none (a unix socket).

    ``host:port``, ``[v6]:port``, a path, or any of these as a URL; user and password of a URL are left out.
    """
    if upstream.startswith("unix:"):
        return upstream.removeprefix("unix:").removeprefix("//").partition("?")[0], 0
    if upstream.startswith("/"):
        return upstream, 0
    if upstream.count(":") > 1 and not set(upstream) & set("[@/"):
        return upstream, 0  # an IPv6 address without a port
    try:
        parts = urlsplit(upstream if "://" in upstream else f"redis://{upstream}")
        port = parts.port
    except ValueError:
        return "", 0  # no address that could be named
    return parts.hostname or "", port or 0


STATIC_NAMES: Final = frozenset[str]().union(
    *(static_of(operation.value, "rq", "a", "a", "a:1", 0) for operation in Operation)
)
"""Every name that the static part can have."""
