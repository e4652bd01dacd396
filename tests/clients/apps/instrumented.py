"""OpenTelemetry's own instrumentation, as its documentation has it. OTLP_ENDPOINT is where its spans go.

Imported as an application's first module: ``celery -A instrumented``, ``taskiq worker instrumented:broker``.
"""

from __future__ import annotations

import os
from importlib import import_module

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

provider = TracerProvider(resource=Resource({"service.name": "the application"}))
provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(f"{os.environ['OTLP_ENDPOINT']}/v1/traces")))
trace.set_tracer_provider(provider)

if os.environ["APPLICATION"] == "celery":
    from opentelemetry.instrumentation.celery import CeleryInstrumentor

    application = import_module("celery_app")
    app, main = application.app, application.main
    CeleryInstrumentor().instrument()  # type: ignore[no-untyped-call]
else:
    from taskiq.middlewares.opentelemetry_middleware import OpenTelemetryMiddleware

    application = import_module("taskiq_app")
    broker, main, run = application.broker, application.main, application.run
    broker.add_middlewares(OpenTelemetryMiddleware(tracer_provider=provider))
