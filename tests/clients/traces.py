"""What every test asks of the traces that arrived."""

from __future__ import annotations

from collections import defaultdict

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
