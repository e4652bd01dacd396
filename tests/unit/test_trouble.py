"""What goes wrong with jobs: lost, done twice, not in time, left by a worker that goes; and what is told of it."""

from __future__ import annotations

import pytest

from proxy.context.carry import Carrier
from proxy.context.derive import Deriver
from proxy.context.sampling import Rates
from proxy.events import Connection, Op, Outcome, Verdict
from proxy.tracer import attributes as a
from proxy.tracer.book import Policy
from proxy.tracer.crew import GRACE
from proxy.tracer.home import Home, home
from proxy.tracer.lifecycle import Lifecycle
from proxy.tracer.measures import Measures
from proxy.tracer.span import Span
from proxy.tracer.trouble import LOST_AFTER
from tests.frameworks import go_redis_work_queue, lists
from tests.playbook import MS, START, CountedIds
from tests.unit.test_lifecycle import QUEUE, WORK, ack, dequeue, enqueue, event, lifecycle, run

OTHER = b"work:2"
S = 1000
WORKER = "web-1-4711-1758372955123456789-0a1b-3"


def told(life: Lifecycle) -> list[tuple[str, str, bool]]:
    return [(one.event, one.error, one.inferred) for one in life.happened()]


def listening(**options: object) -> Lifecycle:
    life = lifecycle(**options)
    life.listen()
    return life


def tick(life: Lifecycle, at: int) -> list[Span]:
    """At ``at`` ms."""
    return life.tick(START + at * MS)


def test_taken_from_its_holder_and_never_seen_again() -> None:
    life = listening()
    run(life, enqueue(0), dequeue(1))
    assert run(life, event(Op.RECLAIM, 10, key=WORK, queue="")) == []
    assert tick(life, 11 + LOST_AFTER // MS - 1) == []
    (process,) = tick(life, 11 + LOST_AFTER // MS)
    assert (process.error, process.facts[a.END_INFERRED], process.end) == ("lost", True, START + 11 * MS)
    assert told(life) == [("job.enqueued", "", False), ("job.started", "", False), ("job.lost", "lost", True)]
    assert life.measures.troubles == {(*QUEUE, "lost"): 1}
    assert life.measures.in_flight[QUEUE] == 0


@pytest.mark.parametrize("again", ["enqueue", "dequeue"])
def test_seen_again_it_is_not_lost(again: str) -> None:
    life = listening()
    run(life, enqueue(0), dequeue(1), event(Op.RECLAIM, 10, key=WORK, queue=""))
    spans = run(life, enqueue(12) if again == "enqueue" else dequeue(12, dest=OTHER))
    assert [span.error for span in spans if span.operation == "job.process"] == ["reclaimed"]
    assert [span.error for span in tick(life, 60 * S) if span.operation == "job.process"] == []
    assert ("job.retried", "reclaimed", False) in told(life)


def test_a_reaper_may_give_it_up() -> None:
    life = listening()
    run(life, enqueue(0), dequeue(1), event(Op.RECLAIM, 10, key=WORK, queue=""))
    (process,) = run(life, event(Op.DEAD_LETTER, 11, key=b"dead", verdict=Verdict.FAILURE))
    assert (process.error, process.end) == ("dead_letter", START + 11 * MS)
    assert tick(life, 60 * S) == []
    assert told(life)[-1] == ("job.dead", "dead_letter", False)


def test_after_a_gap_nothing_is_concluded() -> None:
    life = listening()
    run(life, enqueue(0), dequeue(1), event(Op.RECLAIM, 10, key=WORK, queue=""))
    life.gap(0, 1)
    (process,) = tick(life, 12)
    assert process.error == "reclaimed"
    assert "job.lost" not in [name for name, _, _ in told(life)]


@pytest.mark.parametrize(("at", "status"), [(1, None), (1000, "success")], ids=["with the gap", "long after it"])
def test_an_acknowledgement_says_nothing_where_what_was_lost_may_have(at: int, status: str | None) -> None:
    """Also of a delivery that is heard of only after the gap."""
    life = lifecycle()
    run(life, enqueue(0))
    life.gap(0, 1)
    spans = run(life, dequeue(at), ack(at + 1))
    assert spans[-1].facts.get(a.STATUS) == status


def test_an_acknowledgement_that_comes_too_late() -> None:
    """The other worker has the job already: it is done twice. What the first one said is not taken for its."""
    life = lifecycle()
    run(life, enqueue(0), dequeue(1), event(Op.RECLAIM, 10, key=WORK, queue=""), enqueue(11))
    run(life, dequeue(12, dest=OTHER), event(Op.OUTCOME, 20, key=b"done", verdict=Verdict.SUCCESS))
    (late,) = run(life, ack(21, number=0))
    assert (late.operation, late.error) == ("queue.ack", "executed_twice")
    (process,) = run(life, event(Op.DEAD_LETTER, 30, key=b"dead", verdict=Verdict.FAILURE), ack(31, key=OTHER))[-1:]
    assert (process.error, late.links[0].span_id) == ("dead_letter", process.span_id)
    assert life.measures.troubles == {(*QUEUE, "executed_twice"): 1}
    assert life.measures.orphans == 0


def test_too_late_but_nobody_else_has_it_yet() -> None:
    life = lifecycle()
    run(life, enqueue(0), dequeue(1), event(Op.RECLAIM, 10, key=WORK, queue=""), enqueue(11))
    (late,) = run(life, ack(21, number=0))
    assert (late.operation, late.error, late.links) == ("queue.ack", "ack_lost", ())


def test_an_attempt_that_takes_too_long_goes_on_until_its_end() -> None:
    life = listening(policy={"timeouts": {"list": 100 * MS}})
    run(life, enqueue(0), dequeue(1), enqueue(2, value=b'{"id":"2"}'), dequeue(3, value=b'{"id":"2"}'), ack(50))
    assert tick(life, 101) == []
    assert [name for name, _, _ in told(life)][-1] == "job.completed"
    assert tick(life, 200) == []
    assert told(life) == [("job.timed_out", "", True)]
    (process,) = run(life, ack(300, value=b'{"id":"2"}'))
    assert [(one.name, one.at) for one in process.events] == [("job.timed_out", START + 104 * MS)]
    assert (process.error, life.measures.troubles) == ("", {(*QUEUE, "timed_out"): 1})


def test_every_end_has_its_event() -> None:
    life = listening()
    run(life, enqueue(0), dequeue(1), event(Op.OUTCOME, 2, key=b"done", verdict=Verdict.SUCCESS), ack(3))
    run(life, enqueue(10, value=b'{"id":"2"}'), dequeue(11, value=b'{"id":"2"}'))
    run(life, enqueue(12, value=b'{"id":"2","attempt":1}'), ack(13, value=b'{"id":"2"}'))
    dead = b'{"id":"2","attempt":1}'
    run(
        life,
        dequeue(14, value=dead),
        event(Op.DEAD_LETTER, 15, key=b"dead", value=dead, verdict=Verdict.FAILURE),
        ack(16, value=dead),
    )
    run(life, enqueue(20, value=b'{"id":"3"}'), event(Op.CANCEL, 21, value=b'{"id":"3"}', number=1))
    run(life, enqueue(30, value=b'{"id":"4"}'), dequeue(31, value=b'{"id":"4"}', outcome=Outcome.UNDELIVERED))
    happened = life.happened()
    counts = life.measures.ends[*QUEUE, ""]
    words = ("success", "retry", "dead_letter", "undelivered")
    assert {how: count for how, count in counts.items() if count} == dict.fromkeys(words, 1)
    assert [(one.job_id, one.event) for one in happened] == [
        ("1", "job.enqueued"),
        ("1", "job.started"),
        ("1", "job.completed"),
        ("2", "job.enqueued"),
        ("2", "job.started"),
        ("2", "job.enqueued"),
        ("2", "job.retried"),
        ("2", "job.started"),
        ("2", "job.dead"),
        ("3", "job.enqueued"),
        ("3", "job.cancelled"),
        ("4", "job.enqueued"),
        ("4", "job.lost"),
    ]
    assert [one.duration // MS for one in happened if one.duration >= 0] == [2, 2, 2]
    assert life.happened() == []


def test_nobody_listens_and_nothing_is_kept() -> None:
    life = lifecycle()
    run(life, enqueue(0), dequeue(1), ack(2))
    assert life.happened() == []


@pytest.mark.parametrize(
    ("worker", "is_at"),
    [
        (WORKER, Home("web-1-4711-1758372955123456789", "web-1", 4711)),
        ("celery@web-1", Home("celery@web-1", "web-1")),
        ("gen4711@web-1", Home("gen4711@web-1", "web-1", 4711)),
        ("0b6e", Home("0b6e")),
    ],
)
def test_where_a_worker_is_by_its_name(worker: str, is_at: Home) -> None:
    assert home(worker) == is_at


def test_a_worker_comes_and_goes_with_a_job_in_hand() -> None:
    life = lifecycle(policy={"health": True})
    opened = Connection(0, 1, START, True, "l", "", "10.0.0.1:5")
    (started, *_) = run(life, opened, enqueue(0), dequeue(1, worker=WORKER))[1:]
    assert (started.operation, started.facts[a.WORKER_HOST], started.facts[a.WORKER_PID]) == (
        "worker.started",
        "web-1",
        4711,
    )
    assert life.crew.count() == {("list", True): 1}
    run(life, Connection(0, 1, START + 10 * MS, False, "l", "", "10.0.0.1:5"))
    assert tick(life, 11) == []
    (gone,) = tick(life, 10 + GRACE // MS)
    assert (gone.operation, gone.start, gone.facts[a.WORKER_JOBS]) == ("worker.shutdown", START + 10 * MS, 1)
    assert gone.facts[a.WORKER_HELD] == "1"
    (process,) = run(life, event(Op.RECLAIM, 5000, key=WORK, queue=""), enqueue(5001))[:1]
    assert [one.name for one in process.events] == ["worker.shutdown"]
    assert gone.links[0].span_id == process.parent_id


def test_a_worker_that_opens_another_connection_has_not_gone() -> None:
    life = lifecycle(policy={"health": True})
    run(life, enqueue(0), dequeue(1, worker=WORKER), Connection(0, 1, START + 5 * MS, False, "l", "", ""))
    run(life, ack(6), enqueue(6), dequeue(7, conn=2, worker=WORKER))
    assert tick(life, 60 * S) == []
    assert len(life.crew.workers) == 1


def test_what_is_known_of_workers_is_bounded() -> None:
    life = lifecycle()
    for number in range(6000):
        run(life, event(Op.HEARTBEAT, number, conn=number, worker=f"w-{number}"))
    assert len(life.crew.workers) == 5000
    life.worker_gone(0, START)
    tick(life, 100 * S)


def test_a_producer_that_had_to_wait() -> None:
    life = Lifecycle(
        (lists(), go_redis_work_queue()), Carrier(Deriver(), CountedIds(100)), Rates(lambda *_: 1.0), Policy()
    )
    asked = event(Op.THROTTLE, 0, key=b"limiter", queue="", value=b"", number=1000)
    spans = run(life, asked, enqueue(900), enqueue(901, value=b'{"id":"2"}'))
    assert [[(one.name, one.at, one.attributes) for one in span.events] for span in spans] == [
        [("queue.throttled", START + MS, {a.THROTTLED_MS: 899.0, a.RETRY_AFTER_MS: 1000})],
        [],
    ]
    # Nor was one who comes much later, as far as anybody can know.
    (late,) = run(life, asked, enqueue(10_000, value=b'{"id":"3"}'))
    assert late.events == ()
    assert run(life, asked, Connection(0, 1, START, False, "l", "", "")) == []


def test_paused_once_and_resumed() -> None:
    life = lifecycle()
    spans = run(life, *(event(op, at, value=b"") for at, op in enumerate((Op.PAUSE, Op.PAUSE, Op.RESUME, Op.PAUSE))))
    assert [span.operation for span in spans] == ["queue.pause", "queue.resume", "queue.pause"]


def test_the_depth_that_somebody_asked_for() -> None:
    life = lifecycle()
    assert run(life, event(Op.PEEK, 0, value=b"", number=5)) == []
    (dequeued,) = [span for span in run(life, dequeue(1)) + life.flush() if span.operation == "queue.dequeue"]
    assert (dequeued.facts[a.DEPTH], dequeued.facts[a.DEPTH_SOURCE]) == (4, "llen")
    (peeked,) = run(life, event(Op.PEEK, 2, value=b""))
    assert peeked.operation == "queue.peek"


def test_a_process_of_its_own_that_reports_a_job_is_no_worker_that_goes() -> None:
    """RQ's work horse is one, with a connection of its own."""
    life = lifecycle(policy={"health": True})
    run(life, enqueue(0), dequeue(1), event(Op.START, 2, conn=7, worker="w"), ack(3))
    run(life, Connection(0, 7, START + 4 * MS, False, "l", "", ""))
    assert tick(life, 60 * S) == []


def test_types_of_jobs_are_counted_up_to_a_limit() -> None:
    measures = Measures()
    for number in range(3000):
        measures.end(QUEUE, f"type-{number}", "success")
    assert len(measures.ends) == 201
    assert measures.ends["list", "other", "other"]["success"] == 2800


def test_threads_of_a_worker_are_bounded() -> None:
    """go-redis-work-queue numbers them; they are one worker."""
    life = lifecycle()
    run(life, *(event(Op.HEARTBEAT, at, worker=f"vm-7-1700000000000000000-ab12-{at}") for at in range(5000)))
    assert life.crew.count() == {("list", False): 1000}
