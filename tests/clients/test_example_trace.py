"""The example trace of the tracing design (its Appendix B), as it is drawn there.

::

    [Frontend] HTTP Request
        └── [API Gateway] Forward Request
            └── [Producer] queue.enqueue (queue: orders, job_id: job-456)
                └── [Worker] queue.dequeue (wait_time: 250ms)
                    └── [Worker] job.process (duration: 1500ms)

Frontend and gateway trace themselves, with OpenTelemetry; the gateway puts its span into the job.  What the worker
does for the job (queries, payment, mail) is in the same trace once its code reads the job's ids, but beside the spans
of the worker: no proxy can tell the worker's code which span that code runs in.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, Tracer, set_span_in_context

from tests.conftest import StartSidecar
from tests.receiver import ReceivedSpan, Receiver

DRAWN = """\
[frontend] HTTP Request
  [gateway] Forward Request
    [producer] queue.enqueue
      [worker] queue.dequeue
        [worker] job.process
      [shop] Query Order"""


def tracer(receiver: Receiver, service: str) -> Tracer:
    provider = TracerProvider(resource=Resource({"service.name": service}))
    provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(f"{receiver.url}/v1/traces")))
    return provider.get_tracer("shop")


def drawn(spans: list[ReceivedSpan], parent: str = "", depth: int = 0) -> Iterator[str]:
    for span in sorted((one for one in spans if one.parent_id == parent), key=lambda one: one.start):
        yield f"{'  ' * depth}[{span.resource['service.name']}] {span.name}"
        yield from drawn(spans, span.span_id, depth + 1)


@pytest.mark.parametrize("shape", ["ids", "traceparent"])
def test_the_trace_of_an_order(shape: str, start_sidecar: StartSidecar, receiver: Receiver) -> None:
    paths: dict[str, Any] = {"trace_id": "trace_id", "span_id": "span_id"}
    if shape == "traceparent":
        paths = {"traceparent": "meta.gateway"}

    def sidecar(service: str) -> str:
        return start_sidecar(
            {
                "frameworks": {"list": {"queues": ["orders"], "processing": ["work"], "enqueued_at": "at", **paths}},
                "tracing": {
                    "service_name": service,
                    "protocol": "http/protobuf",
                    "endpoint": receiver.url,
                    "export": {"interval": "100ms"},
                },
            }
        ).url

    with (
        redis.Redis.from_url(sidecar("producer")) as producer,
        redis.Redis.from_url(sidecar("worker")) as worker,
        tracer(receiver, "frontend").start_as_current_span("HTTP Request"),
        tracer(receiver, "gateway").start_as_current_span("Forward Request") as gateway,
    ):
        context = gateway.get_span_context()
        ids = {"trace_id": f"{context.trace_id:032x}", "span_id": f"{context.span_id:016x}"}
        brought = ids if shape == "ids" else {"meta": {"gateway": "00-{trace_id}-{span_id}-01".format(**ids)}}
        producer.lpush("orders", json.dumps({"id": "job-456", "at": time.time() - 0.25, **brought}))
        value: Any = worker.brpoplpush("orders", "work", 5)
        with tracer(receiver, "shop").start_as_current_span("Query Order", set_span_in_context(named(value))):
            pass
        worker.lrem("work", 1, value)
    spans = receiver.wait_for(lambda spans: len(spans) == 6)
    assert "\n".join(drawn(spans)) == DRAWN
    assert len({span.trace_id for span in spans}) == 1
    enqueue, dequeue, process = (receiver.named(name)[0] for name in ("queue.enqueue", "queue.dequeue", "job.process"))
    assert (enqueue.attributes["queue.name"], enqueue.attributes["queue.message.id"]) == ("orders", "job-456")
    assert dequeue.attributes["queue.wait_time_ms"] >= 250
    assert process.attributes["job.duration_ms"] == process.duration / 1e6


def named(value: bytes) -> NonRecordingSpan:
    """What the worker's code reads of its job."""
    job = json.loads(value)
    trace_id, span_id = job.get("trace_id"), job.get("span_id")
    if trace_id is None:
        _, trace_id, span_id, _ = job["traceparent"].split("-")
    return NonRecordingSpan(SpanContext(int(trace_id, 16), int(span_id, 16), True, TraceFlags(1)))
