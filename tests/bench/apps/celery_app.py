"""A Celery application. REDIS_URL is where; with OTLP_ENDPOINT it has OpenTelemetry's instrumentation in it.

As a producer: ``main(COUNT)`` sends that many tasks for each line that it reads.
"""

from __future__ import annotations

import os
import random
import string
import sys

from celery import Celery, signals  # type: ignore[import-untyped]

app = Celery("shop", broker=os.environ["REDIS_URL"], backend=os.environ["REDIS_URL"])
app.conf.update(worker_hijack_root_logger=False, broker_connection_retry_on_startup=True)
POOL = "".join(random.choices(string.ascii_letters, k=1 << 16))


def instrument() -> None:
    """As OpenTelemetry's documentation has it."""
    from opentelemetry import trace
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.instrumentation.celery import CeleryInstrumentor
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(f"{os.environ['OTLP_ENDPOINT']}/v1/traces")))
    trace.set_tracer_provider(provider)
    CeleryInstrumentor().instrument()  # type: ignore[no-untyped-call]


@signals.worker_process_init.connect(weak=False)  # type: ignore[untyped-decorator]
def started(**_: object) -> None:
    if "OTLP_ENDPOINT" in os.environ:
        instrument()


@app.task  # type: ignore[untyped-decorator]
def measure(text: str, number: int) -> int:
    return len(text) + number


def main(count: int) -> None:
    if "OTLP_ENDPOINT" in os.environ:
        instrument()
    print("ready", flush=True)
    for _ in sys.stdin:
        for number in range(count):
            at = random.randrange(len(POOL) - 200)
            measure.delay(POOL[at : at + 200], number)
        print("sent", flush=True)
