"""Real bee-queue on Node, unmodified, through the sidecar."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import pytest
import redis

from tests.clients import node_checks as checks
from tests.clients.conftest import StartNode
from tests.clients.json_programs import JsonProgram, Said
from tests.clients.node_checks import ROUNDS, ends, quiet, tracing
from tests.clients.traces import by_trace
from tests.conftest import StartSidecar
from tests.receiver import Receiver
from tests.redis import RedisServer

pytestmark = pytest.mark.node

RUNS = {"add": (5, 1), "flaky": (1, 3), "again": (1, 3), "broken": (1, 2), "later": (1, 1), "nest": (1, 1)}
VERSIONS = ["2.0.0", "1.7.1"]
NEWEST = VERSIONS[0]

Bee: TypeAlias = Callable[..., JsonProgram]


@pytest.fixture
def bee(start_node: StartNode) -> Bee:
    """Starts programs of a version: ``bee(version, role, url, **options)``."""

    def start(version: str, role: str, url: str, **options: Any) -> JsonProgram:
        return start_node("bee.cjs", (f"bee-queue@{version}",), role, url, {"rounds": ROUNDS, **options})

    return start


@pytest.mark.parametrize("version", VERSIONS)
def test_every_job_is_one_trace(version: str, bee: Bee, start_sidecar: StartSidecar, receiver: Receiver) -> None:
    """The producer's sidecar and the worker's are two: what they agree on is in the jobs' options."""
    producers, workers = (start_sidecar(tracing(receiver, "bee-queue")) for _ in range(2))
    worker = bee(version, "work", workers.url)
    (said,) = bee(version, "produce", producers.url).wait()
    spans = receiver.wait_for(checks.all_ends(RUNS))
    worker.stop()
    assert {name for name, state in said["became"] if state != "succeeded"} == {"broken"}
    # An id that is there already is refused, and makes no span.
    assert said["again"] is None
    names = {one["id"]: one["name"] for one in worker.said if "id" in one}
    checks.check_traces(spans, RUNS, lambda trace: names[trace[0].attributes["messaging.message.id"]])
    quiet("bee-queue", producers, workers)
    assert all(one["carried"] for one in worker.said if "end" in one)


@pytest.mark.parametrize("inject", [True, False], ids=["injected", "observed"])
def test_nothing_is_different_for_the_worker(
    inject: bool,
    bee: Bee,
    start_sidecar: StartSidecar,
    receiver: Receiver,
    redis_server: RedisServer,
    direct: redis.Redis,
) -> None:
    """The same jobs in the same order, with the same results and the same errors as without redspan."""
    jobs = [["add", {"n": n}] for n in range(5)] + [["broken", {}, {"retries": 1}], ["again", {}, {"retries": 2}]]

    def work(url: str) -> Said:
        direct.flushall()
        bee(NEWEST, "send", url, jobs=jobs).wait()
        worker = bee(NEWEST, "work", url)
        worker.wait_for(lambda said: sum("end" in one for one in said) == 10)
        worker.stop()
        return checks.outcomes(worker.said)

    sidecar = start_sidecar(tracing(receiver, "bee-queue", inject=inject))
    assert work(redis_server.url) == work(sidecar.url)
    quiet("bee-queue", sidecar)
    assert sum(span.name == "queue.enqueue" for span in receiver.wait_for(ends(10))) == 7 + 3


@pytest.mark.parametrize("events", [True, False], ids=["with events", "without events"])
@pytest.mark.parametrize("remove", [True, False], ids=["removed", "kept"])
def test_how_a_job_ended_is_seen_unless_it_is_removed_in_silence(
    remove: bool, events: bool, bee: Bee, start_sidecar: StartSidecar, receiver: Receiver
) -> None:
    sidecar = start_sidecar(tracing(receiver, "bee-queue"))
    worker = bee(NEWEST, "work", sidecar.url, remove=remove, events=events)
    bee(NEWEST, "send", sidecar.url, jobs=[["add", {"n": 1}], ["broken", {}]]).wait()
    seen = 1 if remove and not events else 2
    spans = receiver.wait_for(lambda spans: ends(seen)(spans) and len(spans) >= 4 + seen)
    worker.stop()
    assert len(by_trace(spans)) == 2
    statuses = [span.attributes["job.status"] for span in spans if span.name == "job.process"]
    assert sorted(statuses) == ["failure", "success"][:seen]


def test_the_handler_runs_within_its_process_span(bee: Bee, start_sidecar: StartSidecar, receiver: Receiver) -> None:
    sidecar = start_sidecar(tracing(receiver, "bee-queue"))
    worker = bee(NEWEST, "work", sidecar.url)
    bee(NEWEST, "send", sidecar.url, jobs=[["slow", {"ms": 10}]] * 20).wait()
    checks.check_intervals(receiver.wait_for(ends(20)), worker.said)


def test_a_worker_is_killed_and_another_takes_its_job(
    bee: Bee, start_sidecar: StartSidecar, receiver: Receiver
) -> None:
    sidecar = start_sidecar(tracing(receiver, "bee-queue"))
    first = bee(NEWEST, "work", sidecar.url, lock=500)
    bee(NEWEST, "send", sidecar.url, jobs=[["slow", {"ms": 60_000, "once": True}]]).wait()
    first.wait_for(lambda said: any(one.get("name") == "slow" for one in said))
    first.kill()
    second = bee(NEWEST, "work", sidecar.url, lock=500, second=True)
    second.wait_for(lambda said: any("end" in one for one in said))
    # The second worker may have it before the one that gave it back, itself, has an answer.
    checks.check_redelivery(receiver.wait_for(ends(2)), "reclaimed", "redelivered")
    quiet("bee-queue", sidecar)


def test_an_idle_worker_makes_no_spans(bee: Bee, start_sidecar: StartSidecar, receiver: Receiver) -> None:
    sidecar = start_sidecar(tracing(receiver, "bee-queue"))
    bee(NEWEST, "work", sidecar.url, lock=200)
    before = sidecar.metric("redspan_commands_total")
    sidecar.wait_for(lambda: sidecar.metric("redspan_commands_total") > before + 8, "it does not poll")
    assert receiver.spans == []
    quiet("bee-queue", sidecar)
