"""OpenTelemetry's own exporters: over HTTP against the receiver, over gRPC against a real gRPC server."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc.error_details_pb2 import RetryInfo  # type: ignore[import-untyped]
from google.rpc.status_pb2 import Status as RpcStatus  # type: ignore[import-untyped]
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)

from proxy.tracer.export.base import Result, Status
from proxy.tracer.export.sdk import SdkExporter, converter, grpc_exporter, http_exporter
from proxy.tracer.span import Link, Operation, SpanEvent
from tests.receiver import ReceivedSpan, Receiver, decode
from tests.unit.make_spans import make

CONVERT = converter({"service.name": "worker"}, "1.2.3")
SPANS = [
    make(
        Operation.PROCESS,
        parent_id=b"p" * 8,
        error="retry",
        message="boom",
        tracestate="ot=th:c",
        facts={"job.status": "retry", "huge": 2**70, "odd": "\ud800"},
        events=(SpanEvent("stalled", 5, {"n": 1}),),
        links=(Link(b"t" * 16, b"s" * 8, "retry_of", 1),),
    ),
    make(service="shop"),
]


def check(received: list[ReceivedSpan]) -> None:
    """These are `SPANS`."""
    [process] = [span for span in received if span.name == "job.process"]
    assert (process.span_id, process.parent_id) == (SPANS[0].span_id.hex(), (b"p" * 8).hex())
    assert (process.kind, process.start, process.end) == ("CONSUMER", SPANS[0].start, SPANS[0].end)
    assert (process.status, process.message, process.trace_state) == ("ERROR", "boom", "ot=th:c")
    assert (process.attributes["huge"], process.attributes["odd"]) == (str(2**70), "?")
    assert (process.events[0].name, process.events[0].attributes) == ("stalled", {"n": 1})
    assert process.links[0].attributes == {"redspan.link": "retry_of"}
    assert (process.scope, process.resource) == ("redspan", {"service.name": "worker"})
    [enqueue] = [span for span in received if span.name == "queue.enqueue"]
    assert (enqueue.parent_id, enqueue.status) == ("", "UNSET")
    assert enqueue.resource == {"service.name": "shop"}


# HTTP


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as running:
        yield running


@pytest.fixture
def over_http(receiver: Receiver) -> Iterator[SdkExporter]:
    with closing(http_exporter(CONVERT, receiver.url, headers={"X-Api-Key": "k"}, timeout=0.5)) as exporter:
        yield exporter


def test_http(receiver: Receiver, over_http: SdkExporter) -> None:
    result = over_http.export(SPANS)
    assert (result.status, result.accepted) == (Status.OK, 2)
    check(receiver.spans)
    headers = receiver.requests[0].headers
    assert (headers["x-api-key"], headers["content-encoding"]) == ("k", "gzip")
    assert receiver.requests[0].path == "/v1/traces"


def test_http_uncompressed(receiver: Receiver) -> None:
    with closing(http_exporter(CONVERT, receiver.url, compression="none")) as exporter:
        assert exporter.export(SPANS).status is Status.OK
    assert "content-encoding" not in receiver.requests[0].headers


def test_http_partial_success(receiver: Receiver, over_http: SdkExporter) -> None:
    receiver.answer(rejected=1, message="too old")
    result = over_http.export(SPANS)
    assert (result.status, result.accepted, result.rejected, result.reason) == (Status.OK, 1, 1, "too old")


def test_http_later_maybe(receiver: Receiver, over_http: SdkExporter) -> None:
    receiver.answer(503, headers={"Retry-After": "9"})
    result = over_http.export(SPANS)
    assert result == Result(Status.RETRYABLE, reason="HTTP 503", retry_after=9.0)


@pytest.mark.parametrize("status", [302, 400, 401])
def test_http_never(receiver: Receiver, over_http: SdkExporter, status: int) -> None:
    receiver.answer(status)
    assert over_http.export(SPANS) == Result(Status.FATAL, reason=f"HTTP {status}")
    assert over_http.export(SPANS).status is Status.OK


def test_http_no_answer(receiver: Receiver, over_http: SdkExporter) -> None:
    over_http.export(SPANS)
    receiver.answer(hang_up=True, times=20)
    assert over_http.export(SPANS) == Result(Status.RETRYABLE, reason="no answer")


# gRPC


class Collector(TraceServiceServicer):
    """Answers with ``error`` where there is one."""

    def __init__(self) -> None:
        self.requests: list[ExportTraceServiceRequest] = []
        self.metadata: list[dict[str, Any]] = []
        self.error: grpc.StatusCode | None = None
        self.details = b""
        """Of an error: a ``google.rpc.Status``."""
        self.response = ExportTraceServiceResponse()

    def Export(self, request: ExportTraceServiceRequest, context: grpc.ServicerContext) -> ExportTraceServiceResponse:  # noqa: N802
        self.requests.append(request)
        self.metadata.append(dict(context.invocation_metadata()))
        if self.details:
            context.set_trailing_metadata((("grpc-status-details-bin", self.details),))
        if self.error is not None:
            context.abort(self.error, "as told")
        return self.response


@pytest.fixture
def collector() -> Collector:
    return Collector()


@pytest.fixture
def address(collector: Collector) -> Iterator[str]:
    with ThreadPoolExecutor(2) as pool:
        server = grpc.server(pool)
        add_TraceServiceServicer_to_server(collector, server)  # type: ignore[no-untyped-call]
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        yield f"127.0.0.1:{port}"
        server.stop(None).wait(10)


@pytest.mark.parametrize("endpoint", ["{}", "http://{}"])
@pytest.mark.parametrize("compression", ["gzip", "none"])
def test_grpc(collector: Collector, address: str, endpoint: str, compression: str) -> None:
    made = grpc_exporter(CONVERT, endpoint.format(address), headers={"X-Api-Key": "k"}, compression=compression)
    with closing(made) as exporter:
        result = exporter.export(SPANS)
    assert (result.status, result.accepted, result.rejected) == (Status.OK, 2, 0)
    [request] = collector.requests
    check(decode(request))
    assert collector.metadata[0]["x-api-key"] == "k"


def test_grpc_with_headers_from_a_file(collector: Collector, address: str, tmp_path: Path) -> None:
    file = tmp_path / "headers"
    file.write_text("X-Api-Key: of the file\n")
    with closing(grpc_exporter(CONVERT, address, headers={"X-Api-Key": "k"}, headers_file=str(file))) as exporter:
        assert exporter.export(SPANS).status is Status.OK
        collector.error = grpc.StatusCode.UNAUTHENTICATED
        assert exporter.export(SPANS) == Result(Status.RETRYABLE, reason="gRPC UNAUTHENTICATED")
    assert [metadata["x-api-key"] for metadata in collector.metadata] == ["of the file"] * 2


def test_http_with_headers_from_a_file(receiver: Receiver, tmp_path: Path) -> None:
    file = tmp_path / "headers"
    file.write_text("X-Api-Key: of the file\n")
    made = http_exporter(CONVERT, receiver.url, headers={"X-Api-Key": "k"}, headers_file=str(file))
    with closing(made) as exporter:
        receiver.answer(403)
        assert exporter.export(SPANS) == Result(Status.RETRYABLE, reason="HTTP 403")
    assert [request.headers["x-api-key"] for request in receiver.requests] == ["of the file"]


def test_grpc_partial_success(collector: Collector, address: str) -> None:
    collector.response.partial_success.rejected_spans = 1
    collector.response.partial_success.error_message = "too old"
    with closing(grpc_exporter(CONVERT, address)) as exporter:
        assert exporter.export(SPANS) == Result(Status.OK, 1, 1, "too old")


@pytest.mark.parametrize("code", ["UNAVAILABLE", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED"])
def test_grpc_later_maybe(collector: Collector, address: str, code: str) -> None:
    collector.error = grpc.StatusCode[code]
    with closing(grpc_exporter(CONVERT, address)) as exporter:
        assert exporter.export(SPANS) == Result(Status.RETRYABLE, reason=f"gRPC {code}")
        assert len(collector.requests) == 1  # when to try again is for the buffer to know
        collector.error = None
        assert exporter.export(SPANS).status is Status.OK


def test_grpc_says_when_to_try_again(collector: Collector, address: str) -> None:
    info, status = RetryInfo(), RpcStatus(code=14)
    info.retry_delay.FromMilliseconds(7500)
    status.details.add().Pack(info)
    collector.error, collector.details = grpc.StatusCode.UNAVAILABLE, status.SerializeToString()
    with closing(grpc_exporter(CONVERT, address)) as exporter:
        assert exporter.export(SPANS) == Result(Status.RETRYABLE, reason="gRPC UNAVAILABLE", retry_after=7.5)
        collector.details = b"\xff"
        assert exporter.export(SPANS) == Result(Status.RETRYABLE, reason="gRPC UNAVAILABLE")


@pytest.mark.parametrize("code", ["UNAUTHENTICATED", "UNIMPLEMENTED", "INVALID_ARGUMENT"])
def test_grpc_never(collector: Collector, address: str, code: str) -> None:
    collector.error = grpc.StatusCode[code]
    with closing(grpc_exporter(CONVERT, address)) as exporter:
        assert exporter.export(SPANS) == Result(Status.FATAL, reason=f"gRPC {code}")


def test_grpc_nobody_listens() -> None:
    with closing(grpc_exporter(CONVERT, "127.0.0.1:1", timeout=2)) as exporter:
        result = exporter.export(SPANS)
    assert result.status is Status.RETRYABLE
    assert result.reason in ("gRPC UNAVAILABLE", "gRPC DEADLINE_EXCEEDED")


@pytest.mark.parametrize(
    ("endpoint", "environment", "insecure"),
    [
        ("localhost:4317", None, True),
        ("http://localhost:4317", None, True),
        ("https://localhost:4317", None, False),
        ("https://localhost:4317", "true", False),
        ("localhost:4317", "false", False),
        ("http://localhost:4317", "false", True),  # the variable is for endpoints that do not say
    ],
)
def test_grpc_tls_or_not(
    monkeypatch: pytest.MonkeyPatch, endpoint: str, environment: str | None, insecure: bool
) -> None:
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_TRACES_INSECURE", raising=False)
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_INSECURE", raising=False)
    if environment is not None:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_INSECURE", environment)
    with closing(grpc_exporter(CONVERT, endpoint)) as exporter:
        assert getattr(exporter._inner, "_insecure") is insecure  # noqa: B009 - the SDK's, and not in its types


def test_nothing_heavy_is_loaded_before_it_is_used() -> None:
    code = (
        "import sys; import proxy.tracer.export.sdk, proxy.tracer.export.zipkin, proxy.tracer.export.pipeline;"
        "print(*sorted({'grpc', 'requests', 'google.protobuf', 'rich'} & set(sys.modules)))"
    )
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert loaded.stdout.strip() == ""
