"""A small OTLP/HTTP receiver: what arrives here is what any backend would get."""

from __future__ import annotations

import gzip
import threading
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import NamedTuple, Self

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1 import trace_pb2

from proxy.frameworks.base import Fields
from proxy.tracer import attributes as a
from proxy.tracer.span import JobFacts, Kind, Link, Operation, Span, Value


class Received(NamedTuple):
    spans: list[Span]
    requests: int
    """How many of them it took."""
    size: int
    """Bytes of their bodies, as sent."""


class Receiver:
    """Listens on a free port of this host, from ``with`` to its end."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._spans: list[Span] = []
        self._requests = self._size = 0

        class Handler(_Handler):
            target = self

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        # Connections that stay open must not hold up the end.
        self._server.block_on_close = False
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def received(self) -> Received:
        """Everything since the start, or since `forget`."""
        with self._lock:
            return Received(list(self._spans), self._requests, self._size)

    def forget(self, trace_ids: set[bytes]) -> None:
        """Drop the spans of these traces."""
        with self._lock:
            self._spans = [span for span in self._spans if span.trace_id not in trace_ids]

    def take(self, body: bytes, size: int) -> None:
        """A request's body, unpacked. Raises `DecodeError`, or ValueError for what is no span of redspan's."""
        spans = decode(body)
        with self._lock:
            self._spans += spans
            self._requests += 1
            self._size += size


def decode(body: bytes) -> list[Span]:
    """The spans in a request, as redspan's console shows them."""
    request = ExportTraceServiceRequest.FromString(body)
    return [
        _span(span, next((_value(p.value) for p in one.resource.attributes if p.key == "service.name"), ""))
        for one in request.resource_spans
        for scope in one.scope_spans
        for span in scope.spans
    ]


def _span(span: trace_pb2.Span, service: Value) -> Span:
    facts = {pair.key: _value(pair.value) for pair in span.attributes}
    job = JobFacts(
        framework=str(facts.get(a.FRAMEWORK, "")),
        queue=str(facts.get(a.QUEUE_NAME, "")),
        key=str(facts.get(a.KEY, "")),
        fields=Fields(
            id=str(facts.get(a.MESSAGE_ID, "")),
            type=str(facts.get(a.JOB_TYPE, "")),
            attempt=int(facts.get(a.RETRY_COUNT, 0)),
        ),
    )
    failed = span.status.code == trace_pb2.Status.STATUS_CODE_ERROR
    return Span(
        operation=Operation(span.name),
        kind=Kind(span.kind),
        trace_id=span.trace_id,
        span_id=span.span_id,
        parent_id=span.parent_span_id,
        start=span.start_time_unix_nano,
        end=span.end_time_unix_nano,
        job=job,
        error=str(facts.get(a.ERROR_TYPE, "error")) if failed else "",
        message=span.status.message,
        facts=facts,
        links=tuple(
            Link(link.trace_id, link.span_id, next((p.value.string_value for p in link.attributes), "link"))
            for link in span.links
        ),
        service=str(service),
    )


def _value(value: AnyValue) -> Value:
    kind = value.WhichOneof("value")
    if kind not in ("string_value", "bool_value", "int_value", "double_value"):
        raise ValueError(f"an attribute with a {kind}")
    found: Value = getattr(value, kind)
    return found


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    target: Receiver
    # Headers and body of an answer leave in one segment.
    wbufsize = -1

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        try:
            plain = gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body
            self.target.take(plain, len(body))
            status = 200
        except (DecodeError, ValueError, OSError, EOFError, zlib.error):
            status = 400
        content = ExportTraceServiceResponse().SerializeToString()
        self.send_response(status)
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass
