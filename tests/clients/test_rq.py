"""Real RQ, unmodified, through the sidecar."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import redis
from rq import Queue, suspension

from tests.clients.apps import rq_tasks
from tests.clients.traces import assert_parents_are_exported, by_trace
from tests.conftest import StartSidecar
from tests.receiver import ReceivedSpan, Receiver
from tests.redis import PATIENCE
from tests.sidecar import ROOT, Sidecar

ROUNDS = 2


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


@contextmanager
def worker(url: str, directory: Path, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "rq.cli", "worker", "--url", url, *arguments, "mails"]
    with (
        (directory / "worker.log").open("wb") as log,
        subprocess.Popen(
            command, env=environment(), cwd=ROOT, stdout=log, stderr=log, start_new_session=True
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


def produce(url: str, manner: str = "produce") -> list[list[Any]]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.clients.apps.rq_app", manner, url, str(ROUNDS)],
        env=environment(),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said: list[list[Any]] = json.loads(done.stdout)
    return said


def tracing(receiver: Receiver, **rq: Any) -> dict[str, Any]:
    return {
        "frameworks": {"rq": rq},
        "tracing": {"endpoint": receiver.url, "protocol": "http/protobuf", "export": {"interval": "100ms"}},
    }


def check(said: list[list[Any]], spans: list[ReceivedSpan], jobs: int) -> None:
    states = {"add": "finished", "flaky": "finished", "broken": "failed", "forgotten": "gone", "many": "finished"}
    assert [state for _, state, _ in said] == [states.get(name, "finished") for name, _, _ in said]
    assert [result for name, _, result in said if name == "add"] == [1, 2]
    traces = by_trace(spans)
    assert len(traces) == jobs == len(said)
    assert_parents_are_exported(spans)
    assert Counter(span.name for span in spans if span.kind != "PRODUCER")["queue.dequeue"] == len(
        [span for span in spans if span.name == "job.process"]
    )
    for trace in traces:
        assert len({span.attributes["messaging.message.id"] for span in trace}) == 1
        assert next(span.kind for span in trace if not span.parent_id) == "PRODUCER"
        processes = sorted((span for span in trace if span.name == "job.process"), key=lambda one: one.start)
        kind = processes[0].attributes["job.type"].rpartition(".")[2]
        assert len(processes) == (3 if kind == "flaky" else 1)
        assert [span.attributes["job.retry_count"] for span in processes] == list(range(len(processes)))
        for before, after in pairwise(processes):
            assert before.span_id in [link.span_id for link in after.links]
            assert before.attributes["job.status"] == "retry"
        assert processes[-1].attributes["job.status"] == ("failure" if kind == "broken" else "success")
        assert all(span.attributes["worker.id"] for span in processes)
    assert "not to be told" not in str(spans)


def quiet(sidecar: Sidecar) -> None:
    assert sidecar.metric("redspan_blind_total") == 0
    assert sidecar.metric("redspan_orphan_settles_total") == 0


def ends(spans: list[ReceivedSpan], count: int) -> bool:
    return sum(span.name == "job.process" for span in spans) >= count


@pytest.mark.parametrize("inject", [True, False], ids=["injected", "derived"])
def test_every_job_is_one_trace(
    inject: bool, start_sidecar: StartSidecar, receiver: Receiver, direct: redis.Redis, tmp_path: Path
) -> None:
    """The producer's sidecar and the worker's are two: what they agree on is in the hash, or follows from it."""
    producers, workers = (start_sidecar(tracing(receiver, inject=inject)) for _ in range(2))
    with worker(workers.url, tmp_path):
        said = produce(producers.url)
        receiver.wait_for(lambda spans: ends(spans, ROUNDS * 8))
        time.sleep(0.5)
    check(said, receiver.spans, ROUNDS * 6)
    quiet(workers)
    stored = [direct.hget(key, "traceparent") for key in direct.scan_iter("rq:job:*", _type="hash")]
    assert stored
    assert all((value is not None) is inject for value in stored)


def test_scheduled_and_retried_later(start_sidecar: StartSidecar, receiver: Receiver, tmp_path: Path) -> None:
    sidecar = start_sidecar(tracing(receiver))
    with worker(sidecar.url, tmp_path, "--with-scheduler"):
        said = produce(sidecar.url, "scheduled")
        receiver.wait_for(lambda spans: ends(spans, ROUNDS * 8 + 4))
    check(said, receiver.spans, ROUNDS * 6 + 2)
    assert [span for span in receiver.spans if span.attributes.get("redspan.scheduled_ms", 0) > 500]
    quiet(sidecar)


def test_an_idle_worker_makes_no_spans(start_sidecar: StartSidecar, receiver: Receiver, tmp_path: Path) -> None:
    sidecar = start_sidecar(tracing(receiver))
    with worker(sidecar.url, tmp_path, "--with-scheduler"):
        time.sleep(4)
        assert sidecar.metric("redspan_commands_total") > 10
    assert receiver.spans == []


def test_worker_and_sidecar_are_told_to_end_at_once(
    start_sidecar: StartSidecar, receiver: Receiver, direct: redis.Redis, tmp_path: Path
) -> None:
    """As when a pod is stopped: the job in hand is finished, over connections that are opened only now."""
    sidecar = start_sidecar({**tracing(receiver), "relay": {"drain_timeout": "20s"}})
    mark = tmp_path / "mark"
    with worker(sidecar.url, tmp_path) as process:
        job = Queue("mails", connection=direct).enqueue(rq_tasks.slow, str(mark), 2)
        deadline = time.monotonic() + PATIENCE
        while not mark.exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        sidecar.signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0
        assert sidecar.wait(PATIENCE) == 0
    assert job.return_value(refresh=True) == "slept"
    assert mark.read_text() == "ran\n"
    assert direct.llen("rq:queue:mails") == direct.llen("rq:queue:mails:intermediate") == 0
    dequeue, ran = sorted(receiver.spans, key=lambda span: span.start)
    assert [dequeue.name, ran.name] == ["queue.dequeue", "job.process"]
    assert (ran.trace_id, ran.parent_id) == (dequeue.trace_id, dequeue.span_id)
    assert ran.attributes["job.status"] == "success"
    assert ran.duration >= 2e9


def test_a_suspended_worker_goes_on_when_it_is_told_to(
    start_sidecar: StartSidecar, receiver: Receiver, tmp_path: Path
) -> None:
    sidecar = start_sidecar(tracing(receiver))
    with redis.Redis.from_url(sidecar.url) as client, worker(sidecar.url, tmp_path):
        queue = Queue("mails", connection=client)
        queue.enqueue(rq_tasks.add, 1, 1)
        receiver.wait_for(lambda spans: ends(spans, 1), timeout=60)
        suspension.suspend(client)
        # It looks only between jobs.
        queue.enqueue(rq_tasks.add, 1, 2)
        receiver.wait_for_span("queue.pause", timeout=60)
        job = queue.enqueue(rq_tasks.add, 1, 3)
        suspension.resume(client)
        spans = receiver.wait_for(lambda spans: ends(spans, 3), timeout=60)
        assert job.return_value(refresh=True) == 4
    (pause,) = [span for span in spans if span.name == "queue.pause"]
    (resume,) = [span for span in spans if span.name == "queue.resume"]
    assert {pause.attributes["redspan.key"], resume.attributes["redspan.key"]} == {"rq:suspended"}
    last = max((span for span in spans if span.name == "job.process"), key=lambda span: span.start)
    assert pause.end < resume.end < last.start
    quiet(sidecar)
