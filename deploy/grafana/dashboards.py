"""The dashboards of redspan, as tables of panels. ``python deploy/grafana/dashboards.py`` writes the JSON beside it.

Grafana 10 or later: import redspan-queues.json and redspan-sidecar.json, choose the Prometheus that scrapes redspan.
For the traces behind points, its data source needs an exemplar link from the label trace_id to where traces are.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final, NamedTuple

HERE: Final = Path(__file__).resolve().parent
_SOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}
_COLUMNS: Final = 24
_QUEUE: Final = 'framework=~"$framework",queue=~"$queue"'
_SIDECAR: Final = 'job=~"$job",instance=~"$instance"'


class Panel(NamedTuple):
    title: str
    description: str
    queries: dict[str, str]
    """Legend and PromQL; Grafana fills in $queue and the like, and $__rate_interval."""
    unit: str = "short"
    kind: str = "timeseries"
    width: int = 8
    exemplars: bool = False
    """Points lead to traces."""


def _rate(metric: str, by: str, labels: str, more: str = "") -> str:
    return f"sum by ({by}) (rate({metric}{{{labels}{more}}}[$__rate_interval]))"


def _percentiles(metric: str, by: str, labels: str, legend: str) -> dict[str, str]:
    rate = _rate(f"{metric}_bucket", ", ".join(filter(None, (by, "le"))), labels)
    return {f"p{name} {legend}".strip(): f"histogram_quantile({share}, {rate})" for name, share in (
        ("50", 0.5), ("95", 0.95), ("99", 0.99),
    )}  # fmt: skip


_ENDS: Final = "redspan_attempt_ends_total"
_COMING: Final = ',event=~"enqueue|schedule"'
_GOING: Final = ',event="dequeue"'
_SUCCEEDED: Final = ',result="success"'
_FAILED: Final = ',result=~"failure|retry|dead_letter"'
_ATTEMPTS: Final = f"sum by (queue) (rate({_ENDS}{{{_QUEUE}}}[$__rate_interval]))"

QUEUES: Final = (
    Panel("Waiting", "Jobs in the queues, as replies and deliveries tell.",
          {"": f"sum(redspan_queue_depth{{{_QUEUE}}})"}, kind="stat", width=4),
    Panel("Being worked on", "Jobs delivered whose end was not seen yet: one for each busy worker.",
          {"": f"sum(redspan_jobs_in_flight{{{_QUEUE}}})"}, kind="stat", width=4),
    Panel("Enqueued", "Jobs a second.",
          {"": f"sum({_rate('redspan_jobs_total', 'queue', _QUEUE, _COMING)})"},
          "ops", "stat", 4),
    Panel("Done", "Attempts that succeeded, a second.",
          {"": f"sum({_rate(_ENDS, 'queue', _QUEUE, _SUCCEEDED)})"}, "ops", "stat", 4),
    Panel("Failing", "Share of the attempts that failed, were retried or went to the dead letters.",
          {"": f"sum({_rate(_ENDS, 'queue', _QUEUE, _FAILED)}) / sum({_ATTEMPTS})"},
          "percentunit", "stat", 4),
    Panel("Longest at work", "For how long a job has been worked on whose end was not seen yet.",
          {"": f"max(redspan_jobs_in_flight_longest_seconds{{{_QUEUE}}})"}, "s", "stat", 4),
    Panel("Enqueued", "By queue; those put aside until a time are counted when they are put there.",
          {"{{queue}}": _rate("redspan_jobs_total", "queue", _QUEUE, _COMING)}, "ops"),
    Panel("Delivered", "By queue.", {"{{queue}}": _rate("redspan_jobs_total", "queue", _QUEUE, _GOING)},
          "ops"),
    Panel("Depth", "Jobs that wait, by queue.",
          {"{{queue}}": f"sum by (queue) (redspan_queue_depth{{{_QUEUE}}})"}),
    Panel("Wait", "From enqueue to delivery, without delays on purpose. Points lead to traces.",
          _percentiles("redspan_job_wait_seconds", "queue", _QUEUE, "{{queue}}"), "s", exemplars=True),
    Panel("Duration", "From delivery to the end of the attempt. Points lead to traces.",
          _percentiles("redspan_job_process_seconds", "queue", _QUEUE, "{{queue}}"), "s", exemplars=True),
    Panel("Durations", "How many attempts took how long. Points lead to traces.",
          {"{{le}}": f"sum by (le) (increase(redspan_job_process_seconds_bucket{{{_QUEUE}}}[$__rate_interval]))"},
          "s", "heatmap", exemplars=True),
    Panel("Attempts", "By how they ended.", {"{{result}}": _rate(_ENDS, "result", _QUEUE)}, "ops"),
    Panel("Failing", "Share of the attempts, by queue.",
          {"{{queue}}": f"{_rate(_ENDS, 'queue', _QUEUE, _FAILED)} / {_ATTEMPTS}"}, "percentunit"),
    Panel("Retries", "By queue.", {"{{queue}}": _rate(_ENDS, "queue", _QUEUE, ',result="retry"')},
          "ops"),
    Panel("Dead letters", "Jobs that were given up, by queue, in the window.",
          {"{{queue}}":
           f'sum by (queue) (increase({_ENDS}{{{_QUEUE},result="dead_letter"}}[$__rate_interval]))'}),
    Panel("Busy workers", "Jobs delivered whose end was not seen yet, by queue.",
          {"{{queue}}": f"sum by (queue) (redspan_jobs_in_flight{{{_QUEUE}}})"}),
    Panel("Lost, or done twice", "undelivered: popped for a client that had gone. ack_lost and taken_over: somebody "
          "else may have done the job as well.",
          {"{{queue}} {{result}}": f"sum by (queue, result) (increase({_ENDS}"
           f'{{{_QUEUE},result=~"undelivered|lost|ack_lost|taken_over"}}[$__rate_interval]))'}),
)  # fmt: skip

SIDECAR: Final = (
    Panel("Connections", "Of clients, open now.", {"{{instance}}": f"redspan_connections{{{_SIDECAR}}}"}),
    Panel("Commands", "Redis commands seen, a second.",
          {"{{instance}}": _rate("redspan_commands_total", "instance", _SIDECAR)}, "ops"),
    Panel("Connections that failed", "refused: over relay.max_connections. Others: Redis could not be reached.",
          {"refused": f"sum({_rate('redspan_connections_refused_total', 'instance', _SIDECAR)})",
           "{{reason}}": _rate("redspan_upstream_failures_total", "reason", _SIDECAR)}, "ops"),
    Panel("Memory", "By process; the alert looks at their sum.",
          {"{{instance}} {{process}}": f"redspan_process_resident_memory_bytes{{{_SIDECAR}}}"}, "bytes"),
    Panel("CPU", "Cores, by process.",
          {"{{instance}} {{process}}": _rate("redspan_process_cpu_seconds_total", "instance, process", _SIDECAR)}),
    Panel("Blind", "Connections from then on relayed without a look, by reason; monitor and replication are by design.",
          {"{{reason}}": _rate("redspan_blind_total", "reason", _SIDECAR)}, "ops"),
    Panel("Trace contexts", "Enqueued jobs, by what became of the context in them.",
          {"{{result}}": _rate("redspan_injections_total", "result", _SIDECAR)}, "ops"),
    Panel("Contexts that were not taken", "By reason: what stands in a job's place for a trace context, and is none.",
          {"{{reason}}": _rate("redspan_invalid_contexts_total", "reason", _SIDECAR)}, "ops"),
    Panel("Not recognised", "Values on a framework's keys that are none of its jobs, and scripts of unknown form.",
          {"{{framework}}": _rate("redspan_unrecognised_total", "framework", _SIDECAR)}, "ops"),
    Panel("Spans", "started = exported + dropped + what waits in the buffer.",
          {"started": f"sum({_rate('redspan_spans_started_total', 'operation', _SIDECAR)})",
           "exported": f"sum({_rate('redspan_spans_exported_total', 'instance', _SIDECAR)})",
           "dropped {{reason}}": _rate("redspan_spans_dropped_total", "reason", _SIDECAR)}, "ops"),
    Panel("Sampling", "Finished spans, by what was decided; all but sampled are left out.",
          {"{{decision}}": _rate("redspan_sampling_decisions_total", "decision", _SIDECAR)}, "ops"),
    Panel("Buffer", "Spans that wait for export, as a share of its capacity.",
          {"{{instance}}": f"redspan_span_buffer_spans{{{_SIDECAR}}} / redspan_span_buffer_capacity{{{_SIDECAR}}}"},
          "percentunit"),
    Panel("Export requests", "By how they ended; and batches to be sent again.",
          {"{{result}}": _rate("redspan_export_requests_total", "result", _SIDECAR),
           "again": f"sum({_rate('redspan_export_retries_total', 'instance', _SIDECAR)})"}, "ops"),
    Panel("Export duration", "How long export requests took.",
          _percentiles("redspan_export_duration_seconds", "", _SIDECAR, ""), "s"),
    Panel("Collector away", "1: only one batch asks after it.",
          {"{{instance}}": f"redspan_export_circuit_open{{{_SIDECAR}}}"}),
    Panel("Memory of waiting spans", "The buffer's, about; and how many spans tail sampling holds.",
          {"{{instance}} buffer": f"redspan_span_buffer_bytes{{{_SIDECAR}}}",
           "{{instance}} held": f"redspan_tail_spans{{{_SIDECAR}}}"}),
    Panel("Events between relay and tracer", "Those that wait; and those that were lost, by reason.",
          {"waiting": f"sum(redspan_events_waiting{{{_SIDECAR}}})",
           "{{reason}}": _rate("redspan_events_dropped_total", "reason", _SIDECAR)}),
    Panel("Restarts, and what was forgotten", "Of processes that died; jobs forgotten as there were too many; ends of "
          "jobs whose delivery was not seen.",
          {"tracer": f"sum(increase(redspan_tracer_restarts_total{{{_SIDECAR}}}[$__rate_interval]))",
           "relay worker": f"sum(increase(redspan_worker_restarts_total{{{_SIDECAR}}}[$__rate_interval]))",
           "bugs": f"sum(increase(redspan_tracer_errors_total{{{_SIDECAR}}}[$__rate_interval]))",
           "forgotten": f"sum(increase(redspan_jobs_forgotten_total{{{_SIDECAR}}}[$__rate_interval]))",
           "orphans": f"sum(increase(redspan_orphan_settles_total{{{_SIDECAR}}}[$__rate_interval]))"}),
)  # fmt: skip

DASHBOARDS: Final = {
    "redspan-queues": ("redspan: queues", QUEUES, {
        "framework": "label_values(redspan_jobs_total, framework)",
        "queue": 'label_values(redspan_jobs_total{framework=~"$framework"}, queue)',
    }),
    "redspan-sidecar": ("redspan: sidecars", SIDECAR, {
        "job": "label_values(redspan_build_info, job)",
        "instance": 'label_values(redspan_build_info{job=~"$job"}, instance)',
    }),
}  # fmt: skip


def _panel(number: int, panel: Panel, x: int, y: int, height: int) -> dict[str, Any]:
    targets = [
        {
            "refId": chr(ord("A") + at),
            "expr": query,
            "legendFormat": legend or "__auto",
            "exemplar": panel.exemplars,
            **({"format": "heatmap"} if panel.kind == "heatmap" else {}),
        }
        for at, (legend, query) in enumerate(panel.queries.items())
    ]
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": _SOURCE,
        "gridPos": {"x": x, "y": y, "w": panel.width, "h": height},
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "targets": targets,
    }


def dashboard(uid: str) -> dict[str, Any]:
    """One of `DASHBOARDS` in Grafana's model."""
    title, panels, variables = DASHBOARDS[uid]
    placed, x, y, height = [], 0, 0, 0
    for number, panel in enumerate(panels, 1):
        if x + panel.width > _COLUMNS:
            x, y = 0, y + height
        height = 4 if panel.kind == "stat" else 8
        placed.append(_panel(number, panel, x, y, height))
        x += panel.width
    templating: list[dict[str, Any]] = [
        {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus"}
    ]
    for name, query in variables.items():
        all_of_them = {"includeAll": True, "allValue": ".*", "current": {"text": "All", "value": "$__all"}}
        asked = {"datasource": _SOURCE, "query": {"query": query, "refId": name}, "refresh": 2}
        templating.append({"name": name, "type": "query", "multi": True, **asked, **all_of_them})
    return {
        "uid": uid,
        "title": title,
        "tags": ["redspan"],
        "schemaVersion": 38,
        "timezone": "browser",
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": templating},
        "panels": placed,
    }


def text(uid: str) -> str:
    """As JSON, a line for each panel."""
    model = dashboard(uid)
    panels = ",\n".join(f"  {json.dumps(panel)}" for panel in model.pop("panels"))
    return f'{json.dumps(model, indent=1)[:-2]},\n "panels": [\n{panels}\n ]\n}}\n'


if __name__ == "__main__":
    for name in DASHBOARDS:
        (HERE / f"{name}.json").write_text(text(name))
