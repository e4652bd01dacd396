"""The table of metrics: every name, its labels, what it says, and the label values it starts with at 0.

A metric that first appears with its first failure has no rate before it, so label sets that are known beforehand are
there from the start.  `proxy.relay` and `proxy.tracer` count under the same names and values; tests compare them.
"""

from __future__ import annotations

from itertools import product
from typing import Final, Literal, NamedTuple, TypeAlias

Kind: TypeAlias = Literal["counter", "gauge", "histogram"]

Labels: TypeAlias = tuple[str, ...]


class Metric(NamedTuple):
    name: str
    """As it is scraped: counters with their ``_total``."""
    kind: Kind
    help: str
    labels: Labels = ()
    values: tuple[Labels, ...] = ()
    """For each label the values it starts with; none: label sets appear with what they count."""
    scale: float = 1.0
    """From the unit that is counted in (ns) to the one that is shown (s)."""

    def initial(self) -> list[Labels]:
        """The label sets that are there from the start."""
        return list(product(*self.values)) if self.values or not self.labels else []


QUEUES_LIMIT: Final = 200
"""Pairs of framework and queue that get series of their own; the rest is summed up under the queue ``other``."""

BLIND: Final = ("unknown_type", "reply_mismatch", "bug", "overflow", "monitor", "replication")
INVALID: Final = ("malformed", "version", "zero_id", "not_a_string", "duplicate", "tracestate", "untrusted")
INJECTIONS: Final = (
    "written",
    "adopted",
    "replaced",
    "kept",
    "derived",
    "none",
    "disabled",
    "oversize",
    "split",
    "not_object",
    "not_json",
    "not_utf8",
    "bom",
    "similar_key",
    "foreign",
    "not_msgpack",
    "not_protobuf",
    "no_parent",
    "duplicate_parent",
    "shape",
)
UNRECOGNISED: Final = (
    "not_object",
    "not_json",
    "not_utf8",
    "bom",
    "foreign",
    "not_msgpack",
    "not_protobuf",
    "shape",
)
"""Results of injections that say: this value, on a framework's key, is none of its jobs; or its script is not known."""
EVENTS_DROPPED: Final = ("ring_full", "channel_broken", "no_tracer", "too_large")
UPSTREAM_FAILURES: Final = ("unreachable", "login")
OPERATIONS: Final = (
    "queue.enqueue",
    "queue.dequeue",
    "job.process",
    "queue.purge",
    "queue.pause",
    "queue.resume",
    "queue.drain",
    "queue.peek",
    "queue.cancel",
    "queue.ack",
    "worker.started",
    "worker.shutdown",
)
SPANS_DROPPED: Final = ("buffer_full", "export_failed", "rejected", "shutdown")

DECISIONS: Final = ("sampled", "not_sampled", "tail", "thinned", "queue_limited", "limited")

ENDS: Final = ("success", "failure", "retry", "dead_letter", "taken_over", "ack_lost", "undelivered", "lost", "unknown")

_QUEUE: Final = ("framework", "queue")
_MESSAGING: Final = ("messaging_system", "messaging_destination_name", "messaging_operation_name")

RELAY: Final = (
    Metric("redspan_connections", "gauge", "Client connections that are open."),
    Metric("redspan_connections_accepted_total", "counter", "Client connections accepted."),
    Metric("redspan_connections_refused_total", "counter", "Client connections refused for relay.max_connections."),
    Metric(
        "redspan_upstream_failures_total",
        "counter",
        "Client connections closed because Redis could not be reached, or refused the credentials.",
        ("reason",),
        (UPSTREAM_FAILURES,),
    ),
    Metric("redspan_commands_total", "counter", "Redis commands seen; blind connections count none."),
    Metric(
        "redspan_blind_total",
        "counter",
        "Connections from then on relayed without a look; monitor and replication are by design.",
        ("reason",),
        (BLIND,),
    ),
    Metric(
        "redspan_injections_total",
        "counter",
        "Enqueued jobs, by what became of the trace context in them.",
        ("framework", "result"),
    ),
    Metric(
        "redspan_unrecognised_total",
        "counter",
        "Enqueued values, on a key of this framework, that are none of its jobs, and its scripts of unknown form.",
        ("framework",),
    ),
    Metric(
        "redspan_invalid_contexts_total",
        "counter",
        "Enqueued jobs whose place for a trace context holds something else.",
        ("reason",),
        (INVALID,),
    ),
    Metric(
        "redspan_jobs_total",
        "counter",
        "What was done with jobs, as commands that took effect: an end that two of them tell counts twice. "
        "The queue is empty where a command names none.",
        ("framework", "queue", "event"),
    ),
    Metric("redspan_worker_restarts_total", "counter", "Relay workers that died and were started again."),
    Metric("redspan_events_total", "counter", "Records that the relay handed to the tracer."),
    Metric(
        "redspan_events_dropped_total",
        "counter",
        "Records that the relay could not hand to the tracer.",
        ("reason",),
        (EVENTS_DROPPED,),
    ),
    Metric("redspan_events_waiting", "gauge", "Records that wait in the relay for the tracer."),
    Metric("redspan_tracer_restarts_total", "counter", "Times that the tracer process had to be started again."),
)
"""What the relay counts, and sends as snapshots."""

PROCESSES: Final = (
    Metric(
        "redspan_process_resident_memory_bytes",
        "gauge",
        "Resident memory, by redspan process.",
        ("process",),
    ),
    Metric(
        "redspan_process_cpu_seconds_total",
        "counter",
        "CPU time, user and system, by redspan process.",
        ("process",),
        scale=1e-9,
    ),
)

TRACER: Final = (
    Metric("redspan_spans_started_total", "counter", "Spans made, by operation.", ("operation",), (OPERATIONS,)),
    Metric("redspan_spans_exported_total", "counter", "Spans that the collector has taken."),
    Metric(
        "redspan_spans_dropped_total",
        "counter",
        "Spans that were made but not exported. A span that is sampled out is not made.",
        ("reason",),
        (SPANS_DROPPED,),
    ),
    Metric(
        "redspan_export_requests_total",
        "counter",
        "Export requests, by how they ended.",
        ("result",),
        (("ok", "error"),),
    ),
    Metric("redspan_export_retries_total", "counter", "Batches that the collector did not take, to be sent again."),
    Metric("redspan_export_circuit_open", "gauge", "1: the collector is away, and only one batch asks after it."),
    Metric("redspan_export_duration_seconds", "histogram", "How long export requests took."),
    Metric("redspan_span_buffer_spans", "gauge", "Spans that wait for export."),
    Metric("redspan_span_buffer_capacity", "gauge", "Spans that can wait for export."),
    Metric("redspan_span_buffer_bytes", "gauge", "About how much memory the waiting spans take."),
    Metric(
        "redspan_sampling_decisions_total",
        "counter",
        "Finished spans, by what sampling decided; all but sampled are left out.",
        ("decision",),
        (DECISIONS,),
    ),
    Metric("redspan_tail_spans", "gauge", "Spans that tail sampling holds."),
    Metric("redspan_tail_early_total", "counter", "Traces that tail sampling judged early: it held too many spans."),
    Metric("redspan_job_wait_seconds", "histogram", "From enqueue to delivery.", _QUEUE),
    Metric("redspan_job_process_seconds", "histogram", "From delivery to the end of the attempt.", _QUEUE),
    Metric("redspan_jobs_in_flight", "gauge", "Jobs delivered whose end was not seen yet.", _QUEUE),
    Metric(
        "redspan_jobs_in_flight_longest_seconds",
        "gauge",
        "For how long a job has been worked on whose end was not seen yet: the longest.",
        _QUEUE,
    ),
    Metric(
        "redspan_attempt_ends_total",
        "counter",
        "Attempts that have ended, by type of job and by how. With ack_lost, somebody else may have done it as well.",
        (*_QUEUE, "type", "result"),
    ),
    Metric(
        "redspan_job_troubles_total",
        "counter",
        "What went wrong with jobs, besides that they failed.",
        ("framework", "queue", "trouble"),
    ),
    Metric("redspan_job_age_seconds", "gauge", "How long the job that was delivered last had waited.", _QUEUE),
    Metric("redspan_workers", "gauge", "Workers that name themselves, by what they do.", ("framework", "state")),
    Metric(
        "redspan_lifecycle_events_total",
        "counter",
        "Lifecycle events for events.to, by what became of them.",
        ("result",),
        (("written", "dropped"),),
    ),
    Metric("redspan_queue_depth", "gauge", "Length of the queue, as replies and deliveries tell.", _QUEUE),
    Metric("redspan_events_lost_total", "counter", "Records from the relay that never arrived, by their numbers."),
    Metric("redspan_jobs_forgotten_total", "counter", "Jobs that the tracer forgot because there were too many."),
    Metric("redspan_orphan_settles_total", "counter", "Ends of jobs whose delivery this tracer has not seen."),
    Metric("redspan_tracer_errors_total", "counter", "Records that could not be processed: bugs, please report them."),
    Metric(
        "messaging_client_sent_messages_total",
        "counter",
        "Jobs sent, named as in OpenTelemetry's messaging conventions.",
        _MESSAGING,
    ),
    Metric(
        "messaging_client_consumed_messages_total",
        "counter",
        "Jobs delivered, named as in OpenTelemetry's messaging conventions.",
        _MESSAGING,
    ),
    Metric(
        "messaging_process_duration_seconds",
        "histogram",
        "From delivery to the end of the attempt, named as in OpenTelemetry's messaging conventions.",
        _MESSAGING,
    ),
)
"""What the tracer counts itself."""

BUILD_INFO: Final = Metric("redspan_build_info", "gauge", "Always 1.", ("version", "python", "implementation"))

ALL: Final = {metric.name: metric for metric in (BUILD_INFO, *PROCESSES, *RELAY, *TRACER)}
"""Every metric by its name."""
