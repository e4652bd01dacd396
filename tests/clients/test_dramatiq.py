"""Real dramatiq, unmodified, through the sidecar."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
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
JOBS = {"add": 8, "flaky": 1, "broken": 1, "doomed": 1, "context": 2, "nesting": 1}
"""Of each round; two of `add` are a pipeline, one is sent by `nesting`; one of `context` is delayed."""
ATTEMPTS = {"flaky": 3, "doomed": 2}
DELAYED = 1
EAGER = {"heartbeat_timeout": 3000, "maintenance_chance": 1_000_000}
"""What a dead worker had is given to others soon."""


def environment(url: str, options: dict[str, Any]) -> dict[str, str]:
    return {**os.environ, "REDIS_URL": url, "DRAMATIQ_OPTIONS": json.dumps(options), "PYTHONPATH": str(APPS)}


@contextmanager
def worker(
    url: str, directory: Path, *arguments: str, options: dict[str, Any] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "dramatiq", "dramatiq_app", "--processes", "1", *arguments]
    with (
        (directory / "worker.log").open("ab") as log,
        subprocess.Popen(
            command, env=environment(url, options or {}), cwd=APPS, stdout=log, stderr=log, start_new_session=True
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


def produce(url: str, what: str = f"main({ROUNDS})", options: dict[str, Any] | None = None) -> Any:
    done = subprocess.run(
        [sys.executable, "-c", f"import dramatiq_app; dramatiq_app.{what}"],
        env=environment(url, options or {}),
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout or "null")


def tracing(receiver: Receiver, **dramatiq: Any) -> dict[str, Any]:
    return {
        "frameworks": {"dramatiq": dramatiq},
        "tracing": {"endpoint": receiver.url, "protocol": "http/protobuf", "export": {"interval": "100ms"}},
    }


def ended(count: int) -> Callable[[list[ReceivedSpan]], bool]:
    return lambda spans: len(processes(spans)) >= count


def told(said: list[list[Any]]) -> list[list[Any]]:
    """What a producer learns, without what differs each time."""
    varies = ("flaky", "context", "later", "nesting")
    return [[name, None if name in varies else result] for name, _, result in said]


def check(said: list[list[Any]], spans: list[ReceivedSpan]) -> None:
    assert_parents_are_exported(spans)
    assert "not to be told" not in str(spans)
    traces = by_trace(spans)
    assert len(traces) == ROUNDS * sum(JOBS.values())
    assert len({span.attributes["messaging.message.id"] for span in spans}) == len(traces)
    assert {identifier for _, identifier, _ in said} < {span.attributes["messaging.message.id"] for span in spans}
    names: dict[str, Counter[str]] = {}
    for trace in traces:
        assert len({span.attributes["messaging.message.id"] for span in trace}) == 1
        ran = processes(trace)
        kind = ran[0].attributes["job.type"]
        names.setdefault(kind, Counter()).update(span.name for span in trace)
        assert [span.attributes["job.retry_count"] for span in ran] == list(range(ATTEMPTS.get(kind, 1)))
        assert [span.attributes["job.status"] for span in ran[:-1]] == ["retry"] * (len(ran) - 1)
        last = "failure" if kind in ("broken", "doomed") else "success"
        assert ran[-1].attributes["job.status"] == last
        assert ran[-1].attributes.get("error.type", "") == ("dead_letter" if last == "failure" else "")
        for before, after in pairwise(ran):
            assert before.span_id in [link.span_id for link in after.links]
        (first,) = (span for span in trace if not span.parent_id)
        assert (first.name, first.kind) == ("queue.enqueue", "PRODUCER")
        dequeues = {span.span_id for span in trace if span.name == "queue.dequeue"}
        assert all(span.parent_id == first.span_id for span in trace if span.span_id in dequeues)
        assert all(span.parent_id in dequeues for span in ran)
    for kind, count in JOBS.items():
        attempts = ROUNDS * count * ATTEMPTS.get(kind, 1)
        # What comes later is enqueued twice: on the delay queue, and when it is due.
        twice = ROUNDS * (count * (ATTEMPTS.get(kind, 1) - 1) + DELAYED * (kind == "context"))
        assert names[kind] == {
            "queue.enqueue": attempts + twice,
            "queue.dequeue": attempts,
            "job.process": attempts,
        }
    follows = [link for span in spans for link in span.links if link.attributes["redspan.link"] == "follows"]
    assert len({link.span_id for link in follows}) == ROUNDS
    assert {link.span_id for link in follows} <= {span.span_id for span in processes(spans)}


TOTAL = ROUNDS * sum(count * ATTEMPTS.get(kind, 1) for kind, count in JOBS.items())


@pytest.mark.parametrize("protocol", [2, 3], ids=["RESP2", "RESP3"])
@pytest.mark.parametrize("inject", [True, False], ids=["injected", "observed"])
def test_every_message_is_one_trace(
    protocol: int,
    inject: bool,
    start_sidecar: StartSidecar,
    receiver: Receiver,
    tmp_path: Path,
    redis_server: RedisServer,
    direct: redis.Redis,
) -> None:
    """Injected: the producer's sidecar and the worker's are two, what they agree on is in the message."""
    query = f"?protocol={protocol}"
    producers = start_sidecar(tracing(receiver, inject=inject))
    workers = start_sidecar(tracing(receiver)) if inject else producers
    with worker(workers.url + query, tmp_path, "--threads", "2"):
        said = produce(producers.url + query)
        spans = receiver.wait_for(ended(TOTAL))
    contexts = [result for name, _, result in said if name in ("context", "later", "flaky")]
    if inject:
        check(said, spans)
        assert {context.split("-")[1] for context in contexts} < {span.trace_id for span in spans}
    else:
        assert_parents_are_exported(spans)
        assert set(contexts) == {""}
    for sidecar in (producers, workers):
        quiet(sidecar)
    ran = sorted(direct.lrange("ran", 0, -1))
    direct.flushall()
    with worker(redis_server.url + query, tmp_path, "--threads", "2"):
        assert told(produce(redis_server.url + query)) == told(said)
    assert sorted(direct.lrange("ran", 0, -1)) == ran


def test_the_actors_own_time_lies_inside_the_process_span(
    start_sidecar: StartSidecar, receiver: Receiver, tmp_path: Path
) -> None:
    sidecar = start_sidecar(tracing(receiver))
    with worker(sidecar.url, tmp_path, "--threads", "2"):
        ran = produce(sidecar.url, "measure(20)")
        spans = receiver.wait_for(ended(20))
    assert_intervals(spans, ran.items())


def test_what_a_killed_worker_had_runs_again_in_its_trace(
    start_sidecar: StartSidecar, receiver: Receiver, tmp_path: Path
) -> None:
    sidecar = start_sidecar(tracing(receiver))
    mark = tmp_path / "mark"
    with worker(sidecar.url, tmp_path, options=EAGER) as doomed:
        produce(sidecar.url, f"slow.send({str(mark)!r}, 1)", EAGER)
        sidecar.wait_for(mark.exists, "nothing runs")
        os.killpg(doomed.pid, signal.SIGKILL)
    with worker(sidecar.url, tmp_path, options=EAGER):
        spans = receiver.wait_for(ended(2))
    assert mark.read_text() == "ran\n" * 2
    assert len(by_trace(spans)) == 1
    assert_parents_are_exported(spans)
    lost, done = processes(spans)
    assert [lost.attributes["error.type"], done.attributes["job.status"]] == ["redelivered", "success"]
    assert lost.attributes["worker.id"] != done.attributes["worker.id"]
    assert [link.span_id for link in done.links] == [lost.span_id]
    quiet(sidecar)


def test_what_a_worker_had_not_begun_when_it_was_stopped_is_given_back(
    start_sidecar: StartSidecar, receiver: Receiver, tmp_path: Path
) -> None:
    sidecar = start_sidecar(tracing(receiver))
    mark, gate, log = (tmp_path / name for name in ("mark", "gate", "worker.log"))
    with worker(sidecar.url, tmp_path, "--threads", "1") as stopped:
        produce(sidecar.url, f"two({str(mark)!r}, {str(gate)!r})")
        sidecar.wait_for(mark.exists, "nothing runs")
        sidecar.wait_for(lambda: jobs(sidecar, "dequeue") == 2, "it does not fetch")
        stopped.terminate()
        sidecar.wait_for(lambda: "Shutting down" in log.read_text(), "it does not stop")
        gate.touch()
        # Told twice, it would be killed.
        assert stopped.wait(PATIENCE) == 0
    assert mark.read_text() == "ran\n"
    with worker(sidecar.url, tmp_path):
        spans = receiver.wait_for(ended(3))
    assert_parents_are_exported(spans)
    assert Counter(span.attributes.get("error.type", "") for span in processes(spans)) == {"": 2, "reclaimed": 1}
    quiet(sidecar)


def jobs(sidecar: Sidecar, event: str) -> float:
    return sidecar.metric("redspan_jobs_total", framework="dramatiq", event=event)


def quiet(sidecar: Sidecar) -> None:
    assert sidecar.metric("redspan_blind_total") == 0
    assert sidecar.metric("redspan_orphan_settles_total") == 0
