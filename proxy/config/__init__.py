"""The settings of redspan: one tree, the same as in YAML, with the defaults and the rules of every value.

Attributes are named as their YAML keys.  A value's type says what may be written for it: its `Kind` travels in the
annotation, and `proxy.config.sources` reads it from there.  Building one of these structs directly checks nothing;
`proxy.config.sources.load` does, and also asks `Settings.conflicts`.

Durations are float seconds, sizes are bytes, lists are tuples.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from proxy.address import Address, masked, parse_bind, parse_upstream
from proxy.config import collector
from proxy.config.collector import Collector, ExportProtocol
from proxy.config.described import JobPaths, ListSettings, ScriptEntry, ScriptSettings, StreamSettings, ZsetSettings
from proxy.config.framework import FrameworkSettings, Relation
from proxy.config.frameworks import (
    ArqSettings,
    AsynqSettings,
    BeeQueueSettings,
    BullmqSettings,
    BullSettings,
    CelerySettings,
    DramatiqSettings,
    Frameworks,
    GocraftWorkSettings,
    GoRedisWorkQueueSettings,
    HueySettings,
    LaravelSettings,
    MachinerySettings,
    ResqueSettings,
    RqSettings,
    SidekiqSettings,
    StreaqSettings,
    TaskiqSettings,
)
from proxy.config.links import TraceLinks
from proxy.config.privacy import Allowed, AttributeFilter, Security
from proxy.config.sampling import Sampling, TailSampling
from proxy.config.tls import ClientTls, ServerTls, UpstreamTls, unreadable, wrong
from proxy.config.values import (
    BatchSize,
    Bind,
    Conflict,
    Console,
    Count,
    Duration,
    Endpoint,
    KeyPath,
    Name,
    Natural,
    Secret,
    Section,
    Size,
    Upstream,
    Wait,
    Workers,
    dotted,
)

__all__ = [
    "Admin",
    "Allowed",
    "ArqSettings",
    "AsynqSettings",
    "AttributeFilter",
    "BeeQueueSettings",
    "BullSettings",
    "BullmqSettings",
    "CelerySettings",
    "ClientTls",
    "Collector",
    "Conflict",
    "DramatiqSettings",
    "Events",
    "Export",
    "FrameworkSettings",
    "Frameworks",
    "GoRedisWorkQueueSettings",
    "GocraftWorkSettings",
    "HueySettings",
    "Index",
    "JobPaths",
    "LaravelSettings",
    "ListSettings",
    "Listener",
    "Log",
    "MachinerySettings",
    "Relay",
    "ResqueSettings",
    "RqSettings",
    "Sampling",
    "ScriptEntry",
    "ScriptSettings",
    "Security",
    "ServerTls",
    "Settings",
    "SidekiqSettings",
    "StreamSettings",
    "StreaqSettings",
    "TailSampling",
    "TaskiqSettings",
    "TraceLinks",
    "Tracing",
    "UpstreamTls",
    "ZsetSettings",
]


class Listener(Section, frozen=True):
    """One address to listen on, and the Redis behind it."""

    bind: Bind = "127.0.0.1:6380"
    """Where clients connect: ``host:port``, ``[::1]:port`` or ``unix:///path``."""
    upstream: Upstream = "redis://127.0.0.1:6379"
    """Redis: also ``rediss://user:password@host:port`` and ``unix:///path``. No database number."""
    service_name: str = ""
    """``service.name`` of the spans from here; empty: `Tracing.service_name`."""
    tls: ServerTls = ServerTls()
    """Certificates for clients: with one, they have to speak TLS."""
    upstream_tls: UpstreamTls = UpstreamTls()
    """Certificates for Redis, where ``upstream`` is ``rediss://``."""
    upstream_password_file: str = ""
    """A file with the password for ``upstream``. One that is replaced is read again, for the next connection."""

    @property
    def bind_address(self) -> Address:
        return parse_bind(self.bind)

    @property
    def upstream_address(self) -> Address:
        return parse_upstream(self.upstream)

    def conflicts(self, path: KeyPath) -> Iterator[Conflict]:
        """What does not go together, or not with the files that are named."""
        yield from wrong((*path, "tls"), self.tls)
        yield from wrong((*path, "upstream_tls"), self.upstream_tls)
        if self.upstream_tls != UpstreamTls() and not self.upstream_address.tls:
            at = (*path, "upstream")
            yield Conflict((*path, "upstream_tls"), "nothing, as upstream is not rediss://", "settings", at)
        file = self.upstream_password_file
        if file:
            at = (*path, "upstream_password_file")
            yield from unreadable(at, file, "a password")
            if self.upstream_address.password:
                yield Conflict(at, "nothing, as upstream has a password", "a file", (*path, "upstream"))


class Relay(Section, frozen=True):
    """The half that moves bytes."""

    workers: Workers = 1
    """Processes that relay, at most 64; with 1 it is redspan's first process itself."""
    max_connections: Count = 10_000
    """Client connections at a time; more are turned away. Each worker takes its share of them."""
    max_inspect_bytes: Size = 1024 * 1024
    """A longer command passes without being looked at."""
    drain_timeout: Wait = 25.0
    """Seconds after SIGTERM in which clients may still finish (0: none)."""


class Export(Section, frozen=True):
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
    compression: Literal["gzip", "none"] = "gzip"
    """Of all requests."""
    encoder: Literal["own", "sdk"] = "own"
    """Who makes the requests of http/protobuf: redspan, or OpenTelemetry's SDK (slower, the reference)."""


class RelationSettings(Section, frozen=True):
    """When a job's spans go into a trace of their own."""

    max_age: Duration = 3600.0
    """An older job starts a new trace, with a link to the old."""
    queues: dict[Name, Relation] = {}  # noqa: RUF012 - msgspec copies it
    """In place of the framework's ``relation``, by glob of the queue's name; an exact name goes before a glob."""


class Spans(Section, frozen=True):
    """What spans look like, and of what there are some."""

    batch: Literal["jobs", "links"] = "jobs"
    """For a command with several jobs: a span for each, or besides these one that is linked to them."""
    health: bool = False
    """Also of workers that come and go, and of commands that only look at a queue."""

    naming: Literal["queue", "semconv"] = "queue"
    """``queue.enqueue``, or OpenTelemetry's ``enqueue orders``."""


class Tracing(Section, frozen=True):
    """The half that makes spans."""

    enabled: bool = True
    """False: no spans and no writing, the relay only."""
    inject: bool = True
    """False: no framework writes a context into a job."""
    formats: tuple[Literal["b3", "datadog"], ...] = ()
    """Contexts that are looked for in jobs without a W3C one, which is then written in the same trace."""
    service_name: str = ""
    """``service.name`` of the spans."""
    service_version: str = ""
    """``service.version``."""
    environment: str = ""
    """``deployment.environment.name``."""
    resource_attributes: dict[Name, str] = {}  # noqa: RUF012 - msgspec copies it
    """More attributes of every span's resource."""
    endpoint: Endpoint = ""
    """Collector; empty: port 4318 (with ``protocol: grpc`` 4317) of this host."""
    protocol: Literal["", "grpc", "http/protobuf", "zipkin", "none"] = ""
    """Empty: grpc for port 4317, zipkin for …/api/v2/spans, else http/protobuf; ``none`` sends nothing there."""
    headers: dict[Name, Secret] = {}  # noqa: RUF012 - msgspec copies it
    """Headers of every request to the collector. Never shown."""
    headers_file: str = ""
    """A file with more of them, one ``name: value`` a line. One that is replaced is read again."""
    tls: ClientTls = ClientTls()
    """Certificates, for an endpoint that is ``https://``."""
    exporters: tuple[Collector, ...] = ()
    """More places that spans go to, besides the endpoint."""
    console_exporter: Console = False
    """Print spans as well: ``true`` or ``tree`` as trees, ``json`` as lines."""
    identity_key_file: str = ""
    """A file whose bytes key the trace ids that are derived from jobs; the same for all sidecars."""
    sampling: Sampling = Sampling()
    """How many traces are recorded."""
    attribute_filter: AttributeFilter = AttributeFilter()
    """Which attributes spans have."""
    security: Security = Security()
    """What is kept back."""
    export: Export = Export()
    """How spans travel."""
    relation: RelationSettings = RelationSettings()
    """When a job's spans go into a trace of their own."""
    spans: Spans = Spans()
    """What spans look like."""

    def resolved_protocol(self) -> ExportProtocol:
        """What is spoken to the collector."""
        return collector.protocol_of(self.endpoint, self.protocol)

    def resolved_endpoint(self) -> str:
        """The collector's URL with its scheme, for HTTP with its path; empty for ``none``."""
        return collector.endpoint_of(self.endpoint, self.protocol)

    def collectors(self) -> Iterator[tuple[KeyPath, Collector]]:
        """All the places that spans go to, with the paths of their settings; the first is the one that counts."""
        if self.protocol != "none":
            yield ("tracing",), Collector(self.endpoint, self.protocol, self.headers, self.headers_file, self.tls)
        for i, one in enumerate(self.exporters):
            yield ("tracing", "exporters", i), one

    def destinations(self) -> str:
        """Where spans go, in a few words. Every value must be valid."""
        if not self.enabled:
            return "none are made"
        to = [f"{masked(one.resolved_endpoint())} ({one.resolved_protocol()})" for _, one in self.collectors()]
        return ", ".join([*to, *["the console"] * bool(self.console_exporter)]) or "to nobody"


class Index(Section, frozen=True):
    """The recent jobs that ``/api`` and ``/ui`` show."""

    jobs: Natural = 10_000
    """So many of them at most; 0: none are kept."""
    bytes: Size = 16 * 1024 * 1024
    """Memory they may take, as estimated."""


class Events(Section, frozen=True):
    """What happens to jobs, as lines of JSON: a ``job.started`` each, and so on."""

    to: str = ""
    """``stdout``, or a file that they are appended to; empty: nowhere."""


class Admin(Section, frozen=True):
    """Metrics, probes and pages."""

    bind: Bind = "127.0.0.1:9464"
    """Where ``/metrics``, ``/healthz``, ``/readyz``, ``/api`` and ``/ui`` are served."""
    token_file: str = ""
    """A file with the token that ``/api`` and ``/ui`` ask for. Off loopback, there are none without it."""
    trace_links: TraceLinks = TraceLinks()
    """Where a trace can be looked at."""
    ready_requires_upstream: bool = False
    """Ready only while Redis takes connections. Takes the application out of service together with Redis."""

    @property
    def bind_address(self) -> Address:
        return parse_bind(self.bind)


class Log(Section, frozen=True):
    """redspan's own log, on standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """The least that is logged."""
    format: Literal["text", "json"] = "text"
    """For people, or one JSON object a line."""


class Settings(Section, frozen=True):
    """All of them."""

    listeners: tuple[Listener, ...] = (Listener(),)
    """At least one."""
    relay: Relay = Relay()
    """The half that moves bytes."""
    frameworks: Frameworks = Frameworks()
    """What is recognised."""
    tracing: Tracing = Tracing()
    """The half that makes spans."""
    index: Index = Index()
    """The recent jobs that are shown."""
    events: Events = Events()
    """What happens to jobs, for other programs."""
    admin: Admin = Admin()
    """Metrics, probes and pages."""
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
            yield from listener.conflicts(("listeners", i))
        yield from self.frameworks.conflicts()
        yield from self.tracing.sampling.conflicts(("tracing", "sampling"))
        yield from self.tracing.security.conflicts(("tracing", "security"))
        if self.tracing.identity_key_file:
            yield from unreadable(("tracing", "identity_key_file"), self.tracing.identity_key_file, "a key")
        if self.admin.token_file:
            yield from unreadable(("admin", "token_file"), self.admin.token_file, "a token")
        yield from self.admin.trace_links.conflicts(("admin", "trace_links"))
        yield from collector.conflicts(self.tracing.collectors())
