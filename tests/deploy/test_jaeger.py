"""A real Jaeger: what its query API says of the demo's jobs, sent to it directly and through agent and gateways."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.clients.collectors import FAIL, JOBS, collector, receiver
from tests.clients.go_programs import build
from tests.conftest import StartSidecar
from tests.deploy.tiers import DECISION_WAIT, PATIENCE, send, tiers
from tests.receiver import ReceivedSpan, Receiver
from tests.redis import free_port

pytestmark = pytest.mark.jaeger

PACKAGE = "github.com/jaegertracing/jaeger/cmd/jaeger"


class Jaeger:
    """Where it takes spans, and what it says of them."""

    def __init__(self, grpc: int, http: int, query: int) -> None:
        self.grpc = f"127.0.0.1:{grpc}"
        self.endpoint = f"http://127.0.0.1:{http}"
        self._query = query

    def get(self, path: str) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self._query, timeout=PATIENCE)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return json.loads(answer.read()) if answer.status == 200 else None
        finally:
            connection.close()

    def trace(self, trace_id: str, spans: int) -> dict[str, Any]:
        """A trace by its id, once it has that many spans: its spans by their ids, and their processes."""
        deadline = time.monotonic() + PATIENCE
        while True:
            found = self.get(f"/api/traces/{trace_id}")
            if found is not None and len(found["data"][0]["spans"]) >= spans:
                trace: dict[str, Any] = found["data"][0]
                return trace
            assert time.monotonic() < deadline, found
            time.sleep(0.1)


@contextmanager
def jaeger(folder: Path) -> Iterator[Jaeger]:
    """Jaeger 2 with its memory as its storage: a Collector with Jaeger's own components."""
    grpc, otlp, query = free_port(), free_port(), free_port()
    settings = {
        "receivers": receiver(grpc, otlp),
        "extensions": {
            "jaeger_storage": {"backends": {"memory": {"memory": {"max_traces": 1000}}}},
            "jaeger_query": {
                "storage": {"traces": "memory"},
                "http": {"endpoint": f"127.0.0.1:{query}"},
                "grpc": {"endpoint": f"127.0.0.1:{free_port()}"},
            },
        },
        "exporters": {"jaeger_storage_exporter": {"trace_storage": "memory"}},
        "service": {
            "extensions": ["jaeger_storage", "jaeger_query"],
            "pipelines": {"traces": {"receivers": ["otlp"], "exporters": ["jaeger_storage_exporter"]}},
            "telemetry": {"metrics": {"level": "none"}},
        },
    }
    program = build("jaeger", Path(__file__).with_name("jaeger"), PACKAGE)
    with collector(folder / "jaeger", settings, program=program):
        yield Jaeger(grpc, otlp, query)


@pytest.mark.parametrize("way", ["directly", "through the tiers"])
def test_the_tree_of_each_job(start_sidecar: StartSidecar, tmp_path: Path, way: str) -> None:
    with Receiver() as direct, jaeger(tmp_path) as there:
        if way == "directly":
            sent, failed = send(start_sidecar, tmp_path, there.endpoint, direct)
            wanted = {span.trace_id for span in sent}
            assert len(wanted) == JOBS
        else:
            with tiers(tmp_path, "jaeger", {"JAEGER_ENDPOINT": there.grpc, "DECISION_WAIT": DECISION_WAIT}) as between:
                sent, failed = send(start_sidecar, tmp_path, between.endpoint, direct)
            wanted = failed
        assert len(failed) == FAIL
        assert there.get("/api/services")["data"] == ["shop"]
        names = {(one["name"], one["spanKind"]) for one in there.get("/api/operations?service=shop")["data"]}
        expected = {("queue.enqueue", "producer"), ("queue.dequeue", "client"), ("job.process", "consumer")}
        assert expected <= names
        for trace_id in wanted:
            spans = [span for span in sent if span.trace_id == trace_id]
            trace = there.trace(trace_id, len(spans))
            assert trace["traceID"] == trace_id
            found = {span["spanID"]: span for span in trace["spans"]}
            assert set(found) == {span.span_id for span in spans}
            for span in spans:
                _assert_same(span, found[span.span_id], trace["processes"])


def _assert_same(span: ReceivedSpan, found: dict[str, Any], processes: dict[str, Any]) -> None:
    """A span as it was sent, and as Jaeger tells of it: times in microseconds."""
    assert found["operationName"] == span.name
    assert processes[found["processID"]]["serviceName"] == "shop"
    assert (found["startTime"], found["duration"]) == (span.start // 1000, pytest.approx(span.duration // 1000, abs=1))
    references = {(one["refType"], one["traceID"], one["spanID"]) for one in found["references"]}
    parents = {("CHILD_OF", span.trace_id, span.parent_id)} if span.parent_id else set()
    assert references == parents | {("FOLLOWS_FROM", link.trace_id, link.span_id) for link in span.links}
    tags = {tag["key"]: tag["value"] for tag in found["tags"]}
    assert tags["span.kind"] == span.kind.lower()
    assert tags.get("error", False) is (span.status == "ERROR")
    assert {name: tags.get(name) for name in span.attributes} == span.attributes
