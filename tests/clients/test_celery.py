"""Real Celery, unmodified, through the sidecar."""

from __future__ import annotations

import json
import os
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

from tests.clients.traces import assert_parents_are_exported, by_trace
from tests.conftest import StartSidecar
from tests.receiver import ReceivedSpan, Receiver
from tests.redis import PATIENCE
from tests.sidecar import Sidecar

APPS = Path(__file__).with_name("apps")
ROUNDS = 2
TASKS = {"add": 5, "flaky": 1, "broken": 1, "context": 2}
"""Of each round; `flaky` takes three attempts."""


def environment(url: str, options: dict[str, Any]) -> dict[str, str]:
    return {**os.environ, "REDIS_URL": url, "CELERY_OPTIONS": json.dumps(options), "PYTHONPATH": str(APPS)}


@contextmanager
def worker(url: str, directory: Path, options: dict[str, Any], *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "celery", "-A", "celery_app", "worker", "-l", "INFO", *arguments]
    with (
        (directory / "worker.log").open("wb") as log,
        subprocess.Popen(command, env=environment(url, options), cwd=APPS, stdout=log, stderr=log) as process,
    ):
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(PATIENCE)
            finally:
                process.kill()


def produce(url: str, options: dict[str, Any]) -> list[list[Any]]:
    done = subprocess.run(
        [sys.executable, "-c", f"import celery_app; celery_app.main({ROUNDS})"],
        env=environment(url, options),
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said: list[list[Any]] = json.loads(done.stdout)
    return said


def tracing(receiver: Receiver, **celery: Any) -> dict[str, Any]:
    return {
        "frameworks": {"celery": celery},
        "tracing": {"endpoint": receiver.url, "protocol": "http/protobuf", "export": {"interval": "100ms"}},
    }


def kinds(spans: list[ReceivedSpan]) -> dict[str, Counter[str]]:
    """How many spans there are of each task, by name of the task."""
    counted: dict[str, Counter[str]] = {}
    types = {
        span.attributes["messaging.message.id"]: span.attributes["job.type"]
        for span in spans
        if span.name == "job.process"
    }
    for span in spans:
        kind = types.get(span.attributes["messaging.message.id"], "?").removeprefix("celery_app.")
        counted.setdefault(kind, Counter())[span.name] += 1
    return counted


def check(spans: list[ReceivedSpan]) -> None:
    traces = by_trace(spans)
    assert len(traces) == ROUNDS * sum(TASKS.values())
    assert_parents_are_exported(spans)
    attempts = {"flaky": 3}
    assert kinds(spans) == {
        name: Counter(
            dict.fromkeys(("queue.enqueue", "queue.dequeue", "job.process"), ROUNDS * count * attempts.get(name, 1))
        )
        for name, count in TASKS.items()
    }
    for trace in traces:
        enqueues = [span for span in trace if span.name == "queue.enqueue"]
        assert min(enqueues, key=lambda span: span.start).kind == "PRODUCER"
        assert all(span.parent_id == enqueues[0].span_id for span in trace if span.name == "queue.dequeue")
        processes = sorted((span for span in trace if span.name == "job.process"), key=lambda one: one.start)
        dequeues = {span.span_id for span in trace if span.name == "queue.dequeue"}
        assert all(span.parent_id in dequeues for span in processes)
        for before, after in pairwise(processes):
            assert before.span_id in [link.span_id for link in after.links]
            assert before.status == "ERROR"
        assert processes[-1].attributes["job.status"] == (
            "failure" if processes[-1].attributes["job.type"].endswith("broken") else "success"
        )
    errors = {span.attributes["error.type"] for span in spans if span.status == "ERROR"}
    assert errors == {"retry", "KeyError"}
    assert "not to be told" not in str(spans)


def expected(said: list[list[Any]], spans: list[ReceivedSpan], *, injected: bool) -> None:
    ids = {span.trace_id for span in spans}
    for name, result in said:
        if name in ("flaky", "context", "later"):
            assert (result.split("-")[1] in ids) if injected else result == "", (name, result)
    rest = [[name, result] for name, result in said if name not in ("flaky", "context", "later")]
    assert rest == [
        pair
        for number in range(ROUNDS)
        for pair in (
            ["add", number + 1],
            ["broken", "KeyError"],
            ["chain", number + 3],
            ["group", [number, number + 1]],
        )
    ]


ATTEMPTS = ROUNDS * (sum(TASKS.values()) + 2)


@pytest.mark.parametrize(
    ("options", "arguments"),
    [
        ({}, ("--pool", "prefork", "-c", "2")),
        ({"task_acks_late": True, "worker_prefetch_multiplier": 1}, ("--pool", "solo", "-E")),
    ],
    ids=["early acks, prefork", "late acks, solo, events"],
)
def test_every_task_is_one_trace(
    options: dict[str, Any],
    arguments: tuple[str, ...],
    start_sidecar: StartSidecar,
    receiver: Receiver,
    tmp_path: Path,
) -> None:
    """The producer's sidecar and the worker's are two: what they agree on is in the message."""
    producers = start_sidecar(tracing(receiver))
    workers = start_sidecar(tracing(receiver))
    with worker(workers.url, tmp_path, options, *arguments):
        said = produce(producers.url, options)
        spans = receiver.wait_for(lambda spans: len(spans) >= 3 * ATTEMPTS)
        time.sleep(1)
        spans = receiver.spans
    expected(said, spans, injected=True)
    check(spans)
    quiet(workers)


def test_without_writing_the_ids_pair_the_spans(
    start_sidecar: StartSidecar, receiver: Receiver, tmp_path: Path
) -> None:
    sidecar = start_sidecar(tracing(receiver, inject=False))
    with worker(sidecar.url, tmp_path, {}, "--pool", "solo"):
        said = produce(sidecar.url, {})
        spans = receiver.wait_for(lambda spans: len(spans) >= 3 * ATTEMPTS)
    expected(said, spans, injected=False)
    assert_parents_are_exported(spans)
    assert sidecar.metric("redspan_injections_total", framework="celery", result="written") == 0
    quiet(sidecar)


def test_an_idle_worker_makes_no_spans(start_sidecar: StartSidecar, receiver: Receiver, tmp_path: Path) -> None:
    sidecar = start_sidecar(tracing(receiver))
    with worker(sidecar.url, tmp_path, {}, "--pool", "solo"):
        time.sleep(5)
        assert sidecar.metric("redspan_commands_total") > 10
    assert receiver.spans == []
    quiet(sidecar)


def quiet(sidecar: Sidecar) -> None:
    assert sidecar.metric("redspan_blind_total") == 0
    assert sidecar.metric("redspan_orphan_settles_total") == 0
