"""Real asynq, gocraft/work and machinery on Go, unmodified, through the sidecar."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import pytest
import redis

from tests.clients import node_checks as checks
from tests.clients.conftest import StartGo
from tests.clients.json_programs import JsonProgram, Said
from tests.clients.node_checks import ROUNDS, Runs, ends, quiet, tracing
from tests.clients.traces import by_trace
from tests.conftest import StartSidecar
from tests.receiver import ReceivedSpan, Receiver
from tests.redis import RedisServer

pytestmark = pytest.mark.go

Go: TypeAlias = Callable[..., JsonProgram]


class Library(NamedTuple):
    framework: str
    package: str
    """The program's folder."""
    runs: Runs
    also: Callable[[list[ReceivedSpan], Said, Said], None]
    """What else holds of spans, of what its producer said, and of what its worker did."""
    modfile: str = "go.mod"
    client: str = ""
    legs: int = 1
    """Enqueue spans of each retry."""
    told: bool = False
    """Its worker says when it begins."""


def carried(worked: Said) -> dict[str, str]:
    """The trace that each job was given, as its handler saw it."""
    return {one["id"]: one["carried"][3:35] for one in worked if "end" in one}


def traces(spans: list[ReceivedSpan]) -> dict[str, str]:
    return {span.attributes["messaging.message.id"]: span.trace_id for span in spans}


def of_asynq(spans: list[ReceivedSpan], produced: Said, worked: Said) -> None:
    (said,) = produced
    assert {kind for kind, state in said["became"] if state == "archived"} == {"broken"}
    # An id that is there already is refused, and makes no span.
    assert said["conflict"]
    assert {span.attributes["queue.name"] for span in spans} == {"mails"}
    assert carried(worked) == traces(spans)


def of_old_asynq(spans: list[ReceivedSpan], produced: Said, worked: Said) -> None:
    """Its tasks have no headers to be seen."""
    assert set(carried(worked).values()) == {""}


def of_gocraft(spans: list[ReceivedSpan], produced: Said, worked: Said) -> None:
    assert all(one["conflict"] for one in produced if "conflict" in one)
    assert {span.attributes["queue.name"] for span in spans} == {one["name"] for one in worked if "end" in one}
    processes = [span for span in spans if span.name == "job.process"]
    assert all(span.attributes["worker.id"] for span in processes)
    inferred = {span.attributes["job.status"] for span in processes if span.attributes.get("redspan.end.inferred")}
    assert inferred == {"success"}


def of_machinery(spans: list[ReceivedSpan], produced: Said, worked: Said) -> None:
    assert {span.attributes["queue.name"] for span in spans} == {"mails"}
    assert carried(worked) == traces(spans)
    named = {(span.name, span.attributes["messaging.message.id"]): span for span in spans}
    for first, second in (one["chain"] for one in produced):
        links = named["queue.enqueue", second].links
        assert named["job.process", first].span_id in [link.span_id for link in links]


ALL = {"add": (4, 1), "flaky": (1, 3), "broken": (1, 2), "later": (2, 1), "nest": (1, 1)}
MORE = {**ALL, "add": (6, 1)}
LIBRARIES = {
    "asynq 0.26": Library("asynq", "asynq", ALL, of_asynq),
    "asynq 0.25": Library("asynq", "asynq", ALL, of_old_asynq, "asynq-0.25.mod"),
    "gocraft/work": Library("gocraft-work", "gocraft", {**ALL, "add": (3, 1)}, of_gocraft),
    "machinery, redigo": Library("machinery", "machinery", MORE, of_machinery, legs=2, told=True),
    "machinery, go-redis": Library("machinery", "machinery", MORE, of_machinery, client="go-redis", legs=2, told=True),
}
LEASES = "asynq:{mails}:lease"
NEWEST = ["asynq 0.26", "gocraft/work", "machinery, redigo"]
WRITTEN = ["asynq 0.26", "machinery, redigo"]
KILLED = 40.0
"""Seconds in which the next worker has the job of one that was killed. gocraft/work misses that one after 10 s, and
looks for its jobs 10 s after the next one has started."""


@pytest.fixture
def go(start_go: StartGo) -> Go:
    """``go(library, role, url, **options)``."""

    def start(name: str, role: str, url: str, **options: Any) -> JsonProgram:
        library = LIBRARIES[name]
        return start_go(library.package, library.modfile, role, url, {"client": library.client, **options})

    return start


def ended(count: int) -> Callable[[Said], bool]:
    return lambda said: sum("end" in one for one in said) >= count


@pytest.mark.parametrize("name", LIBRARIES)
def test_every_job_is_one_trace(name: str, go: Go, start_sidecar: StartSidecar, receiver: Receiver) -> None:
    """The producer's sidecar and the worker's are two: what they agree on is in the jobs, or follows from their ids."""
    library = LIBRARIES[name]
    producers, workers = (start_sidecar(tracing(receiver, library.framework)) for _ in range(2))
    worker = go(name, "work", workers.url)
    produced = go(name, "produce", producers.url, rounds=ROUNDS).wait()
    spans = receiver.wait_for(checks.all_ends(library.runs))
    worker.stop()
    checks.check_traces(spans, library.runs, checks.by_type, told=library.told)
    library.also(spans, produced, worker.said)
    quiet(library.framework, producers, workers)


@pytest.mark.parametrize(
    ("name", "inject"),
    [*((name, True) for name in NEWEST), *((name, False) for name in WRITTEN)],
    ids=[*NEWEST, *(f"{name}, observed" for name in WRITTEN)],
)
def test_nothing_is_different_for_the_worker(
    name: str,
    inject: bool,
    go: Go,
    start_sidecar: StartSidecar,
    receiver: Receiver,
    redis_server: RedisServer,
    direct: redis.Redis,
) -> None:
    """The same jobs in the same order, with the same results and the same errors as without redspan."""
    library = LIBRARIES[name]
    in_turn: list[tuple[list[dict[str, Any]], int]] = [
        ([{"kind": "add", "n": n} for n in range(5)], 5),
        ([{"kind": "broken", "retries": 1}], 5 + 2),
        ([{"kind": "flaky", "retries": 2}], 5 + 2 + 3),
    ]

    def work(url: str) -> Said:
        direct.flushall()
        worker = go(name, "work", url)
        for jobs, attempts in in_turn:
            go(name, "send", url, jobs=jobs).wait()
            worker.wait_for(ended(attempts))
        worker.stop()
        return [{word: said for word, said in one.items() if word != "id"} for one in checks.outcomes(worker.said)]

    sidecar = start_sidecar(tracing(receiver, library.framework, inject=inject))
    assert work(redis_server.url) == work(sidecar.url)
    quiet(library.framework, sidecar)
    enqueued = [span for span in receiver.wait_for(ends(10)) if span.name == "queue.enqueue"]
    assert len(enqueued) == 7 + 3 * library.legs


@pytest.mark.parametrize("name", NEWEST)
def test_the_handler_runs_within_its_process_span(
    name: str, go: Go, start_sidecar: StartSidecar, receiver: Receiver
) -> None:
    sidecar = start_sidecar(tracing(receiver, LIBRARIES[name].framework))
    worker = go(name, "work", sidecar.url)
    go(name, "send", sidecar.url, jobs=[{"kind": "slow", "ms": 10}] * 20).wait()
    checks.check_intervals(receiver.wait_for(ends(20)), worker.said, told=LIBRARIES[name].told)


@pytest.mark.parametrize("name", ["asynq 0.26", "asynq 0.25", "gocraft/work"])
def test_a_worker_is_killed_and_another_takes_its_job(
    name: str, go: Go, start_sidecar: StartSidecar, receiver: Receiver, direct: redis.Redis
) -> None:
    sidecar = start_sidecar(tracing(receiver, LIBRARIES[name].framework))
    first = go(name, "work", sidecar.url)
    go(name, "send", sidecar.url, jobs=[{"kind": "slow", "ms": 60_000, "once": True, "retries": 1}]).wait()
    first.wait_for(lambda said: any("begin" in one for one in said))
    first.kill()
    # asynq's next server looks at once for whoever was not heard of for a minute: that has passed.
    for held in direct.zrange(LEASES, 0, -1):
        assert isinstance(held, bytes)
        direct.zadd(LEASES, {held: time.time() - 60})
    second = go(name, "work", sidecar.url, second=True)
    second.wait_for(ended(1), KILLED)
    checks.check_redelivery(receiver.wait_for(ends(2)), "reclaimed")
    quiet(LIBRARIES[name].framework, sidecar)


def test_a_task_of_machinery_whose_worker_is_killed_has_no_end(
    go: Go, start_sidecar: StartSidecar, receiver: Receiver
) -> None:
    """It is lost, to machinery too: the next worker goes on with the next task."""
    sidecar = start_sidecar(tracing(receiver, "machinery"))
    first = go("machinery, redigo", "work", sidecar.url)
    go("machinery, redigo", "send", sidecar.url, jobs=[{"kind": "slow", "ms": 60_000}]).wait()
    first.wait_for(lambda said: any("begin" in one for one in said))
    first.kill()
    go("machinery, redigo", "work", sidecar.url)
    go("machinery, redigo", "send", sidecar.url, jobs=[{"kind": "add", "n": 1}]).wait()
    spans = receiver.wait_for(ends(1))
    names = ["job.process", "queue.dequeue", "queue.dequeue", "queue.enqueue", "queue.enqueue"]
    assert sorted(span.name for span in spans) == names
    assert [span.attributes["job.type"] for span in spans if span.name == "job.process"] == ["add"]
    quiet("machinery", sidecar)


def test_grouped_tasks_of_asynq_are_taken_and_the_one_made_of_them_is_another(
    go: Go, start_sidecar: StartSidecar, receiver: Receiver
) -> None:
    sidecar = start_sidecar(tracing(receiver, "asynq"))
    worker = go("asynq 0.26", "work", sidecar.url)
    go("asynq 0.26", "group", sidecar.url, rounds=3).wait()
    found = by_trace(receiver.wait_for(ends(1)))
    assert sorted(sorted(span.name for span in trace) for trace in found) == [
        ["job.process", "queue.dequeue", "queue.enqueue"],
        *[["queue.dequeue", "queue.enqueue"]] * 3,
    ]
    assert [one["value"] for one in worker.said if "end" in one] == [3 + 1]
    quiet("asynq", sidecar)


@pytest.mark.parametrize("name", [*NEWEST, "machinery, go-redis"])
def test_an_idle_worker_makes_no_spans(name: str, go: Go, start_sidecar: StartSidecar, receiver: Receiver) -> None:
    sidecar = start_sidecar(tracing(receiver, LIBRARIES[name].framework))
    go(name, "work", sidecar.url)
    before = sidecar.metric("redspan_commands_total")
    sidecar.wait_for(lambda: sidecar.metric("redspan_commands_total") > before + 20, "it does not poll")
    assert receiver.spans == []
    quiet(LIBRARIES[name].framework, sidecar)
