"""Real gocraft/work on Go, unmodified, through the sidecar."""

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
from tests.receiver import ReceivedSpan, Receiver
from tests.redis import RedisServer

pytestmark = pytest.mark.go

RUNS = {"add": (3, 1), "flaky": (1, 3), "broken": (1, 2), "later": (2, 1), "nest": (1, 1)}
REAPED = 40.0
"""Seconds after which a job whose worker was killed is given to another one: it takes 10 s to be missed, and 10 s more
from the other's start until it looks for such jobs."""

Go: TypeAlias = Callable[..., JsonProgram]


@pytest.fixture
def go(start_go: StartGo) -> Go:
    """``go(role, url, **options)``."""

    def start(role: str, url: str, **options: Any) -> JsonProgram:
        return start_go("gocraft", "go.mod", role, url, {"rounds": ROUNDS, **options})

    return start


def all_ends(spans: list[ReceivedSpan]) -> bool:
    """Those that still wait have no end."""
    return checks.all_ends(RUNS)(spans)


def test_every_job_is_one_trace(go: Go, start_sidecar: StartSidecar, receiver: Receiver) -> None:
    """The producer's sidecar and the worker's are two: what they agree on follows from the jobs' ids."""
    producers, workers = (start_sidecar(tracing(receiver, "gocraft-work")) for _ in range(2))
    worker = go("work", workers.url)
    *_, said = go("produce", producers.url).wait()
    spans = receiver.wait_for(all_ends)
    worker.stop()
    assert said["conflict"]
    waits = [span for span in spans if span.attributes["messaging.message.id"] == said["waits"]]
    assert [span.name for span in waits] == ["queue.enqueue"]
    spans = [span for span in spans if span not in waits]
    checks.check_traces(spans, RUNS, checks.by_type)
    ended = [span for span in spans if span.name == "job.process"]
    assert all(span.attributes["worker.id"] for span in ended)
    inferred = {span.attributes["job.status"] for span in ended if span.attributes.get("redspan.end.inferred")}
    assert inferred == {"success"}
    assert {span.attributes["queue.name"] for span in spans} == set(RUNS)
    quiet("gocraft-work", producers, workers)


def test_nothing_is_different_for_the_worker(
    go: Go, start_sidecar: StartSidecar, receiver: Receiver, redis_server: RedisServer, direct: redis.Redis
) -> None:
    """The same jobs in the same order, with the same results and the same errors as without redspan."""
    jobs = [{"kind": "add", "n": n} for n in range(5)]

    def work(url: str) -> Said:
        direct.flushall()
        go("send", url, jobs=jobs).wait()
        worker = go("work", url)
        worker.wait_for(lambda said: sum("end" in one for one in said) == 5)
        go("send", url, jobs=[{"kind": "broken"}]).wait()
        worker.wait_for(lambda said: sum("end" in one for one in said) == 7)
        go("send", url, jobs=[{"kind": "flaky"}]).wait()
        worker.wait_for(lambda said: sum("end" in one for one in said) == 10)
        worker.stop()
        return [{name: value for name, value in one.items() if name != "id"} for one in checks.outcomes(worker.said)]

    sidecar = start_sidecar(tracing(receiver, "gocraft-work"))
    assert work(redis_server.url) == work(sidecar.url)
    quiet("gocraft-work", sidecar)
    assert sum(span.name == "queue.enqueue" for span in receiver.wait_for(ends(10))) == 7 + 3


def test_the_handler_runs_within_its_process_span(go: Go, start_sidecar: StartSidecar, receiver: Receiver) -> None:
    sidecar = start_sidecar(tracing(receiver, "gocraft-work"))
    worker = go("work", sidecar.url)
    go("send", sidecar.url, jobs=[{"kind": "slow", "ms": 10}] * 20).wait()
    checks.check_intervals(receiver.wait_for(ends(20)), worker.said)


def test_a_worker_is_killed_and_another_takes_its_job(go: Go, start_sidecar: StartSidecar, receiver: Receiver) -> None:
    sidecar = start_sidecar(tracing(receiver, "gocraft-work"))
    first = go("work", sidecar.url)
    go("send", sidecar.url, jobs=[{"kind": "slow", "ms": 60_000, "once": True}]).wait()
    first.wait_for(lambda said: any("begin" in one for one in said))
    first.kill()
    second = go("work", sidecar.url, second=True)
    second.wait_for(lambda said: any("end" in one for one in said), REAPED)
    checks.check_redelivery(receiver.wait_for(ends(2)), "reclaimed")
    quiet("gocraft-work", sidecar)


def test_an_idle_worker_makes_no_spans(go: Go, start_sidecar: StartSidecar, receiver: Receiver) -> None:
    sidecar = start_sidecar(tracing(receiver, "gocraft-work"))
    go("work", sidecar.url)
    before = sidecar.metric("redspan_commands_total")
    sidecar.wait_for(lambda: sidecar.metric("redspan_commands_total") > before + 20, "it does not poll")
    assert receiver.spans == []
    quiet("gocraft-work", sidecar)
