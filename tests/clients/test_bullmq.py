"""Real BullMQ on Node, unmodified, through the sidecar."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import redis

from tests.clients.node_programs import NodeProgram, Said
from tests.clients.traces import assert_one_trace_a_job, assert_parents_are_exported, by_trace
from tests.conftest import StartSidecar
from tests.receiver import ReceivedSpan, Receiver
from tests.sidecar import Sidecar

pytestmark = pytest.mark.node

ROUNDS = 2
RUNS = {"add": (7, 1), "flaky": (1, 3), "again": (1, 3), "broken": (1, 2), "later": (1, 1), "nest": (1, 1),
        "postponed": (1, 2), "parent": (1, 1)}  # fmt: skip
"""Jobs of a round, and how often each of them runs."""
ENDS = {"broken": "failure"}
VERSIONS: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "6.7 ioredis": (("bullmq@6.7.0", "ioredis@5"), {}),
    "6.7 node-redis": (("bullmq@6.7.0", "redis@6"), {"client": "node-redis"}),
    "6.7 node-redis RESP2": (("bullmq@6.7.0", "redis@6"), {"client": "node-redis", "resp": 2}),
    "5.81": (("bullmq@5.81.5",), {}),
    "5.12": (("bullmq@5.12.0",), {}),
    "4.18": (("bullmq@4.18.2",), {}),
}
NEWEST = "6.7 ioredis"
MS = 1_000_000
CLOCKS = 2 * MS
"""ns that Node's clock may differ from redspan's."""

Bull: TypeAlias = Callable[..., NodeProgram]


@pytest.fixture
def bull(node_modules: Callable[..., Path], tmp_path: Path) -> Iterator[Bull]:
    """Starts programs of a version: ``bull(version, role, url, **options)``."""
    with ExitStack() as running:
        started = 0

        def start(version: str, role: str, url: str, **options: Any) -> NodeProgram:
            nonlocal started
            started += 1
            packages, more = VERSIONS[version]
            log = tmp_path / f"{started}-{role}.log"
            arguments = (role, url, json.dumps({"rounds": ROUNDS, **more, **options}))
            program = running.enter_context(NodeProgram("bullmq.cjs", node_modules(*packages), log, *arguments))
            if role == "work":
                program.wait_for(lambda said: any("ready" in one for one in said))
            return program

        yield start


def tracing(receiver: Receiver, **bullmq: Any) -> dict[str, Any]:
    return {
        "frameworks": {"bullmq": bullmq},
        "tracing": {"endpoint": receiver.url, "protocol": "http/protobuf", "export": {"interval": "100ms"}},
    }


def ends(count: int) -> Callable[[list[ReceivedSpan]], bool]:
    return lambda spans: sum(span.name == "job.process" for span in spans) >= count


def quiet(*sidecars: Sidecar) -> None:
    for sidecar in sidecars:
        assert sidecar.metric("redspan_blind_total") == 0
        assert sidecar.metric("redspan_unrecognised_total", framework="bullmq") == 0
        assert sidecar.metric("redspan_orphan_settles_total") == 0


def check(version: str, spans: list[ReceivedSpan]) -> None:
    """Of a whole production: each job a trace, each run a delivery, and every parent is there."""
    traces = by_trace(spans)
    assert len(traces) == ROUNDS * sum(jobs for jobs, _ in RUNS.values())
    assert_parents_are_exported(spans)
    for trace in traces:
        assert len({span.attributes["messaging.message.id"] for span in trace}) == 1
        root = next(span for span in trace if not span.parent_id)
        assert (root.name, root.kind) == ("queue.enqueue", "PRODUCER")
        processes = sorted((span for span in trace if span.name == "job.process"), key=lambda one: one.start)
        kind = processes[0].attributes["job.type"]
        dequeues = {span.span_id: span for span in trace if span.name == "queue.dequeue"}
        assert len(processes) == len(dequeues) == RUNS[kind][1], kind
        for process in processes:
            assert dequeues[process.parent_id].end == process.start
            assert process.attributes["worker.id"]
        # One that asked to be delayed has not failed; 4.18 cannot tell.
        attempts = [0, 0] if kind == "postponed" and version != "4.18" else list(range(len(processes)))
        assert [span.attributes["job.retry_count"] for span in processes] == attempts
        for before, after in pairwise(processes):
            assert before.span_id in [link.span_id for link in after.links]
            assert before.attributes["job.status"] == "retry"
        assert processes[-1].attributes["job.status"] == ENDS.get(kind, "success")
    assert "secret" not in str(spans)
    assert "private" not in str(spans)


@pytest.mark.parametrize("version", VERSIONS)
def test_every_job_is_one_trace(version: str, bull: Bull, start_sidecar: StartSidecar, receiver: Receiver) -> None:
    """The producer's sidecar and the worker's are two: what they agree on is in the jobs' options."""
    producers, workers = (start_sidecar(tracing(receiver)) for _ in range(2))
    worker = bull(version, "work", workers.url)
    (said,) = bull(version, "produce", producers.url).wait()
    receiver.wait_for(ends(ROUNDS * sum(jobs * runs for jobs, runs in RUNS.values())))
    worker.stop()
    assert {name: state for name, state, _ in said["became"] if state != "completed"} == {
        "broken": "failed",
        "add": "gone",
    }
    check(version, receiver.spans)
    quiet(producers, workers)
    assert all(one["carried"] for one in worker.said if "end" in one)


@pytest.mark.parametrize("inject", [True, False], ids=["injected", "observed"])
def test_nothing_is_different_for_the_worker(
    inject: bool, bull: Bull, start_sidecar: StartSidecar, receiver: Receiver, redis_server: Any, direct: redis.Redis
) -> None:
    """The same jobs in the same order, with the same results and the same errors as without redspan."""
    jobs = [["add", {"n": n}] for n in range(5)]
    jobs += [["broken", {}, {"attempts": 2}], ["again", {}, {"attempts": 3}], ["add", {"n": 1}, {"lifo": True}]]
    jobs += [["add", {"n": n}, {"priority": 5 - n}] for n in range(3)]

    def outcome(url: str) -> Said:
        direct.flushall()
        bull(NEWEST, "send", url, jobs=jobs).wait()
        worker = bull(NEWEST, "work", url)
        # 9 of them run once, one twice, and one three times.
        worker.wait_for(lambda said: sum("end" in one for one in said) == 14)
        worker.stop()
        return [
            {name: value for name, value in one.items() if name in ("id", "name", "value", "error")}
            for one in worker.said
            if "end" in one
        ]

    sidecar = start_sidecar(tracing(receiver, inject=inject))
    assert outcome(redis_server.url) == outcome(sidecar.url)
    quiet(sidecar)
    assert sum(span.name == "queue.enqueue" for span in receiver.wait_for(ends(14))) == 11 + 3


def test_the_handler_runs_within_its_process_span(bull: Bull, start_sidecar: StartSidecar, receiver: Receiver) -> None:
    sidecar = start_sidecar(tracing(receiver))
    worker = bull(NEWEST, "work", sidecar.url)
    bull(NEWEST, "send", sidecar.url, jobs=[["slow", {"ms": 10}]] * 20).wait()
    spans = receiver.wait_for(ends(20))
    assert_one_trace_a_job(spans, 20)
    intervals = {one["id"]: (one["begin"] * 1000, one["end"] * 1000) for one in worker.said if "end" in one}
    excess = []
    for span in spans:
        if span.name == "job.process":
            begin, end = intervals[span.attributes["messaging.message.id"]]
            assert span.start - CLOCKS <= begin <= end <= span.end + CLOCKS
            excess.append(span.duration - (end - begin))
    assert statistics.median(excess) < 50 * MS


@pytest.mark.parametrize("version", [NEWEST, "6.7 node-redis", "4.18"])
def test_a_worker_is_killed_and_another_takes_its_job(
    version: str, bull: Bull, start_sidecar: StartSidecar, receiver: Receiver
) -> None:
    sidecar = start_sidecar(tracing(receiver))
    first = bull(version, "work", sidecar.url, lock=1000)
    bull(version, "send", sidecar.url, jobs=[["slow", {"ms": 60_000, "once": True}, {"attempts": 1}]]).wait()
    first.wait_for(lambda said: any(one.get("name") == "slow" for one in said))
    first.kill()
    second = bull(version, "work", sidecar.url, lock=1000)
    second.wait_for(lambda said: any("end" in one for one in said))
    spans = receiver.wait_for(ends(2))
    assert len(by_trace(spans)) == 1
    assert_parents_are_exported(spans)
    lost, done = (span for span in sorted(spans, key=lambda one: one.start) if span.name == "job.process")
    assert (lost.status, lost.attributes["error.type"]) == ("ERROR", "reclaimed")
    assert done.attributes["job.status"] == "success"
    assert lost.span_id in [link.span_id for link in done.links]
    quiet(sidecar)


@pytest.mark.parametrize("version", [NEWEST, "5.12", "4.18"])
def test_jobs_that_repeat_have_traces_of_their_own(
    version: str, bull: Bull, start_sidecar: StartSidecar, receiver: Receiver
) -> None:
    sidecar = start_sidecar(tracing(receiver))
    worker = bull(version, "work", sidecar.url)
    bull(version, "schedule", sidecar.url, rounds=3).wait()
    spans = receiver.wait_for(ends(3))
    assert_one_trace_a_job(spans, 3)
    enqueues = sorted((span for span in spans if span.name == "queue.enqueue"), key=lambda one: one.start)
    for before, after in pairwise(enqueues):
        assert (before.trace_id, before.span_id) in [(link.trace_id, link.span_id) for link in after.links]
    assert [one["carried"].split("-")[1] for one in worker.said if "end" in one] == [span.trace_id for span in enqueues]
    replaced = {"framework": "bullmq", "result": "replaced"}
    sidecar.wait_for(lambda: sidecar.metric("redspan_injections_total", **replaced) == 2, "none was replaced")


@pytest.mark.parametrize("version", [NEWEST, "6.7 node-redis", "4.18"])
def test_an_idle_worker_makes_no_spans(
    version: str, bull: Bull, start_sidecar: StartSidecar, receiver: Receiver
) -> None:
    sidecar = start_sidecar(tracing(receiver))
    bull(version, "work", sidecar.url, lock=500)
    before = sidecar.metric("redspan_commands_total")
    sidecar.wait_for(lambda: sidecar.metric("redspan_commands_total") > before + 8, "it does not poll")
    assert receiver.spans == []
    quiet(sidecar)
