"""Real Celery, unmodified, through the sidecar."""

from __future__ import annotations

import json
import os
import signal
import time
from collections import Counter
from contextlib import AbstractContextManager
from itertools import pairwise
from pathlib import Path
from subprocess import Popen
from typing import Any

import pytest
import redis

from tests.clients.programs import running, said_by
from tests.clients.traces import assert_intervals, assert_parents_are_exported, by_trace, kinds, processes
from tests.conftest import StartSidecar
from tests.receiver import ReceivedSpan, Receiver
from tests.redis import RedisServer
from tests.sidecar import Sidecar

ROUNDS = 2
TASKS = {"add": 6, "flaky": 1, "broken": 1, "context": 2, "nesting": 1}
"""Of each round; `flaky` takes three attempts, one `add` is sent by `nesting`."""
WORKERS = {
    "early acks, prefork": ({}, ("--pool", "prefork", "-c", "2")),
    "late acks, solo, events": ({"task_acks_late": True, "worker_prefetch_multiplier": 1}, ("--pool", "solo", "-E")),
}
"""Options and arguments. Its redis-py decides on the protocol: version 5 on RESP2, version 8 on RESP3."""


def worker(url: str, directory: Path, options: dict[str, Any], *arguments: str) -> AbstractContextManager[Popen[bytes]]:
    command = ("-m", "celery", "-A", "celery_app", "worker", "-l", "INFO", *arguments)
    return running(url, directory, *command, CELERY_OPTIONS=json.dumps(options))


def produce(url: str, options: dict[str, Any], what: str = f"main({ROUNDS})") -> list[list[Any]]:
    command = ("-c", f"import celery_app; celery_app.{what}")
    return said_by(url, *command, CELERY_OPTIONS=json.dumps(options))


def tracing(receiver: Receiver, **celery: Any) -> dict[str, Any]:
    return {
        "frameworks": {"celery": celery},
        "tracing": {"endpoint": receiver.url, "protocol": "http/protobuf", "export": {"interval": "100ms"}},
    }


def check(spans: list[ReceivedSpan]) -> None:
    traces = by_trace(spans)
    assert len(traces) == ROUNDS * sum(TASKS.values())
    assert_parents_are_exported(spans)
    attempts = {"flaky": 3}
    assert kinds(spans) == {
        f"celery_app.{name}": Counter(
            dict.fromkeys(("queue.enqueue", "queue.dequeue", "job.process"), ROUNDS * count * attempts.get(name, 1))
        )
        for name, count in TASKS.items()
    }
    for trace in traces:
        enqueues = [span for span in trace if span.name == "queue.enqueue"]
        assert min(enqueues, key=lambda span: span.start).kind == "PRODUCER"
        assert all(span.parent_id == enqueues[0].span_id for span in trace if span.name == "queue.dequeue")
        ran = processes(trace)
        dequeues = {span.span_id for span in trace if span.name == "queue.dequeue"}
        assert all(span.parent_id in dequeues for span in ran)
        for before, after in pairwise(ran):
            assert before.span_id in [link.span_id for link in after.links]
            assert before.status == "ERROR"
        failed = ran[-1].attributes["job.type"].endswith("broken")
        assert ran[-1].attributes["job.status"] == ("failure" if failed else "success")
    errors = {span.attributes["error.type"] for span in spans if span.status == "ERROR"}
    assert errors == {"retry", "KeyError"}
    assert "not to be told" not in str(spans)


def told(said: list[list[Any]]) -> list[list[Any]]:
    """What a producer learns, without the contexts."""
    return [[name, None if name in ("flaky", "context", "later") else result] for name, result in said]


def contexts(said: list[list[Any]]) -> set[str]:
    """Trace ids that tasks have read."""
    return {result[3:35] for name, result in said if name in ("flaky", "context", "later")}


ATTEMPTS = ROUNDS * (sum(TASKS.values()) + 2)


@pytest.mark.parametrize("manner", WORKERS)
def test_every_task_is_one_trace(
    manner: str,
    start_sidecar: StartSidecar,
    receiver: Receiver,
    redis_server: RedisServer,
    direct: redis.Redis,
    tmp_path: Path,
) -> None:
    """The producer's sidecar and the worker's are two: what they agree on is in the message."""
    options, arguments = WORKERS[manner]
    with worker(redis_server.url, tmp_path, options, *arguments):
        wanted = produce(redis_server.url, options)
    direct.flushall()
    producers = start_sidecar(tracing(receiver))
    workers = start_sidecar(tracing(receiver))
    with worker(workers.url, tmp_path, options, *arguments):
        said = produce(producers.url, options)
        receiver.wait_for(lambda spans: len(spans) >= 3 * ATTEMPTS)
        time.sleep(1)
    spans = receiver.spans
    assert told(said) == told(wanted)
    assert contexts(wanted) == {""}
    assert contexts(said) < {span.trace_id for span in spans}
    check(spans)
    quiet(workers)


def test_without_writing_the_ids_pair_the_spans(
    start_sidecar: StartSidecar, receiver: Receiver, tmp_path: Path
) -> None:
    sidecar = start_sidecar(tracing(receiver, inject=False))
    with worker(sidecar.url, tmp_path, {}, "--pool", "solo"):
        said = produce(sidecar.url, {})
        spans = receiver.wait_for(lambda spans: len(spans) >= 3 * ATTEMPTS)
    assert contexts(said) == {""}
    assert_parents_are_exported(spans)
    assert sidecar.metric("redspan_injections_total", framework="celery", result="written") <= 0
    quiet(sidecar)


@pytest.mark.parametrize("manner", WORKERS)
def test_the_process_span_is_what_ran(
    manner: str, start_sidecar: StartSidecar, receiver: Receiver, tmp_path: Path
) -> None:
    """With early acknowledgement it is the pool's parent who says that a task begins, a moment after it has."""
    options, arguments = WORKERS[manner]
    sidecar = start_sidecar(tracing(receiver))
    with worker(sidecar.url, tmp_path, options, *arguments):
        ran = produce(sidecar.url, options, "measure(20)")
        spans = receiver.wait_for(lambda spans: len(processes(spans)) >= 20)
    assert_intervals(spans, ran, early=not options)


@pytest.mark.parametrize("pool", ["prefork", "solo"])
def test_a_task_that_is_held_for_its_eta_begins_then(
    pool: str, start_sidecar: StartSidecar, receiver: Receiver, tmp_path: Path
) -> None:
    sidecar, options = start_sidecar(tracing(receiver)), {"task_acks_late": True}
    with worker(sidecar.url, tmp_path, options, "--pool", pool):
        ((identifier, (begun, ended)),) = produce(sidecar.url, options, "delayed(2)")
        spans = receiver.wait_for(lambda spans: len(processes(spans)) >= 2)
    _, process = processes(spans)
    assert process.attributes["redspan.start.inferred"] is True
    assert process.start <= begun <= ended <= process.end
    assert process.duration < 1.5e9
    assert process.attributes["messaging.message.id"] == identifier


def test_what_a_killed_worker_had_runs_again_in_its_trace(
    start_sidecar: StartSidecar, receiver: Receiver, direct: redis.Redis, tmp_path: Path
) -> None:
    """As soon as it has been held for longer than the visibility timeout."""
    sidecar, mark = start_sidecar(tracing(receiver)), tmp_path / "mark"
    options = {"task_acks_late": True, "broker_transport_options": {"visibility_timeout": 1}}
    with worker(sidecar.url, tmp_path, options, "--pool", "prefork", "-c", "1") as doomed:
        produce(sidecar.url, options, f"begin({str(mark)!r})")
        sidecar.wait_for(mark.exists, "nothing runs")
        os.killpg(doomed.pid, signal.SIGKILL)
    sidecar.wait_for(lambda: direct.zcount("unacked_index", 0, time.time() - 2) == 1, "nothing is held")
    with worker(sidecar.url, tmp_path, options, "--pool", "prefork", "-c", "1"):
        spans = receiver.wait_for(lambda spans: len(processes(spans)) >= 2)
    assert mark.read_text() == "ran\n" * 2
    assert len(by_trace(spans)) == 1
    assert_parents_are_exported(spans)
    lost, done = processes(spans)
    assert [lost.attributes["error.type"], done.attributes["job.status"]] == ["reclaimed", "success"]
    assert [link.span_id for link in done.links] == [lost.span_id]
    quiet(sidecar)


def quiet(sidecar: Sidecar) -> None:
    assert sidecar.metric("redspan_blind_total") == 0
    assert sidecar.metric("redspan_orphan_settles_total") == 0
