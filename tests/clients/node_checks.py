"""What is asked of the jobs of a library for Node or PHP: `Runs` says which there were, and how often each has run."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any, TypeAlias

from tests.clients.json_programs import Said
from tests.clients.traces import assert_one_trace_a_job, assert_parents_are_exported, by_trace
from tests.receiver import ReceivedSpan, Receiver
from tests.sidecar import Sidecar

Runs: TypeAlias = Mapping[str, tuple[int, int]]
"""By name: how many jobs of a round, and how often each of them runs."""

ROUNDS = 2
ENDS: Mapping[str, str | None] = {"broken": "failure"}
"""By name: the ``job.status`` of those that end otherwise than in success."""
MS = 1_000_000
CLOCKS = 2 * MS
"""ns that Node's clock may differ from redspan's."""


def tracing(receiver: Receiver, framework: str, **options: Any) -> dict[str, Any]:
    return {
        "frameworks": {framework: options},
        "tracing": {"endpoint": receiver.url, "protocol": "http/protobuf", "export": {"interval": "100ms"}},
    }


def ends(count: int) -> Callable[[list[ReceivedSpan]], bool]:
    return lambda spans: sum(span.name == "job.process" for span in spans) >= count


def all_ends(runs: Runs) -> Callable[[list[ReceivedSpan]], bool]:
    return ends(ROUNDS * sum(jobs * times for jobs, times in runs.values()))


def quiet(framework: str, *sidecars: Sidecar) -> None:
    for sidecar in sidecars:
        assert sidecar.metric("redspan_blind_total") == 0
        assert sidecar.metric("redspan_unrecognised_total", framework=framework) == 0
        assert sidecar.metric("redspan_orphan_settles_total") == 0


def check_traces(
    spans: list[ReceivedSpan],
    runs: Runs,
    kind_of: Callable[[list[ReceivedSpan]], str],
    statuses: Mapping[str, str | None] = ENDS,
) -> None:
    """Each job is a trace, each run a delivery, and every parent is there."""
    traces = by_trace(spans)
    assert len(traces) == ROUNDS * sum(jobs for jobs, _ in runs.values())
    assert_parents_are_exported(spans)
    for trace in traces:
        assert len({span.attributes["messaging.message.id"] for span in trace}) == 1
        root = next(span for span in trace if not span.parent_id)
        assert (root.name, root.kind) == ("queue.enqueue", "PRODUCER")
        processes = sorted((span for span in trace if span.name == "job.process"), key=lambda one: one.start)
        kind = kind_of(trace)
        dequeues = {span.span_id: span for span in trace if span.name == "queue.dequeue"}
        assert len(processes) == len(dequeues) == runs[kind][1], kind
        for process in processes:
            assert dequeues[process.parent_id].end == process.start
        # One that asked to be delayed has not failed.
        attempts = [0, 0] if kind == "postponed" else list(range(len(processes)))
        assert [span.attributes["job.retry_count"] for span in processes] == attempts
        for before, after in pairwise(processes):
            assert before.span_id in [link.span_id for link in after.links]
            assert before.attributes["job.status"] == "retry"
        assert processes[-1].attributes.get("job.status") == statuses.get(kind, "success")
    assert "secret" not in str(spans)
    assert "private" not in str(spans)


def by_type(trace: list[ReceivedSpan]) -> str:
    kind: str = next(span.attributes["job.type"] for span in trace if span.name == "job.process")
    return kind


def check_intervals(spans: list[ReceivedSpan], said: Said) -> None:
    """The handlers ran within their process spans, which are hardly longer."""
    intervals = {one["id"]: (one["begin"] * 1000, one["end"] * 1000) for one in said if "end" in one}
    assert_one_trace_a_job(spans, len(intervals), answered=False)
    excess = []
    for span in spans:
        if span.name == "job.process":
            begin, end = intervals[span.attributes["messaging.message.id"]]
            assert span.start - CLOCKS <= begin <= end <= span.end + CLOCKS
            excess.append(span.duration - (end - begin))
    assert statistics.median(excess) < 50 * MS


def check_redelivery(spans: list[ReceivedSpan], *errors: str) -> None:
    """One job: its first worker was killed, and a second one finished it."""
    assert len(by_trace(spans)) == 1
    assert_parents_are_exported(spans)
    lost, done = (span for span in sorted(spans, key=lambda one: one.start) if span.name == "job.process")
    assert lost.status == "ERROR"
    assert lost.attributes["error.type"] in errors
    assert done.attributes["job.status"] == "success"
    assert lost.span_id in [link.span_id for link in done.links]


def check_repeated(spans: list[ReceivedSpan], said: Said, jobs: int) -> None:
    """Jobs that repeat: a trace each, linked to the one before, which is what the worker was given."""
    assert_one_trace_a_job(spans, jobs)
    enqueues = sorted((span for span in spans if span.name == "queue.enqueue"), key=lambda one: one.start)
    for before, after in pairwise(enqueues):
        assert (before.trace_id, before.span_id) in [(link.trace_id, link.span_id) for link in after.links]
    assert [one["carried"].split("-")[1] for one in said if "end" in one] == [span.trace_id for span in enqueues]


def outcomes(said: Said) -> Said:
    """What came of each run, in order, without what differs from time to time."""
    return [
        {name: value for name, value in one.items() if name in ("id", "name", "value", "error")}
        for one in said
        if "end" in one
    ]
