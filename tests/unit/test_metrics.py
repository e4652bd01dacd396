"""/metrics: the names, what starts at 0, and what numbers become."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics_families
from prometheus_client.parser import text_string_to_metric_families

from proxy.admin import catalogue
from proxy.admin.metrics import Queues, Reading, RelayCollector, TracerCollector, by_queue, render
from proxy.events import Snapshot
from proxy.relay import counters, outbox
from proxy.tracer import how, measures, sieve
from proxy.tracer.export import buffer
from proxy.tracer.measures import BOUNDS, Measures
from proxy.tracer.span import Operation
from tests.playbook import trace_id

DESIGNED = """
build_info connections blind_total injections_total invalid_contexts_total events_dropped_total spans_started_total
spans_exported_total spans_dropped_total export_requests_total export_duration_seconds span_buffer_spans
span_buffer_capacity span_buffer_bytes sampling_decisions_total jobs_total job_wait_seconds job_process_seconds
jobs_in_flight queue_depth unrecognised_total
"""
"""DESIGN.md, section 8, each with ``redspan_`` before it."""


def snapshot(*counts: tuple[str, tuple[str, ...], int], worker: int = 0, **gauges: int) -> Snapshot:
    return Snapshot(worker, 1, dict(gauges), list(counts))


def page(*snapshots: Snapshot, frameworks: tuple[str, ...] = ("list",)) -> dict[str, float]:
    """Series -> value."""
    text, content_type = render(TracerCollector(lambda: snapshots, frameworks), "")
    assert content_type.startswith("text/plain")
    assert list(text_string_to_metric_families(text.decode()))
    rows = (line.rpartition(" ") for line in text.decode().splitlines() if not line.startswith("#"))
    return {series: float(value) for series, _, value in rows}


def test_designed_names_are_there() -> None:
    assert {f"redspan_{name}" for name in DESIGNED.split()} <= set(catalogue.ALL)


def test_each_name_is_unique_in_both_formats() -> None:
    families = [name.removesuffix("_total") for name in catalogue.ALL]
    assert len(families) == len(set(families))


def test_values_are_those_that_are_counted() -> None:
    assert catalogue.BLIND == counters.BLIND
    assert catalogue.INVALID == counters.INVALID
    assert set(catalogue.INJECTIONS) == set(counters.RESULTS)
    assert set(catalogue.UNRECOGNISED) <= set(catalogue.INJECTIONS)
    assert get_args(outbox.Reason) == catalogue.EVENTS_DROPPED
    assert get_args(buffer.Dropped) == catalogue.SPANS_DROPPED
    assert tuple(operation.value for operation in Operation) == catalogue.OPERATIONS
    assert get_args(sieve.Decision) == catalogue.DECISIONS
    assert how.ENDS == catalogue.ENDS


def test_relay_counts_under_known_names() -> None:
    for name, labels, _ in counters.Counters().snapshot():
        assert len(catalogue.ALL[name].labels) == len(labels)


def test_everything_known_starts_at_zero() -> None:
    series = page()
    for name in catalogue.BLIND:
        assert series[f'redspan_blind_total{{reason="{name}"}}'] == 0
    assert series['redspan_unrecognised_total{framework="list"}'] == 0
    assert series["redspan_connections"] == 0
    assert set(series.values()) == {0.0, 1.0}  # the one is redspan_build_info


def test_what_becomes_of_contexts_starts_at_zero_with_a_framework_s_first_job() -> None:
    assert not [name for name in page(frameworks=("list", "rq")) if name.startswith("redspan_injections_total{")]
    series = page(snapshot(("redspan_injections_total", ("rq", "written"), 1)), frameworks=("list", "rq"))
    found = {name: count for name, count in series.items() if name.startswith("redspan_injections_total{")}
    assert len(found) == len(catalogue.INJECTIONS)
    assert found['redspan_injections_total{framework="rq",result="written"}'] == sum(found.values()) == 1


def test_workers_are_summed() -> None:
    series = page(
        snapshot(("redspan_commands_total", (), 3), redspan_connections=1),
        snapshot(("redspan_commands_total", (), 4), worker=1, redspan_connections=2),
    )
    assert series["redspan_commands_total"] == 7
    assert series["redspan_connections"] == 3


def test_unknown_counts_are_left_out() -> None:
    series = page(
        snapshot(("redspan_new_total", (), 3), ("redspan_blind_total", ("bug", "more"), 1), redspan_new=1),
    )
    assert not [name for name in series if "new" in name]
    assert series['redspan_blind_total{reason="bug"}'] == 0


def test_units() -> None:
    series = page(snapshot(("redspan_process_cpu_seconds_total", ("relay",), 1_500_000_000)))
    assert series['redspan_process_cpu_seconds_total{process="relay"}'] == 1.5


def test_unrecognised_is_part_of_injections() -> None:
    counts = [("redspan_injections_total", ("list", result), 1) for result in catalogue.INJECTIONS]
    assert page(snapshot(*counts))['redspan_unrecognised_total{framework="list"}'] == len(catalogue.UNRECOGNISED)


def test_messaging_names() -> None:
    jobs = [("redspan_jobs_total", ("go-redis-work-queue", "q", event), 2) for event in ("enqueue", "dequeue", "ack")]
    series = page(snapshot(*jobs))
    labels = 'messaging_destination_name="q",messaging_operation_name="{}",messaging_system="go-redis-work-queue"'
    assert series[f"messaging_client_sent_messages_total{{{labels.format('enqueue')}}}"] == 2
    assert series[f"messaging_client_consumed_messages_total{{{labels.format('dequeue')}}}"] == 2
    assert len([name for name in series if name.startswith("messaging_client")]) == 2


def test_queue_labels_are_capped_and_stay() -> None:
    queues = Queues(limit=2)
    assert [queues.name("list", name) for name in ("a", "b", "c", "a", "other", "d")] == [
        "a",
        "b",
        "other",
        "a",
        "other",
        "other",
    ]
    many = [("redspan_jobs_total", ("list", f"queue-{number}", "enqueue"), 1) for number in range(1000)]
    collector = RelayCollector(lambda: [snapshot(*many)])
    for _ in range(2):
        text = render(collector, "")[0].decode()
        jobs = re.findall(r'redspan_jobs_total\{.*queue="([^"]*)"\} (\S+)', text)
        assert len(jobs) == catalogue.QUEUES_LIMIT + 1
        assert sum(float(count) for _, count in jobs) == 1000
        assert dict(jobs)["other"] == "800.0"


def test_queue_names_are_any_text() -> None:
    name = 'a"b\\c\nd\udce4ü'
    text, _ = render(RelayCollector(lambda: [snapshot(("redspan_jobs_total", ("list", name, "enqueue"), 1))]), "")
    (family,) = [one for one in text_string_to_metric_families(text.decode()) if one.name == "redspan_jobs"]
    assert family.samples[0].labels["queue"] == 'a"b\\c\nd\\udce4ü'


def test_histograms() -> None:
    collector = TracerCollector(list)

    def source(reading: Reading) -> None:
        for queue in ("a", "b"):
            reading.time(
                "redspan_job_process_seconds",
                ("list", collector.queues.name("list", queue)),
                (0.1, 1.0),
                [1, 2, 3],
                9.5,
            )

    collector.queues = Queues(limit=0)
    collector.sources = (source,)
    text = render(collector, "")[0].decode()
    row = 'redspan_job_process_seconds_bucket{framework="list",le="%s",queue="other"} %s'
    for bound, count in (("0.1", 2.0), ("1.0", 6.0), ("+Inf", 12.0)):
        assert row % (bound, count) in text
    assert 'redspan_job_process_seconds_sum{framework="list",queue="other"} 19.0' in text
    assert 'messaging_process_duration_seconds_count{messaging_destination_name="other"' in text


def test_exemplars() -> None:
    collector, histogram = TracerCollector(list), measures.Histogram()
    histogram.observe(0.5, bytes(15) + b"\x05")
    histogram.observe(60)
    name, known = "redspan_job_process_seconds", {("list", "a"): histogram}
    collector.sources = (lambda reading: by_queue(reading, collector.queues, name, measures.BOUNDS, known),)
    text = render(collector, "application/openmetrics-text; version=1.0.0")[0].decode()
    families = {family.name: family for family in open_metrics_families(text)}  # type: ignore[no-untyped-call]
    found = {one.labels.get("le"): one.exemplar for one in families[name].samples if one.exemplar}
    assert [(bound, one.labels, one.value) for bound, one in found.items()] == [("0.5", {"trace_id": f"{5:032x}"}, 0.5)]
    assert "trace_id" not in render(collector, "")[0].decode()


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("", "text/plain; version=0.0.4"),
        ("application/openmetrics-text; version=1.0.0", "application/openmetrics-text; version=1.0.0"),
        ("text/html, */*", "text/plain; version=0.0.4"),
    ],
)
def test_negotiation(accept: str, content_type: str) -> None:
    text, chosen = render(TracerCollector(list), accept)
    assert chosen.startswith(content_type)
    assert text.endswith(b"# EOF\n") == ("openmetrics" in content_type)


def test_every_metric_says_what_it_is() -> None:
    for metric in catalogue.ALL.values():
        assert metric.help.endswith(".")
        assert metric.name.endswith("_total") == (metric.kind == "counter")
        assert len(metric.values) in (0, len(metric.labels))
    assert Path(catalogue.__file__).exists()


@pytest.mark.parametrize("accept", ["application/openmetrics-text; version=abc", "*/*;q=x", "\x00", ","])
def test_whatever_is_asked_for_there_is_a_page(accept: str) -> None:
    text, _ = render(TracerCollector(list), accept)
    assert b"redspan_build_info" in text


def test_histograms_of_jobs_lead_to_traces() -> None:
    """Of each bucket to the latest that is recorded; Prometheus' old format has no place for that."""
    measures = Measures()
    for seconds, trace in ((0.003, 1), (0.004, 2), (20.0, 3), (0.3, 0)):
        measures.waited(("list", "jobs"), int(seconds * 1e9), trace_id(trace) if trace else b"")

    def shown(accept: str) -> list[str]:
        collector = TracerCollector(lambda: (), ("list",))
        collector.sources = (
            lambda reading: by_queue(reading, Queues(), "redspan_job_wait_seconds", BOUNDS, measures.wait),
        )
        text = render(collector, accept)[0].decode()
        return [line for line in text.splitlines() if line.startswith("redspan_job_wait_seconds_bucket")]

    lines = [line for line in shown("application/openmetrics-text; version=1.0.0") if "#" in line]
    assert [line.partition(" # ")[2] for line in lines] == [
        f'{{trace_id="{trace_id(2).hex()}"}} 0.004',
        f'{{trace_id="{trace_id(3).hex()}"}} 20.0',
    ]
    assert "#" not in "".join(shown(""))
