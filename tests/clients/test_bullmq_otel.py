"""BullMQ's own OpenTelemetry integration, in a real worker and producer: its spans and redspan's are one trace."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from tests.clients.conftest import StartNode
from tests.clients.node_checks import quiet, tracing
from tests.clients.traces import assert_parents_are_exported, by_trace
from tests.conftest import StartSidecar
from tests.receiver import ReceivedSpan, Receiver

pytestmark = pytest.mark.node

PACKAGES = (
    "bullmq@6.7.0",
    "ioredis@5",
    "bullmq-otel@2.0.1",
    "@opentelemetry/sdk-trace-node@2",
    "@opentelemetry/exporter-trace-otlp-proto@0.301",
)
JOBS: list[list[Any]] = [["add", {"n": 1}], ["again", {}, {"attempts": 3}], ["broken", {}, {"attempts": 2}]]
RUNS = 6


def theirs(span: ReceivedSpan) -> bool:
    return span.scope == "the application"


def complete(spans: list[ReceivedSpan]) -> bool:
    done = Counter(theirs(span) for span in spans if span.kind == "CONSUMER")
    return done[True] >= RUNS and done[False] >= RUNS


def test_an_unmodified_worker_goes_on_with_the_context_that_was_injected(
    start_node: StartNode, start_sidecar: StartSidecar, receiver: Receiver
) -> None:
    sidecar = start_sidecar(tracing(receiver, "bullmq"))
    otel = f"{receiver.url}/v1/traces"
    worker = start_node("bullmq.cjs", PACKAGES, "work", sidecar.url, {"otel": otel})
    start_node("bullmq.cjs", PACKAGES, "send", sidecar.url, {"jobs": JOBS}).wait()
    spans = receiver.wait_for(complete)
    worker.stop()
    assert len(by_trace(spans)) == len(JOBS)
    assert_parents_are_exported(spans)
    injected = {span.span_id for span in spans if span.name == "queue.enqueue" and span.kind == "PRODUCER"}
    assert len(injected) == len(JOBS)
    processes = [span for span in spans if theirs(span) and span.kind == "CONSUMER"]
    assert len(processes) == RUNS
    assert {span.parent_id for span in processes} == injected
    quiet("bullmq", sidecar)


def test_a_producer_that_traces_itself_keeps_its_context(
    start_node: StartNode, start_sidecar: StartSidecar, receiver: Receiver
) -> None:
    sidecar = start_sidecar(tracing(receiver, "bullmq"))
    otel = f"{receiver.url}/v1/traces"
    worker = start_node("bullmq.cjs", PACKAGES, "work", sidecar.url, {"otel": otel})
    start_node("bullmq.cjs", PACKAGES, "send", sidecar.url, {"jobs": JOBS, "otel": otel}).wait()
    spans = receiver.wait_for(complete)
    worker.stop()
    assert len(by_trace(spans)) == len(JOBS)
    assert_parents_are_exported(spans)
    sent = {span.span_id for span in spans if theirs(span) and span.kind == "PRODUCER"}
    assert {span.parent_id for span in spans if span.name == "queue.enqueue"} <= sent
    assert {span.parent_id for span in spans if theirs(span) and span.kind == "CONSUMER"} <= sent
    assert sidecar.metric("redspan_injections_total", framework="bullmq", result="written") <= 0
    quiet("bullmq", sidecar)
