"""All frameworks on one Redis, and what only looks like theirs: no false job appears, no foreign byte changes."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.clients import look_alikes
from tests.clients.python_workers import produce, worker
from tests.clients.traces import assert_ids_are_unique, assert_parents_are_exported, by_trace, processes
from tests.conftest import StartSidecar
from tests.receiver import ReceivedSpan, Receiver
from tests.redis import PATIENCE, RedisServer
from tests.sidecar import Sidecar

ROUNDS = 2
QUEUES = {
    "arq": {"arq:queue"},
    "celery": {"celery"},
    "dramatiq": {"default"},
    "huey": {"shop"},
    "rq": {"mails"},
    "streaq": {"default"},
    "taskiq": {"taskiq"},
}
JOBS = {"arq": 10, "celery": 11, "dramatiq": 14, "huey": 14, "rq": 8, "streaq": 15, "taskiq": 12}
"""Of each round."""
MAIN = {framework: "produce" if framework == "rq" else "main" for framework in QUEUES}
"""What each application calls its producer."""
IDLE = 30
"""Seconds."""


def tracing(receiver: Receiver, **frameworks: Any) -> dict[str, Any]:
    return {
        "frameworks": frameworks,
        "tracing": {"endpoint": receiver.url, "protocol": "http/protobuf", "export": {"interval": "100ms"}},
    }


def by_framework(spans: list[ReceivedSpan], name: str) -> dict[str, set[str]]:
    """Ids of the jobs that have a span of that name."""
    found: dict[str, set[str]] = defaultdict(set)
    for span in spans:
        if span.name == name:
            found[span.attributes["redspan.framework"]].add(span.attributes["messaging.message.id"])
    return found


def work(workers: ExitStack, url: str, directory: Path) -> None:
    """A worker of each."""
    for framework in MAIN:
        (directory / framework).mkdir()
        workers.enter_context(worker(framework, url, directory / framework))


def test_all_frameworks_on_one_redis(start_sidecar: StartSidecar, receiver: Receiver, tmp_path: Path) -> None:
    sidecar = start_sidecar(tracing(receiver))
    with ExitStack() as workers, ThreadPoolExecutor(2) as pool:
        work(workers, sidecar.url, tmp_path)
        started = {name: pool.submit(produce, name, sidecar.url, main, ROUNDS) for name, main in MAIN.items()}
        said = {framework: one.result() for framework, one in started.items()}
        spans = receiver.wait_for(
            lambda spans: (
                by_framework(spans, "job.process") == by_framework(spans, "queue.enqueue")
                and by_framework(spans, "job.process").keys() == MAIN.keys()
            )
        )
    assert all(said.values())
    ids = by_framework(spans, "queue.enqueue")
    assert {framework: len(found) for framework, found in ids.items()} == {
        framework: ROUNDS * count for framework, count in JOBS.items()
    }
    assert_parents_are_exported(spans)
    assert_ids_are_unique(spans)
    for trace in by_trace(spans):
        assert len({span.attributes["redspan.framework"] for span in trace}) == 1
    queues: dict[str, set[str]] = defaultdict(set)
    for span in spans:
        queues[span.attributes["redspan.framework"]].add(span.attributes["queue.name"])
    assert queues == QUEUES
    only_these(sidecar)


def test_idle_workers_make_no_spans(
    start_sidecar: StartSidecar, receiver: Receiver, redis_server: RedisServer, tmp_path: Path
) -> None:
    """For 30 s, before and after which each of them does a job that somebody else sends."""
    sidecar = start_sidecar(tracing(receiver))
    stream = '{"stream": true}'

    def all_do_a_job() -> None:
        receiver.clear()
        for framework in MAIN:
            produce(framework, redis_server.url, "many", 1)
        produce("taskiq", f"{redis_server.url}/1", "many", 1, TASKIQ_OPTIONS=stream)
        receiver.wait_for(lambda spans: len(processes(spans)) > len(MAIN), 4 * PATIENCE)
        receiver.clear()

    with ExitStack() as workers:
        work(workers, sidecar.url, tmp_path)
        workers.enter_context(worker("taskiq", f"{sidecar.url}/1", tmp_path, TASKIQ_OPTIONS=stream))
        all_do_a_job()
        commands = sidecar.metric("redspan_commands_total")
        time.sleep(IDLE)
        assert receiver.spans == []
        assert sidecar.metric("redspan_commands_total") > commands + IDLE
        all_do_a_job()
    only_these(sidecar)


def only_these(sidecar: Sidecar) -> None:
    known = sum(max(0, sidecar.metric("redspan_jobs_total", framework=framework)) for framework in MAIN)
    assert sidecar.metric("redspan_jobs_total") == known
    assert sidecar.metric("redspan_blind_total") == 0
    assert sidecar.metric("redspan_unrecognised_total") <= 0


def replies(client: redis.Redis, commands: Iterator[look_alikes.Command]) -> list[object]:
    """What Redis answers, but for the ids of entries, which are times."""
    said = []
    for command in commands:
        reply = client.execute_command(*command)  # type: ignore[no-untyped-call]
        said.append(None if command[0] == "XADD" else reply)
    return said


def stored(client: redis.Redis) -> dict[bytes, bytes | None]:
    return {key: client.dump(key) for key in client.scan_iter()}


@pytest.mark.parametrize("protocol", [2, 3], ids=["RESP2", "RESP3"])
def test_look_alikes_are_nobodys(
    protocol: int, start_sidecar: StartSidecar, receiver: Receiver, direct: redis.Redis
) -> None:
    """What a client is told, and what is stored, is the same byte for byte as without redspan."""
    sidecar = start_sidecar(
        tracing(
            receiver,
            list={"queues": ["orders:*"]},
            stream={"queues": ["orders:*"]},
            zset={"queues": ["orders:*"]},
            script={"inject": True, "entries": [{"key": "orders:*", "does": "enqueue", "job": "argument 1"}]},
        )
    )
    with redis.Redis(port=direct.connection_pool.connection_kwargs["port"], protocol=protocol) as plain:
        expected, found = replies(plain, look_alikes.commands()), stored(direct)
    direct.flushall()
    with redis.Redis.from_url(sidecar.url, protocol=protocol) as client:
        assert replies(client, look_alikes.commands()) == expected
    assert stored(direct) == found
    sidecar.wait_for(lambda: sidecar.metric("redspan_connections") == 0, "a client that stays")
    sidecar.wait_for(lambda: sidecar.metric("redspan_commands_total") > len(expected), "no commands")
    assert sidecar.metric("redspan_jobs_total") <= 0, sidecar.get("/metrics").body
    assert sidecar.metric("redspan_injections_total", result="written") <= 0
    assert sidecar.metric("redspan_blind_total") == 0
    assert receiver.spans == []


def test_a_hash_of_rq_that_is_written_again_is_no_other_job(
    start_sidecar: StartSidecar, receiver: Receiver, direct: redis.Redis
) -> None:
    sidecar = start_sidecar(tracing(receiver))
    job = {
        b"created_at": b"2026-01-01T00:00:00.000001Z",
        b"data": b"\x78\x9c",
        b"enqueued_at": b"2026-01-01T00:00:00.000002Z",
        b"origin": b"mails",
        b"status": b"queued",
        b"timeout": b"180",
    }
    with redis.Redis.from_url(sidecar.url) as client:
        written: list[dict[Any, Any]] = []
        for _ in range(3):
            client.hset("rq:job:7", mapping=job)
            written.append(direct.hgetall("rq:job:7"))
        client.rpush("rq:queue:mails", "7")
    assert written[0] == written[1] == written[2]
    assert {name: value for name, value in written[0].items() if name != b"traceparent"} == job
    (enqueue,) = receiver.wait_for(lambda spans: len(spans) >= 1)
    assert written[0][b"traceparent"].split(b"-")[1].decode() == enqueue.trace_id
    sidecar.wait_for(lambda: sidecar.metric("redspan_jobs_total", event="enqueue") == 1, "no job")
    assert [span.name for span in receiver.spans] == ["queue.enqueue"]
