"""Applications that trace themselves: redspan joins, and overwrites nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.clients.programs import running, said_by
from tests.clients.traces import assert_ids_are_unique, assert_parents_are_exported, by_trace
from tests.conftest import StartSidecar
from tests.receiver import ReceivedSpan, Receiver
from tests.sidecar import Sidecar

ROUNDS = 2


def tracing(receiver: Receiver, framework: str, **options: Any) -> dict[str, Any]:
    return {
        "frameworks": {framework: options},
        "tracing": {"endpoint": receiver.url, "protocol": "http/protobuf", "export": {"interval": "100ms"}},
    }


def complete(attempts: int, *names: str) -> Callable[[list[ReceivedSpan]], bool]:
    """All spans are there: of each of these names so many."""
    return lambda spans: all(sum(kind(span) == name for span in spans) >= attempts for name in names)


def kind(span: ReceivedSpan) -> str:
    """The name, without that of the task."""
    return span.name.partition("/")[0]


def check(spans: list[ReceivedSpan], sends: str, runs: str) -> None:
    """The application's spans and redspan's are siblings: children of the span that sent the task."""
    assert_parents_are_exported(spans)
    assert_ids_are_unique(spans)
    known = {span.span_id: kind(span) for span in spans}
    parents = Counter((kind(span), known.get(span.parent_id, "")) for span in spans)
    roots = {parent for name, parent in parents if name == sends}
    assert roots <= {"", runs}
    assert {pair for pair in parents if pair[0] != sends} == {
        ("queue.enqueue", sends),
        ("queue.dequeue", sends),
        ("job.process", "queue.dequeue"),
        (runs, sends),
    }
    assert {span.kind for span in spans if span.name == "queue.enqueue"} == {"CLIENT"}
    own = {span.trace_id for span in spans if kind(span) == sends and not span.parent_id}
    assert {trace[0].trace_id for trace in by_trace(spans)} == own
    services = {kind(span): span.resource["service.name"] for span in spans}
    assert {services[sends], services[runs]} == {"the application"}
    assert services["queue.enqueue"] != "the application"


def untouched(sidecar: Sidecar, framework: str, attempts: int) -> None:
    sidecar.wait_for(
        lambda: sidecar.metric("redspan_injections_total", framework=framework, result="kept") >= attempts, "not kept"
    )
    assert sidecar.metric("redspan_injections_total", framework=framework, result="written") <= 0
    assert sidecar.metric("redspan_invalid_contexts_total") <= 0
    assert sidecar.metric("redspan_blind_total") == 0


CELERY_ATTEMPTS = ROUNDS * 13
CELERY_TRACES = ROUNDS * 9
"""In each round, four of eleven tasks are sent by others two by two, and one takes three attempts."""


@pytest.mark.parametrize("pool", ["solo", "threads"])
def test_celery_with_opentelemetry_in_it(
    pool: str, start_sidecar: StartSidecar, receiver: Receiver, tmp_path: Path
) -> None:
    sidecar = start_sidecar(tracing(receiver, "celery"))
    env = {"APPLICATION": "celery", "OTLP_ENDPOINT": receiver.url}
    arguments = ("-m", "celery", "-A", "instrumented", "worker", "-l", "INFO", "--pool", pool)
    with running(sidecar.url, tmp_path, *arguments, **env):
        said = said_by(sidecar.url, "-c", f"import instrumented; instrumented.main({ROUNDS})", **env)
        spans = receiver.wait_for(complete(CELERY_ATTEMPTS, "apply_async", "run", "queue.enqueue", "job.process"))
    check(spans, "apply_async", "run")
    assert Counter(map(kind, spans)) == dict.fromkeys(
        ("apply_async", "run", "queue.enqueue", "queue.dequeue", "job.process"), CELERY_ATTEMPTS
    )
    assert len(by_trace(spans)) == CELERY_TRACES
    senders = {f"{span.trace_id}-{span.span_id}" for span in spans if kind(span) == "apply_async"}
    assert {result[3:52] for name, result in said if name in ("context", "flaky", "later")} < senders
    untouched(sidecar, "celery", CELERY_ATTEMPTS)


def test_the_process_spans_of_celery_can_be_left_to_it(
    start_sidecar: StartSidecar, receiver: Receiver, tmp_path: Path
) -> None:
    sidecar = start_sidecar(tracing(receiver, "celery", process_span=False))
    env = {"APPLICATION": "celery", "OTLP_ENDPOINT": receiver.url}
    with running(sidecar.url, tmp_path, "-m", "celery", "-A", "instrumented", "worker", "--pool", "solo", **env):
        said_by(sidecar.url, "-c", f"import instrumented; instrumented.main({ROUNDS})", **env)
        spans = receiver.wait_for(complete(CELERY_ATTEMPTS, "apply_async", "run", "queue.enqueue", "queue.dequeue"))
    assert_parents_are_exported(spans)
    assert "job.process" not in map(kind, spans)
    assert len(by_trace(spans)) == CELERY_TRACES


TASKIQ_ATTEMPTS = ROUNDS * 16
TASKIQ_TRACES = ROUNDS * 11
"""In each round, one of twelve tasks is sent by another, and is in its trace."""


@pytest.mark.parametrize("options", ["{}", '{"stream": true}'], ids=["list", "stream"])
def test_taskiq_with_its_middleware(
    options: str, start_sidecar: StartSidecar, receiver: Receiver, tmp_path: Path
) -> None:
    sidecar = start_sidecar(tracing(receiver, "taskiq"))
    env = {"APPLICATION": "taskiq", "OTLP_ENDPOINT": receiver.url, "TASKIQ_OPTIONS": options}
    with running(sidecar.url, tmp_path, "-m", "taskiq", "worker", "instrumented:broker", "--workers", "1", **env):
        said = said_by(sidecar.url, "-c", f"import instrumented; instrumented.run(instrumented.main({ROUNDS}))", **env)
        spans = receiver.wait_for(complete(TASKIQ_ATTEMPTS, "execute", "queue.enqueue", "job.process"))
    check(spans, "send", "execute")
    # What a task puts back itself, with all that was in it, is not sent anew.
    assert Counter(map(kind, spans)) == {
        **dict.fromkeys(("execute", "queue.enqueue", "queue.dequeue", "job.process"), TASKIQ_ATTEMPTS),
        "send": TASKIQ_ATTEMPTS - ROUNDS,
    }
    assert len(by_trace(spans)) == TASKIQ_TRACES
    senders = {f"{span.trace_id}-{span.span_id}" for span in spans if kind(span) == "send"}
    assert {result[3:52] for name, _, result in said if name in ("context", "flaky")} < senders
    untouched(sidecar, "taskiq", TASKIQ_ATTEMPTS)
