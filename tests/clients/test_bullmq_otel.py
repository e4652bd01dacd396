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
from tests.sidecar import Sidecar

pytestmark = pytest.mark.node

PACKAGES = (
    "bullmq@6.7.0",
    "ioredis@5",
    "bullmq-otel@2.0.1",
    "@opentelemetry/sdk-trace-node@2.9.0",
    "@opentelemetry/exporter-trace-otlp-proto@0.220.0",
)
JOBS: list[list[Any]] = [["add", {"n": 1}], ["again", {}, {"attempts": 3}], ["broken", {}, {"attempts": 2}]]
RUNS = 6


def theirs(span: ReceivedSpan) -> bool:
    return span.scope == "the application"


def complete(spans: list[ReceivedSpan]) -> bool:
    done = Counter(theirs(span) for span in spans if span.kind == "CONSUMER")
    return done[True] >= RUNS and done[False] >= RUNS


def run(
    start_node: StartNode, start_sidecar: StartSidecar, receiver: Receiver, **producer: str
) -> tuple[Sidecar, list[ReceivedSpan]]:
    """The spans of `JOBS`, but for those that a worker makes of its own housekeeping."""
    sidecar = start_sidecar(tracing(receiver, "bullmq"))
    worker = start_node("bullmq.cjs", PACKAGES, "work", sidecar.url, {"otel": traces(receiver)})
    start_node("bullmq.cjs", PACKAGES, "send", sidecar.url, {"jobs": JOBS, **producer}).wait()
    spans = receiver.wait_for(complete)
    worker.stop()
    assert worker.errors == ""
    quiet("bullmq", sidecar)
    spans = [span for span in spans if span.kind != "INTERNAL"]
    assert len(by_trace(spans)) == len(JOBS)
    assert_parents_are_exported(spans)
    return sidecar, spans


def traces(receiver: Receiver) -> str:
    return f"{receiver.url}/v1/traces"


def parents(spans: list[ReceivedSpan], kind: str) -> list[str]:
    """Of the application's spans of that kind."""
    return [span.parent_id for span in spans if theirs(span) and span.kind == kind]


def test_an_unmodified_worker_goes_on_with_the_context_that_was_injected(
    start_node: StartNode, start_sidecar: StartSidecar, receiver: Receiver
) -> None:
    _, spans = run(start_node, start_sidecar, receiver)
    injected = {span.span_id for span in spans if span.name == "queue.enqueue" and span.kind == "PRODUCER"}
    assert len(injected) == len(JOBS)
    assert len(parents(spans, "CONSUMER")) == RUNS
    assert set(parents(spans, "CONSUMER")) == injected


def test_a_producer_that_traces_itself_keeps_its_context(
    start_node: StartNode, start_sidecar: StartSidecar, receiver: Receiver
) -> None:
    sidecar, spans = run(start_node, start_sidecar, receiver, otel=traces(receiver))
    assert parents(spans, "PRODUCER") == [""] * len(JOBS)
    sent = {span.span_id for span in spans if theirs(span) and span.kind == "PRODUCER"}
    assert set(parents(spans, "CONSUMER")) == sent
    assert {span.parent_id for span in spans if span.name in ("queue.enqueue", "queue.dequeue")} == sent
    assert sidecar.metric("redspan_injections_total", framework="bullmq", result="written") <= 0
