"""Zipkin v2 JSON: what the mapping says, by hand, and over HTTP to a receiver that reads it strictly."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.frameworks.base import Fields
from proxy.tracer.attributes import Rule
from proxy.tracer.export.base import Result, Status
from proxy.tracer.export.zipkin import ZipkinEncoder, ZipkinExporter
from proxy.tracer.span import Kind, Link, Operation, Span, SpanEvent, Value
from tests.unit.make_spans import MS, START, make, spans
from tests.zipkin_receiver import ZipkinReceiver, read_span

RESOURCE: dict[str, Value] = {"service.name": "worker", "service.version": "7", "process.pid": 42}
ENCODER = ZipkinEncoder(RESOURCE, "1.2.3")


def encoded(span: Span, rule: Rule | None = None) -> dict[str, Any]:
    """One span as a receiver reads it."""
    [found] = json.loads(ZipkinEncoder(RESOURCE, "1.2.3", rule=rule).encode([span]))
    read_span(found)
    return dict(found)


def test_a_whole_span() -> None:
    span = make(
        Operation.PROCESS,
        trace_id=bytes(range(16)),
        span_id=bytes(range(16, 24)),
        parent_id=bytes(range(24, 32)),
        fields=Fields(id="job-1", type="mail", max_attempts=3),
        upstream="redis.example:6380",
        db=2,
        size=1024,
        error="retry",
        message="boom",
        tracestate="ot=th:c",
        facts={"job.status": "retry", "redspan.end.inferred": True, "queue.wait_time_ms": 1.5},
        events=(
            SpanEvent("job.stalled", START + MS, {"worker.id": "a|b|c", "n": 1, "x": True}),
            SpanEvent("plain", START + 2 * MS),
        ),
        links=(Link(b"t" * 16, b"s" * 8, "retry_of", 1),),
    )
    assert json.loads(ENCODER.encode([span])) == [
        {
            "traceId": "000102030405060708090a0b0c0d0e0f",
            "id": "1011121314151617",
            "parentId": "18191a1b1c1d1e1f",
            "name": "job.process",
            "kind": "CONSUMER",
            "timestamp": START // 1000,
            "duration": 5000,
            "localEndpoint": {"serviceName": "worker"},
            "remoteEndpoint": {"serviceName": "redis.example", "port": 6380},
            "annotations": [
                {
                    "timestamp": START // 1000 + 1000,
                    "value": r'"job.stalled": {"worker.id":"a\u007cb\u007cc","n":1,"x":true}',
                },
                {"timestamp": START // 1000 + 2000, "value": "plain"},
            ],
            "tags": {
                # of the resource and the scope
                "service.version": "7",
                "process.pid": "42",
                "otel.scope.name": "redspan",
                "otel.scope.version": "1.2.3",
                # of queue and operation
                "queue.system": "redis",
                "queue.name": "orders",
                "messaging.system": "rq",
                "messaging.destination.name": "orders",
                "messaging.operation.name": "process",
                "messaging.operation.type": "process",
                "server.address": "redis.example",
                "server.port": "6380",
                "db.namespace": "2",
                "redspan.framework": "rq",
                "redspan.key": "rq:queue:orders",
                # of the job
                "messaging.message.id": "job-1",
                "job.id": "job-1",
                "job.type": "mail",
                "job.retry_count": "0",
                "job.max_retries": "3",
                "messaging.message.envelope.size": "1024",
                # of the span
                "job.status": "retry",
                "redspan.end.inferred": "true",
                "queue.wait_time_ms": "1.5",
                "error.type": "retry",
                "otel.status_code": "ERROR",
                "error": "boom",
                "w3c.tracestate": "ot=th:c",
                "otlp.link.0": f'{"74" * 16}|{"73" * 8}||{{"redspan.link":"retry_of"}}|0',
            },
        }
    ]


def test_what_is_empty_is_absent() -> None:
    found = encoded(make(Operation.PURGE, upstream="", kind=Kind.INTERNAL))
    assert found.keys() == {"traceId", "id", "name", "timestamp", "duration", "localEndpoint", "tags"}
    assert not {"error", "otel.status_code", "w3c.tracestate", "error.type"} & found["tags"].keys()


def test_an_error_without_a_message_is_one() -> None:
    tags = encoded(make(error="lost"))["tags"]
    assert (tags["error"], tags["otel.status_code"]) == ("", "ERROR")


@pytest.mark.parametrize(
    ("kind", "name", "remote"),
    [
        (Kind.PRODUCER, "PRODUCER", True),
        (Kind.CLIENT, "CLIENT", True),
        (Kind.CONSUMER, "CONSUMER", True),
        (Kind.SERVER, "SERVER", False),
        (Kind.INTERNAL, None, False),
    ],
)
def test_kinds(kind: Kind, name: str | None, remote: bool) -> None:
    found = encoded(make(kind=kind))
    assert (found.get("kind"), "remoteEndpoint" in found) == (name, remote)


@pytest.mark.parametrize(
    ("upstream", "remote"),
    [
        ("127.0.0.1:6379", {"ipv4": "127.0.0.1", "port": 6379}),
        ("[2001:db8:0:0::1]:6380", {"ipv6": "2001:db8::1", "port": 6380}),
        ("[fe80::1%eth0]:6380", {"ipv6": "fe80::1", "port": 6380}),
        ("redis:6379", {"serviceName": "redis", "port": 6379}),
        ("redis", {"serviceName": "redis"}),
        ("/run/redis.sock", {"serviceName": "/run/redis.sock"}),
        ("", None),
    ],
)
def test_redis_is_the_other_end(upstream: str, remote: dict[str, object] | None) -> None:
    assert encoded(make(upstream=upstream)).get("remoteEndpoint") == remote


def test_an_address_that_may_not_be_sent_is_not() -> None:
    found = encoded(make(), lambda name, value: None if name == "server.address" else value)
    assert "remoteEndpoint" not in found
    assert "server.address" not in found["tags"]


def test_the_service_of_a_listener() -> None:
    assert encoded(make(service="shop"))["localEndpoint"] == {"serviceName": "shop"}


def test_names_of_the_conventions() -> None:
    [found] = json.loads(ZipkinEncoder({}, naming="semconv").encode([make()]))
    assert found["name"] == "enqueue orders"
    assert "otel.scope.version" not in found["tags"]


@pytest.mark.parametrize(
    ("start", "end", "duration"), [(0, 0, 1), (0, 999, 1), (0, 1999, 1), (0, 2000, 2), (5000, 0, 1)]
)
def test_a_duration_is_never_zero(start: int, end: int, duration: int) -> None:
    span = make()
    span.start, span.end = start, end
    assert encoded(span)["duration"] == duration


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "true"),
        (False, "false"),
        (-7, "-7"),
        (2**70, str(2**70)),
        (0.1, "0.1"),
        (float("nan"), "NaN"),
        (float("inf"), "Infinity"),
        (float("-inf"), "-Infinity"),
        ("\ud800é", "?é"),
    ],
)
def test_tags_are_text(value: Value, text: str) -> None:
    assert encoded(make(facts={"x": value}))["tags"]["x"] == text


def test_ids_of_a_wrong_length_do_not_spoil_a_request() -> None:
    found = encoded(make(trace_id=b"t" * 8, span_id=b"s" * 9, parent_id=b"p"))
    assert (found["traceId"], found["id"], found["parentId"]) == ("74" * 8 + "00" * 8, "73" * 8, "70" + "00" * 7)


@given(st.lists(spans(), max_size=3))
def test_any_span_can_be_read(some: list[Span]) -> None:
    found = json.loads(ENCODER.encode(some))
    assert [read_span(each).span_id for each in found] == [span.span_id.hex() for span in some]


# Over HTTP


@pytest.fixture
def receiver() -> Iterator[ZipkinReceiver]:
    with ZipkinReceiver() as running:
        yield running


@pytest.fixture
def exporter(receiver: ZipkinReceiver) -> Iterator[ZipkinExporter]:
    with closing(ZipkinExporter(ENCODER, receiver.url, headers={"X-Api-Key": "k"})) as made:
        yield made


def test_spans_arrive(receiver: ZipkinReceiver, exporter: ZipkinExporter) -> None:
    sent = [make(operation) for operation in (Operation.ENQUEUE, Operation.DEQUEUE, Operation.PROCESS)]
    receiver.answer(202)
    assert exporter.export(sent) == Result(Status.OK, 3)
    [request] = receiver.requests
    assert request.path == "/api/v2/spans"
    assert request.headers["content-type"] == "application/json"
    assert request.headers["content-encoding"] == "gzip"
    assert request.headers["x-api-key"] == "k"
    assert request.size < len(ENCODER.encode(sent)) / 2
    assert [(span.name, span.kind, span.start) for span in request.spans] == [
        (span.operation.value, span.kind.name, span.start) for span in sent
    ]


def test_uncompressed_and_to_another_path(receiver: ZipkinReceiver) -> None:
    with closing(ZipkinExporter(ENCODER, f"{receiver.url}/custom?a=b", compression="none")) as exporter:
        assert exporter.export([make()]).status is Status.OK
    [request] = receiver.requests
    assert request.path == "/custom?a=b"
    assert "content-encoding" not in request.headers


@pytest.mark.parametrize("status", [429, 503])
def test_later_maybe(receiver: ZipkinReceiver, exporter: ZipkinExporter, status: int) -> None:
    receiver.answer(status, headers={"Retry-After": "7"})
    assert exporter.export([make()]) == Result(Status.RETRYABLE, reason=f"HTTP {status}", retry_after=7.0)
    assert exporter.export([make()]).status is Status.OK


@pytest.mark.parametrize("status", [400, 404, 413, 500])
def test_never(receiver: ZipkinReceiver, exporter: ZipkinExporter, status: int) -> None:
    receiver.answer(status)
    assert exporter.export([make()]) == Result(Status.FATAL, reason=f"HTTP {status}")
