"""Real streaq, unmodified, through the sidecar."""

from __future__ import annotations

from collections import Counter
from contextlib import AbstractContextManager
from pathlib import Path
from subprocess import Popen
from typing import Any

import redis

from tests.clients.programs import running, said_by
from tests.clients.traces import (
    assert_ids_are_unique,
    assert_intervals,
    assert_parents_are_exported,
    assert_retries_are_linked,
    by_trace,
    kinds,
)
from tests.conftest import StartSidecar
from tests.receiver import ReceivedSpan, Receiver
from tests.redis import RedisServer
from tests.sidecar import Sidecar

ROUNDS = 2
OF_EACH = {
    "add": (7, 8, 7),
    "timed": (2, 3, 2),
    "flaky": (1, 3, 3),
    "patient": (1, 2, 2),
    "broken": (1, 1, 1),
    "hopeless": (1, 3, 3),
    "nested": (1, 1, 1),
    "silent": (1, 1, 1),
}
"""Of each round: tasks, and their enqueues and attempts; one that waits for another is enqueued twice."""


def worker(url: str, directory: Path) -> AbstractContextManager[Popen[bytes]]:
    return running(url, directory, "-m", "streaq", "run", "streaq_app:worker")


def produce(url: str, what: str) -> list[Any]:
    return said_by(url, "-c", f"import streaq_app; streaq_app.{what}")


def tracing(receiver: Receiver) -> dict[str, Any]:
    return {"tracing": {"endpoint": receiver.url, "protocol": "http/protobuf", "export": {"interval": "100ms"}}}


def count(spans: list[ReceivedSpan], name: str = "job.process") -> int:
    return sum(span.name == name for span in spans)


def quiet(sidecar: Sidecar) -> None:
    assert sidecar.metric("redspan_blind_total") == 0
    assert sidecar.metric("redspan_orphan_settles_total") == 0


def check(spans: list[ReceivedSpan]) -> None:
    names = ("queue.enqueue", "queue.dequeue", "job.process")
    assert kinds(spans) == {
        name: Counter(dict(zip(names, (ROUNDS * one for one in (enqueues, attempts, attempts)), strict=True)))
        for name, (_, enqueues, attempts) in OF_EACH.items()
    }
    assert len(by_trace(spans)) == ROUNDS * sum(tasks for tasks, *_ in OF_EACH.values())
    assert_parents_are_exported(spans)
    assert_ids_are_unique(spans)
    assert_retries_are_linked(spans)
    for trace in by_trace(spans):
        (root,) = (span for span in trace if not span.parent_id)
        assert (root.name, root.kind) == ("queue.enqueue", "PRODUCER")
        last = max((span for span in trace if span.name == "job.process"), key=lambda span: span.start)
        failed = last.attributes["job.type"] in ("broken", "hopeless")
        assert last.attributes["job.status"] == ("failure" if failed else "success")
        assert last.attributes["worker.id"]
    errors = {span.attributes["error.type"] for span in spans if span.status == "ERROR"}
    assert errors == {"retry", "KeyError", "StreaqError"}
    assert {span.attributes["queue.name"] for span in spans} == {"default"}
    assert "not to be told" not in str(spans)


def test_every_task_is_one_trace(
    start_sidecar: StartSidecar, receiver: Receiver, redis_server: RedisServer, direct: redis.Redis, tmp_path: Path
) -> None:
    """The producer's sidecar and the worker's are two: what they agree on follows from the tasks' ids."""
    with worker(redis_server.url, tmp_path):
        wanted = produce(redis_server.url, f"main({ROUNDS})")
    direct.flushall()
    producers, workers = (start_sidecar(tracing(receiver)) for _ in range(2))
    with worker(workers.url, tmp_path):
        assert produce(producers.url, f"main({ROUNDS})") == wanted
        ends = ROUNDS * sum(attempts for *_, attempts in OF_EACH.values())
        receiver.wait_for(lambda spans: count(spans) >= ends)
    enqueues = ROUNDS * sum(enqueues for _, enqueues, _ in OF_EACH.values())
    receiver.wait_for(lambda spans: count(spans, "queue.enqueue") >= enqueues)
    check(receiver.spans)
    for sidecar in (producers, workers):
        quiet(sidecar)


def test_the_process_span_is_what_ran(start_sidecar: StartSidecar, receiver: Receiver, tmp_path: Path) -> None:
    sidecar = start_sidecar(tracing(receiver))
    with worker(sidecar.url, tmp_path):
        ran = produce(sidecar.url, "measure(20)")
        spans = receiver.wait_for(lambda spans: count(spans) >= 20)
    assert_intervals(spans, ran)


def test_a_task_whose_worker_is_killed_goes_to_another(
    start_sidecar: StartSidecar, receiver: Receiver, direct: redis.Redis, tmp_path: Path
) -> None:
    sidecar = start_sidecar(tracing(receiver))
    with worker(sidecar.url, tmp_path) as first:
        produce(sidecar.url, "begin()")
        sidecar.wait_for(lambda: direct.get("slow") == b"1", "a task that runs")
        first.kill()
    with worker(sidecar.url, tmp_path):
        receiver.wait_for(lambda spans: count(spans) == 2)
    spans = receiver.spans
    assert kinds(spans) == {"slow": Counter({"queue.enqueue": 1, "queue.dequeue": 2, "job.process": 2})}
    lost, done = sorted((span for span in spans if span.name == "job.process"), key=lambda span: span.start)
    assert lost.attributes["error.type"] == "redelivered"
    assert [link.span_id for link in done.links] == [lost.span_id]
    assert (done.attributes["job.status"], done.attributes["job.retry_count"]) == ("success", 1)
    assert_parents_are_exported(spans)
    quiet(sidecar)
