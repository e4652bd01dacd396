"""From settings to the parts of the tracer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Literal

import msgspec

from proxy import __version__, assembly
from proxy.config import Collector, FrameworkSettings, JobPaths, Settings, Tracing
from proxy.config.values import dotted
from proxy.tracer.book import Policy
from proxy.tracer.content import Allowed, Content
from proxy.tracer.export.base import Exporter
from proxy.tracer.export.buffer import SpanBuffer
from proxy.tracer.lifecycle import Lifecycle
from proxy.tracer.redaction import Redaction
from proxy.tracer.resource import resource_attributes
from proxy.tracer.sieve import Sieve
from proxy.tracer.span import Operation, Value
from proxy.tracer.stories import Stories
from proxy.tracer.tail import TailOptions

if TYPE_CHECKING:
    from proxy.tracer.export.post import Options


def lifecycle(settings: Settings) -> Lifecycle:
    """Raises `proxy.assembly.CannotStart`."""
    return Lifecycle(
        assembly.frameworks(settings), assembly.carrier(settings), assembly.rates(settings), policy(settings)
    )


def policy(settings: Settings) -> Policy:
    options = settings.frameworks
    sections: dict[str, FrameworkSettings] = {
        field.encode_name: getattr(options, field.name) for field in msgspec.structs.fields(options)
    }
    return Policy(
        inject=settings.tracing.inject,
        max_age=int(settings.tracing.relation.max_age * 1e9),
        linked=frozenset(name for name, section in sections.items() if section.relation == "link"),
        relations=settings.tracing.relation.queues,
        without_process=frozenset(name for name, section in sections.items() if not section.process_span),
        related=frozenset(
            name
            for name, one in sections.items()
            if isinstance(one, JobPaths) and (one.parent_id or one.depends_on or one.batch_id)
        ),
        batches=settings.tracing.spans.batch == "links",
        health=settings.tracing.spans.health,
        timeouts={name: int(section.timeout * 1e9) for name, section in sections.items() if section.timeout},
        indexed=settings.index.jobs,
        indexed_bytes=settings.index.bytes,
        content=content(settings),
        services={one.bind: one.service_name for one in settings.listeners if one.service_name},
    )


def redaction(settings: Settings) -> Redaction:
    """The rule for everything that leaves the tracer."""
    security, options = settings.tracing.security, settings.tracing.attribute_filter
    return Redaction(
        options.deny if security.filter_attributes else (),
        pii=security.redact_pii,
        patterns=security.pii_patterns,
        max_length=options.max_length,
    )


def stories(settings: Settings) -> Stories:
    service = settings.tracing.service_name or "redspan"
    return Stories(settings.admin.trace_links, service, redaction(settings))


def content(settings: Settings) -> Content:
    options = settings.tracing.attribute_filter
    allow = options.allow if settings.tracing.security.filter_attributes else ()
    return Content([Allowed(one.framework, one.queue, one.paths) for one in allow], options.max_count)


def sieve(settings: Settings) -> Sieve:
    sampling = settings.tracing.sampling
    tail = sampling.tail_sampling
    return Sieve(
        {operation: sampling.operation_rate(operation.verb) for operation in Operation},
        sampling.max_spans_per_second,
        TailOptions(tail.decision_wait, tail.max_spans, int(tail.slow * 1e9), tail.baseline_rate)
        if tail.enabled
        else None,
        sampling.queue_limit if sampling.queue_max_spans_per_second else None,
    )


def buffer(settings: Settings) -> SpanBuffer:
    export = settings.tracing.export
    return SpanBuffer(export.buffer, export.batch_size, export.interval)


def exporters(settings: Settings) -> Iterator[Exporter]:
    """Where spans go, the one that counts first. Raises ValueError for an endpoint or a header that cannot be."""
    tracing, rule = settings.tracing, redaction(settings)
    resource = resource_attributes(
        service_name=tracing.service_name,
        service_version=tracing.service_version,
        environment=tracing.environment,
        attributes=tracing.resource_attributes,
    )
    for path, one in tracing.collectors():
        try:
            yield _exporter(one, tracing, resource, rule, sdk=tracing.export.encoder == "sdk" and path == ("tracing",))
        except ValueError as error:
            raise ValueError(f"{dotted(path)}: {error}") from error
    if tracing.console_exporter:
        from proxy.tracer.console import ConsoleExporter

        service = str(resource["service.name"])
        form: Literal["json", "tree"] = "json" if tracing.console_exporter == "json" else "tree"
        yield ConsoleExporter(form, service=service, naming=tracing.spans.naming, rule=rule)


def _exporter(
    one: Collector, tracing: Tracing, resource: Mapping[str, Value], rule: Redaction, *, sdk: bool
) -> Exporter:
    """``sdk``: OpenTelemetry's for http/protobuf. It takes headers from the environment: for the main one only."""
    protocol, endpoint = one.resolved_protocol(), one.resolved_endpoint()
    naming, timeout, compression = tracing.spans.naming, tracing.export.timeout, tracing.export.compression
    if protocol == "grpc" or (protocol == "http/protobuf" and sdk):
        from proxy.tracer.export.sdk import converter, grpc_exporter, http_exporter

        return (grpc_exporter if protocol == "grpc" else http_exporter)(
            converter(resource, __version__, naming, rule),
            endpoint,
            headers=one.headers,
            headers_file=one.headers_file,
            timeout=timeout,
            compression=compression,
            ca_file=one.tls.ca_file,
            cert_file=one.tls.cert_file,
            key_file=one.tls.key_file,
        )
    options: Options = {
        "headers": one.headers,
        "headers_file": one.headers_file,
        "timeout": timeout,
        "compression": compression,
        "tls": one.tls.context() if endpoint.startswith("https:") else None,
    }
    if protocol == "zipkin":
        from proxy.tracer.export.zipkin import ZipkinEncoder, ZipkinExporter

        return ZipkinExporter(ZipkinEncoder(resource, __version__, naming, rule), endpoint, **options)
    from proxy.tracer.export.http import HttpExporter
    from proxy.tracer.otlp import Encoder

    return HttpExporter(Encoder(resource, __version__, naming, rule), endpoint, **options)
