"""Jobs with other contexts than W3C's, and of other shapes, on a real Redis: two sidecars agree on them."""

from __future__ import annotations

import json
from typing import Any

import pytest
import redis

from tests.conftest import StartSidecar
from tests.receiver import Receiver

T, S = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
UUID = "0af76519-16cd-43dd-8448-eb211c80319c"
BROUGHT: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "B3": ({"b3": f"{T}-{S}-1"}, {}, S),
    "B3 in several": ({"X-B3-TraceId": T, "X-B3-SpanId": S, "X-B3-Sampled": "1"}, {}, S),
    "Datadog": (
        {
            "x-datadog-trace-id": str(int(T[16:], 16)),
            "x-datadog-parent-id": str(int(S, 16)),
            "x-datadog-tags": f"_dd.p.tid={T[:16]}",
        },
        {},
        S,
    ),
    "a UUID": ({"meta": {"trace": f"trace-{UUID}"}}, {"trace_id": "meta.trace"}, ""),
    "ids": ({"trace": T, "parent": S}, {"trace_id": "trace", "parent_span_id": "parent"}, S),
    "W3C elsewhere": ({"meta": {"tp": f"00-{T}-{S}-01"}}, {"traceparent": "meta.tp"}, S),
    "in the slot's own object": (
        {"metadata": {"b3": f"{T}-{S}-1", "baggage": "user=ada%20l,n=1"}},
        {"slot": "metadata.traceparent"},
        S,
    ),
}


@pytest.mark.parametrize("brought", BROUGHT.values(), ids=BROUGHT)
def test_what_a_job_brings_is_its_trace(
    brought: tuple[dict[str, Any], dict[str, Any], str],
    start_sidecar: StartSidecar,
    receiver: Receiver,
    direct: redis.Redis,
) -> None:
    members, options, parent = brought
    settings = {
        "frameworks": {"list": {"queues": ["orders"], "processing": ["work"], **options}},
        "tracing": {
            "protocol": "http/protobuf",
            "endpoint": receiver.url,
            "export": {"interval": "100ms"},
            "formats": ["b3", "datadog"],
            "attribute_filter": {"allow": [{"paths": ["metadata.baggage.user"]}]},
        },
    }
    job = {"id": "7", **members}
    with (
        redis.Redis.from_url(start_sidecar(settings).url) as producer,
        redis.Redis.from_url(start_sidecar(settings).url) as worker,
    ):
        producer.lpush("orders", json.dumps(job))
        value: Any = worker.brpoplpush("orders", "work", 5)
        assert worker.lrem("work", 1, value) == 1
    stored = json.loads(value)
    inner = stored.get("metadata", stored)
    written = inner.pop("traceparent")
    # All that the job had is there still, its baggage too, and there is nothing new.
    assert stored == job
    spans = {span.name: span for span in receiver.wait_for(lambda spans: len(spans) == 3)}
    enqueue, dequeue = spans["queue.enqueue"], spans["queue.dequeue"]
    assert {span.trace_id for span in spans.values()} == {T}
    assert (enqueue.parent_id, dequeue.parent_id) == (parent, enqueue.span_id)
    assert written.startswith(f"00-{T}-{enqueue.span_id}-")
    original = members.get("meta", {}).get("trace")
    assert [span.attributes.get("redspan.trace_id.original") for span in spans.values()] == 3 * [original]
    baggage = "ada l" if "metadata" in members else None
    assert [span.attributes.get("redspan.payload.metadata.baggage.user") for span in spans.values()] == 3 * [baggage]
