"""Real asynq on Go, unmodified, through the sidecar."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeAlias

import pytest
import redis

from tests.clients import node_checks as checks
from tests.clients.conftest import StartGo
from tests.clients.json_programs import JsonProgram, Said
from tests.clients.node_checks import ROUNDS, ends, quiet, tracing
from tests.clients.traces import by_trace
from tests.conftest import StartSidecar
from tests.receiver import Receiver
from tests.redis import RedisServer

pytestmark = pytest.mark.go

RUNS = {"add": (4, 1), "flaky": (1, 3), "broken": (1, 2), "later": (2, 1), "nest": (1, 1)}
VERSIONS = {"0.26": "go.mod", "0.25": "asynq-0.25.mod"}
NEWEST = "0.26"
LEASE = "asynq:{mails}:lease"

Go: TypeAlias = Callable[..., JsonProgram]


@pytest.fixture
def go(start_go: StartGo) -> Go:
    """Starts programs of a version: ``go(version, role, url, **options)``."""

    def start(version: str, role: str, url: str, **options: Any) -> JsonProgram:
        return start_go("asynq", VERSIONS[version], role, url, {"rounds": ROUNDS, **options})

    return start


@pytest.mark.parametrize("version", VERSIONS)
def test_every_job_is_one_trace(version: str, go: Go, start_sidecar: StartSidecar, receiver: Receiver) -> None:
    """The producer's sidecar and the worker's are two: what they agree on is in the tasks' headers, or their ids."""
    producers, workers = (start_sidecar(tracing(receiver, "asynq")) for _ in range(2))
    worker = go(version, "work", workers.url)
    (said,) = go(version, "produce", producers.url).wait()
    spans = receiver.wait_for(checks.all_ends(RUNS))
    worker.stop()
    assert {kind for kind, state in said["became"] if state == "archived"} == {"broken"}
    assert said["conflict"]
    checks.check_traces(spans, RUNS, checks.by_type)
    assert {span.attributes["queue.name"] for span in spans} == {"mails"}
    quiet("asynq", producers, workers)
    carried = {one["carried"].split("-")[1] for one in worker.said if one["carried"]} if version == NEWEST else set()
    assert carried == ({span.trace_id for span in spans} if version == NEWEST else set())


@pytest.mark.parametrize("inject", [True, False], ids=["injected", "observed"])
def test_nothing_is_different_for_the_worker(
    inject: bool,
    go: Go,
    start_sidecar: StartSidecar,
    receiver: Receiver,
    redis_server: RedisServer,
    direct: redis.Redis,
) -> None:
    """The same jobs in the same order, with the same results and the same errors as without redspan."""
    jobs: list[dict[str, Any]] = [{"kind": "add", "n": n} for n in range(5)]
    jobs += [{"kind": "broken", "retries": 1}, {"kind": "flaky", "retries": 2}]

    def work(url: str) -> Said:
        direct.flushall()
        go(NEWEST, "send", url, jobs=jobs).wait()
        worker = go(NEWEST, "work", url)
        worker.wait_for(lambda said: sum("end" in one for one in said) == 10)
        worker.stop()
        return [{name: value for name, value in one.items() if name != "id"} for one in checks.outcomes(worker.said)]

    sidecar = start_sidecar(tracing(receiver, "asynq", inject=inject))
    assert work(redis_server.url) == work(sidecar.url)
    quiet("asynq", sidecar)
    assert sum(span.name == "queue.enqueue" for span in receiver.wait_for(ends(10))) == 7 + 3


def test_the_handler_runs_within_its_process_span(go: Go, start_sidecar: StartSidecar, receiver: Receiver) -> None:
    sidecar = start_sidecar(tracing(receiver, "asynq"))
    worker = go(NEWEST, "work", sidecar.url)
    go(NEWEST, "send", sidecar.url, jobs=[{"kind": "slow", "ms": 10}] * 20).wait()
    checks.check_intervals(receiver.wait_for(ends(20)), worker.said)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_worker_is_killed_and_another_takes_its_job(
    version: str, go: Go, start_sidecar: StartSidecar, receiver: Receiver, direct: redis.Redis
) -> None:
    sidecar = start_sidecar(tracing(receiver, "asynq"))
    first = go(version, "work", sidecar.url)
    go(version, "send", sidecar.url, jobs=[{"kind": "slow", "ms": 60_000, "once": True, "retries": 1}]).wait()
    ((held,),) = (
        [one["id"]] for one in first.wait_for(lambda said: any("begin" in one for one in said)) if "id" in one
    )
    first.kill()
    # Nobody has heard of it for long enough: a server that starts looks for such leases at once.
    direct.zadd(LEASE, {held: time.time() - 60}, xx=True)
    second = go(version, "work", sidecar.url, second=True)
    second.wait_for(lambda said: any("end" in one for one in said))
    checks.check_redelivery(receiver.wait_for(ends(2)), "reclaimed")
    quiet("asynq", sidecar)


def test_grouped_tasks_are_taken_and_the_one_made_of_them_is_another(
    go: Go, start_sidecar: StartSidecar, receiver: Receiver
) -> None:
    sidecar = start_sidecar(tracing(receiver, "asynq"))
    worker = go(NEWEST, "work", sidecar.url)
    go(NEWEST, "group", sidecar.url, rounds=3).wait()
    traces = by_trace(receiver.wait_for(ends(1)))
    assert sorted(sorted(span.name for span in trace) for trace in traces) == [
        ["job.process", "queue.dequeue", "queue.enqueue"],
        *[["queue.dequeue", "queue.enqueue"]] * 3,
    ]
    assert [one["value"] for one in worker.said if "end" in one] == [4]
    quiet("asynq", sidecar)


def test_an_idle_worker_makes_no_spans(go: Go, start_sidecar: StartSidecar, receiver: Receiver) -> None:
    sidecar = start_sidecar(tracing(receiver, "asynq"))
    go(NEWEST, "work", sidecar.url)
    before = sidecar.metric("redspan_commands_total")
    sidecar.wait_for(lambda: sidecar.metric("redspan_commands_total") > before + 50, "it does not poll")
    assert receiver.spans == []
    quiet("asynq", sidecar)
