"""Real RQ, unmodified, through the sidecar."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from itertools import pairwise
from pathlib import Path
from subprocess import Popen
from typing import Any

import pytest
import redis
from rq import Queue, Retry, suspension

from tests.clients.apps import rq_tasks
from tests.clients.programs import running, said_by
from tests.clients.traces import assert_intervals, assert_parents_are_exported, by_trace, processes
from tests.conftest import StartSidecar
from tests.receiver import ReceivedSpan, Receiver
from tests.redis import PATIENCE, RedisServer
from tests.sidecar import ROOT, Sidecar, children_of

ROUNDS = 2
PROTOCOLS = pytest.mark.parametrize("query", ["?protocol=2", ""], ids=["RESP2", "as it comes"])


def worker(url: str, directory: Path, *arguments: str) -> AbstractContextManager[Popen[bytes]]:
    command = ("-m", "rq.cli", "worker", "--url", url, *arguments, "mails")
    return running(url, directory, *command, PYTHONPATH=str(ROOT))


def produce(url: str, manner: str = "produce", count: int = ROUNDS) -> list[list[Any]]:
    return said_by(url, "-m", "tests.clients.apps.rq_app", manner, url, str(count), PYTHONPATH=str(ROOT))


def tracing(receiver: Receiver, **rq: Any) -> dict[str, Any]:
    return {
        "frameworks": {"rq": rq},
        "tracing": {"endpoint": receiver.url, "protocol": "http/protobuf", "export": {"interval": "100ms"}},
    }


def check(said: list[list[Any]], spans: list[ReceivedSpan], jobs: int) -> None:
    """Of each `nesting`, another job is known of that its producer has not sent."""
    traces = by_trace(spans)
    assert len(traces) == jobs == len(said) + ROUNDS
    assert_parents_are_exported(spans)
    assert Counter(span.name for span in spans if span.kind != "PRODUCER")["queue.dequeue"] == len(
        [span for span in spans if span.name == "job.process"]
    )
    for trace in traces:
        assert len({span.attributes["messaging.message.id"] for span in trace}) == 1
        assert next(span.kind for span in trace if not span.parent_id) == "PRODUCER"
        ran = processes(trace)
        kind = ran[0].attributes["job.type"].rpartition(".")[2]
        assert len(ran) == (3 if kind == "flaky" else 1)
        assert [span.attributes["job.retry_count"] for span in ran] == list(range(len(ran)))
        for before, after in pairwise(ran):
            assert before.span_id in [link.span_id for link in after.links]
            assert before.attributes["job.status"] == "retry"
        assert ran[-1].attributes["job.status"] == ("failure" if kind == "broken" else "success")
        assert all(span.attributes["worker.id"] for span in ran)
    assert "not to be told" not in str(spans)


def quiet(sidecar: Sidecar) -> None:
    assert sidecar.metric("redspan_blind_total") == 0
    assert sidecar.metric("redspan_orphan_settles_total") == 0


def ends(count: int) -> Callable[[list[ReceivedSpan]], bool]:
    return lambda spans: len(processes(spans)) >= count


@PROTOCOLS
@pytest.mark.parametrize("inject", [True, False], ids=["injected", "derived"])
def test_every_job_is_one_trace(
    inject: bool,
    query: str,
    start_sidecar: StartSidecar,
    receiver: Receiver,
    redis_server: RedisServer,
    direct: redis.Redis,
    tmp_path: Path,
) -> None:
    """The producer's sidecar and the worker's are two: what they agree on is in the hash, or follows from it."""
    with worker(redis_server.url + query, tmp_path):
        wanted = produce(redis_server.url + query)
    direct.flushall()
    producers, workers = (start_sidecar(tracing(receiver, inject=inject)) for _ in range(2))
    with worker(workers.url + query, tmp_path):
        said = produce(producers.url + query)
        receiver.wait_for(ends(ROUNDS * 10))
        time.sleep(0.5)
    assert said == wanted
    assert Counter(state for _, state, _ in said) == {"finished": ROUNDS * 5, "failed": ROUNDS, "gone": ROUNDS}
    check(said, receiver.spans, ROUNDS * 8)
    quiet(workers)
    stored = [direct.hget(key, "traceparent") for key in direct.scan_iter("rq:job:*", _type="hash")]
    assert stored
    assert all((value is not None) is inject for value in stored)


def test_scheduled_and_retried_later(
    start_sidecar: StartSidecar, receiver: Receiver, redis_server: RedisServer, direct: redis.Redis, tmp_path: Path
) -> None:
    with worker(redis_server.url, tmp_path, "--with-scheduler"):
        wanted = produce(redis_server.url, "scheduled")
    direct.flushall()
    sidecar = start_sidecar(tracing(receiver))
    with worker(sidecar.url, tmp_path, "--with-scheduler"):
        said = produce(sidecar.url, "scheduled")
        receiver.wait_for(ends(ROUNDS * 10 + 4))
    assert said == wanted
    check(said, receiver.spans, ROUNDS * 8 + 2)
    later = [span for span in receiver.spans if span.attributes.get("redspan.scheduled_ms", 0) > 500]
    assert {span.name for span in later} == {"queue.enqueue", "queue.dequeue"}
    quiet(sidecar)


def test_the_process_span_is_what_ran(start_sidecar: StartSidecar, receiver: Receiver, tmp_path: Path) -> None:
    sidecar = start_sidecar(tracing(receiver))
    with worker(sidecar.url, tmp_path):
        ran = produce(sidecar.url, "measure", 20)
        spans = receiver.wait_for(ends(20))
    assert_intervals(spans, ran)


def test_what_a_killed_worker_had_runs_again_in_its_trace(
    start_sidecar: StartSidecar, receiver: Receiver, direct: redis.Redis, tmp_path: Path
) -> None:
    """As soon as its heartbeat, good for more than a minute, has expired: here by our hand."""
    sidecar, mark = start_sidecar(tracing(receiver)), tmp_path / "mark"
    with worker(sidecar.url, tmp_path) as doomed, redis.Redis.from_url(sidecar.url) as client:
        Queue("mails", connection=client).enqueue(rq_tasks.slow, str(mark), 1, retry=Retry(max=1))
        sidecar.wait_for(mark.exists, "nothing runs")
        # Its work horse is in no group of its.
        for pid in (doomed.pid, *children_of(doomed.pid)):
            os.kill(pid, signal.SIGKILL)
    (held,) = direct.zrange("rq:wip:mails", 0, -1)
    assert isinstance(held, bytes)
    direct.zadd("rq:wip:mails", {held: 1})
    with worker(sidecar.url, tmp_path):
        spans = receiver.wait_for(ends(2))
    assert mark.read_text() == "ran\n" * 2
    assert len(by_trace(spans)) == 1
    assert_parents_are_exported(spans)
    lost, done = processes(spans)
    assert [lost.attributes["error.type"], done.attributes["job.status"]] == ["retry", "success"]
    assert lost.attributes["worker.id"] != done.attributes["worker.id"]
    assert lost.span_id in [link.span_id for link in done.links]
    quiet(sidecar)


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
        receiver.wait_for(ends(1), timeout=60)
        suspension.suspend(client)
        # It looks only between jobs.
        queue.enqueue(rq_tasks.add, 1, 2)
        receiver.wait_for_span("queue.pause", timeout=60)
        job = queue.enqueue(rq_tasks.add, 1, 3)
        suspension.resume(client)
        spans = receiver.wait_for(ends(3), timeout=60)
        assert job.return_value(refresh=True) == 4
    (pause,) = [span for span in spans if span.name == "queue.pause"]
    (resume,) = [span for span in spans if span.name == "queue.resume"]
    assert {pause.attributes["redspan.key"], resume.attributes["redspan.key"]} == {"rq:suspended"}
    last = max((span for span in spans if span.name == "job.process"), key=lambda span: span.start)
    assert pause.end < resume.end < last.start
    quiet(sidecar)
