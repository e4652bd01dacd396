"""Real machinery on Go, unmodified, through the sidecar."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import pytest
import redis

from tests.clients import node_checks as checks
from tests.clients.conftest import StartGo
from tests.clients.json_programs import JsonProgram, Said
from tests.clients.node_checks import ROUNDS, ends, quiet, tracing
from tests.conftest import StartSidecar
from tests.receiver import Receiver
from tests.redis import RedisServer

pytestmark = pytest.mark.go

RUNS = {"add": (6, 1), "flaky": (1, 3), "broken": (1, 2), "later": (1, 1), "nest": (1, 1)}
CLIENTS = ["redigo", "go-redis"]

Go: TypeAlias = Callable[..., JsonProgram]


@pytest.fixture
def go(start_go: StartGo) -> Go:
    """Starts programs on a client for Redis: ``go(client, role, url, **options)``."""

    def start(client: str, role: str, url: str, **options: Any) -> JsonProgram:
        return start_go("machinery", "go.mod", role, url, {"rounds": ROUNDS, "client": client, **options})

    return start


@pytest.mark.parametrize("client", CLIENTS)
def test_every_job_is_one_trace(client: str, go: Go, start_sidecar: StartSidecar, receiver: Receiver) -> None:
    """The producer's sidecar and the worker's are two: what they agree on is in the tasks' headers."""
    producers, workers = (start_sidecar(tracing(receiver, "machinery")) for _ in range(2))
    worker = go(client, "work", workers.url)
    said = go(client, "produce", producers.url).wait()
    spans = receiver.wait_for(checks.all_ends(RUNS))
    worker.stop()
    checks.check_traces(spans, RUNS, checks.by_type)
    assert {span.attributes["queue.name"] for span in spans} == {"mails"}
    carried = {one["id"]: one["carried"].split("-")[1] for one in worker.said if "id" in one}
    assert carried == {span.attributes["messaging.message.id"]: span.trace_id for span in spans}
    for first, second in (one["chain"] for one in said):
        (process,) = (span for span in spans if _is(span, "job.process", first))
        (enqueue,) = (span for span in spans if _is(span, "queue.enqueue", second))
        assert process.span_id in [link.span_id for link in enqueue.links]
    quiet("machinery", producers, workers)


def _is(span: Any, name: str, job: str) -> bool:
    return bool(span.name == name and span.attributes["messaging.message.id"] == job)


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
    jobs += [{"kind": "broken", "retries": 1}]

    def work(url: str) -> Said:
        direct.flushall()
        go("redigo", "send", url, jobs=jobs).wait()
        worker = go("redigo", "work", url)
        worker.wait_for(lambda said: sum("end" in one for one in said) == 7)
        worker.stop()
        return [{name: value for name, value in one.items() if name != "id"} for one in checks.outcomes(worker.said)]

    sidecar = start_sidecar(tracing(receiver, "machinery", inject=inject))
    assert work(redis_server.url) == work(sidecar.url)
    quiet("machinery", sidecar)
    # The one that is tried again is put aside, and then pushed.
    assert sum(span.name == "queue.enqueue" for span in receiver.wait_for(ends(7))) == 6 + 2


def test_the_handler_runs_within_its_process_span(go: Go, start_sidecar: StartSidecar, receiver: Receiver) -> None:
    sidecar = start_sidecar(tracing(receiver, "machinery"))
    worker = go("redigo", "work", sidecar.url)
    go("redigo", "send", sidecar.url, jobs=[{"kind": "slow", "ms": 10}] * 20).wait()
    checks.check_intervals(receiver.wait_for(ends(20)), worker.said)


def test_a_task_whose_worker_is_killed_has_no_end(go: Go, start_sidecar: StartSidecar, receiver: Receiver) -> None:
    """It is lost, to machinery too: the next worker goes on with the next task."""
    sidecar = start_sidecar(tracing(receiver, "machinery"))
    first = go("redigo", "work", sidecar.url)
    go("redigo", "send", sidecar.url, jobs=[{"kind": "slow", "ms": 60_000}]).wait()
    first.wait_for(lambda said: any("begin" in one for one in said))
    first.kill()
    go("redigo", "work", sidecar.url)
    go("redigo", "send", sidecar.url, jobs=[{"kind": "add", "n": 1}]).wait()
    spans = receiver.wait_for(ends(1))
    names = ["job.process", "queue.dequeue", "queue.dequeue", "queue.enqueue", "queue.enqueue"]
    assert sorted(span.name for span in spans) == names
    assert [span.attributes["job.type"] for span in spans if span.name == "job.process"] == ["add"]
    quiet("machinery", sidecar)


@pytest.mark.parametrize("client", CLIENTS)
def test_an_idle_worker_makes_no_spans(client: str, go: Go, start_sidecar: StartSidecar, receiver: Receiver) -> None:
    sidecar = start_sidecar(tracing(receiver, "machinery"))
    go(client, "work", sidecar.url)
    before = sidecar.metric("redspan_commands_total")
    sidecar.wait_for(lambda: sidecar.metric("redspan_commands_total") > before + 20, "it does not poll")
    assert receiver.spans == []
    quiet("machinery", sidecar)
