"""Real BullMQ on Node, unmodified, through the sidecar."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import redis

from tests.clients import node_checks as checks
from tests.clients.conftest import StartNode
from tests.clients.json_programs import JsonProgram, Said
from tests.clients.node_checks import ROUNDS, ends, quiet, tracing
from tests.conftest import StartSidecar
from tests.receiver import Receiver
from tests.redis import RedisServer

pytestmark = pytest.mark.node

RUNS = {"add": (7, 1), "flaky": (1, 3), "again": (1, 3), "broken": (1, 2), "later": (1, 1), "nest": (1, 1),
        "postponed": (1, 2), "parent": (1, 1)}  # fmt: skip
VERSIONS: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "6.7 ioredis": (("bullmq@6.7.0", "ioredis@5"), {}),
    "6.7 node-redis": (("bullmq@6.7.0", "redis@6"), {"client": "node-redis"}),
    "6.7 node-redis RESP2": (("bullmq@6.7.0", "redis@6"), {"client": "node-redis", "resp": 2}),
    "5.81": (("bullmq@5.81.5",), {}),
    "5.12": (("bullmq@5.12.0",), {}),
    "4.18": (("bullmq@4.18.2",), {}),
}
NEWEST = "6.7 ioredis"

Bull: TypeAlias = Callable[..., JsonProgram]


@pytest.fixture
def bull(start_node: StartNode) -> Bull:
    """Starts programs of a version: ``bull(version, role, url, **options)``."""

    def start(version: str, role: str, url: str, **options: Any) -> JsonProgram:
        packages, more = VERSIONS[version]
        return start_node("bullmq.cjs", packages, role, url, {"rounds": ROUNDS, **more, **options})

    return start


@pytest.mark.parametrize("version", VERSIONS)
def test_every_job_is_one_trace(version: str, bull: Bull, start_sidecar: StartSidecar, receiver: Receiver) -> None:
    """The producer's sidecar and the worker's are two: what they agree on is in the jobs' options."""
    producers, workers = (start_sidecar(tracing(receiver, "bullmq")) for _ in range(2))
    worker = bull(version, "work", workers.url)
    (said,) = bull(version, "produce", producers.url).wait()
    spans = receiver.wait_for(checks.all_ends(RUNS))
    worker.stop()
    assert {name: state for name, state, _ in said["became"] if state != "completed"} == {
        "broken": "failed",
        "add": "gone",
    }
    if version == "4.18":
        # It cannot tell one that asked to be delayed from one that failed.
        postponed = [span for span in spans if span.attributes.get("job.type") == "postponed"]
        assert {span.attributes["job.retry_count"] for span in postponed} == {0, 1}
        for span in postponed:
            span.attributes["job.retry_count"] = 0
    checks.check_traces(spans, RUNS, checks.by_type)
    assert all(span.attributes["worker.id"] for span in spans if span.name == "job.process")
    quiet("bullmq", producers, workers)
    assert all(one["carried"] for one in worker.said if "end" in one)


@pytest.mark.parametrize("inject", [True, False], ids=["injected", "observed"])
def test_nothing_is_different_for_the_worker(
    inject: bool,
    bull: Bull,
    start_sidecar: StartSidecar,
    receiver: Receiver,
    redis_server: RedisServer,
    direct: redis.Redis,
) -> None:
    """The same jobs in the same order, with the same results and the same errors as without redspan."""
    jobs = [["add", {"n": n}] for n in range(5)]
    jobs += [["broken", {}, {"attempts": 2}], ["again", {}, {"attempts": 3}], ["add", {"n": 1}, {"lifo": True}]]
    jobs += [["add", {"n": n}, {"priority": 5 - n}] for n in range(3)]

    def work(url: str) -> Said:
        direct.flushall()
        bull(NEWEST, "send", url, jobs=jobs).wait()
        worker = bull(NEWEST, "work", url)
        # 9 of them run once, one twice, and one three times.
        worker.wait_for(lambda said: sum("end" in one for one in said) == 14)
        worker.stop()
        return checks.outcomes(worker.said)

    sidecar = start_sidecar(tracing(receiver, "bullmq", inject=inject))
    assert work(redis_server.url) == work(sidecar.url)
    quiet("bullmq", sidecar)
    assert sum(span.name == "queue.enqueue" for span in receiver.wait_for(ends(14))) == 11 + 3


def test_the_handler_runs_within_its_process_span(bull: Bull, start_sidecar: StartSidecar, receiver: Receiver) -> None:
    sidecar = start_sidecar(tracing(receiver, "bullmq"))
    worker = bull(NEWEST, "work", sidecar.url)
    bull(NEWEST, "send", sidecar.url, jobs=[["slow", {"ms": 10}]] * 20).wait()
    checks.check_intervals(receiver.wait_for(ends(20)), worker.said)


@pytest.mark.parametrize("version", [NEWEST, "6.7 node-redis", "4.18"])
def test_a_worker_is_killed_and_another_takes_its_job(
    version: str, bull: Bull, start_sidecar: StartSidecar, receiver: Receiver
) -> None:
    sidecar = start_sidecar(tracing(receiver, "bullmq"))
    first = bull(version, "work", sidecar.url, lock=1000)
    bull(version, "send", sidecar.url, jobs=[["slow", {"ms": 60_000, "once": True}, {"attempts": 1}]]).wait()
    first.wait_for(lambda said: any(one.get("name") == "slow" for one in said))
    first.kill()
    second = bull(version, "work", sidecar.url, lock=1000)
    second.wait_for(lambda said: any("end" in one for one in said))
    checks.check_redelivery(receiver.wait_for(ends(2)), "reclaimed")
    quiet("bullmq", sidecar)


@pytest.mark.parametrize("version", [NEWEST, "5.12", "4.18"])
def test_jobs_that_repeat_have_traces_of_their_own(
    version: str, bull: Bull, start_sidecar: StartSidecar, receiver: Receiver
) -> None:
    sidecar = start_sidecar(tracing(receiver, "bullmq"))
    worker = bull(version, "work", sidecar.url)
    bull(version, "schedule", sidecar.url, rounds=3).wait()
    checks.check_repeated(receiver.wait_for(ends(3)), worker.said, 3)
    replaced = {"framework": "bullmq", "result": "replaced"}
    sidecar.wait_for(lambda: sidecar.metric("redspan_injections_total", **replaced) == 2, "none was replaced")


@pytest.mark.parametrize("version", [NEWEST, "6.7 node-redis", "4.18"])
def test_an_idle_worker_makes_no_spans(
    version: str, bull: Bull, start_sidecar: StartSidecar, receiver: Receiver
) -> None:
    sidecar = start_sidecar(tracing(receiver, "bullmq"))
    bull(version, "work", sidecar.url, lock=500)
    before = sidecar.metric("redspan_commands_total")
    sidecar.wait_for(lambda: sidecar.metric("redspan_commands_total") > before + 8, "it does not poll")
    assert receiver.spans == []
    quiet("bullmq", sidecar)


@pytest.mark.parametrize("version", [NEWEST, "6.7 node-redis", "5.12", "4.18"])
def test_a_queue_is_paused_drained_and_goes_on_and_a_job_is_cancelled(
    version: str, bull: Bull, start_sidecar: StartSidecar, receiver: Receiver, tmp_path: Path
) -> None:
    events = tmp_path / "events"
    sidecar = start_sidecar({**tracing(receiver, "bullmq"), "events": {"to": str(events)}})
    before, after = bull(version, "manage", sidecar.url).wait()
    assert (before["paused"], before["waiting"], after["paused"], after["waiting"]) == (True, 2, False, 0)
    spans = receiver.wait_for(lambda spans: any(span.name == "queue.resume" for span in spans))
    assert [span.name for span in sorted(spans, key=lambda one: one.start) if span.name != "queue.enqueue"] == [
        "queue.pause",
        "queue.cancel",
        "queue.drain",
        "queue.resume",
    ]
    assert {span.attributes["queue.name"] for span in spans} == {"mails"}
    cancel = next(span for span in spans if span.name == "queue.cancel")
    enqueue = next(span for span in spans if span.span_id == cancel.parent_id)
    assert enqueue.attributes["messaging.message.id"] == cancel.attributes["messaging.message.id"] == before["removed"]
    sidecar.wait_for(lambda: "job.cancelled" in events.read_text(), "no event")
    quiet("bullmq", sidecar)
