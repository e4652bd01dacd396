"""A real OTLP/HTTP receiver for tests: listens on a free loopback port, decodes with opentelemetry-proto, keeps spans.

    with Receiver() as receiver:
        start_redspan(endpoint=receiver.url)
        ...
        enqueue = receiver.wait_for_span("queue.enqueue")
        spans = receiver.wait_for(lambda spans: len(spans) >= 3)
        assert receiver.trace(enqueue.trace_id)[-1].attributes["job.status"] == "success"

What it answers can be programmed, and only requests that it answers with 200 count as received:

        receiver.answer(503, times=2)
        receiver.answer(rejected=3, message="too old")
"""

from __future__ import annotations

import gzip
import ssl
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

WAIT = 20.0
"""Seconds that tests wait for spans by default: what to give up after, nothing to be fast against."""

Attributes = dict[str, Any]


@dataclass
class ReceivedEvent:
    name: str
    at: int
    attributes: Attributes


@dataclass
class ReceivedLink:
    trace_id: str
    span_id: str
    attributes: Attributes
    flags: int = 0


@dataclass
class ReceivedSpan:
    """A span as it came over the wire: ids in hex, times in nanoseconds."""

    name: str
    trace_id: str
    span_id: str
    parent_id: str
    """Empty for a root."""
    kind: str
    """``PRODUCER``, ``CONSUMER``, ``CLIENT``, …"""
    start: int
    end: int
    attributes: Attributes
    events: list[ReceivedEvent]
    links: list[ReceivedLink]
    status: str
    """``UNSET``, ``OK`` or ``ERROR``."""
    message: str
    resource: Attributes
    flags: int = 0
    trace_state: str = ""
    scope: str = ""

    @property
    def duration(self) -> int:
        return self.end - self.start


@dataclass
class Answer:
    status: int = 200
    delay: float = 0.0
    """Seconds before anything is answered."""
    rejected: int = 0
    message: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    hang_up: bool = False
    """Close the connection instead of answering."""


@dataclass
class Request:
    path: str
    headers: dict[str, str]
    """Names in lower case."""
    size: int
    """Bytes of the body as it was sent."""
    spans: list[ReceivedSpan]
    answer: Answer
    connection: int
    """Number of the connection it came on, from 0."""


def decode(request: ExportTraceServiceRequest) -> list[ReceivedSpan]:
    """The spans of a request, in its order."""
    return [
        _span(span, attributes(resource_spans.resource.attributes), scope_spans.scope.name)
        for resource_spans in request.resource_spans
        for scope_spans in resource_spans.scope_spans
        for span in scope_spans.spans
    ]


def attributes(pairs: Iterable[KeyValue]) -> Attributes:
    """Attributes as a dict; a name that comes twice is an error."""
    found: Attributes = {}
    for pair in pairs:
        assert pair.key not in found, f"attribute {pair.key} comes twice"
        found[pair.key] = _value(pair.value)
    return found


def _value(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(each) for each in value.array_value.values]
    if kind == "kvlist_value":
        return attributes(value.kvlist_value.values)
    return getattr(value, kind) if kind is not None else None


def _span(span: Span, resource: Attributes, scope: str) -> ReceivedSpan:
    return ReceivedSpan(
        name=span.name,
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        kind=Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
        start=span.start_time_unix_nano,
        end=span.end_time_unix_nano,
        attributes=attributes(span.attributes),
        events=[ReceivedEvent(each.name, each.time_unix_nano, attributes(each.attributes)) for each in span.events],
        links=[
            ReceivedLink(each.trace_id.hex(), each.span_id.hex(), attributes(each.attributes), each.flags)
            for each in span.links
        ],
        status=Status.StatusCode.Name(span.status.code).removeprefix("STATUS_CODE_"),
        message=span.status.message,
        resource=resource,
        flags=span.flags,
        trace_state=span.trace_state,
        scope=scope,
    )


class Receiver:
    """A receiver that runs from ``with`` to its end; ``tls`` makes it https, ``port`` 0 is a free one."""

    def __init__(self, tls: ssl.SSLContext | None = None, port: int = 0) -> None:
        self._tls = tls
        self._port = port
        self._changed = threading.Condition()
        self._spans: list[ReceivedSpan] = []
        self._requests: list[Request] = []
        self._answers: deque[Answer] = deque()
        self._always = Answer()
        self._connections = 0
        self._stopping = threading.Event()
        self.errors: list[Exception] = []
        """Of requests that could not be decoded; the end of ``with`` raises the first."""

    # Where it listens

    @property
    def url(self) -> str:
        """The endpoint without a path, as users give it."""
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        handler: type[_Handler] = type("Handler", (_Handler,), {"target": self})
        self._server = _Server(("127.0.0.1", self._port), handler)
        self._server.daemon_threads = True
        if self._tls:
            self._server.socket = self._tls.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._server.shutdown()
        self._thread.join()
        # Not server_close(): it would wait for handlers of connections that clients keep open.
        self._server.socket.close()
        if self.errors and error is None:
            raise AssertionError("a request could not be decoded") from self.errors[0]

    # What it answers

    def answer(
        self,
        status: int = 200,
        *,
        delay: float = 0.0,
        rejected: int = 0,
        message: str = "",
        headers: Mapping[str, str] | None = None,
        hang_up: bool = False,
        times: int | None = 1,
    ) -> None:
        """How to answer the next ``times`` requests, after those programmed before; None: all others from now on."""
        answer = Answer(status, delay, rejected, message, headers or {}, hang_up)
        with self._changed:
            if times is None:
                self._always = answer
            else:
                self._answers.extend([answer] * times)

    # What it received

    @property
    def spans(self) -> list[ReceivedSpan]:
        with self._changed:
            return list(self._spans)

    @property
    def requests(self) -> list[Request]:
        """All of them, those not answered with 200 too."""
        with self._changed:
            return list(self._requests)

    def named(self, name: str) -> list[ReceivedSpan]:
        return [span for span in self.spans if span.name == name]

    def trace(self, trace_id: str) -> list[ReceivedSpan]:
        """The spans of a trace, by their start."""
        return sorted((span for span in self.spans if span.trace_id == trace_id), key=lambda span: span.start)

    def clear(self) -> None:
        with self._changed:
            self._spans.clear()
            self._requests.clear()

    def wait_for(self, predicate: Callable[[list[ReceivedSpan]], Any], timeout: float = WAIT) -> list[ReceivedSpan]:
        """All spans, once ``predicate`` is true of them; AssertionError after ``timeout`` seconds, saying what came."""
        with self._changed:
            if not self._changed.wait_for(lambda: predicate(list(self._spans)), timeout):
                names = ", ".join(span.name for span in self._spans) or "nothing"
                raise AssertionError(f"not received within {timeout} s; received: {names}")
            return list(self._spans)

    def wait_for_span(
        self, name: str, where: Callable[[ReceivedSpan], Any] = lambda span: True, timeout: float = WAIT
    ) -> ReceivedSpan:
        """The first span of that name for which ``where`` is true."""

        def matching(spans: list[ReceivedSpan]) -> list[ReceivedSpan]:
            return [span for span in spans if span.name == name and where(span)]

        return matching(self.wait_for(matching, timeout))[0]

    def wait_for_requests(self, count: int, timeout: float = WAIT) -> list[Request]:
        with self._changed:
            if not self._changed.wait_for(lambda: len(self._requests) >= count, timeout):
                raise AssertionError(f"{len(self._requests)} of {count} requests within {timeout} s")
            return list(self._requests)

    # The handler's side; what is spoken is for subclasses to change

    def read(self, body: bytes) -> list[ReceivedSpan]:
        """Raises ValueError, AssertionError or DecodeError for what cannot be read."""
        return decode(ExportTraceServiceRequest.FromString(body))

    def content(self, answer: Answer) -> tuple[str, bytes]:
        """Type and bytes of an answer."""
        response = ExportTraceServiceResponse()
        if answer.rejected or answer.message:
            response.partial_success.rejected_spans = answer.rejected
            response.partial_success.error_message = answer.message
        return "application/x-protobuf", response.SerializeToString()

    def connected(self) -> int:
        with self._changed:
            self._connections += 1
            return self._connections - 1

    def next_answer(self) -> Answer:
        with self._changed:
            return self._answers.popleft() if self._answers else self._always

    def pause(self, seconds: float) -> None:
        """Wait, but not beyond the end of the test."""
        self._stopping.wait(seconds)

    def received(self, request: Request) -> None:
        with self._changed:
            self._requests.append(request)
            if request.answer.status == 200 and not request.answer.hang_up:
                self._spans.extend(request.spans)
            self._changed.notify_all()


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        # A client that was killed is nothing to print, least of all from a thread.
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    target: Receiver
    # Headers and body of an answer leave in one segment: without it Nagle and delayed acks cost 40 ms.
    wbufsize = -1
    disable_nagle_algorithm = True

    def setup(self) -> None:
        super().setup()
        self.number = self.target.connected()

    def do_POST(self) -> None:
        body = self._body()
        plain = gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body
        try:
            spans = self.target.read(plain)
        except (DecodeError, ValueError, AssertionError) as error:
            self.target.errors.append(error)
            self._reply(Answer(400))
            return
        answer = self.target.next_answer()
        headers = {name.lower(): value for name, value in self.headers.items()}
        if answer.delay:
            self.target.pause(answer.delay)
        # Before the answer: a test may look as soon as its client has that.
        self.target.received(Request(self.path, headers, len(body), spans, answer, self.number))
        if answer.hang_up:
            self.close_connection = True
        else:
            self._reply(answer)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        chunks = []
        while size := int(self.rfile.readline(), 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def _reply(self, answer: Answer) -> None:
        content_type, content = self.target.content(answer)
        self.send_response(answer.status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(content)))
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)
        self.wfile.flush()

    def log_message(self, *_: Any) -> None:
        pass
