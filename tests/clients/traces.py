"""What every test asks of the traces that arrived."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from itertools import pairwise
from statistics import median
from typing import Any

from tests.receiver import ReceivedSpan

NAMES = ("queue.enqueue", "queue.dequeue", "job.process")


def by_trace(spans: list[ReceivedSpan]) -> list[list[ReceivedSpan]]:
    traces: dict[str, list[ReceivedSpan]] = defaultdict(list)
    for span in spans:
        traces[span.trace_id].append(span)
    return list(traces.values())


def assert_one_trace_a_job(spans: list[ReceivedSpan], jobs: int, *, answered: bool = True) -> None:
    """Three spans in each trace: enqueue, its child dequeue, and its child process; in this order in time, too.

    ``answered``: a producer has its answer before a worker has the job.
    """
    traces = by_trace(spans)
    assert len(traces) == jobs
    for trace in traces:
        enqueue, dequeue, process = sorted(trace, key=lambda span: NAMES.index(span.name))
        assert [enqueue.kind, dequeue.kind, process.kind] == ["PRODUCER", "CLIENT", "CONSUMER"]
        assert [enqueue.parent_id, dequeue.parent_id, process.parent_id] == ["", enqueue.span_id, dequeue.span_id]
        assert enqueue.start <= enqueue.end
        assert (enqueue.end if answered else enqueue.start) <= dequeue.start <= dequeue.end
        assert dequeue.end == process.start <= process.end
        assert len({span.attributes["messaging.message.id"] for span in trace}) == 1


def assert_parents_are_exported(spans: list[ReceivedSpan]) -> None:
    known = {(span.trace_id, span.span_id) for span in spans}
    assert [span.name for span in spans if span.parent_id and (span.trace_id, span.parent_id) not in known] == []


def assert_retries_are_linked(spans: list[ReceivedSpan]) -> None:
    """In every trace, each attempt is linked to the one before, which has failed; each is the child of a dequeue."""
    for trace in by_trace(spans):
        dequeues = {span.span_id for span in trace if span.name == "queue.dequeue"}
        processes = sorted((span for span in trace if span.name == "job.process"), key=lambda span: span.start)
        assert all(span.parent_id in dequeues for span in processes)
        for number, (before, after) in enumerate(pairwise(processes)):
            assert before.span_id in [link.span_id for link in after.links]
            assert (before.status, before.attributes["error.type"]) == ("ERROR", "retry")
            assert after.attributes["job.retry_count"] == number + 1


def assert_ids_are_unique(spans: list[ReceivedSpan]) -> None:
    assert len({span.span_id for span in spans}) == len(spans)


def kinds(spans: list[ReceivedSpan]) -> dict[str, Counter[str]]:
    """How many spans there are of each type of job, by name; the type is what the process span says, else "?"."""
    counted: dict[str, Counter[str]] = defaultdict(Counter)
    types = {
        span.attributes["messaging.message.id"]: span.attributes["job.type"]
        for span in spans
        if span.name == "job.process"
    }
    for span in spans:
        counted[types.get(span.attributes["messaging.message.id"], "?")][span.name] += 1
    return dict(counted)


def processes(spans: list[ReceivedSpan]) -> list[ReceivedSpan]:
    """The spans of attempts, by their start."""
    return sorted((span for span in spans if span.name == "job.process"), key=lambda span: span.start)


def assert_intervals(spans: list[ReceivedSpan], ran: Iterable[Any], *, early: bool = False) -> None:
    """The process span of each of 20 jobs (id; begin and end in its handler, ns) holds what ran, and hardly more.

    ``early``: it may begin a moment after the handler has.
    """
    found = {span.attributes["messaging.message.id"]: span for span in processes(spans)}
    excess, late = [], []
    for job_id, (begun, ended) in ran:
        process = found[job_id]
        assert early or process.start <= begun
        assert ended <= process.end
        excess.append(process.end - ended + max(0, begun - process.start))
        late.append(process.start - begun)
    assert len(excess) == 20
    assert median(excess) < 50e6
    assert median(late) < 50e6
