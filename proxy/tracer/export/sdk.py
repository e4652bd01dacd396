"""Export by OpenTelemetry's own exporters: ``protocol: grpc``, and ``export.encoder: sdk`` as the reference over HTTP.

Both of them answer no more than success or failure, and read no ``partial_success``.  What happened is seen from
outside: of HTTP by a response hook on the session, of gRPC around the stub.  Importing this module loads neither grpc
nor requests.

Both of them also read the environment where an argument is missing.  What stands there has become settings long
before, and is not meant for each exporter of several: nothing that they look for is left out here, but for the HTTP
one's headers, which it always adds.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

from proxy import __version__
from proxy.tracer.attributes import LINK_RELATION, SCHEMA_URL, Naming, Rule, apply, attributes, span_name
from proxy.tracer.export import base
from proxy.tracer.export.headers import FileHeaders
from proxy.tracer.export.post import RETRYABLE, retry_after, target
from proxy.tracer.otlp import SCOPE, clean, parse_partial_success
from proxy.tracer.resource import sdk_resource
from proxy.tracer.span import Kind, Span, Value

if TYPE_CHECKING:
    import requests

_KINDS: Final = {kind: SpanKind[kind.name] for kind in Kind}

_GRPC_RETRYABLE: Final = frozenset(
    {
        "CANCELLED",
        "DEADLINE_EXCEEDED",
        "RESOURCE_EXHAUSTED",
        "ABORTED",
        "OUT_OF_RANGE",
        "UNAVAILABLE",
        "DATA_LOSS",
    }
)
"""OTLP 1.x, "Failures"."""

Converter = Callable[[Span], ReadableSpan]


def readable(
    span: Span,
    resource: Resource,
    scope: InstrumentationScope | None = None,
    naming: Naming = "queue",
    rule: Rule | None = None,
) -> ReadableSpan:
    """A span as the SDK's exporters take it. What they cannot send is cleaned as the own encoder does."""
    trace_id = int.from_bytes(span.trace_id, "big")
    context = SpanContext(
        trace_id,
        int.from_bytes(span.span_id, "big"),
        is_remote=False,
        trace_flags=TraceFlags(span.flags & 0xFF),
        trace_state=TraceState.from_header([span.tracestate]) if span.tracestate else None,
    )
    parent = SpanContext(trace_id, int.from_bytes(span.parent_id, "big"), is_remote=True) if span.parent_id else None
    return ReadableSpan(
        name=str(clean(span_name(span, naming, rule))),
        context=context,
        parent=parent,
        resource=resource,
        attributes=_cleaned(attributes(span, rule)),
        events=[Event(str(clean(e.name)), _cleaned(apply(rule, e.attributes)), max(e.at, 0)) for e in span.events],
        links=[_link(link.trace_id, link.span_id, link.flags, link.relation) for link in span.links],
        kind=_KINDS[span.kind],
        status=Status(StatusCode.ERROR, str(clean(span.message)) or None) if span.error else Status(StatusCode.UNSET),
        start_time=max(span.start, 0),
        end_time=max(span.end, 0),
        instrumentation_scope=scope,
    )


def _cleaned(rendered: Mapping[str, Value]) -> dict[str, Value]:
    return {str(clean(name)): clean(value) for name, value in rendered.items()}


def _link(trace_id: bytes, span_id: bytes, flags: int, relation: str) -> Link:
    ids = int.from_bytes(trace_id, "big"), int.from_bytes(span_id, "big")
    context = SpanContext(*ids, is_remote=True, trace_flags=TraceFlags(flags & 0xFF))
    return Link(context, {LINK_RELATION: clean(relation)})


def converter(
    resource_attributes: Mapping[str, Value],
    scope_version: str = "",
    naming: Naming = "queue",
    rule: Rule | None = None,
) -> Converter:
    """`readable` for the spans of one process, with the resource of each span's service."""
    scope = InstrumentationScope(SCOPE, scope_version or None, SCHEMA_URL)
    resources = {"": sdk_resource(_cleaned(resource_attributes))}

    def convert(span: Span) -> ReadableSpan:
        resource = resources.get(span.service)
        if resource is None:
            resource = resources[""].merge(Resource({"service.name": str(clean(span.service))}))
            if len(resources) < 64:
                resources[span.service] = resource
        return readable(span, resource, scope, naming, rule)

    return convert


class SdkExporter:
    """Any OpenTelemetry `SpanExporter`. ``verdict`` tells what became of the last request that ``inner`` made."""

    def __init__(
        self,
        inner: SpanExporter,
        convert: Converter,
        verdict: Callable[[Sequence[Span]], base.Result | None],
        where: str = "",
    ) -> None:
        self.where = where
        self._inner = inner
        self._convert = convert
        self._verdict = verdict

    def export(self, spans: Sequence[Span]) -> base.Result:
        outcome = self._inner.export([self._convert(span) for span in spans])
        seen = self._verdict(spans)
        if outcome is SpanExportResult.SUCCESS:
            return seen or base.taken(spans)
        # Where no answer was seen, nothing speaks against trying again.
        return seen or base.Result(base.Status.RETRYABLE, reason="no answer")

    def close(self) -> None:
        self._inner.shutdown()


def http_exporter(
    convert: Converter,
    endpoint: str,
    *,
    headers: Mapping[str, str] | None = None,
    timeout: float = 10.0,
    compression: str = "gzip",
    ca_file: str = "",
    cert_file: str = "",
    key_file: str = "",
    headers_file: str = "",
) -> SdkExporter:
    """OpenTelemetry's exporter for OTLP over HTTP; ``endpoint`` as for `HttpExporter`, files as in `ClientTls`.

    It tries up to six times by itself, for at most ``timeout`` seconds.
    """
    import requests
    from opentelemetry.exporter.otlp.proto.http import Compression
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    answers: list[requests.Response] = []

    def answered(response: requests.Response, *_: Any, **__: Any) -> None:
        answers[:] = [response]

    def verdict(spans: Sequence[Span]) -> base.Result | None:
        if not answers:
            return None
        answer = answers.pop()
        if 200 <= answer.status_code < 300:
            return base.taken(spans, *parse_partial_success(answer.content))
        reason = f"HTTP {answer.status_code}"
        if again := more.refusal(answer.status_code, reason):
            return again
        if answer.status_code not in RETRYABLE:
            return base.Result(base.Status.FATAL, reason=reason)
        after = retry_after(answer.headers.get("Retry-After"))
        return base.Result(base.Status.RETRYABLE, reason=reason, retry_after=after)

    # It logs every failure; the pipeline does so once per cause.
    logging.getLogger("opentelemetry.exporter.otlp.proto.http.trace_exporter").setLevel(logging.CRITICAL)
    to = target(endpoint)
    session = requests.Session()
    more = FileHeaders(headers_file)

    def add(request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers.update(more.get())
        return request

    if headers_file:
        session.auth = add
    session.hooks["response"].append(answered)
    # Else REQUESTS_CA_BUNDLE, which many images set, would go before what was asked for.
    session.trust_env = not ca_file
    inner = OTLPSpanExporter(
        endpoint=to.url,
        headers=to.headers | dict(headers or {}),
        timeout=timeout,
        compression=Compression.Gzip if compression == "gzip" else Compression.NoCompression,
        session=session,
        certificate_file=ca_file or None,
        client_certificate_file=cert_file or None,
        client_key_file=key_file or None,
    )
    return SdkExporter(inner, convert, verdict, to.where)


def grpc_exporter(
    convert: Converter,
    endpoint: str,
    *,
    headers: Mapping[str, str] | None = None,
    timeout: float = 10.0,
    compression: str = "gzip",
    insecure: bool | None = None,
    ca_file: str = "",
    cert_file: str = "",
    key_file: str = "",
    headers_file: str = "",
) -> SdkExporter:
    """OpenTelemetry's exporter for OTLP over gRPC.

    ``insecure``: without TLS. If None, https means TLS and http does not, nor does no scheme, unless the environment's
    ``OTEL_EXPORTER_OTLP_INSECURE`` (or ``_TRACES_INSECURE``) is false.  Files as in `ClientTls`; without ``ca_file``
    the authorities are grpc's own.  Raises ValueError for one that cannot be read.  It makes one attempt, where its
    version lets us ask for that: when to try again is for the buffer to know.
    """
    import grpc
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

    more = FileHeaders(headers_file)
    calls: list[Any] = []
    """The answer to the last call or the error it raised."""

    class Watched:
        """The stub, seen from outside."""

        def __init__(self, stub: Any) -> None:
            self._stub = stub

        def Export(self, **call: Any) -> Any:  # noqa: N802 - the stub's
            calls.clear()
            call["metadata"] = more.merged(call.get("metadata") or ())
            try:
                calls.append(self._stub.Export(**call))
            except grpc.RpcError as error:
                calls.append(error)
                raise
            return calls[0]

    class WatchedExporter(OTLPSpanExporter):
        def _initialize_channel_and_stub(self) -> None:
            # Not public; `test_export_sdk` fails if it goes. The exporter makes a new channel after UNAVAILABLE.
            super()._initialize_channel_and_stub()  # type: ignore[no-untyped-call]
            self._client: Any = Watched(self._client)

    def verdict(spans: Sequence[Span]) -> base.Result | None:
        if not calls:
            return None
        call = calls.pop()
        if not isinstance(call, grpc.RpcError):
            partial = call.partial_success
            return base.taken(spans, partial.rejected_spans, partial.error_message)
        code = call.code().name
        if code not in _GRPC_RETRYABLE:
            return more.refusal(code, f"gRPC {code}") or base.Result(base.Status.FATAL, reason=f"gRPC {code}")
        return base.Result(base.Status.RETRYABLE, reason=f"gRPC {code}", retry_after=_retry_delay(call))

    if insecure is None:
        insecure = _insecure(endpoint)
    # It logs every failure; the pipeline does so once per cause.
    logging.getLogger("opentelemetry.exporter.otlp.proto.grpc.exporter").setLevel(logging.CRITICAL)
    once: dict[str, Any] = {}
    if "retryable_error_codes" in signature(OTLPSpanExporter).parameters:  # 1.41 and before try again by themselves
        once["retryable_error_codes"] = {grpc.StatusCode.OK}  # none at all; an empty set would mean the usual ones
    credentials = None
    if not insecure:
        credentials = grpc.ssl_channel_credentials(_bytes(ca_file), _bytes(key_file), _bytes(cert_file))
    metadata = {"x-redspan-version": __version__} | {name.lower(): value for name, value in (headers or {}).items()}
    inner = WatchedExporter(
        endpoint=endpoint,
        insecure=insecure,
        credentials=credentials,
        headers=list(metadata.items()),
        timeout=timeout,
        compression=grpc.Compression.Gzip if compression == "gzip" else grpc.Compression.NoCompression,
        **once,
    )
    return SdkExporter(inner, convert, verdict, endpoint if "://" in endpoint else f"grpc://{endpoint}")


def _insecure(endpoint: str) -> bool:
    asked = os.environ.get("OTEL_EXPORTER_OTLP_TRACES_INSECURE") or os.environ.get("OTEL_EXPORTER_OTLP_INSECURE")
    scheme, has_scheme, _ = endpoint.partition("://")
    return scheme != "https" if has_scheme else (asked or "true").lower() == "true"


def _bytes(file: str) -> bytes | None:
    try:
        return Path(file).read_bytes() if file else None
    except OSError as error:
        raise ValueError(f"cannot read {file}: {error.strerror}") from None


def _retry_delay(call: Any) -> float:
    """Seconds after which a failed call may be made again (``RetryInfo`` in its status); 0 if it does not say."""
    from google.protobuf.message import DecodeError
    from google.rpc.error_details_pb2 import RetryInfo  # type: ignore[import-untyped]
    from google.rpc.status_pb2 import Status as RpcStatus  # type: ignore[import-untyped]

    info = RetryInfo()
    try:
        for name, value in call.trailing_metadata() or ():
            if name == "grpc-status-details-bin":
                for detail in RpcStatus.FromString(value).details:
                    if detail.Unpack(info):
                        return max(float(info.retry_delay.ToNanoseconds()) / 1e9, 0.0)
    except DecodeError:
        pass
    return 0.0
