"""Laravel's real queues and worker, unmodified, through the sidecar."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import pytest
import redis

from tests.clients import node_checks as checks
from tests.clients.conftest import StartProgram
from tests.clients.json_programs import JsonProgram, Said
from tests.clients.node_checks import ends, quiet, tracing
from tests.clients.php_programs import PhpProgram
from tests.conftest import StartSidecar
from tests.receiver import Receiver
from tests.redis import RedisServer

pytestmark = pytest.mark.php

RUNS = {"Add": (6, 1), "Flaky": (1, 3), "Again": (1, 3), "Broken": (1, 2), "Nest": (1, 1), "Released": (1, 2),
        "Last": (1, 1), "Later": (1, 1)}  # fmt: skip
STATUSES = {"Broken": None, "Last": None}
"""In its last attempt nothing tells a job that failed from one that did not."""
QUEUE = "laravel_database_queues:default"
CLIENTS = ["phpredis", "predis"]

Laravel: TypeAlias = Callable[..., JsonProgram]


@pytest.fixture
def laravel(start_program: StartProgram) -> Laravel:
    """Starts programs: ``laravel(role, url, **options)``."""

    def start(role: str, url: str, **options: Any) -> JsonProgram:
        return start_program(role, lambda log: PhpProgram("laravel.php", log, role, url, options))

    return start


def nothing_is_left(direct: redis.Redis) -> None:
    """What was acknowledged by its value is gone."""
    assert [key for key in direct.scan_iter("*queues:*") if not key.endswith(b":notify")] == []


@pytest.mark.parametrize("block", [None, 1], ids=["polling", "block_for"])
@pytest.mark.parametrize("client", CLIENTS)
def test_every_job_is_one_trace(
    client: str,
    block: int | None,
    laravel: Laravel,
    start_sidecar: StartSidecar,
    receiver: Receiver,
    direct: redis.Redis,
) -> None:
    """The producer's sidecar and the worker's are two: what they agree on is in the payloads."""
    producers, workers = (start_sidecar(tracing(receiver, "laravel")) for _ in range(2))
    worker = laravel("work", workers.url, client=client, block=block)
    laravel("produce", producers.url, client=client).wait()
    spans = receiver.wait_for(checks.all_ends(RUNS))
    worker.stop()
    assert worker.errors == ""
    checks.check_traces(spans, RUNS, checks.by_type, STATUSES)
    assert {span.attributes["queue.name"] for span in spans} == {"default"}
    quiet("laravel", producers, workers)
    ran = [one for one in worker.said if "end" in one]
    assert all(one["carried"] for one in ran)
    assert {one["id"] for one in ran} == {span.attributes["messaging.message.id"] for span in spans}
    nothing_is_left(direct)


@pytest.mark.parametrize("inject", [True, False], ids=["injected", "observed"])
@pytest.mark.parametrize("client", CLIENTS)
def test_nothing_is_different_for_the_worker(
    client: str,
    inject: bool,
    laravel: Laravel,
    start_sidecar: StartSidecar,
    receiver: Receiver,
    redis_server: RedisServer,
    direct: redis.Redis,
) -> None:
    """The same jobs in the same order, with the same results and the same errors as without redspan."""
    jobs = [["Add", {"n": n}, None] for n in range(5)] + [["Broken", {}, None], ["Again", {}, None]]

    def work(url: str) -> Said:
        direct.flushall()
        laravel("send", url, client=client, jobs=jobs).wait()
        worker = laravel("work", url, client=client)
        # 5 of them run once, one twice, and one three times.
        worker.wait_for(lambda said: sum("end" in one for one in said) == 10)
        worker.stop()
        nothing_is_left(direct)
        return [{**outcome, "id": ""} for outcome in checks.outcomes(worker.said)]

    sidecar = start_sidecar(tracing(receiver, "laravel", inject=inject))
    assert work(redis_server.url) == work(sidecar.url)
    assert sum(span.name == "queue.enqueue" for span in receiver.wait_for(ends(10))) == 7 + 3
    quiet("laravel", sidecar)


def test_the_handler_runs_within_its_process_span(
    laravel: Laravel, start_sidecar: StartSidecar, receiver: Receiver
) -> None:
    sidecar = start_sidecar(tracing(receiver, "laravel"))
    worker = laravel("work", sidecar.url)
    laravel("send", sidecar.url, jobs=[["Slow", {"ms": 10}, None]] * 20).wait()
    checks.check_intervals(receiver.wait_for(ends(20)), worker.said)


@pytest.mark.parametrize("client", CLIENTS)
def test_a_worker_is_killed_and_another_takes_its_job(
    client: str, laravel: Laravel, start_sidecar: StartSidecar, receiver: Receiver, direct: redis.Redis
) -> None:
    sidecar = start_sidecar(tracing(receiver, "laravel"))
    first = laravel("work", sidecar.url, client=client, retry=1)
    laravel("send", sidecar.url, client=client, jobs=[["Slow", {"ms": 60_000}, None]]).wait()
    first.wait_for(lambda said: any(one.get("name") == "Slow" for one in said))
    first.kill()
    second = laravel("work", sidecar.url, client=client, retry=1)
    second.wait_for(lambda said: any("end" in one for one in said))
    checks.check_redelivery(receiver.wait_for(ends(2)), "reclaimed")
    second.stop()
    quiet("laravel", sidecar)
    nothing_is_left(direct)


def test_a_payload_in_a_form_of_the_client_is_left_as_it_is(
    laravel: Laravel, start_sidecar: StartSidecar, receiver: Receiver, direct: redis.Redis
) -> None:
    """Phpredis serializes what goes into a sorted set, and nothing that goes to a script."""
    sidecar = start_sidecar(tracing(receiver, "laravel"))
    jobs = [["Later", {"n": 1}, 3600], ["Add", {"n": 1}, None]]
    laravel("send", sidecar.url, jobs=jobs, more={"serializer": 1}).wait()
    ((member, _),) = direct.zscan_iter(f"{QUEUE}:delayed")
    assert member.startswith(b"s:")
    assert b"traceparent" not in member
    (pushed,) = direct.lrange(QUEUE, 0, -1)
    assert b'"traceparent":"00-' in pushed
    receiver.wait_for(lambda spans: [span.name for span in spans] == ["queue.enqueue"])
    quiet("laravel", sidecar)


@pytest.mark.parametrize("block", [None, 1], ids=["polling", "block_for"])
@pytest.mark.parametrize("client", CLIENTS)
def test_an_idle_worker_makes_no_spans(
    client: str, block: int | None, laravel: Laravel, start_sidecar: StartSidecar, receiver: Receiver
) -> None:
    sidecar = start_sidecar(tracing(receiver, "laravel"))
    laravel("work", sidecar.url, client=client, block=block)
    before = sidecar.metric("redspan_commands_total")
    sidecar.wait_for(lambda: sidecar.metric("redspan_commands_total") > before + 8, "it does not poll")
    assert receiver.spans == []
    quiet("laravel", sidecar)
