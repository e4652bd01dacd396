"""Sidekiq 7.3 and 8.1 as transcripts, replayed byte by byte: Debian has 6.4, and 8 wants Ruby 3.2."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.clients.node_checks import ends, quiet, tracing
from tests.clients.traces import assert_parents_are_exported, assert_retries_are_linked, by_trace
from tests.clients.transcripts import replay
from tests.conftest import StartSidecar
from tests.receiver import Receiver


@pytest.mark.parametrize("version", ["sidekiq-7.3.9", "sidekiq-8.1.7"])
def test_every_job_is_one_trace(version: str, start_sidecar: StartSidecar, receiver: Receiver) -> None:
    sidecar = start_sidecar(tracing(receiver, "sidekiq"))
    replay(version, sidecar)
    spans = receiver.wait_for(ends(8))
    traces = by_trace(spans)
    assert len(traces) == 7
    assert_parents_are_exported(spans)
    for trace in traces:
        assert len({span.attributes["messaging.message.id"] for span in trace}) == 1
    processes = [span for span in spans if span.name == "job.process"]
    # Three at once, one retried, one later; one that is dead; one that may have failed in silence.
    assert Counter(span.attributes.get("job.status") for span in processes) == {
        "success": 5,
        "retry": 1,
        "failure": 1,
        None: 1,
    }
    assert {span.attributes.get("error.type") for span in processes} == {None, "retry", "dead_letter"}
    assert_retries_are_linked([span for trace in traces for span in trace if len(trace) > 4])
    assert [span for span in spans if span.attributes.get("redspan.scheduled_ms")]
    silent = [span for span in processes if span.status == "UNSET"]
    assert all(span.attributes["redspan.end.inferred"] for span in silent)
    assert not any("redspan.end.uncertain_ms" in span.attributes for span in processes)
    assert "secret" not in str(spans)
    assert "private" not in str(spans)
    quiet("sidekiq", sidecar)
    written = {"framework": "sidekiq", "result": "written"}
    sidecar.wait_for(lambda: sidecar.metric("redspan_injections_total", **written) == 7, "not all were written")
