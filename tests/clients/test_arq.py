"""Real arq, unmodified, through the sidecar."""

from __future__ import annotations

import sys
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

LIBRARY = str(Path(sys.prefix) / "arq")
"""Where `make test` installs it, as it needs an old redis-py."""
ROUNDS = 2
OF_EACH = {
    "add": (4, 4, 4),
    "flaky": (1, 1, 3),
    "patient": (1, 2, 2),
    "broken": (1, 1, 1),
    "hopeless": (1, 1, 3),
    "nested": (1, 1, 1),
    "silent": (1, 1, 1),
}
"""Of each round: jobs, and their enqueues and attempts; a retry at once is no enqueue."""


def worker(url: str, directory: Path) -> AbstractContextManager[Popen[bytes]]:
    return running(url, directory, "-m", "arq", "arq_app.WorkerSettings", PYTHONPATH=LIBRARY)


def produce(url: str, what: str) -> list[Any]:
    return said_by(url, "-c", f"import arq_app; arq_app.{what}", PYTHONPATH=LIBRARY)


def tracing(receiver: Receiver) -> dict[str, Any]:
    return {"tracing": {"endpoint": receiver.url, "protocol": "http/protobuf", "export": {"interval": "100ms"}}}


def processes(spans: list[ReceivedSpan]) -> int:
    return sum(span.name == "job.process" for span in spans)


def quiet(sidecar: Sidecar) -> None:
    assert sidecar.metric("redspan_blind_total") == 0
    assert sidecar.metric("redspan_orphan_settles_total") == 0


def check(spans: list[ReceivedSpan]) -> None:
    assert kinds(spans) == {
        name: Counter(
            {
                "queue.enqueue": ROUNDS * enqueues,
                "queue.dequeue": ROUNDS * attempts,
                "job.process": ROUNDS * attempts,
            }
        )
        for name, (_, enqueues, attempts) in OF_EACH.items()
    }
    assert len(by_trace(spans)) == ROUNDS * sum(jobs for jobs, *_ in OF_EACH.values())
    assert_parents_are_exported(spans)
    assert_ids_are_unique(spans)
    assert_retries_are_linked(spans)
    for trace in by_trace(spans):
        root = next(span for span in trace if not span.parent_id)
        assert (root.name, root.kind) == ("queue.enqueue", "PRODUCER")
        last = max((span for span in trace if span.name == "job.process"), key=lambda span: span.start)
        ends = {"broken": "failure", "hopeless": "failure", "silent": None}
        assert last.attributes.get("job.status") == ends.get(last.attributes["job.type"], "success")
    assert {span.attributes["error.type"] for span in spans if span.status == "ERROR"} == {
        "retry",
        "KeyError",
        "JobExecutionFailed",
    }
    assert {span.attributes["queue.name"] for span in spans} == {"arq:queue"}
    assert "not to be told" not in str(spans)


def test_every_job_is_one_trace(
    start_sidecar: StartSidecar, receiver: Receiver, redis_server: RedisServer, direct: redis.Redis, tmp_path: Path
) -> None:
    """The producer's sidecar and the worker's are two: what they agree on follows from the jobs' ids and times."""
    with worker(redis_server.url, tmp_path):
        wanted = produce(redis_server.url, f"main({ROUNDS})")
    direct.flushall()
    producers, workers = (start_sidecar(tracing(receiver)) for _ in range(2))
    with worker(workers.url, tmp_path):
        assert produce(producers.url, f"main({ROUNDS})") == wanted
        ends = ROUNDS * sum(attempts for *_, attempts in OF_EACH.values())
        receiver.wait_for(lambda spans: processes(spans) >= ends)
    receiver.wait_for(lambda spans: sum(span.name == "queue.enqueue" for span in spans) >= ROUNDS * 11)
    check(receiver.spans)
    for sidecar in (producers, workers):
        quiet(sidecar)


def test_the_process_span_is_what_ran(start_sidecar: StartSidecar, receiver: Receiver, tmp_path: Path) -> None:
    sidecar = start_sidecar(tracing(receiver))
    with worker(sidecar.url, tmp_path):
        ran = produce(sidecar.url, "measure(20)")
        spans = receiver.wait_for(lambda spans: processes(spans) >= 20)
    assert_intervals(spans, ran)


def test_a_job_whose_worker_is_killed_goes_to_another(
    start_sidecar: StartSidecar, receiver: Receiver, direct: redis.Redis, tmp_path: Path
) -> None:
    """As soon as the claim has expired, 10 s after the job's timeout."""
    sidecar = start_sidecar(tracing(receiver))
    with worker(sidecar.url, tmp_path) as first:
        enqueue = "import arq_app, asyncio; asyncio.run(arq_app.begin('slow')); print([])"
        said_by(sidecar.url, "-c", enqueue, PYTHONPATH=LIBRARY)
        sidecar.wait_for(lambda: direct.get("slow") == b"1", "a job that runs")
        first.kill()
    with worker(sidecar.url, tmp_path):
        receiver.wait_for(lambda spans: processes(spans) == 2)
    spans = receiver.spans
    assert kinds(spans) == {"slow": Counter({"queue.enqueue": 1, "queue.dequeue": 2, "job.process": 2})}
    lost, done = sorted((span for span in spans if span.name == "job.process"), key=lambda span: span.start)
    assert lost.attributes["error.type"] == "redelivered"
    assert [link.span_id for link in done.links] == [lost.span_id]
    assert (done.attributes["job.status"], done.attributes["job.retry_count"]) == ("success", 1)
    assert_parents_are_exported(spans)
    quiet(sidecar)
