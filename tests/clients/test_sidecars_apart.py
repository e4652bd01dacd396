"""A sidecar at the producer, one at the worker, or one at each: what each of them can say, and that they agree."""

from __future__ import annotations

import json
from collections.abc import Callable

import redis

from tests.clients.traces import assert_one_trace_a_job
from tests.receiver import Receiver
from tests.sidecar import Sidecar


def push(url: str, *ids: str, **members: object) -> None:
    with redis.Redis.from_url(url) as producer:
        for name in ids:
            producer.lpush("orders", json.dumps({"id": name, **members}))


def work(url: str, jobs: int) -> list[bytes]:
    with redis.Redis.from_url(url) as worker:
        received: list[bytes] = []
        for _ in range(jobs):
            job = worker.brpoplpush("orders", "orders:processing", 10)
            assert isinstance(job, bytes)
            assert worker.lrem("orders:processing", 1, job) == 1
            received.append(job)
        return received


def test_one_at_each_side_share_a_trace_and_its_parents(traced: Callable[..., Sidecar], receiver: Receiver) -> None:
    at_producer, at_worker = traced(), traced()
    push(at_producer.url, "a", "b", "c")
    work(at_worker.url, 3)
    assert_one_trace_a_job(receiver.wait_for(lambda spans: len(spans) >= 9), 3)


def test_two_in_a_row_inject_once(traced: Callable[..., Sidecar], receiver: Receiver, direct: redis.Redis) -> None:
    inner = traced()
    outer = traced()
    push(outer.url, "a")
    first = direct.lindex("orders", 0)
    direct.delete("orders")
    with redis.Redis.from_url(inner.url) as client:
        client.lpush("orders", first)
    assert direct.lindex("orders", 0) == first
    spans = receiver.wait_for(lambda spans: len(spans) >= 2)
    written, kept = sorted(spans, key=lambda span: span.start)
    assert (kept.parent_id, kept.kind) == (written.span_id, "CLIENT")


def test_at_the_worker_alone_a_trace_begins_with_the_dequeue(
    traced: Callable[..., Sidecar], receiver: Receiver, direct: redis.Redis
) -> None:
    at_worker = traced()
    direct.lpush("orders", '{"id": "a"}')
    assert work(at_worker.url, 1) == [b'{"id": "a"}']
    dequeue, process = sorted(receiver.wait_for(lambda spans: len(spans) >= 2), key=lambda span: span.start)
    assert (dequeue.name, dequeue.parent_id) == ("queue.dequeue", "")
    assert (process.name, process.parent_id) == ("job.process", dequeue.span_id)


def test_at_the_worker_alone_a_context_that_is_there_is_joined(
    traced: Callable[..., Sidecar], receiver: Receiver, direct: redis.Redis
) -> None:
    at_worker = traced()
    trace, span = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
    direct.lpush("orders", json.dumps({"id": "a", "traceparent": f"00-{trace}-{span}-01"}))
    work(at_worker.url, 1)
    dequeue = receiver.wait_for_span("queue.dequeue")
    assert (dequeue.trace_id, dequeue.parent_id) == (trace, span)


def test_at_the_producer_alone_there_is_an_enqueue_and_no_false_end(
    traced: Callable[..., Sidecar], receiver: Receiver, direct: redis.Redis
) -> None:
    at_producer = traced()
    push(at_producer.url, "a")
    job = direct.rpoplpush("orders", "orders:processing")
    assert direct.lrem("orders:processing", 1, job) == 1  # type: ignore[arg-type]
    assert at_producer.stop() == 0
    assert [span.name for span in receiver.spans] == ["queue.enqueue"]


def test_with_an_identity_both_sides_derive_the_same_trace_and_write_nothing(
    traced: Callable[..., Sidecar], receiver: Receiver
) -> None:
    options = {"identity": ["id"], "inject": False}
    at_producer, at_worker = traced(**options), traced(**options)
    push(at_producer.url, "a")
    assert work(at_worker.url, 1) == [b'{"id": "a"}']
    spans = receiver.wait_for(lambda spans: len(spans) >= 3)
    assert_one_trace_a_job(spans, 1)
    dequeue = next(span for span in spans if span.name == "queue.dequeue")
    assert dequeue.attributes["redspan.parent.unverified"] is True


def test_the_application_s_own_context_is_kept_and_extended(traced: Callable[..., Sidecar], receiver: Receiver) -> None:
    sidecar = traced()
    trace, span = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
    push(sidecar.url, "a", traceparent=f"00-{trace}-{span}-01")
    (received,) = work(sidecar.url, 1)
    assert json.loads(received)["traceparent"] == f"00-{trace}-{span}-01"
    spans = receiver.wait_for(lambda spans: len(spans) >= 3)
    assert {one.trace_id for one in spans} == {trace}
    parents = {one.name: one.parent_id for one in spans}
    assert parents["queue.enqueue"] == parents["queue.dequeue"] == span
