"""Real taskiq with taskiq-redis, unmodified, through the sidecar."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.clients.traces import assert_intervals, assert_parents_are_exported, by_trace, processes
from tests.conftest import StartSidecar
from tests.receiver import ReceivedSpan, Receiver
from tests.redis import PATIENCE, RedisServer
from tests.sidecar import Sidecar

APPS = Path(__file__).with_name("apps")
ROUNDS = 2
JOBS = {"add": 6, "flaky": 1, "broken": 1, "doomed": 1, "context": 1, "nesting": 1, "again": 1}
"""Of each round; one of `add` is sent by `nesting`."""
ATTEMPTS = {"flaky": 3, "doomed": 2, "again": 2}
ERRORS = {"broken": "KeyError", "doomed": "ValueError"}
TOTAL = ROUNDS * sum(count * ATTEMPTS.get(kind, 1) for kind, count in JOBS.items())
BROKERS = pytest.mark.parametrize("stream", [False, True], ids=["list", "stream"])


def environment(url: str, options: dict[str, Any]) -> dict[str, str]:
    return {**os.environ, "REDIS_URL": url, "TASKIQ_OPTIONS": json.dumps(options), "PYTHONPATH": str(APPS)}


@contextmanager
def running(url: str, directory: Path, options: dict[str, Any], *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    with (
        (directory / "worker.log").open("ab") as log,
        subprocess.Popen(
            [sys.executable, "-m", "taskiq", *arguments],
            env=environment(url, options),
            cwd=APPS,
            stdout=log,
            stderr=log,
            start_new_session=True,
        ) as process,
    ):
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(PATIENCE)
            finally:
                process.kill()


@contextmanager
def worker(url: str, directory: Path, options: dict[str, Any], *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    with running(url, directory, options, "worker", "taskiq_app:broker", "--workers", "1", *arguments) as process:
        yield process


def produce(url: str, options: dict[str, Any], what: str = f"main({ROUNDS})") -> Any:
    done = subprocess.run(
        [sys.executable, "-c", f"import taskiq_app; taskiq_app.run(taskiq_app.{what})"],
        env=environment(url, options),
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def tracing(receiver: Receiver, **taskiq: Any) -> dict[str, Any]:
    return {
        "frameworks": {"taskiq": taskiq},
        "tracing": {"endpoint": receiver.url, "protocol": "http/protobuf", "export": {"interval": "100ms"}},
    }


def ended(count: int) -> Callable[[list[ReceivedSpan]], bool]:
    return lambda spans: len(processes(spans)) >= count


def told(said: list[list[Any]]) -> list[list[Any]]:
    """What a producer learns, without what differs each time."""
    return [[name, None if name in ("flaky", "context", "nesting") else result] for name, _, result in said]


def check(said: list[list[Any]], spans: list[ReceivedSpan]) -> None:
    assert_parents_are_exported(spans)
    assert "not to be told" not in str(spans)
    traces = by_trace(spans)
    assert len(traces) == ROUNDS * sum(JOBS.values())
    assert {identifier for _, identifier, _ in said} < {span.attributes["messaging.message.id"] for span in spans}
    names: dict[str, Counter[str]] = {}
    for trace in traces:
        assert len({span.attributes["messaging.message.id"] for span in trace}) == 1
        ran = processes(trace)
        kind = ran[0].attributes["job.type"].removeprefix("taskiq_app:")
        names.setdefault(kind, Counter()).update(span.name for span in trace)
        assert [span.attributes["job.retry_count"] for span in ran] == list(range(ATTEMPTS.get(kind, 1)))
        assert [span.attributes["job.status"] for span in ran[:-1]] == ["retry"] * (len(ran) - 1)
        assert ran[-1].attributes["job.status"] == ("failure" if kind in ERRORS else "success")
        assert ran[-1].attributes.get("error.type") == ERRORS.get(kind)
        for before, after in pairwise(ran):
            assert before.span_id in [link.span_id for link in after.links]
        (first,) = (span for span in trace if not span.parent_id)
        assert (first.name, first.kind) == ("queue.enqueue", "PRODUCER")
        dequeues = {span.span_id for span in trace if span.name == "queue.dequeue"}
        assert all(span.parent_id == first.span_id for span in trace if span.span_id in dequeues)
        assert all(span.parent_id in dequeues for span in ran)
    for kind, count in JOBS.items():
        attempts = ROUNDS * count * ATTEMPTS.get(kind, 1)
        assert names[kind] == dict.fromkeys(("queue.enqueue", "queue.dequeue", "job.process"), attempts)


@BROKERS
@pytest.mark.parametrize("query", ["?protocol=2", ""], ids=["RESP2", "RESP3"])
def test_every_task_is_one_trace(
    stream: bool,
    query: str,
    start_sidecar: StartSidecar,
    receiver: Receiver,
    tmp_path: Path,
    redis_server: RedisServer,
    direct: redis.Redis,
) -> None:
    """The producer's sidecar and the worker's are two: what they agree on is in the message."""
    options = {"stream": stream}
    producers, workers = (start_sidecar(tracing(receiver)) for _ in range(2))
    with worker(workers.url + query, tmp_path, options):
        said = produce(producers.url + query, options)
        spans = receiver.wait_for(ended(TOTAL))
    check(said, spans)
    contexts = [result for name, _, result in said if name in ("context", "flaky")]
    assert {context.split("-")[1] for context in contexts} < {span.trace_id for span in spans}
    for sidecar in (producers, workers):
        quiet(sidecar)
    ran = sorted(direct.lrange("ran", 0, -1))
    direct.flushall()
    with worker(redis_server.url + query, tmp_path, options):
        assert told(produce(redis_server.url + query, options)) == told(said)
    assert sorted(direct.lrange("ran", 0, -1)) == ran


@BROKERS
def test_without_writing_the_ids_pair_the_spans(
    stream: bool, start_sidecar: StartSidecar, receiver: Receiver, tmp_path: Path
) -> None:
    sidecar, options = start_sidecar(tracing(receiver, inject=False)), {"stream": stream}
    with worker(sidecar.url, tmp_path, options):
        said = produce(sidecar.url, options)
        spans = receiver.wait_for(ended(TOTAL))
    assert {result for name, _, result in said if name in ("context", "flaky")} == {""}
    assert_parents_are_exported(spans)
    assert sidecar.metric("redspan_injections_total", framework="taskiq", result="written") <= 0
    quiet(sidecar)


@BROKERS
def test_the_tasks_own_time_lies_inside_the_process_span(
    stream: bool, start_sidecar: StartSidecar, receiver: Receiver, tmp_path: Path
) -> None:
    sidecar, options = start_sidecar(tracing(receiver)), {"stream": stream}
    with worker(sidecar.url, tmp_path, options):
        ran = produce(sidecar.url, options, "measure(20)")
        spans = receiver.wait_for(ended(20))
    assert_intervals(spans, ran.items())


def test_what_a_killed_worker_had_of_a_stream_runs_again_in_its_trace(
    start_sidecar: StartSidecar, receiver: Receiver, tmp_path: Path
) -> None:
    sidecar, options = start_sidecar(tracing(receiver)), {"stream": True, "idle_timeout": 3000}
    mark = tmp_path / "mark"
    with worker(sidecar.url, tmp_path, options) as doomed:
        produce(sidecar.url, options, f"marked({str(mark)!r}, 2)")
        sidecar.wait_for(mark.exists, "nothing runs")
        os.killpg(doomed.pid, signal.SIGKILL)
    assert mark.read_text() == "ran\n"
    with worker(sidecar.url, tmp_path, options):
        # Pending entries are looked for after new ones were read.
        deadline = time.monotonic() + PATIENCE
        while mark.read_text() != "ran\n" * 2:
            assert time.monotonic() < deadline
            produce(sidecar.url, options, "many(1)")
        spans = receiver.wait_for(lambda spans: sum(is_slow(span) for span in processes(spans)) == 2)
    lost, done = (span for span in processes(spans) if is_slow(span))
    assert lost.trace_id == done.trace_id
    assert [lost.attributes["error.type"], done.attributes["job.status"]] == ["redelivered", "success"]
    assert lost.attributes["worker.id"] != done.attributes["worker.id"]
    assert [link.span_id for link in done.links] == [lost.span_id]
    assert_parents_are_exported(spans)
    quiet(sidecar)


def test_what_a_killed_worker_had_of_a_list_is_lost(
    start_sidecar: StartSidecar, receiver: Receiver, tmp_path: Path
) -> None:
    """To taskiq, too; the next worker does not know of it."""
    sidecar, mark = start_sidecar(tracing(receiver)), tmp_path / "mark"
    with worker(sidecar.url, tmp_path, {}) as doomed:
        produce(sidecar.url, {}, f"marked({str(mark)!r}, 600)")
        sidecar.wait_for(mark.exists, "nothing runs")
        os.killpg(doomed.pid, signal.SIGKILL)
    with worker(sidecar.url, tmp_path, {}):
        produce(sidecar.url, {}, "many(1)")
        spans = receiver.wait_for(ended(1))
    assert mark.read_text() == "ran\n"
    assert sorted(len(trace) for trace in by_trace(spans)) == [2, 3]
    assert_parents_are_exported(spans)
    quiet(sidecar)


def is_slow(span: ReceivedSpan) -> bool:
    return bool(span.attributes["job.type"] == "taskiq_app:slow")


@pytest.mark.parametrize("acks", [(), ("--ack-type", "when_received")], ids=["late acks", "early acks"])
def test_a_stream_without_results(
    acks: tuple[str, ...], start_sidecar: StartSidecar, receiver: Receiver, tmp_path: Path, direct: redis.Redis
) -> None:
    """Late: when a task ended is seen, but not how. Early: its end is not to be seen at all."""
    settings = {"ack_type": acks[1]} if acks else {}
    sidecar, options = start_sidecar(tracing(receiver, **settings)), {"stream": True, "results": False}
    with worker(sidecar.url, tmp_path, options, *acks):
        produce(sidecar.url, options, "many(5)")
        spans = receiver.wait_for(lambda spans: len(spans) >= (10 if acks else 15))
        sidecar.wait_for(lambda: direct.llen("ran") == 5, "not all have run")
    assert_parents_are_exported(spans)
    assert {span.attributes.get("job.status") for span in processes(spans)} == (set() if acks else {None})
    quiet(sidecar)


def test_a_list_without_results_shows_no_ends(start_sidecar: StartSidecar, receiver: Receiver, tmp_path: Path) -> None:
    sidecar, options = start_sidecar(tracing(receiver)), {"results": False}
    with worker(sidecar.url, tmp_path, options):
        produce(sidecar.url, options, "many(5)")
        spans = receiver.wait_for(lambda spans: len(spans) >= 10)
    assert Counter(span.name for span in spans) == {"queue.enqueue": 5, "queue.dequeue": 5}
    quiet(sidecar)


@BROKERS
def test_schedules_and_retries_that_are_scheduled(
    stream: bool, start_sidecar: StartSidecar, receiver: Receiver, tmp_path: Path
) -> None:
    sidecar, options = start_sidecar(tracing(receiver)), {"stream": stream, "scheduled": True}
    ticking = ("scheduler", "taskiq_app:scheduler", "--update-interval", "1")
    with worker(sidecar.url, tmp_path, options), running(sidecar.url, tmp_path, options, *ticking):
        schedule, context = produce(sidecar.url, options, "scheduled()")
        spans = receiver.wait_for(ended(4))
    assert_parents_are_exported(spans)
    later, flaky = sorted(by_trace(spans), key=len)
    assert {span.attributes["messaging.message.conversation_id"] for span in later} == {schedule}
    assert [span.attributes["job.status"] for span in processes(later)] == ["success"]
    ran = processes(flaky)
    assert [span.attributes["job.status"] for span in ran] == ["retry", "retry", "success"]
    assert all(span.duration < 1e9 for span in ran)
    for before, after in pairwise(ran):
        assert before.span_id in [link.span_id for link in after.links]
    assert context.split("-")[1] == flaky[0].trace_id
    quiet(sidecar)


def quiet(sidecar: Sidecar) -> None:
    assert sidecar.metric("redspan_blind_total") == 0
    assert sidecar.metric("redspan_orphan_settles_total") == 0
