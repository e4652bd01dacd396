"""Resque 3.0 as a transcript, replayed byte by byte: Debian has none."""

from __future__ import annotations

from collections import Counter

from tests.clients.node_checks import ends, quiet, tracing
from tests.clients.traces import assert_parents_are_exported, by_trace
from tests.clients.transcripts import replay
from tests.conftest import StartSidecar
from tests.receiver import Receiver


def test_every_job_is_one_trace(start_sidecar: StartSidecar, receiver: Receiver) -> None:
    """Two equal ones, one that fails, one that enqueues another, one whose child is killed."""
    sidecar = start_sidecar(tracing(receiver, "resque"))
    replay("resque-3.0.0", sidecar)
    spans = receiver.wait_for(ends(6))
    traces = by_trace(spans)
    assert len(traces) == 6
    assert_parents_are_exported(spans)
    for trace in traces:
        assert Counter(span.name for span in trace) == dict.fromkeys(
            ("queue.enqueue", "queue.dequeue", "job.process"), 1
        )
    processes = [span for span in spans if span.name == "job.process"]
    assert Counter(span.attributes["job.status"] for span in processes) == {"success": 4, "failure": 2}
    errors = {span.attributes["job.error"] for span in processes if span.status == "ERROR"}
    assert errors == {"RangeError", "Resque::DirtyExit"}
    assert len({span.attributes["worker.id"] for span in processes}) == 1
    assert not any("redspan.end.inferred" in span.attributes for span in processes)
    assert "secret" not in str(spans)
    assert "private" not in str(spans)
    quiet("resque", sidecar)
    written = {"framework": "resque", "result": "written"}
    sidecar.wait_for(lambda: sidecar.metric("redspan_injections_total", **written) == 6, "not all were written")


def test_an_idle_worker_makes_no_spans(start_sidecar: StartSidecar, receiver: Receiver) -> None:
    sidecar = start_sidecar(tracing(receiver, "resque"))
    for _ in range(5):
        replay("resque-3.0.0", sidecar, before="rpush")
    sidecar.wait_for(lambda: sidecar.metric("redspan_commands_total") > 100, "it does not poll")
    assert receiver.spans == []
    assert sidecar.metric("redspan_jobs_total") <= 0
