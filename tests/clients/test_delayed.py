"""Delayed jobs on a real Redis through the sidecar: a sorted set, a mover, a list; both waits apart."""

from __future__ import annotations

import time

import pytest
import redis

from tests.conftest import StartSidecar
from tests.receiver import Receiver

JOB = b'{"id": "d-1", "task": "remind"}'
DELAY = 0.2


@pytest.mark.parametrize("protocol", [2, 3], ids=["RESP2", "RESP3"])
def test_a_delayed_job_is_one_trace_with_two_waits(
    protocol: int, start_sidecar: StartSidecar, receiver: Receiver
) -> None:
    sidecar = start_sidecar(
        {
            "frameworks": {
                "zset": {"queues": ["delayed"], "identity": ["id"]},
                "list": {"queues": ["ready"], "processing": ["busy"], "identity": ["id"]},
            },
            "tracing": {"protocol": "http/protobuf", "endpoint": receiver.url, "export": {"interval": "100ms"}},
        }
    )
    with redis.Redis.from_url(sidecar.url, protocol=protocol) as client:
        assert client.zadd("delayed", {JOB: time.time() + DELAY}, nx=True) == 1
        assert client.zadd("delayed", {JOB: time.time() + DELAY}, nx=True) == 0
        assert client.zrange("delayed", 0, -1) == [JOB]
        while not client.zrangebyscore("delayed", "-inf", time.time()):
            time.sleep(0.02)
        with client.pipeline(transaction=True) as pipe:
            pipe.zrem("delayed", JOB)
            pipe.lpush("ready", JOB)
            assert pipe.execute() == [1, 1]
        received = client.brpoplpush("ready", "busy", 5)
        assert received is not None
        assert client.lrem("busy", 1, received) == 1
    spans = receiver.wait_for(lambda spans: len(spans) >= 4)
    scheduled, pushed, dequeued, processed = sorted(spans, key=lambda span: (span.start, span.end))
    assert len({span.trace_id for span in spans}) == 1
    assert [pushed.parent_id, dequeued.parent_id, processed.parent_id] == [
        scheduled.span_id,
        pushed.span_id,
        dequeued.span_id,
    ]
    assert pushed.attributes["redspan.scheduled_ms"] >= DELAY * 500
    assert dequeued.attributes["redspan.scheduled_ms"] == pushed.attributes["redspan.scheduled_ms"]
    assert dequeued.attributes["queue.wait_time_ms"] < dequeued.attributes["redspan.scheduled_ms"]
    assert sidecar.metric("redspan_blind_total") == 0
