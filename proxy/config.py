"""The settings of redspan: one tree, the same as in YAML, with the defaults and the rules of every value.

Attributes are named as their YAML keys.  A value's type says what may be written for it: its `Kind` travels in the
annotation, and `proxy.config_sources` reads it from there.  Building one of these structs directly checks nothing;
`proxy.config_sources.load` does, and also asks `Settings.conflicts`.

Durations are float seconds, sizes are bytes, lists are tuples.
"""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Final, Literal, NamedTuple, TypeAlias
from urllib.parse import urlsplit

import msgspec

from proxy.address import Address, parse_bind, parse_upstream
from proxy.config_values import (
    BatchSize,
    Bind,
    Console,
    Count,
    Duration,
    Endpoint,
    Glob,
    Key,
    KeyPath,
    Name,
    Natural,
    OptionalPath,
    Path,
    Prefix,
    Rate,
    Secret,
    Size,
    Upstream,
    Wait,
    dotted,
    shown,
)

ExportProtocol: TypeAlias = Literal["grpc", "http/protobuf", "none"]
Relation: TypeAlias = Literal["parent", "link"]

_DEFAULT_ENDPOINT: Final = {"grpc": "http://127.0.0.1:4317", "http/protobuf": "http://127.0.0.1:4318"}
_GRPC_PORT: Final = 4317
_ZIPKIN_PATH: Final = "/api/v2/spans"
_OTLP_PATH: Final = "/v1/traces"


class Conflict(NamedTuple):
    """Values that are fine one by one, but not together."""

    path: KeyPath
    expected: str
    found: str
    other: KeyPath
    """The value that it collides with."""


class _Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    def __repr__(self) -> str:
        # A repr ends up in logs and tracebacks, so it goes through the same masking as `check-config --effective`.
        fields = msgspec.structs.fields(self)
        return f"{type(self).__name__}({', '.join(f'{f.name}={shown(f.type, getattr(self, f.name))}' for f in fields)})"


class Listener(_Section, frozen=True):
    """One address to listen on, and the Redis behind it."""

    bind: Bind = "127.0.0.1:6380"
    """Where clients connect: ``host:port``, ``[::1]:port`` or ``unix:///path``."""
    upstream: Upstream = "redis://127.0.0.1:6379"
    """Redis: also ``rediss://user:password@host:port`` and ``unix:///path``. No database number."""
    service_name: str = ""
    """``service.name`` of the spans from here; empty: `Tracing.service_name`."""

    @property
    def bind_address(self) -> Address:
        return parse_bind(self.bind)

    @property
    def upstream_address(self) -> Address:
        return parse_upstream(self.upstream)


class Relay(_Section, frozen=True):
    """The half that moves bytes."""

    max_connections: Count = 10_000
    """Client connections at a time; more are turned away."""
    max_inspect_bytes: Size = 1024 * 1024
    """A longer command passes without being looked at."""
    drain_timeout: Wait = 25.0
    """Seconds after SIGTERM in which clients may still finish (0: none)."""


class FrameworkSettings(_Section, frozen=True):
    """What every framework's section has."""

    enabled: bool = True
    """Recognise its jobs."""
    inject: bool = True
    """Write a context into them; false only observes."""
    process_span: bool = True
    """Make ``job.process`` spans; false where the workers make their own."""
    relation: Relation = "parent"
    """How a dequeue refers to its enqueue: child of it, or a trace of its own with a link."""


class ListSettings(FrameworkSettings, frozen=True):
    """Plain Redis lists of JSON jobs, named by the user. Paths are dotted paths into the JSON."""

    queues: tuple[Glob, ...] = ()
    """Globs of the lists that jobs are pushed to and popped from."""
    processing: tuple[Glob, ...] = ()
    """Globs of the lists that hold jobs while they are worked on."""
    completed: tuple[Glob, ...] = ()
    """Globs of the lists that finished jobs are put on."""
    dead_letter: tuple[Glob, ...] = ()
    """Globs of the lists that given-up jobs are put on."""
    end: Literal["ack", "next_pop", "none"] = "ack"
    """What ends a job: its removal from ``processing``, the worker's next pop, or nothing that can be seen."""
    slot: Key = "traceparent"
    """Top-level key that the context is written to."""
    identity: tuple[Path, ...] = ()
    """What names one submission and is repeated by its retries; for jobs whose retry drops ``slot``."""
    id: OptionalPath = "id"
    """The job's id."""
    type: OptionalPath = "type"
    """The job's type, or its handler."""
    attempt: OptionalPath = ""
    """Number of this attempt, 0 for the first."""
    max_attempts: OptionalPath = ""
    """How many attempts there are at most."""
    created_at: OptionalPath = ""
    """When the job was submitted."""
    enqueued_at: OptionalPath = ""
    """When it was put on the queue this time."""
    scheduled_at: OptionalPath = ""
    """When it is due."""
    priority: OptionalPath = ""
    """Its priority."""
    tenant: OptionalPath = ""
    """On whose behalf it runs."""
    correlation_id: OptionalPath = ""
    """The business operation that it belongs to."""
    idempotency_key: OptionalPath = ""
    """What keeps it from being done twice."""
    parent_id: OptionalPath = ""
    """Id of the job that submitted it."""
    depends_on: OptionalPath = ""
    """Ids of the jobs that it waits for."""
    batch_id: OptionalPath = ""
    """Id of the batch that it is part of."""
    error: OptionalPath = ""
    """Why it failed."""
    trace_id: OptionalPath = ""
    """A bare trace id that the application keeps in the job."""
    span_id: OptionalPath = ""
    """The span id beside it."""


_PREFIX: Final = "jobqueue:"
_QUEUES: Final = (f"{_PREFIX}high_priority", f"{_PREFIX}low_priority")
_PROCESSING: Final = (f"{_PREFIX}worker:*:processing",)
_HEARTBEAT: Final = (f"{_PREFIX}processing:worker:*",)
_COMPLETED: Final = (f"{_PREFIX}completed",)
_DEAD_LETTER: Final = (f"{_PREFIX}dead_letter",)
_RATE_LIMIT: Final = (f"{_PREFIX}rate_limit:producer",)


class GoRedisWorkQueueSettings(FrameworkSettings, frozen=True):
    """go-redis-work-queue. The globs are full key names; those not given follow ``prefix``."""

    prefix: Prefix = _PREFIX
    """What all of its keys begin with."""
    queues: tuple[Glob, ...] = _QUEUES
    """Its ``worker.queues``."""
    processing: tuple[Glob, ...] = _PROCESSING
    """Its ``worker.processing_list_pattern``."""
    heartbeat: tuple[Glob, ...] = _HEARTBEAT
    """Its ``worker.heartbeat_key_pattern``."""
    completed: tuple[Glob, ...] = _COMPLETED
    """Its ``worker.completed_list``."""
    dead_letter: tuple[Glob, ...] = _DEAD_LETTER
    """Its ``worker.dead_letter_list``."""
    rate_limit: tuple[Glob, ...] = _RATE_LIMIT
    """Its ``producer.rate_limit_key``."""
    max_retries: Natural = 3
    """Its ``worker.max_retries``: the wire does not tell."""

    def __post_init__(self) -> None:
        if self.prefix == _PREFIX:
            return
        for name in ("queues", "processing", "heartbeat", "completed", "dead_letter", "rate_limit"):
            globs: tuple[str, ...] = getattr(self, name)
            # The very object of the default: an equal list that the user wrote stays as written.
            if globs is _FIELDS[name]:
                moved = tuple(self.prefix + glob.removeprefix(_PREFIX) for glob in globs)
                msgspec.structs.force_setattr(self, name, moved)


_FIELDS: Final = {field.name: field.default for field in msgspec.structs.fields(GoRedisWorkQueueSettings)}


class Frameworks(_Section, frozen=True, rename={"go_redis_work_queue": "go-redis-work-queue"}):
    """One section for each job framework."""

    list: ListSettings = ListSettings()
    """Lists of the user's own; nothing until queues are named."""
    go_redis_work_queue: GoRedisWorkQueueSettings = GoRedisWorkQueueSettings()
    """The Go job queue of that name."""


class Sampling(_Section, frozen=True):
    """How many of the traces that begin here are recorded. A job that carries a decision keeps it."""

    default_rate: Rate = 1.0
    """Share of the traces, 0 to 1."""
    queue_rates: dict[Name, Rate] = {}
    """Shares for queues, by glob of their name or key; an exact one goes before a glob, a name before a key."""

    def rate(self, queue: str, key: str) -> float:
        """The share for a queue: exact name, exact key, then the first glob for the name, for the key."""
        for exact in (queue, key):
            if exact in self.queue_rates:
                return self.queue_rates[exact]
        for text in (queue, key):
            for glob, rate in self.queue_rates.items():
                if fnmatchcase(text, glob):
                    return rate
        return self.default_rate


class Security(_Section, frozen=True):
    """Read so that existing files load. No content of a job leaves redspan in this release, whatever these say."""

    filter_attributes: bool = True
    """Only attributes on the allow-list."""
    redact_pii: bool = True
    """Mask personal data in them."""


class Export(_Section, frozen=True):
    """How spans travel to the collector."""

    timeout: Duration = 10.0
    """Seconds for one request."""
    batch_size: BatchSize = 512
    """Spans in one request, at most 10,000."""
    interval: Duration = 5.0
    """Seconds after which a smaller batch is sent."""
    buffer: Count = 10_000
    """Spans kept while the collector is slow; beyond that, spans are dropped and counted."""
    flush_timeout: Wait = 5.0
    """Seconds for the last spans at the end."""
    encoder: Literal["own", "sdk"] = "own"
    """Who makes the HTTP requests: redspan, or OpenTelemetry's SDK (slower, the reference)."""


class RelationSettings(_Section, frozen=True):
    """When a job's spans go into a trace of their own."""

    max_age: Duration = 3600.0
    """An older job starts a new trace, with a link to the old."""


class Spans(_Section, frozen=True):
    """What spans look like."""

    naming: Literal["queue", "semconv"] = "queue"
    """``queue.enqueue``, or OpenTelemetry's ``enqueue orders``."""


class Tracing(_Section, frozen=True):
    """The half that makes spans."""

    enabled: bool = True
    """False: no spans and no writing, the relay only."""
    inject: bool = True
    """False: no framework writes a context into a job."""
    service_name: str = ""
    """``service.name`` of the spans."""
    service_version: str = ""
    """``service.version``."""
    environment: str = ""
    """``deployment.environment.name``."""
    resource_attributes: dict[Name, str] = {}
    """More attributes of every span's resource."""
    endpoint: Endpoint = ""
    """Collector; empty: port 4318 (with ``protocol: grpc`` 4317) of this host."""
    protocol: Literal["", "grpc", "http/protobuf", "none"] = ""
    """Empty: grpc for port 4317, else http/protobuf; ``none`` sends nothing."""
    headers: dict[Name, Secret] = {}
    """Headers of every request to the collector. Never shown."""
    console_exporter: Console = False
    """Print spans as well: ``true`` or ``tree`` as trees, ``json`` as lines."""
    identity_key_file: str = ""
    """A file whose bytes key the trace ids that are derived from jobs; the same for all sidecars."""
    sampling: Sampling = Sampling()
    """How many traces are recorded."""
    security: Security = Security()
    """Accepted for the sake of existing files."""
    export: Export = Export()
    """How spans travel."""
    relation: RelationSettings = RelationSettings()
    """When a job's spans go into a trace of their own."""
    spans: Spans = Spans()
    """What spans look like."""

    def resolved_protocol(self) -> ExportProtocol:
        """What is spoken to the collector. Raises ValueError for a Zipkin endpoint: not in this release."""
        if self.protocol:
            return self.protocol
        url = urlsplit(self._url())
        if url.port == _GRPC_PORT:
            return "grpc"
        if url.path.rstrip("/").endswith(_ZIPKIN_PATH):
            raise ValueError("this is a Zipkin endpoint, and this release speaks OTLP only")
        return "http/protobuf"

    def resolved_endpoint(self) -> str:
        """The collector's URL with its scheme, for HTTP with its path; empty for ``none``."""
        protocol = self.resolved_protocol()
        if protocol == "none":
            return ""
        url = urlsplit(self._url() or _DEFAULT_ENDPOINT[protocol])
        if protocol == "http/protobuf" and url.path in ("", "/"):
            url = url._replace(path=_OTLP_PATH)
        return url.geturl()

    def _url(self) -> str:
        return self.endpoint if not self.endpoint or "://" in self.endpoint else f"http://{self.endpoint}"


class Admin(_Section, frozen=True):
    """Metrics and probes."""

    bind: Bind = "127.0.0.1:9464"
    """Where ``/metrics``, ``/healthz`` and ``/readyz`` are served."""
    ready_requires_upstream: bool = False
    """Ready only while Redis answers. Takes the application out of service together with Redis."""

    @property
    def bind_address(self) -> Address:
        return parse_bind(self.bind)


class Log(_Section, frozen=True):
    """redspan's own log, on standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """The least that is logged."""
    format: Literal["text", "json"] = "text"
    """For people, or one JSON object a line."""


class Settings(_Section, frozen=True):
    """All of them."""

    listeners: tuple[Listener, ...] = (Listener(),)
    """At least one."""
    relay: Relay = Relay()
    """The half that moves bytes."""
    frameworks: Frameworks = Frameworks()
    """What is recognised."""
    tracing: Tracing = Tracing()
    """The half that makes spans."""
    admin: Admin = Admin()
    """Metrics and probes."""
    log: Log = Log()
    """redspan's own log."""

    def conflicts(self) -> Iterator[Conflict]:
        """What does not go together. Every single value must be valid."""
        binds: dict[Address, KeyPath] = {}
        places: dict[KeyPath, str] = {("listeners", i, "bind"): one.bind for i, one in enumerate(self.listeners)}
        for path, text in (places | {("admin", "bind"): self.admin.bind}).items():
            address = parse_bind(text)
            if address.path or address.port:  # port 0 is a different one each time
                other = binds.setdefault(address, path)
                if other != path:
                    yield Conflict(path, "an address of its own", f"the one of {dotted(other)}", other)
        for i, listener in enumerate(self.listeners):
            target = listener.upstream_address
            if bound := binds.get(Address(host=target.host, port=target.port, path=target.path)):
                yield Conflict(("listeners", i, "upstream"), "Redis", f"redspan itself ({dotted(bound)})", bound)
        try:
            self.tracing.resolved_protocol()
        except ValueError as error:
            endpoint = ("tracing", "endpoint")
            yield Conflict(endpoint, "an OTLP endpoint", f"{self.tracing.endpoint} ({error})", endpoint)
