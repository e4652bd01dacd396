"""A Go program on go-redis that replays go-redis-work-queue: producer, workers, reaper and admin commands as processes.

A replay, not the system itself, whose module could not be had from the Go module proxy. Its counters are the yardstick:
what redspan saw on the wire must add up to what the processes say they did.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from tests.clients.go_programs import build
from tests.clients.go_replay import HEARTBEATS, HELD, Process, Replay, wait_until
from tests.clients.traces import assert_parents_are_exported, by_trace
from tests.conftest import StartSidecar
from tests.receiver import ReceivedSpan, Receiver
from tests.sidecar import Sidecar

pytestmark = pytest.mark.go

FRAMEWORK = "go-redis-work-queue"
HIGH, LOW = "jobqueue:high_priority", "jobqueue:low_priority"
COMPLETED, DEAD = "jobqueue:completed", "jobqueue:dead_letter"
WORKERS = 16
RETRIES = 2

# 500 jobs. Go escapes & in JSON; a queue of low priority waits for a second wherever the other one is empty. More fail
# than there are workers, and fewer are abandoned: retries meet busy workers as well as some who wait for a job.
ABANDONED = [f"{number:03}&fail.pdf" for number in range(6)]
FAILING = [f"{number:03}-fail.pdf" for number in range(6, 44)]
GOOD = [f"{number:03}-grün&.pdf" for number in range(44, 484)] + [f"{number:03}.txt" for number in range(484, 500)]
JOBS = len(ABANDONED) + len(FAILING) + len(GOOD)
LOST = len(ABANDONED) + len(FAILING)
"""Jobs that end as dead letters: all that fail do so each time."""
DELIVERIES = len(GOOD) + LOST * (RETRIES + 1) + len(ABANDONED)


@pytest.fixture(scope="session")
def program() -> Path:
    return build("go_redis_work_queue_replay")


@pytest.fixture
def sidecar(start_sidecar: StartSidecar, receiver: Receiver) -> Sidecar:
    return start_sidecar(
        {
            "frameworks": {FRAMEWORK: {"max_retries": RETRIES}},
            "tracing": {"protocol": "http/protobuf", "endpoint": receiver.url, "export": {"interval": "100ms"}},
        }
    )


@pytest.fixture
def collector() -> Iterator[Receiver]:
    """Of the spans that the program itself makes."""
    with Receiver() as started:
        yield started


@pytest.fixture
def replay(program: Path, tmp_path: Path, sidecar: Sidecar) -> Iterator[Replay]:
    """With its own tracing off."""
    with Replay(program, tmp_path, sidecar.bind).until_the_end() as started:
        yield started


@pytest.fixture
def traced_replay(program: Path, tmp_path: Path, sidecar: Sidecar, collector: Receiver) -> Iterator[Replay]:
    collects = collector.url.removeprefix("http://")
    with Replay(program, tmp_path, sidecar.bind, collects).until_the_end() as started:
        yield started


def test_500_jobs_with_its_own_tracing_off(
    replay: Replay, sidecar: Sidecar, direct: redis.Redis, receiver: Receiver
) -> None:
    killed, worker = run_500_jobs(replay, direct)
    spans = receiver.wait_for(lambda spans: len(spans) >= 3 * DELIVERIES)
    assert_counts_agree(sidecar, killed, worker)
    assert_attempts(spans, killed)

    first = [span for span in spans if span.name == "queue.enqueue" and span.kind == "PRODUCER"]
    assert len(first) == JOBS
    # The producer made these ids up, so nobody has the span that they name.
    assert all(span.parent_id and span.attributes["redspan.parent.unverified"] is True for span in first)
    assert {span.parent_id for span in first}.isdisjoint(span.span_id for span in spans)
    others = [span for span in spans if span not in first]
    assert all("redspan.parent.unverified" not in span.attributes for span in others)
    assert {span.parent_id for span in others} <= {span.span_id for span in spans}
    assert worker.stop() == 0


def test_500_jobs_with_its_own_tracing_on(
    traced_replay: Replay, sidecar: Sidecar, direct: redis.Redis, receiver: Receiver, collector: Receiver
) -> None:
    killed, worker = run_500_jobs(traced_replay, direct)
    spans = receiver.wait_for(lambda spans: len(spans) >= 3 * DELIVERIES)
    assert_counts_agree(sidecar, killed, worker)
    assert_attempts(spans, killed)
    assert worker.stop() == 0  # and exports what it still has

    jobs = {span.trace_id for span in spans}
    own = [span for span in collector.spans if span.trace_id in jobs]
    # What the killed worker had begun is lost with it.
    assert Counter(span.name for span in own) == {"queue.enqueue": JOBS, "job.process": DELIVERIES - len(ABANDONED)}
    assert_parents_are_exported(spans + own)
    for trace in by_trace(spans + own):
        (produced,) = [span for span in trace if not span.parent_id]
        (enqueue,) = [span for span in trace if span.kind == "PRODUCER"]
        assert produced.scope == "producer"
        assert enqueue.parent_id == produced.span_id
        assert {span.parent_id for span in trace if span.scope == "worker"} == {enqueue.span_id}
    # Its spans of polls that brought a job are in no job's trace: that is how the system has it.
    polls = [span for span in collector.spans if span.name == "queue.dequeue"]
    assert len(polls) > DELIVERIES - len(ABANDONED)
    assert not any(span.parent_id for span in polls)


def run_500_jobs(replay: Replay, direct: redis.Redis) -> tuple[dict[str, int], Process]:
    """A worker process dies with jobs in hand; another one does them all. The dead one's counters, and that one."""
    replay.produce(*ABANDONED)
    first = replay.worker(count=WORKERS, max_retries=RETRIES, backoff="60s")
    wait_until(lambda: first.metric("jobs_failed_total") == len(ABANDONED), "the first worker has not taken the jobs")
    counts = {name: first.metric(name) for name in ("jobs_consumed_total", "jobs_failed_total")}
    first.kill()
    assert sum(direct.llen(key) for key in direct.keys(HELD)) == len(ABANDONED)

    second = replay.worker(count=WORKERS, max_retries=RETRIES, backoff="100ms")
    replay.produce(*FAILING, *GOOD, rate_limit=400)
    wait_until(lambda: direct.llen(COMPLETED) == len(GOOD) and direct.llen(DEAD) == LOST, "jobs are missing")
    wait_until(lambda: second.metric("jobs_dead_letter_total") == LOST, "the worker has not counted its last failure")
    wait_until(lambda: second.metric("jobs_completed_total") == len(GOOD), "the worker has not counted its last job")
    # Every LREM that mattered found its job: whatever a worker had is acknowledged.
    assert direct.keys(HELD) + direct.keys(HEARTBEATS) == []
    assert direct.llen(HIGH) == direct.llen(LOW) == 0
    return {**counts, "pid": first.pid}, second


def assert_counts_agree(sidecar: Sidecar, killed: dict[str, int], worker: Process) -> None:
    def seen(event: str) -> float:
        return sidecar.metric("redspan_jobs_total", framework=FRAMEWORK, event=event)

    did = {
        name: worker.metric(f"{name}_total")
        for name in ("jobs_consumed", "jobs_completed", "jobs_failed", "jobs_retried", "jobs_dead_letter")
    }
    recovered = worker.metric("reaper_recovered_total")
    assert did == {
        "jobs_consumed": DELIVERIES - len(ABANDONED),
        "jobs_completed": len(GOOD),
        "jobs_failed": LOST * (RETRIES + 1),
        "jobs_retried": LOST * RETRIES,
        "jobs_dead_letter": LOST,
    }
    assert recovered == len(ABANDONED)

    # The relay's counts come once a second.
    sidecar.wait_for(lambda: seen("ack") >= DELIVERIES - len(ABANDONED), "the relay's counts are missing")
    assert seen("enqueue") == JOBS + did["jobs_retried"] + recovered
    assert seen("dequeue") == did["jobs_consumed"] + killed["jobs_consumed_total"]
    assert seen("outcome") == did["jobs_completed"]
    assert seen("dead_letter") == did["jobs_dead_letter"]
    assert seen("reclaim") == recovered
    assert seen("ack") == did["jobs_completed"] + did["jobs_retried"] + did["jobs_dead_letter"]
    # What the killed worker counted as failed never came to the wire, but its reaping did.
    failures = did["jobs_failed"] + killed["jobs_failed_total"]
    assert seen("enqueue") - JOBS + seen("dead_letter") == failures

    adopted = sidecar.metric("redspan_injections_total", framework=FRAMEWORK, result="adopted")
    kept = sidecar.metric("redspan_injections_total", framework=FRAMEWORK, result="kept")
    assert (adopted, kept) == (JOBS, did["jobs_retried"] + recovered)
    for name in ("jobs_in_flight", "orphan_settles_total", "events_lost_total", "blind_total", "spans_dropped_total"):
        assert sidecar.metric(f"redspan_{name}") == 0, name


def assert_attempts(spans: list[ReceivedSpan], killed: dict[str, int]) -> None:
    """One trace a job; in it, three spans for each time that it was delivered."""
    assert Counter(span.name for span in spans) == dict.fromkeys(
        ("queue.enqueue", "queue.dequeue", "job.process"), DELIVERIES
    )
    again = 3 * (RETRIES + 1)
    traces = by_trace(spans)
    sizes = {3: len(GOOD), again: len(FAILING), again + 3: len(ABANDONED)}
    assert Counter(len(trace) for trace in traces) == sizes
    assert all(len({span.attributes["messaging.message.id"] for span in trace}) == 1 for trace in traces)
    for trace in traces:
        dequeues = {span.span_id: span for span in trace if span.name == "queue.dequeue"}
        processes = [span for span in trace if span.name == "job.process"]
        assert {span.parent_id for span in processes} == set(dequeues)
        assert all(dequeues[span.parent_id].end == span.start for span in processes)

    processes = [span for span in spans if span.name == "job.process"]
    ends = Counter((span.attributes["job.status"], span.attributes.get("error.type", "")) for span in processes)
    assert ends == {
        ("success", ""): len(GOOD),
        ("retry", "retry"): LOST * RETRIES,
        ("failure", "dead_letter"): LOST,
        ("retry", "reclaimed"): len(ABANDONED),
    }
    reclaimed = [span for span in processes if span.attributes.get("error.type") == "reclaimed"]
    assert all(f"-{killed['pid']}-" in span.attributes["worker.id"] for span in reclaimed)
    # Each attempt says which one it follows, by its enqueue or by itself.
    linked = {link.span_id for span in spans for link in span.links}
    assert {span.span_id for span in processes if span.attributes["job.status"] == "retry"} <= linked


def test_a_job_that_outlives_its_heartbeat_runs_twice_and_redspan_shows_it(
    replay: Replay, sidecar: Sidecar, direct: redis.Redis, receiver: Receiver
) -> None:
    replay.produce("fail.pdf")
    slow = replay.worker(count=1, max_retries=0, backoff="10s")
    wait_until(lambda: slow.metric("jobs_failed_total") == 1, "the slow worker has not taken the job")
    quick = replay.worker(count=1, max_retries=0, backoff="10ms")
    wait_until(lambda: quick.metric("jobs_dead_letter_total") == 1, "the job has not been reaped")
    assert slow.metric("jobs_dead_letter_total") == 0
    wait_until(lambda: slow.metric("jobs_dead_letter_total") == 1, "the slow worker has not ended")
    assert direct.llen(DEAD) == 2

    spans = receiver.wait_for(lambda spans: any(span.name == "queue.ack" for span in spans))
    assert len(by_trace(spans)) == 1
    ends = [span for span in spans if span.name == "job.process"]
    assert sorted(span.attributes["error.type"] for span in ends) == ["dead_letter", "reclaimed"]
    # The slow worker's LREM comes when nobody holds the job any more, and its dead letter is nobody's.
    (late,) = [span for span in spans if span.name == "queue.ack"]
    assert late.attributes["error.type"] == "executed_twice"
    sidecar.wait_for(lambda: sidecar.metric("redspan_orphan_settles_total") == 1, "not counted")
    assert sidecar.metric("redspan_job_troubles_total", trouble="executed_twice") == 1


def test_admin_commands(replay: Replay, sidecar: Sidecar, direct: redis.Redis, receiver: Receiver) -> None:
    worker = replay.worker(count=WORKERS, max_retries=0, backoff="10ms")
    replay.produce("fail.pdf", "good.pdf")
    wait_until(lambda: worker.metric("jobs_consumed_total") == 2 and not direct.keys(HELD), "jobs are missing")
    replay.admin("stats")
    replay.admin("stats-keys")
    (dead,) = json.loads(replay.admin("peek", "-queue", "dead_letter", "-n", "5"))["items"]
    assert [dead.encode()] == direct.lrange(DEAD, 0, -1)

    # Its jobs come with empty ids.
    replay.admin("bench", "-bench-count", "40", "-bench-priority", "high", "-bench-payload-size", "10")
    assert direct.llen(COMPLETED) == 40
    replay.admin("purge-dlq", "-yes")
    replay.admin("purge-all", "-yes")
    assert direct.keys("jobqueue:*") == []
    assert worker.stop() == 0

    spans = receiver.wait_for(lambda spans: sum(span.name == "queue.purge" for span in spans) >= 3)
    bench = [span for span in spans if str(span.attributes.get("messaging.message.id", "")).startswith("bench-")]
    assert Counter(span.name for span in bench) == {"queue.enqueue": 40, "queue.dequeue": 40, "job.process": 40}
    assert len(by_trace(bench)) == 40
    assert_parents_are_exported(bench)
    # The benchmark's own of what was completed, then the two commands; the last one's DEL names all lists at once.
    purges = sorted((span for span in spans if span.name == "queue.purge"), key=lambda span: span.start)
    assert [span.attributes["redspan.key"] for span in purges[:2]] == [COMPLETED, DEAD]
    assert sidecar.metric("redspan_blind_total") == 0


def test_a_producer_is_throttled(replay: Replay, receiver: Receiver) -> None:
    replay.produce(*(f"{number}.pdf" for number in range(5)), rate_limit=2)
    spans = receiver.wait_for(lambda spans: len(spans) == 5)
    throttled = [(span, event) for span in spans for event in span.events]
    assert throttled
    for span, event in throttled:
        assert event.name == "queue.throttled"
        assert event.attributes["redspan.retry_after_ms"] == 1000
        assert 900 < event.attributes["redspan.throttled_ms"] <= (span.start - event.at) / 1e6 + 1
    # Who only looks at the limiter has not been throttled.
    replay.admin("stats-keys")
    assert len(receiver.spans) == 5


def test_a_job_is_given_to_another_worker_while_the_first_one_has_it(
    replay: Replay, sidecar: Sidecar, direct: redis.Redis, receiver: Receiver
) -> None:
    """A heartbeat is never renewed: a job that takes longer is done twice, and both say that it is done."""
    replay.worker(count=3, max_retries=0, backoff="12s")
    replay.produce("slow-fail.pdf")
    twice = receiver.wait_for_span("queue.ack", timeout=60)
    assert twice.attributes["error.type"] == "executed_twice"
    wait_until(lambda: direct.llen(DEAD) >= 2, "the other one has not given up")
    first = receiver.wait_for_span("job.process", lambda span: span.span_id == twice.parent_id)
    second = receiver.wait_for_span("job.process", lambda span: span.span_id == twice.links[0].span_id, timeout=60)
    assert first.attributes["error.type"] == "reclaimed"
    assert second.attributes["error.type"] in ("dead_letter", "reclaimed")
    assert first.trace_id == second.trace_id == twice.trace_id
    assert sidecar.metric("redspan_job_troubles_total", trouble="executed_twice") >= 1


def test_what_a_worker_cannot_read_is_poison_and_what_the_reaper_cannot_read_is_lost(
    replay: Replay, sidecar: Sidecar, receiver: Receiver
) -> None:
    with redis.Redis.from_url(sidecar.url) as client:
        client.lpush(HIGH, '{"id":1}')
        client.brpoplpush(HIGH, "jobqueue:worker:dead-1-1758372955123456789-0a1b-0:processing", 1)
        client.lpush(HIGH, '{"id":2}')
        replay.worker(count=1, max_retries=0, backoff="1s")
        poison = receiver.wait_for_span("job.process", lambda span: span.attributes["error.type"] == "poison")
        lost = receiver.wait_for_span("job.process", lambda span: span.attributes["error.type"] == "lost", timeout=30)
    assert poison.trace_id != lost.trace_id
    assert lost.attributes["redspan.end.inferred"] is True
    assert lost.attributes["redspan.worker.host"] == "dead"
