"""Sampling as applications and collectors see it: what is written, what is exported, and who decides."""

from __future__ import annotations

from typing import Any

import redis

from tests.conftest import StartSidecar
from tests.receiver import Receiver
from tests.redis import RedisServer

LISTS = {"list": {"queues": ["jobs"], "processing": ["work"]}}
KEPT = "00-00000000000000000000000000000001-b7ad6b7169203331-01"


def tracing(receiver: Receiver, **sampling: Any) -> dict[str, Any]:
    export = {"interval": "50ms"}
    return {"endpoint": receiver.url, "protocol": "http/protobuf", "export": export, "sampling": sampling}


def test_the_share_goes_with_the_job_and_a_decision_that_came_with_it_is_kept(
    start_sidecar: StartSidecar, redis_server: RedisServer
) -> None:
    with Receiver() as receiver:
        sidecar = start_sidecar({"frameworks": LISTS, "tracing": tracing(receiver, default_rate=0.5)})
        carried = f'{{"id":"c","traceparent":"{KEPT}","tracestate":"vendor=1,ot=th:c"}}'
        with redis.Redis.from_url(sidecar.url, decode_responses=True) as client:
            for number in range(64):
                client.lpush("jobs", f'{{"id":"{number}"}}')
            client.lpush("jobs", carried)
            stored = client.lrange("jobs", 0, -1)
        assert stored[0] == carried
        sampled = [job for job in stored[1:] if '-03"' in job]
        assert 0 < len(sampled) < 64
        assert all(job.endswith('","tracestate":"ot=th:8"}') for job in sampled)
        assert not any("tracestate" in job for job in stored[1:] if '-02"' in job)
        spans = receiver.wait_for(lambda spans: len(spans) == len(sampled) + 1)
        assert {span.trace_state for span in spans} == {"ot=th:8", "vendor=1,ot=th:c"}
        sidecar.wait_for(
            lambda: sidecar.metric("redspan_sampling_decisions_total", decision="not_sampled") == 64 - len(sampled),
            "not counted",
        )


def test_no_span_names_a_parent_that_nobody_exports_in_any_sidecar(
    start_sidecar: StartSidecar, redis_server: RedisServer
) -> None:
    with Receiver() as receiver:
        settings = {"frameworks": LISTS, "tracing": tracing(receiver, operation_rates={"enqueue": 0.5, "dequeue": 0.5})}
        producer, consumer = start_sidecar(settings), start_sidecar(settings)
        with redis.Redis.from_url(producer.url) as client:
            for number in range(64):
                client.lpush("jobs", f'{{"id":"{number}"}}')
        with redis.Redis.from_url(consumer.url) as client:
            while (job := client.lmove("jobs", "work", "RIGHT", "LEFT")) is not None:
                client.lrem("work", 1, job)
        receiver.wait_for(lambda spans: sum(span.name == "job.process" for span in spans) == 64)
        for one in (producer, consumer):
            one.stop()
        spans = receiver.spans
        known = {span.span_id for span in spans}
        assert 0 < len([span for span in spans if span.name == "queue.dequeue"]) < 64
        assert len({span.trace_id for span in spans}) == 64
        assert {span.parent_id for span in spans} <= known | {""}
        assert not any("redspan" in span.trace_state for span in spans)


def test_two_sidecars_decide_alike(start_sidecar: StartSidecar, direct: redis.Redis) -> None:
    lists = {"list": {**LISTS["list"], "identity": ["id"]}}
    settings = {"frameworks": lists, "tracing": {"sampling": {"default_rate": 0.5}}}
    stored = []
    for sidecar in (start_sidecar(settings), start_sidecar(settings)):
        with redis.Redis.from_url(sidecar.url) as client:
            client.rpush("jobs", *(f'{{"id":"{number}"}}' for number in range(500)))
        stored.append(direct.lrange("jobs", 0, -1))
        direct.delete("jobs")
    assert stored[0] == stored[1]
    assert 0 < sum(b'-01"' in job for job in stored[0]) < 500


def test_a_queue_that_makes_too_many_spans_is_limited_by_itself(
    start_sidecar: StartSidecar, redis_server: RedisServer
) -> None:
    with Receiver() as receiver:
        sampling = tracing(receiver, queue_max_spans_per_second={"noisy*": 5})
        sidecar = start_sidecar({"frameworks": {"list": {"queues": ["noisy*", "calm"]}}, "tracing": sampling})
        with redis.Redis.from_url(sidecar.url, decode_responses=True) as client:
            for queue in ("noisy", "calm"):
                client.lpush(queue, *(f'{{"id":"{queue}-{number}"}}' for number in range(200)))
            # All of them have a context: what is left out is left out of the export.
            assert all("traceparent" in job for job in client.lrange("noisy", 0, -1))
        decided = "redspan_sampling_decisions_total"
        sidecar.wait_for(lambda: sidecar.metric(decided) == 400, "not all are decided")
        limited = int(sidecar.metric(decided, decision="queue_limited"))
        assert 0 < limited <= 195
        assert sidecar.metric(decided, decision="limited") == 0
        spans = receiver.wait_for(lambda spans: len(spans) == 400 - limited)
        assert len([span for span in spans if span.attributes["queue.name"] == "calm"]) == 200


def test_flags_in_jobs_force_no_more_than_the_limit(start_sidecar: StartSidecar, redis_server: RedisServer) -> None:
    with Receiver() as receiver:
        settings = tracing(receiver, default_rate=0.0, max_spans_per_second=5)
        sidecar = start_sidecar({"frameworks": LISTS, "tracing": settings})
        with redis.Redis.from_url(sidecar.url) as client:
            for number in range(400):
                client.lpush("jobs", f'{{"id":"{number}","traceparent":"00-{number + 1:032x}-{number + 1:016x}-01"}}')
        decided = "redspan_sampling_decisions_total"
        sidecar.wait_for(lambda: sidecar.metric(decided) == 400, "not all are decided")
        limited = int(sidecar.metric(decided, decision="limited"))
        assert 0 < limited <= 395
        receiver.wait_for(lambda spans: len(spans) == 400 - limited)
        assert sidecar.metric("redspan_spans_started_total") == 400 - limited


def test_what_fails_is_kept_whole(start_sidecar: StartSidecar, redis_server: RedisServer) -> None:
    with Receiver() as receiver:
        tail = {"enabled": True, "baseline_rate": 0.0}
        lists = {"list": {**LISTS["list"], "dead_letter": ["dead"]}}
        sidecar = start_sidecar({"frameworks": lists, "tracing": tracing(receiver, tail_sampling=tail)})
        with redis.Redis.from_url(sidecar.url) as client:
            for number in range(20):
                client.lpush("jobs", f'{{"id":"{number}"}}')
                job = client.lmove("jobs", "work", "RIGHT", "LEFT")
                if number == 7:
                    client.lpush("dead", job)
                client.lrem("work", 1, job)
        sidecar.wait_for(
            lambda: sidecar.metric("redspan_sampling_decisions_total", decision="tail") == 57, "not left out"
        )
        spans = receiver.wait_for(lambda spans: len(spans) == 3)
        assert len({span.trace_id for span in spans}) == 1
        assert {span.attributes["redspan.sampling.reason"] for span in spans} == {"dead_letter"}
        assert sidecar.metric("redspan_tail_spans") == 0
