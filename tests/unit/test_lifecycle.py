"""The life of a job, event by event: out of order, unknown, too many, too old."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.context.carry import Carrier
from proxy.context.derive import Deriver
from proxy.context.sampling import Rates
from proxy.context.traceparent import SpanContext
from proxy.events import Carry, Connection, JobEvent, Op, Outcome, Verdict
from proxy.tracer import attributes as a
from proxy.tracer.book import HOLD, Policy
from proxy.tracer.lifecycle import Lifecycle
from proxy.tracer.span import Span
from tests.frameworks import go_redis_work_queue, lists
from tests.playbook import MS, START, CountedIds, span_id, trace_id, traceparent, tree

CONTEXT = SpanContext(trace_id(1), span_id(1), 3)
JOB = f'{{"id":"1","traceparent":"{traceparent(1)}"}}'.encode()
QUEUE, WORK = ("list", "jobs"), b"work"


def lifecycle(**options: Any) -> Lifecycle:
    policy = Policy(**options.pop("policy", {}))
    return Lifecycle(
        (lists(**options), go_redis_work_queue()), Carrier(Deriver(), CountedIds(100)), Rates(lambda *_: 1.0), policy
    )


def event(op: Op, at: int, **more: Any) -> JobEvent:
    """At ``at`` ms, on the queue ``jobs``, of `JOB`; answered a millisecond later."""
    fields: dict[str, Any] = {"key": b"jobs", "queue": "jobs", "value": JOB, "conn": 1} | more
    return JobEvent(
        op, "list", fields.pop("conn"), fields.pop("db", 0), START + at * MS, START + at * MS + MS, **fields
    )


def enqueue(at: int, **more: Any) -> JobEvent:
    return event(Op.ENQUEUE, at, **{"context": CONTEXT.pack(), "carry": Carry.WRITTEN, "number": 1, **more})


def dequeue(at: int, **more: Any) -> JobEvent:
    return event(Op.DEQUEUE, at, **{"dest": WORK, **more})


def ack(at: int, **more: Any) -> JobEvent:
    return event(Op.ACK, at, **{"key": WORK, "queue": "", "number": 1, **more})


def run(life: Lifecycle, *events: JobEvent | Connection) -> list[Span]:
    return [span for one in events for span in life.feed(0, one)]


def test_a_consumer_may_be_heard_of_before_its_producer() -> None:
    life = lifecycle()
    assert run(life, dequeue(5)) == []
    spans = run(life, enqueue(4))
    spans += run(life, ack(9))
    assert tree(spans) == (
        "queue.enqueue PRODUCER jobs\n  queue.dequeue CLIENT jobs\n    job.process CONSUMER jobs success"
    )
    enqueued, dequeued, _ = spans
    assert dequeued.start >= enqueued.end
    assert dequeued.facts[a.WAIT_SOURCE] == "wire"


def test_an_enqueue_heard_of_very_late_is_no_retry() -> None:
    life = lifecycle()
    spans = run(life, dequeue(5)) + life.tick(START + 10 * MS + HOLD) + run(life, enqueue(4), ack(9))
    assert [span.error for span in spans] == ["", "", ""]
    assert [span.operation for span in spans] == ["queue.dequeue", "queue.enqueue", "job.process"]


def test_a_held_dequeue_comes_out_by_time_by_its_end_or_by_the_flush() -> None:
    life = lifecycle()
    run(life, dequeue(0))
    assert life.tick(START + MS + HOLD - 1) == []
    assert len(life.tick(START + MS + HOLD)) == 1
    assert [span.operation for span in run(life, ack(1))] == ["job.process"]
    run(life, dequeue(10))
    assert len(life.flush()) == 1


def test_the_wait_is_measured_on_the_wire_or_taken_from_the_envelope() -> None:
    life = lifecycle(enqueued_at="at")
    run(life, enqueue(0))
    (dequeued,) = run(life, dequeue(250))
    assert (dequeued.facts[a.WAIT_MS], dequeued.facts[a.WAIT_SOURCE]) == (250.0, "wire")
    assert dequeued.start == START + 250 * MS
    run(life, dequeue(1000, value=b'{"id":"2","at":%d}' % (START // MS)))
    (other,) = life.flush()
    assert (other.facts[a.WAIT_MS], other.facts[a.WAIT_SOURCE]) == (1001.0, "envelope")


def test_a_blocked_pop_begins_when_its_job_was_enqueued() -> None:
    life = lifecycle()
    run(life, enqueue(5000))
    (dequeued,) = run(life, _blocked())
    assert dequeued.start == START + 5001 * MS


def _blocked() -> JobEvent:
    popped = dequeue(0)
    popped.done = START + 5002 * MS
    return popped


def test_the_envelope_s_clock_may_be_ahead() -> None:
    life = lifecycle(created_at="at")
    run(life, dequeue(0, value=b'{"id":"2","at":%d}' % (START // MS + 60_000)))
    assert life.flush()[0].facts[a.WAIT_MS] == 0


def test_jobs_without_id_and_without_context_pair_by_their_bytes_first_in_first_out() -> None:
    life = lifecycle(id="")
    plain = {"value": b"ping", "context": b"", "carry": Carry.NONE}
    first, second = run(life, enqueue(0, **plain), enqueue(1, **plain))
    spans = run(life, dequeue(5, value=b"ping"), dequeue(6, value=b"ping"))
    assert [span.parent_id for span in spans] == [first.span_id, second.span_id]
    assert {span.facts[a.PAIRING] for span in spans} == {"digest"}


def test_a_push_that_failed_is_a_span_and_no_job() -> None:
    life = lifecycle()
    (span,) = run(life, enqueue(0, outcome=Outcome.ERROR, error="OOM"))
    assert span.error == "OOM"
    assert run(life, ack(1)) == []
    assert life.measures.orphans == 1


def test_a_settle_without_its_delivery_is_counted_and_not_invented() -> None:
    life = lifecycle()
    assert run(life, ack(0), event(Op.OUTCOME, 1, verdict=Verdict.SUCCESS), event(Op.SETTLE, 2)) == []
    assert life.measures.orphans == 3


def test_a_completed_list_ends_a_job_that_no_processing_list_holds() -> None:
    life = lifecycle()
    spans = run(life, enqueue(0), dequeue(1, dest=b""), event(Op.OUTCOME, 5, key=b"done", verdict=Verdict.SUCCESS))
    assert spans[-1].facts[a.STATUS] == "success"
    assert spans[-1].end == START + 6 * MS


def test_a_lost_ack_is_an_error() -> None:
    life = lifecycle()
    spans = run(life, enqueue(0), dequeue(1), ack(5, number=0))
    assert spans[-1].error == "ack_lost"


def test_popped_for_a_client_that_is_gone() -> None:
    life = lifecycle()
    run(life, enqueue(0))
    (span,) = run(life, dequeue(1, outcome=Outcome.UNDELIVERED))
    assert (span.error, span.facts[a.OUTCOME]) == ("undelivered", "undelivered")
    assert life.measures.in_flight.get(QUEUE, 0) == 0


def test_an_old_job_begins_a_new_trace_with_a_link_to_its_own() -> None:
    life = lifecycle(policy={"max_age": 100 * MS})
    run(life, enqueue(0))
    (dequeued,) = run(life, dequeue(5000))
    assert dequeued.trace_id != CONTEXT.trace_id
    assert (dequeued.parent_id, dequeued.links[-1].span_id) == (b"", CONTEXT.span_id)


def test_relation_link_never_continues_the_producer_s_trace() -> None:
    life = lifecycle(policy={"linked": frozenset({"list"})})
    spans = run(life, enqueue(0), dequeue(1), ack(2))
    assert [span.trace_id == CONTEXT.trace_id for span in spans] == [True, False, False]
    assert spans[1].links[0].span_id == CONTEXT.span_id


@pytest.mark.parametrize(
    ("relations", "linked"),
    [({"jo*": "link"}, True), ({"other": "link"}, False), ({"*": "link", "jobs": "parent"}, False)],
)
def test_a_queue_can_have_a_relation_of_its_own(relations: dict[str, str], linked: bool) -> None:
    life = lifecycle(policy={"relations": relations})
    spans = run(life, enqueue(0), dequeue(1), ack(2))
    assert [span.trace_id == CONTEXT.trace_id for span in spans] == [True, not linked, not linked]


def test_process_spans_can_be_left_to_the_application() -> None:
    life = lifecycle(policy={"without_process": frozenset({"list"})})
    assert [span.operation for span in run(life, enqueue(0), dequeue(1), ack(2))] == ["queue.enqueue", "queue.dequeue"]


def test_jobs_are_bounded_in_number_and_in_time() -> None:
    life = lifecycle(policy={"jobs": 2, "keep": 1000 * MS})
    for number in range(5):
        run(life, dequeue(number, value=b'{"id":"%d"}' % number))
    assert (life.measures.evicted, life.measures.in_flight[QUEUE]) == (3, 2)
    life.tick(START + 5000 * MS)
    assert life.measures.in_flight[QUEUE] == 0


def test_depth_follows_pushes_and_pops() -> None:
    life = lifecycle()
    run(life, enqueue(0, number=7))
    (dequeued,) = run(life, dequeue(1))
    assert dequeued.facts[a.DEPTH] == 6
    (purge,) = run(life, event(Op.PURGE, 2, value=b""))
    assert purge.facts[a.PURGED] == 6


def test_depth_of_one_name_in_several_places_is_their_sum() -> None:
    life = lifecycle()
    elsewhere = Connection(0, 2, START, True, "l", "redis:6380", "10.0.0.1:5", "", "")
    others: tuple[dict[str, Any], ...] = ({"db": 3}, {"key": b"jobs\x06\x163"}, {"conn": 2})
    run(life, elsewhere, enqueue(0, number=7), *(enqueue(1, number=100, **other) for other in others))
    (dequeued,) = run(life, dequeue(2))
    assert (dequeued.facts[a.DEPTH], life.measures.depth) == (6, {QUEUE: 306})
    for at, other in enumerate(others):
        run(life, event(Op.PURGE, 3, value=b"", **other))
        assert life.measures.depth == {QUEUE: 206 - 100 * at}


@pytest.mark.parametrize(
    ("events", "end"),
    [
        ([ack(1)], "success"),
        ([event(Op.OUTCOME, 1, verdict=Verdict.FAILURE), ack(2)], "failure"),
        ([event(Op.RETRY, 1), ack(2)], "retry"),
        ([event(Op.DEAD_LETTER, 1, verdict=Verdict.FAILURE), ack(2)], "dead_letter"),
        ([event(Op.RECLAIM, 1, key=WORK), enqueue(2)], "taken_over"),
        ([ack(1, number=0)], "ack_lost"),
    ],
)
def test_ends_are_counted(events: list[JobEvent], end: str) -> None:
    life = lifecycle()
    run(life, enqueue(-1), dequeue(0), *events)
    assert {how: count for how, count in life.measures.ends[*QUEUE, ""].items() if count} == {end: 1}


def test_a_job_of_the_same_id_is_no_retry_where_nothing_says_so() -> None:
    """Sent once more, with a context of its own: a daily job, say, whose end nobody can see."""
    life = lifecycle()
    spans = run(life, enqueue(0), dequeue(1, dest=b""), enqueue(100))
    assert [span.operation for span in spans] == ["queue.enqueue", "queue.dequeue", "queue.enqueue"]
    assert [link.relation for link in spans[-1].links] == ["previous"]
    spans = run(life, dequeue(101, dest=b""), enqueue(102, carry=Carry.FOUND))
    assert [span.facts[a.STATUS] for span in spans if span.operation == "job.process"] == ["retry"]


def test_a_job_that_its_client_never_got_is_counted_as_such() -> None:
    life = lifecycle()
    run(life, dequeue(0, outcome=Outcome.UNDELIVERED))
    assert life.measures.ends[*QUEUE, ""]["undelivered"] == 1


def test_who_has_worked_for_longest() -> None:
    life = lifecycle()
    for at in (0, 400):
        run(life, dequeue(at, value=b'{"id":"%d"}' % at))
    now = START + 1001 * MS
    assert life.longest(now) == {QUEUE: 1.0}
    run(life, ack(500, value=b'{"id":"0"}'))
    assert life.longest(now) == {QUEUE: 0.6}
    run(life, ack(500, value=b'{"id":"400"}'))
    assert life.longest(now) == {}


def test_measurements_lead_to_traces() -> None:
    life = lifecycle()
    spans = run(life, enqueue(0), dequeue(250), ack(2000))
    assert len(spans) == 3
    for histogram, seconds in ((life.measures.wait[QUEUE], 0.25), (life.measures.process[QUEUE], 1.75)):
        ((bucket, exemplar),) = histogram.exemplars.items()
        assert (histogram.counts[bucket], exemplar) == (1, (trace_id(1), seconds))


def test_spans_say_who_the_client_is() -> None:
    life = lifecycle()
    known = Connection(0, 1, START, True, "l", "redis:6379", "10.0.0.1:5", "web-1", "redis-py/8.1.0")
    (span,) = run(life, known, enqueue(0))
    assert (span.facts[a.CLIENT_NAME], span.facts[a.CLIENT_LIBRARY]) == ("web-1", "redis-py/8.1.0")
    assert span.job.upstream == "redis:6379"


@pytest.mark.parametrize("op", list(Op))
def test_no_event_about_anything_unknown_is_an_error(op: Op) -> None:
    life = lifecycle()
    run(life, event(op, 0, value=b""), event(op, 1, value=b"\xff"), event(op, 2))
    life.tick(START + 10**15)


def test_many_deliveries_of_one_name_all_have_their_end() -> None:
    life = lifecycle()
    same = {"value": b'{"id":"same"}', "context": b"", "carry": Carry.NONE}
    spans = run(life, *(enqueue(number, **same) for number in range(100)))
    spans += run(life, *(dequeue(200 + number, value=same["value"]) for number in range(100)))
    spans += run(life, *(ack(400 + number, value=same["value"]) for number in range(100)))
    assert sum(span.operation == "job.process" for span in spans) == 100
    assert life.measures.in_flight[QUEUE] == 0


def test_the_stay_that_ends_is_the_one_whose_context_the_job_carries() -> None:
    life = lifecycle()
    contexts = [SpanContext(trace_id(number), span_id(number), 3) for number in (1, 2)]
    values = [b'{"id":"1","traceparent":"%s"}' % context.header() for context in contexts]
    for number in (0, 1):
        run(life, enqueue(number * 400, value=values[number], context=contexts[number].pack()))
    (newest,) = run(life, dequeue(1000, value=values[1]))
    assert newest.facts[a.WAIT_MS] == 600.0


def test_a_clock_that_is_set_back_holds_nothing_for_long() -> None:
    life = lifecycle()
    run(life, dequeue(3_600_000), dequeue(0, value=b'{"id":"2"}'))
    assert len(life.tick(START + 10 * MS + HOLD)) == 2


def test_a_pop_whose_end_nobody_will_see_is_not_in_flight() -> None:
    life = lifecycle()
    run(life, dequeue(0, dest=b""))
    assert life.measures.in_flight[QUEUE] == 0
