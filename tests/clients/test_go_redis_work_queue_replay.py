"""go-redis-work-queue's sequences, replayed against a real Redis: several workers, retries, dead letters, a reaper.

A replay, not the system itself: plain sockets that send what its binaries were seen to send.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
import redis

from tests.clients.traces import assert_parents_are_exported, by_trace
from tests.conftest import StartSidecar
from tests.receiver import ReceivedSpan, Receiver
from tests.sidecar import Sidecar

QUEUE, COMPLETED, DEAD = "jobqueue:high_priority", "jobqueue:completed", "jobqueue:dead_letter"
IDLE = 30
"""Seconds that a worker polls an empty queue."""


@pytest.fixture
def sidecar(start_sidecar: StartSidecar, receiver: Receiver) -> Sidecar:
    export = {"interval": "100ms"}
    return start_sidecar({"tracing": {"protocol": "http/protobuf", "endpoint": receiver.url, "export": export}})


def envelope(number: int, *, invented: bool = True, retries: int = 0) -> dict[str, object]:
    """``internal/queue/job.go``: ids that its producer invents while its own tracing is off, or none."""
    return {
        "id": f"{number:032x}",
        "filepath": f"/data/{number}&.txt",
        "filesize": 12,
        "priority": "high",
        "retries": retries,
        "creation_time": "2026-01-02T03:04:05.678901234Z",
        "trace_id": f"{number + 1:032x}" if invented else "",
        "span_id": f"{number + 1:016x}" if invented else "",
    }


def marshal(job: dict[str, object]) -> bytes:
    """As Go's encoding/json writes it."""
    return json.dumps(job, separators=(",", ":")).replace("&", "\\u0026").encode()


class Worker:
    """Sends what a worker goroutine sends; pop and acknowledgement on different connections, as its pool does."""

    def __init__(self, url: str, number: int) -> None:
        self.name = f"host-1-{4000 + number}-1758372955123456789-0a1b-{number}"
        self.list = f"jobqueue:worker:{self.name}:processing"
        self.heartbeat = f"jobqueue:processing:worker:{self.name}"
        self._one, self._two = redis.Redis.from_url(url), redis.Redis.from_url(url)

    def close(self) -> None:
        self._one.close()
        self._two.close()

    def take(self) -> bytes | None:
        job = self._one.brpoplpush(QUEUE, self.list, 1)
        assert job is None or isinstance(job, bytes)
        if job is not None:
            self._two.set(self.heartbeat, job, ex=30)
        return job

    def done(self, job: bytes, where: str, pushed: bytes | None = None) -> int:
        """Push the job where it goes, then let go of it; what LREM answered."""
        self._two.lpush(where, pushed or job)
        removed = self._one.lrem(self.list, 1, job)  # type: ignore[arg-type]
        self._two.delete(self.heartbeat)
        assert isinstance(removed, int)
        return removed


def retried(job: bytes) -> bytes:
    """Unmarshalled into eight fields, counted up, and marshalled again."""
    fields = json.loads(job)
    return marshal({**{name: fields[name] for name in envelope(0)}, "retries": fields["retries"] + 1})


@pytest.fixture
def workers(sidecar: Sidecar) -> Iterator[list[Worker]]:
    with ExitStack() as stack:
        started = [Worker(sidecar.url, number) for number in range(3)]
        for worker in started:
            stack.callback(worker.close)
        yield started


def names(trace: list[ReceivedSpan]) -> list[str]:
    return [span.name for span in sorted(trace, key=lambda span: (span.start, span.name != "queue.enqueue"))]


@pytest.mark.parametrize("invented", [True, False], ids=["ids invented by the producer", "ids empty"])
def test_success_retry_dead_letter_and_reaper(
    invented: bool, sidecar: Sidecar, workers: list[Worker], receiver: Receiver
) -> None:
    first, second, third = workers
    with redis.Redis.from_url(sidecar.url) as producer:
        for number in range(4):
            producer.incr("jobqueue:rate_limit:producer")
            producer.lpush(QUEUE, marshal(envelope(number, invented=invented)))

    success, again, dead, lost = (worker.take() for worker in (first, second, third, Worker(sidecar.url, 9)))
    assert success is not None
    assert again is not None
    assert dead is not None
    assert lost is not None
    assert first.done(success, COMPLETED) == 1
    assert second.done(again, QUEUE, retried(again)) == 1
    assert third.done(dead, DEAD) == 1
    with redis.Redis.from_url(sidecar.url) as reaper:
        assert reaper.rpop(Worker(sidecar.url, 9).list) == lost
        reaper.lpush(QUEUE, lost)
    for worker in (first, second):
        job = worker.take()
        assert job is not None
        assert worker.done(job, COMPLETED) == 1

    spans = receiver.wait_for(lambda spans: sum(span.name == "job.process" for span in spans) >= 6)
    traces = sorted(by_trace(spans), key=len)
    assert [len(trace) for trace in traces] == [3, 3, 6, 6]
    ids = {span.attributes["messaging.message.id"] for trace in traces for span in trace}
    assert len(ids) == 4

    if not invented:
        assert_parents_are_exported(spans)
    known = {span.span_id for span in spans}
    unverified = [span for span in spans if span.attributes.get("redspan.parent.unverified")]
    assert {span.name for span in unverified} == ({"queue.enqueue"} if invented else set())
    assert all(span.parent_id in known for span in spans if span.parent_id and span not in unverified)

    outcomes = sorted(
        (span.attributes["job.status"], span.attributes.get("error.type", ""), span.status)
        for span in spans
        if span.name == "job.process"
    )
    assert outcomes == [
        ("failure", "dead_letter", "ERROR"),
        ("retry", "reclaimed", "ERROR"),
        ("retry", "retry", "ERROR"),
        ("success", "", "UNSET"),
        ("success", "", "UNSET"),
        ("success", "", "UNSET"),
    ]
    linked = [span for span in spans if span.name == "job.process" and span.links]
    assert {link.span_id for span in linked for link in span.links} <= known
    assert len(linked) == 2


def test_an_idle_worker_makes_no_span(sidecar: Sidecar, workers: list[Worker], receiver: Receiver) -> None:
    until = time.monotonic() + IDLE
    while time.monotonic() < until:
        assert workers[0].take() is None
    assert sidecar.stop() == 0
    assert receiver.spans == []
