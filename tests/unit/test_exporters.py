"""From settings to exporters: which, in what order, with what; and several at once."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import closing

import pytest

from proxy.config import Collector, Export, Settings, Tracing
from proxy.tracer.assembly import exporters
from proxy.tracer.export.buffer import SpanBuffer
from proxy.tracer.export.pipeline import ExportPipeline
from tests.receiver import Receiver
from tests.unit.make_spans import make
from tests.unit.test_export_sdk import Collector as GrpcCollector
from tests.unit.test_export_sdk import address, collector
from tests.zipkin_receiver import ZipkinReceiver

__all__ = ["address", "collector"]  # fixtures


def built(tracing: Tracing) -> list[tuple[str, str]]:
    made = list(exporters(Settings(tracing=tracing)))
    for exporter in made:
        exporter.close()
    return [(type(exporter).__name__, getattr(exporter, "where", "")) for exporter in made]


def test_all_of_them_in_order() -> None:
    more = (
        Collector("zipkin:9411", "zipkin"),
        Collector("https://h/api/v2/spans?key=hidden"),
        Collector("otel:4317"),
        Collector("http://h:4318"),
    )
    assert built(Tracing(console_exporter=True, exporters=more)) == [
        ("HttpExporter", "http://127.0.0.1:4318/v1/traces"),
        ("ZipkinExporter", "http://zipkin:9411/api/v2/spans"),
        ("ZipkinExporter", "https://h/api/v2/spans"),
        ("SdkExporter", "http://otel:4317"),
        ("HttpExporter", "http://h:4318/v1/traces"),
        ("ConsoleExporter", ""),
    ]


def test_the_reference_encoder_is_for_the_main_one() -> None:
    tracing = Tracing(export=Export(encoder="sdk"), exporters=(Collector("http://h:4318"),))
    assert [kind for kind, _ in built(tracing)] == ["SdkExporter", "HttpExporter"]


def test_none_and_one_more_is_that_one() -> None:
    assert built(Tracing(protocol="none")) == []
    more = (Collector("zipkin:9411/api/v2/spans"),)
    assert built(Tracing(protocol="none", exporters=more)) == [("ZipkinExporter", "http://zipkin:9411/api/v2/spans")]


def test_what_cannot_be_sent_says_whose_it_is() -> None:
    tracing = Tracing(exporters=(Collector("h", headers={"a": "hidden\n"}),))
    with pytest.raises(ValueError, match=r"^tracing\.exporters\[0\]: export header 'a'") as caught:
        list(exporters(Settings(tracing=tracing)))
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize("compression", ["gzip", "none"])
@pytest.mark.parametrize("kind", [Receiver, ZipkinReceiver])
def test_compression(kind: type[Receiver], compression: str) -> None:
    export = Export(compression=compression)  # type: ignore[arg-type]
    with kind() as receiver:
        protocol = "zipkin" if kind is ZipkinReceiver else "http/protobuf"
        tracing = Tracing(endpoint=receiver.url, protocol=protocol, export=export)  # type: ignore[arg-type]
        [exporter] = exporters(Settings(tracing=tracing))
        with closing(exporter):
            exporter.export([make()])
        assert receiver.requests[0].headers.get("content-encoding", "none") == compression


def test_headers_of_the_environment_go_to_no_other(
    monkeypatch: pytest.MonkeyPatch, collector: GrpcCollector, address: str
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=hidden")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE", "/nowhere")
    with Receiver() as receiver:
        more = Collector(address, "grpc"), Collector(receiver.url)
        _, *others = exporters(Settings(tracing=Tracing(export=Export(encoder="sdk"), exporters=more)))
        for exporter in others:
            with closing(exporter):
                assert exporter.export([make()]).accepted == 1
        assert "authorization" not in collector.metadata[0]
        assert "authorization" not in receiver.requests[0].headers


@pytest.fixture
def nobody() -> Iterator[str]:
    """An endpoint where nobody listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"


def test_several_and_one_of_them_fails(
    nobody: str, address: str, collector: GrpcCollector, caplog: pytest.LogCaptureFixture
) -> None:
    async def run(made: Settings) -> ExportPipeline:
        pipeline = ExportPipeline(SpanBuffer(batch=2, interval=0.01), list(exporters(made)))
        task = asyncio.create_task(pipeline.run())
        for span in spans:
            pipeline.add(span)
        await pipeline.flush(10)
        await task
        return pipeline

    spans = [make() for _ in range(6)]
    with Receiver() as main, ZipkinReceiver() as zipkin:
        more = Collector(nobody), Collector(zipkin.url, "zipkin"), Collector(address, "grpc")
        pipeline = asyncio.run(run(Settings(tracing=Tracing(endpoint=main.url, exporters=more))))
        ids = [span.span_id.hex() for span in spans]
        assert [span.span_id for span in main.spans] == ids
        assert [span.span_id for span in zipkin.spans] == ids
        assert [
            span.span_id.hex()
            for request in collector.requests
            for span in request.resource_spans[0].scope_spans[0].spans
        ] == ids
    assert (pipeline.buffer.exported, pipeline.buffer.held, sum(pipeline.buffer.dropped.values())) == (6, 0, 0)
    assert pipeline.stats.requests == {"ok": 9, "error": 1}  # it is left alone after that
    assert f"{nobody}/v1/traces: Connection refused" in caplog.text


def test_the_main_one_fails_and_the_others_get_each_span_once() -> None:
    async def run(made: Settings) -> SpanBuffer:
        pipeline = ExportPipeline(SpanBuffer(batch=2, interval=0.01, jitter=lambda: 0.0), list(exporters(made)))
        task = asyncio.create_task(pipeline.run())
        for span in spans:
            pipeline.add(span)
        await pipeline.flush(10)
        await task
        return pipeline.buffer

    spans = [make() for _ in range(4)]
    with Receiver() as main, ZipkinReceiver() as zipkin:
        main.answer(503)
        more = (Collector(zipkin.url, "zipkin"),)
        buffer = asyncio.run(run(Settings(tracing=Tracing(endpoint=main.url, exporters=more))))
        ids = [span.span_id.hex() for span in spans]
        assert [span.span_id for span in main.spans] == ids
        assert [span.span_id for span in zipkin.spans] == ids
    assert buffer.exported == 4
