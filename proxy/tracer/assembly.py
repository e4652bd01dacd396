"""From settings to the parts of the tracer."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from proxy import __version__, assembly
from proxy.config import FrameworkSettings, Settings
from proxy.tracer.book import Policy
from proxy.tracer.export.base import Exporter
from proxy.tracer.export.buffer import SpanBuffer
from proxy.tracer.lifecycle import Lifecycle
from proxy.tracer.resource import resource_attributes


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
        without_process=frozenset(name for name, section in sections.items() if not section.process_span),
        services={one.bind: one.service_name for one in settings.listeners if one.service_name},
    )


def buffer(settings: Settings) -> SpanBuffer:
    export = settings.tracing.export
    return SpanBuffer(export.buffer, export.batch_size, export.interval)


def exporters(settings: Settings) -> Iterator[Exporter]:
    """Where spans go, the collector first. Raises ValueError for an endpoint or a header that cannot be."""
    tracing = settings.tracing
    resource = resource_attributes(
        service_name=tracing.service_name,
        service_version=tracing.service_version,
        environment=tracing.environment,
        attributes=tracing.resource_attributes,
    )
    naming = tracing.spans.naming
    protocol = tracing.resolved_protocol()
    endpoint = tracing.resolved_endpoint()
    timeout = tracing.export.timeout
    if protocol == "http/protobuf" and tracing.export.encoder == "own":
        from proxy.tracer.export.http import HttpExporter
        from proxy.tracer.otlp import Encoder

        encoder = Encoder(resource, __version__, naming)
        yield HttpExporter(encoder, endpoint, headers=tracing.headers, timeout=timeout)
    elif protocol != "none":
        from proxy.tracer.export import sdk

        make = sdk.grpc_exporter if protocol == "grpc" else sdk.http_exporter
        convert = sdk.converter(resource, __version__, naming)
        yield make(convert, endpoint, headers=tracing.headers, timeout=timeout)
    if tracing.console_exporter:
        from proxy.tracer.console import ConsoleExporter

        service = str(resource["service.name"])
        yield ConsoleExporter("json" if tracing.console_exporter == "json" else "tree", service=service, naming=naming)
