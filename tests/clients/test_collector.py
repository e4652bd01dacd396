"""A real OpenTelemetry Collector between redspan and the tests: what it understands of each protocol."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.clients.collectors import JOBS, SHOP, collector, work_off
from tests.clients.traces import assert_parents_are_exported, by_trace
from tests.conftest import StartSidecar
from tests.receiver import ReceivedSpan, Receiver
from tests.redis import free_port

pytestmark = pytest.mark.go

PROTOCOLS = ("http", "grpc", "zipkin")


def settings(ports: dict[str, int], receivers: dict[str, Receiver]) -> dict[str, Any]:
    """Of a collector that passes on what comes by one protocol to the receiver of that name."""
    bind = {name: f"127.0.0.1:{port}" for name, port in ports.items()}
    return {
        "receivers": {
            "otlp/http": {"protocols": {"http": {"endpoint": bind["http"]}}},
            "otlp/grpc": {"protocols": {"grpc": {"endpoint": bind["grpc"]}}},
            "zipkin/zipkin": {"endpoint": bind["zipkin"]},
        },
        "exporters": {f"otlp_http/{name}": {"endpoint": receivers[name].url} for name in PROTOCOLS},
        "service": {
            "telemetry": {"metrics": {"level": "none"}},
            "pipelines": {
                f"traces/{name}": {
                    "receivers": [f"{'zipkin' if name == 'zipkin' else 'otlp'}/{name}"],
                    "exporters": [f"otlp_http/{name}"],
                }
                for name in PROTOCOLS
            },
        },
    }


def essence(spans: list[ReceivedSpan]) -> list[tuple[Any, ...]]:
    """What no protocol may change; times in microseconds."""
    return sorted(
        (one.trace_id, one.span_id, one.parent_id, one.name, one.kind, one.status, one.start // 1000, one.scope)
        for one in spans
    )


def test_the_same_spans_by_every_protocol(start_sidecar: StartSidecar, tmp_path: Path) -> None:
    ports = {name: free_port() for name in PROTOCOLS}
    with ExitStack() as stack:
        receivers = {name: stack.enter_context(Receiver()) for name in (*PROTOCOLS, "direct")}
        stack.enter_context(collector(tmp_path, settings(ports, receivers)))
        sidecar = start_sidecar(
            {
                "frameworks": SHOP,
                "tracing": {
                    "service_name": "shop",
                    "endpoint": f"http://127.0.0.1:{ports['http']}",
                    "protocol": "http/protobuf",
                    "export": {"interval": "100ms"},
                    "exporters": [
                        {"endpoint": f"127.0.0.1:{ports['grpc']}", "protocol": "grpc"},
                        {"endpoint": f"http://127.0.0.1:{ports['zipkin']}/api/v2/spans"},
                        {"endpoint": receivers["direct"].url},
                    ],
                },
            }
        )
        attempts = work_off(sidecar, tmp_path)
        got = {name: one.wait_for(lambda spans: len(spans) >= 3 * attempts) for name, one in receivers.items()}
        assert sidecar.metric("redspan_export_requests_total", result="error") == 0
        assert sidecar.stop() == 0
    assert len(by_trace(got["direct"])) == JOBS
    assert_parents_are_exported(got["direct"])
    assert attempts > JOBS
    direct = essence(got["direct"])
    for name in PROTOCOLS:
        assert essence(got[name]) == direct, name
        assert {span.resource["service.name"] for span in got[name]} == {"shop"}
        assert {span.name for span in got[name] if span.status == "ERROR"} == {"job.process"}
    sent = {span.span_id: span for span in got["direct"]}
    for name in ("http", "grpc"):
        assert {span.span_id: span.attributes for span in got[name]} == {
            key: one.attributes for key, one in sent.items()
        }
    for span in got["zipkin"]:
        texts = {name: _text(value) for name, value in sent[span.span_id].attributes.items()}
        assert {name: _text(value) for name, value in span.attributes.items()}.items() >= texts.items()
        assert span.attributes["network.peer.address"] == "127.0.0.1"  # the remote endpoint: Redis


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
