"""The tracer's own numbers and jobs, for the pages of `proxy.admin.app`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from starlette.middleware import Middleware

from proxy import assembly, usage
from proxy.admin.api import api_routes
from proxy.admin.app import AdminServer, create_app
from proxy.admin.guard import Guard
from proxy.admin.metrics import Queues, Reading, TracerCollector, by_queue, render
from proxy.admin.pages import ui_routes
from proxy.tracer import assembly as tracer_assembly
from proxy.tracer.export.pipeline import BUCKETS, ExportStats
from proxy.tracer.live import Live
from proxy.tracer.measures import BOUNDS, TROUBLES
from proxy.tracer.views import Views

if TYPE_CHECKING:
    from proxy.tracer.process import Tracer


def admin_server(tracer: Tracer) -> AdminServer:
    """Serves the pages about this tracer."""
    frameworks = [framework.name for framework in assembly.frameworks(tracer.settings)]
    collector = TracerCollector(tracer.snapshots.values, frameworks)
    rule = tracer_assembly.redaction(tracer.settings)
    collector.queues = Queues(mask=rule.text)
    collector.sources = (
        lambda reading: _own(tracer, reading),
        lambda reading: _jobs(tracer, reading, collector.queues),
    )
    settings = tracer.settings
    views = Views(
        settings,
        tracer.lifecycle.index,
        tracer.lifecycle.measures,
        time.time_ns,
        service=settings.tracing.service_name or "redspan",
        rule=rule,
    )
    guard = Middleware(Guard, bind=settings.admin.bind_address, token_file=settings.admin.token_file)
    live = Live(views, tracer.stories, tracer.lifecycle.listen)
    tracer.listeners.append(live.happened)
    routes = [*api_routes(views, live), *ui_routes()]
    return AdminServer(create_app(lambda accept: render(collector, accept), routes, [guard]))


def _own(tracer: Tracer, reading: Reading) -> None:
    """Spans and their export, and what this process takes."""
    buffer, counts = tracer.buffer, tracer.counts
    for operation, number in buffer.started_by.items():
        reading.add("redspan_spans_started_total", (operation,), number)
    reading.add("redspan_spans_exported_total", (), buffer.exported)
    for reason, number in buffer.dropped.items():
        reading.add("redspan_spans_dropped_total", (reason,), number)
    reading.add("redspan_span_buffer_spans", (), buffer.held)
    reading.add("redspan_export_retries_total", (), buffer.retries)
    reading.add("redspan_export_circuit_open", (), buffer.broken)
    reading.add("redspan_span_buffer_capacity", (), buffer.capacity)
    reading.add("redspan_span_buffer_bytes", (), buffer.bytes)
    for decision, number in tracer.sieve.decisions.items():
        reading.add("redspan_sampling_decisions_total", (decision,), number)
    tail = tracer.sieve.tail
    reading.add("redspan_tail_spans", (), 0 if tail is None else tail.spans)
    reading.add("redspan_tail_early_total", (), 0 if tail is None else tail.early)
    reading.add("redspan_tracer_errors_total", (), counts.errors)
    reading.add("redspan_process_resident_memory_bytes", ("tracer",), usage.resident_memory())
    reading.add("redspan_process_cpu_seconds_total", ("tracer",), usage.cpu_time() / 1e9)
    stats = ExportStats() if tracer.pipeline is None else tracer.pipeline.stats
    for result, number in stats.requests.items():
        reading.add("redspan_export_requests_total", (result,), number)
    reading.time("redspan_export_duration_seconds", (), BUCKETS, stats.duration_counts, stats.duration_sum)


def _jobs(tracer: Tracer, reading: Reading, queues: Queues) -> None:
    """What is known of jobs."""
    measures = tracer.lifecycle.measures
    by_queue(reading, queues, "redspan_job_wait_seconds", BOUNDS, measures.wait)
    by_queue(reading, queues, "redspan_job_process_seconds", BOUNDS, measures.process)
    for name, known in (
        ("redspan_jobs_in_flight", measures.in_flight),
        ("redspan_queue_depth", measures.depth),
    ):
        for (framework, queue), number in known.items():
            reading.add(name, (framework, queues.name(framework, queue)), number)
    longest = tracer.lifecycle.longest(time.time_ns())
    for framework, queue in measures.in_flight:
        labels = (framework, queues.name(framework, queue))
        reading.most("redspan_jobs_in_flight_longest_seconds", labels, longest.get((framework, queue), 0.0))
    for framework, queue in {*measures.in_flight, *((framework, queue) for framework, queue, _ in measures.troubles)}:
        name = queues.name(framework, queue)
        for trouble in TROUBLES:
            number = measures.troubles.get((framework, queue, trouble), 0)
            reading.add("redspan_job_troubles_total", (framework, name, trouble), number)
    for (framework, queue, kind), ends in measures.ends.items():
        labels = (framework, queues.name(framework, queue))
        for end, number in ends.items():
            reading.add("redspan_attempt_ends_total", (*labels, queues.masked(kind), end), number)
    ages: dict[tuple[str, str], float] = {}
    for (framework, queue), histogram in measures.wait.items():
        # Of those that are summed up, the longest.
        labels = (framework, queues.name(framework, queue))
        ages[labels] = max(histogram.recent[-1], ages.get(labels, 0.0))
    for labels, seconds in ages.items():
        reading.add("redspan_job_age_seconds", labels, seconds)
    for (framework, busy), number in tracer.lifecycle.crew.count().items():
        reading.add("redspan_workers", (framework, "busy" if busy else "idle"), number)
    journal = tracer.journal
    reading.add("redspan_lifecycle_events_total", ("written",), 0 if journal is None else journal.written)
    reading.add("redspan_lifecycle_events_total", ("dropped",), 0 if journal is None else journal.dropped)
    reading.add("redspan_events_lost_total", (), measures.lost_events)
    reading.add("redspan_jobs_forgotten_total", (), measures.evicted)
    reading.add("redspan_orphan_settles_total", (), measures.orphans)
