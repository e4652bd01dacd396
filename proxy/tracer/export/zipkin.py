"""Zipkin v2 JSON over HTTP (``protocol: zipkin``).

Which field becomes what: OpenTelemetry's "OpenTelemetry to Zipkin Transformation" and "Mapping to non-OTLP formats".
What these leave open is done as the Collector does it, whose Zipkin receiver reads it back: resource attributes are
tags, ``w3c.tracestate`` is one, and ``otlp.link.<n>`` is a link.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from functools import lru_cache
from ipaddress import ip_address
from typing import Final, Unpack

import msgspec

from proxy.tracer.attributes import (
    LINK_RELATION,
    SERVER_ADDRESS,
    SERVER_PORT,
    Naming,
    Rule,
    apply,
    span_name,
    static_key,
    static_of,
    variable,
)
from proxy.tracer.export.post import Options, PostExporter, target
from proxy.tracer.otlp import SCOPE, clean
from proxy.tracer.span import Kind, Link, Span, SpanEvent, Value

PATH: Final = "/api/v2/spans"

_KINDS: Final = {kind: "" if kind is Kind.INTERNAL else kind.name for kind in Kind}
_TO_REDIS: Final = frozenset({"CLIENT", "PRODUCER", "CONSUMER"})
"""Kinds that have Redis at the other end; to Zipkin a consumer's other end is the broker."""
_SERVICE: Final = "service.name"
_SERVICES: Final = 64
_STATIC: Final = 1024


class _Endpoint(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    service_name: str = ""
    ipv4: str = ""
    ipv6: str = ""
    port: int = 0


class _Annotation(msgspec.Struct):
    timestamp: int
    value: str


class _ZipkinSpan(msgspec.Struct, omit_defaults=True, rename="camel"):
    """Absent is what is empty, as the specification asks."""

    trace_id: str
    id: str
    name: str
    duration: int
    """Microseconds, as all times here; 0 would mean that it is not known."""
    tags: dict[str, str]
    local_endpoint: _Endpoint
    timestamp: int = 0
    parent_id: str = ""
    kind: str = ""
    remote_endpoint: _Endpoint | None = None
    annotations: list[_Annotation] = []


class ZipkinEncoder:
    """Spans of one process as Zipkin v2 JSON; the arguments are those of `proxy.tracer.otlp.Encoder`."""

    def __init__(
        self,
        resource_attributes: Mapping[str, Value],
        scope_version: str = "",
        naming: Naming = "queue",
        rule: Rule | None = None,
    ) -> None:
        self._naming: Naming = naming
        self._rule = rule
        self._service = _text(resource_attributes.get(_SERVICE, ""))
        scope = {"otel.scope.name": SCOPE} | ({"otel.scope.version": scope_version} if scope_version else {})
        self._common = _texts({name: value for name, value in resource_attributes.items() if name != _SERVICE} | scope)
        self._static = lru_cache(_STATIC)(self._static_tags)
        self._local = lru_cache(_SERVICES)(self._local_endpoint)
        self._encode = msgspec.json.Encoder().encode

    def encode(self, spans: Iterable[Span]) -> bytes:
        """The bytes of one request: a JSON list."""
        return self._encode([self._span(span) for span in spans])

    def _span(self, span: Span) -> _ZipkinSpan:
        tags = self._static(*static_key(span)) | _texts(apply(self._rule, variable(span)))
        kind = _KINDS[span.kind]
        # Of the tags, so that an address that may not be sent is not.
        remote = _remote(tags.get(SERVER_ADDRESS, ""), tags.get(SERVER_PORT, "")) if kind in _TO_REDIS else None
        if span.tracestate:
            tags["w3c.tracestate"] = _text(span.tracestate)
        if span.error:
            tags["otel.status_code"] = "ERROR"
            tags["error"] = _text(span.message)  # must be there, even empty: it is what makes a span red
        for number, link in enumerate(span.links):
            tags[f"otlp.link.{number}"] = _link(link)
        return _ZipkinSpan(
            trace_id=_hex(span.trace_id, 16),
            id=_hex(span.span_id, 8),
            name=_text(span_name(span, self._naming, self._rule)),
            duration=max((span.end - span.start) // 1000, 1),
            tags=tags,
            local_endpoint=self._local(span.service),
            timestamp=max(span.start, 0) // 1000,
            parent_id=_hex(span.parent_id, 8) if span.parent_id else "",
            kind=kind,
            remote_endpoint=remote,
            annotations=[self._annotation(event) for event in span.events],
        )

    def _static_tags(self, operation: str, framework: str, queue: str, key: str, at: str, db: int) -> dict[str, str]:
        """What all spans of this operation on this queue have in common; shared, not to be changed."""
        rendered = dict(static_of(operation, framework, queue, key, at, db))
        return self._common | _texts(apply(self._rule, rendered))

    def _local_endpoint(self, service: str) -> _Endpoint:
        return _Endpoint(_text(service) if service else self._service)

    def _annotation(self, event: SpanEvent) -> _Annotation:
        # A bar is how the Collector's receiver tells attributes from a name; two of them spoil a whole request there.
        value = _text(event.name).replace("|", " ")
        if attributes := apply(self._rule, event.attributes):
            value = f"{_json(value)}: {_json(_cleaned(attributes))}".replace("|", "\\u007c")
        # Without a time it would be refused, and all others with it.
        return _Annotation(max(event.at // 1000, 1), value)


class ZipkinExporter(PostExporter):
    """Posts spans to a Zipkin server or whatever else takes its JSON.

    ``endpoint``: ``http://host:9411`` means its ``/api/v2/spans``; a path is used as it stands.
    Raises ValueError for an endpoint or header that cannot be sent, naming it but never a header's value.
    """

    def __init__(self, encoder: ZipkinEncoder, endpoint: str, **options: Unpack[Options]) -> None:
        super().__init__(encoder.encode, target(endpoint, PATH), "application/json", **options)


def _hex(number: bytes, size: int) -> str:
    """An id; one of a wrong length is cut to size, so that one bad span cannot spoil a request."""
    return number[:size].ljust(size, b"\0").hex()


def _text(value: Value) -> str:
    """A tag's value: JSON's words for what is no text."""
    kind = type(value)
    if kind is bool:
        return "true" if value else "false"
    if kind is float and not math.isfinite(value):  # type: ignore[arg-type]
        return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"  # type: ignore[operator]  # noqa: PLR0124
    return str(clean(value))


def _texts(attributes: Mapping[str, Value]) -> dict[str, str]:
    return {str(clean(name)): _text(value) for name, value in attributes.items()}


def _cleaned(attributes: Mapping[str, Value]) -> dict[str, Value]:
    return {str(clean(name)): clean(value) for name, value in attributes.items()}


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _link(link: Link) -> str:
    """Trace, span, tracestate, attributes, how many attributes are missing; as the Collector writes and reads it."""
    attributes = _json({LINK_RELATION: clean(link.relation)})
    return f"{_hex(link.trace_id, 16)}|{_hex(link.span_id, 8)}||{attributes}|0"


@lru_cache(_STATIC)
def _remote(address: str, port: str) -> _Endpoint | None:
    """Redis, as the service at the other end: to Zipkin a span without one is no dependency."""
    if not address:
        return None
    number = int(port) if port.isascii() and port.isdecimal() and len(port) < 6 and int(port) < 1 << 16 else 0
    try:
        ip = ip_address(address)
    except ValueError:
        return _Endpoint(address, port=number)
    if ip.version == 4:
        return _Endpoint(ipv4=address, port=number)
    # A zone is no part of what receivers read as an address.
    return _Endpoint(ipv6=ip.compressed.partition("%")[0], port=number)
