"""Consumer groups on a real Redis through the sidecar: redelivery after a killed consumer, in both protocols."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from tests.clients.traces import assert_one_trace_a_job, assert_parents_are_exported, by_trace
from tests.conftest import StartSidecar
from tests.receiver import Receiver
from tests.sidecar import Sidecar

CONSUMER = """
import redis, sys, time
client = redis.Redis.from_url(sys.argv[1], protocol=int(sys.argv[2]))
client.xreadgroup("mailers", "doomed", {"events": ">"}, count=2, block=10000)
print("took", flush=True)
time.sleep(600)
"""


@pytest.fixture
def sidecar(start_sidecar: StartSidecar, receiver: Receiver) -> Sidecar:
    tracing = {"protocol": "http/protobuf", "endpoint": receiver.url, "export": {"interval": "100ms"}}
    return start_sidecar({"frameworks": {"stream": {"queues": ["events"], "id": "id"}}, "tracing": tracing})


@pytest.fixture(params=[2, 3], ids=["RESP2", "RESP3"])
def client(request: pytest.FixtureRequest, sidecar: Sidecar) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(sidecar.url, protocol=request.param, decode_responses=True) as connected:
        connected.xgroup_create("events", "mailers", mkstream=True)
        yield connected


def read(client: redis.Redis, consumer: str) -> list[tuple[str, dict[str, str]]]:
    """What a consumer gets, in the shape of either protocol."""
    reply: Any = client.xreadgroup("mailers", consumer, {"events": ">"}, block=10_000)
    streams = reply.items() if isinstance(reply, dict) else reply
    ((_, entries),) = streams
    found: list[tuple[str, dict[str, str]]] = entries[0] if isinstance(entries[0], list) else entries
    return found


def test_an_entry_is_one_trace(client: redis.Redis, receiver: Receiver, direct: redis.Redis) -> None:
    for number in range(3):
        client.xadd("events", {"id": str(number), "task": "mail"}, maxlen=1000)
    with client.pipeline(transaction=True) as pipe:
        pipe.xadd("events", {"id": "3"})
        pipe.xadd("events", {"id": "4", "traceparent": "nonsense"})
        pipe.execute()
    entries = read(client, "w-1")
    assert [fields["id"] for _, fields in entries] == ["0", "1", "2", "3", "4"]
    assert [len(fields.get("traceparent", "")) for _, fields in entries] == [55, 55, 55, 55, 8]
    assert client.xack("events", "mailers", *(entry for entry, _ in entries)) == 5
    spans = receiver.wait_for(lambda spans: sum(span.name == "job.process" for span in spans) >= 5)
    assert_one_trace_a_job(spans, 5)
    assert direct.xlen("events") == 5


def test_what_a_killed_consumer_had_is_claimed_and_runs_again_in_its_trace(
    client: redis.Redis, sidecar: Sidecar, receiver: Receiver
) -> None:
    for number in range(2):
        client.xadd("events", {"id": str(number)})
    protocol = str(client.connection_pool.connection_kwargs["protocol"])
    doomed = subprocess.Popen(
        [sys.executable, "-c", CONSUMER, sidecar.url, protocol], stdout=subprocess.PIPE, text=True
    )
    with doomed:
        assert doomed.stdout is not None
        assert doomed.stdout.readline() == "took\n"
        doomed.kill()
    claimed = client.xautoclaim("events", "mailers", "w-2", 0, "0-0")
    entries = [entry for entry, _ in claimed[1]]
    assert client.xack("events", "mailers", *entries) == 2
    spans = receiver.wait_for(lambda spans: sum(span.name == "job.process" for span in spans) >= 4)
    assert_parents_are_exported(spans)
    for trace in by_trace(spans):
        lost, done = sorted((span for span in trace if span.name == "job.process"), key=lambda span: span.start)
        assert [lost.attributes["error.type"], done.attributes["job.status"]] == ["reclaimed", "success"]
        assert [lost.attributes["worker.id"], done.attributes["worker.id"]] == ["doomed", "w-2"]
        assert [link.span_id for link in done.links] == [lost.span_id]
    assert sidecar.metric("redspan_blind_total") == 0


def test_a_worker_comes_and_goes_with_jobs_in_hand(start_sidecar: StartSidecar, receiver: Receiver) -> None:
    tracing = {
        "protocol": "http/protobuf",
        "endpoint": receiver.url,
        "export": {"interval": "100ms"},
        "spans": {"health": True},
    }
    sidecar = start_sidecar({"frameworks": {"stream": {"queues": ["events"], "id": "id"}}, "tracing": tracing})
    with redis.Redis.from_url(sidecar.url) as client:
        client.xgroup_create("events", "mailers", mkstream=True)
        for number in range(2):
            client.xadd("events", {"id": str(number)})
        with subprocess.Popen([sys.executable, "-c", CONSUMER, sidecar.url, "3"], stdout=subprocess.PIPE) as consumer:
            assert consumer.stdout is not None
            consumer.stdout.readline()
            started = receiver.wait_for_span("worker.started")
            assert sidecar.metric("redspan_workers", framework="stream", state="busy") == 1
            consumer.kill()
        gone = receiver.wait_for_span("worker.shutdown")
        claimed = client.xclaim("events", "mailers", "w-2", 0, [entry["message_id"] for entry in client.xpending_range(
            "events", "mailers", "-", "+", 10
        )])  # fmt: skip
        assert len(claimed) == 2
    assert (started.attributes["worker.id"], gone.attributes["worker.id"]) == ("doomed", "doomed")
    assert gone.attributes["redspan.worker.jobs_in_flight"] == 2
    assert gone.attributes["redspan.worker.jobs"] == "0,1"
    processes = receiver.wait_for(lambda spans: sum(span.name == "job.process" for span in spans) == 2)
    dequeues = {span.span_id for span in processes if span.name == "queue.dequeue"}
    assert {link.span_id for link in gone.links} <= dequeues
    for process in receiver.named("job.process"):
        assert [one.name for one in process.events] == ["worker.shutdown"]
        assert process.attributes["error.type"] == "reclaimed"
