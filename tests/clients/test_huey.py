"""Real huey, unmodified, through the sidecar."""

from __future__ import annotations

from collections import Counter
from contextlib import AbstractContextManager
from pathlib import Path
from subprocess import Popen
from typing import Any

import pytest
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
from tests.sidecar import Sidecar

ROUNDS = 2
PRODUCE = ("-c", f"import huey_app; huey_app.main({ROUNDS})")
THREADS = ("-w", "3")
PROCESSES = ("-w", "2", "-k", "process")
STORAGES = {
    "threads, RESP3": ("RedisHuey", "3", THREADS),
    "processes, RESP2": ("RedisHuey", "2", PROCESSES),
    "by priority, expiring, threads, RESP2": ("PriorityRedisExpireHuey", "2", THREADS),
    "by priority, RESP3": ("PriorityRedisHuey", "3", THREADS),
}
OF_EACH = {
    "add": (8, 10, 9, 8),
    "flaky": (1, 3, 3, 3),
    "insistent": (1, 3, 3, 3),
    "broken": (1, 1, 1, 1),
    "silent": (1, 1, 1, 1),
    "nested": (1, 1, 1, 1),
    "patient": (1, 3, 2, 2),
}
"""Of each round: tasks, and their enqueues, dequeues and processes; two more enqueues where one is put aside."""


def worker(url: str, directory: Path, *arguments: str, **env: str) -> AbstractContextManager[Popen[bytes]]:
    return running(url, directory, "-m", "huey.bin.huey_consumer", "huey_app.huey", *arguments, **env)


def tracing(receiver: Receiver) -> dict[str, Any]:
    return {"tracing": {"endpoint": receiver.url, "protocol": "http/protobuf", "export": {"interval": "100ms"}}}


def quiet(sidecar: Sidecar) -> None:
    assert sidecar.metric("redspan_blind_total") == 0
    assert sidecar.metric("redspan_orphan_settles_total") == 0


def check(spans: list[ReceivedSpan], *, priority: bool) -> None:
    expected = {name: list(counts) for name, counts in OF_EACH.items()}
    expected["add"] = [count + priority for count in expected["add"]]
    names = ("queue.enqueue", "queue.dequeue", "job.process")
    assert kinds(spans) == {
        f"huey_app.{name}": Counter(dict(zip(names, (ROUNDS * count for count in counts), strict=True)))
        for name, (_, *counts) in expected.items()
    }
    assert len(by_trace(spans)) == ROUNDS * sum(tasks for tasks, *_ in expected.values())
    assert_parents_are_exported(spans)
    assert_ids_are_unique(spans)
    assert_retries_are_linked(spans)
    for trace in by_trace(spans):
        first = min((span for span in trace if span.name == "queue.enqueue"), key=lambda span: span.start)
        assert (first.kind, first.parent_id) == ("PRODUCER", "")
        last = max((span for span in trace if span.name == "job.process"), key=lambda span: span.start)
        failed = last.attributes["job.type"].endswith("broken")
        assert last.attributes["job.status"] == ("failure" if failed else "success")
        assert last.attributes.get("redspan.end.inferred", False) is last.attributes["job.type"].endswith("silent")
    assert {span.attributes["error.type"] for span in spans if span.status == "ERROR"} == {"retry", "KeyError"}
    assert "not to be told" not in str(spans)


@pytest.mark.parametrize("storage", STORAGES)
def test_every_task_is_one_trace(
    storage: str, start_sidecar: StartSidecar, receiver: Receiver, direct: redis.Redis, tmp_path: Path
) -> None:
    """The producer's sidecar and the worker's are two: what they agree on follows from the tasks' ids."""
    name, protocol, arguments = STORAGES[storage]
    kwargs = direct.get_connection_kwargs()
    plain = f"redis://{kwargs['host']}:{kwargs['port']}?protocol={protocol}"
    with worker(plain, tmp_path, *arguments, HUEY_CLASS=name):
        wanted = said_by(plain, *PRODUCE, HUEY_CLASS=name)
    producers, workers = (start_sidecar(tracing(receiver)) for _ in range(2))
    with worker(f"{workers.url}?protocol={protocol}", tmp_path, *arguments, HUEY_CLASS=name):
        url = f"{producers.url}?protocol={protocol}"
        assert said_by(url, *PRODUCE, HUEY_CLASS=name) == wanted
        priority = name.startswith("Priority")
        processes = ROUNDS * (sum(counts[-1] for counts in OF_EACH.values()) + priority)
        receiver.wait_for(lambda spans: sum(span.name == "job.process" for span in spans) >= processes)
        receiver.wait_for(lambda spans: sum(span.name == "queue.enqueue" for span in spans) >= ROUNDS * 22)
    check(receiver.spans, priority=priority)
    for sidecar in (producers, workers):
        quiet(sidecar)


def test_the_process_span_is_what_ran(start_sidecar: StartSidecar, receiver: Receiver, tmp_path: Path) -> None:
    sidecar = start_sidecar(tracing(receiver))
    with worker(sidecar.url, tmp_path, *THREADS):
        ran = said_by(sidecar.url, "-c", "import huey_app; huey_app.measure(20)")
        spans = receiver.wait_for(lambda spans: sum(span.name == "job.process" for span in spans) >= 20)
    assert_intervals(spans, ran)


def test_a_task_whose_worker_is_killed_has_no_process(
    start_sidecar: StartSidecar, receiver: Receiver, direct: redis.Redis, tmp_path: Path
) -> None:
    """It is lost to huey, too; the next worker does not know of it."""
    sidecar = start_sidecar(tracing(receiver))
    with worker(sidecar.url, tmp_path) as first:
        said_by(sidecar.url, "-c", "import huey_app; huey_app.endless('begun'); print([])")
        sidecar.wait_for(lambda: direct.get("begun") == b"1", "a task that runs")
        first.kill()
    with worker(sidecar.url, tmp_path):
        said_by(sidecar.url, "-c", "import huey_app; huey_app.measure(1)")
        receiver.wait_for_span("job.process")
    assert kinds(receiver.spans) == {
        "?": Counter({"queue.enqueue": 1, "queue.dequeue": 1}),
        "huey_app.timed": Counter({"queue.enqueue": 1, "queue.dequeue": 1, "job.process": 1}),
    }
    quiet(sidecar)
