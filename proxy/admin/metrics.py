"""/metrics: what relay and tracer have counted as plain numbers, in Prometheus' words, made when somebody asks.

The names are in `proxy.admin.catalogue`.  A custom collector instead of prometheus_client's own counters: those take a
lock at each count, and the relay's counts live in another process.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Final, Protocol, TypeAlias

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar

from proxy import __version__
from proxy.admin.catalogue import (
    ALL,
    BUILD_INFO,
    INJECTIONS,
    PROCESSES,
    QUEUES_LIMIT,
    RELAY,
    TRACER,
    UNRECOGNISED,
    Labels,
    Metric,
)
from proxy.events import Snapshot

Series: TypeAlias = dict[Labels, float]

_OTHER: Final = "other"
_SENT: Final = ("enqueue", "schedule")


class Histogram(Protocol):
    """`proxy.tracer.measures.Histogram`."""

    counts: list[int]
    total: float
    exemplars: dict[int, tuple[bytes, float]]


class Timing:
    """One histogram's numbers: ``counts`` per bucket, the last above all ``bounds`` (seconds)."""

    __slots__ = ("bounds", "counts", "exemplars", "total")

    def __init__(self, bounds: Sequence[float], counts: Sequence[int], total: float) -> None:
        self.exemplars: dict[int, tuple[bytes, float]] = {}
        """Of each bucket a trace that shows it, and its value; only OpenMetrics has them."""
        self.bounds = bounds
        self.counts = list(counts)
        self.total = total

    def add(self, counts: Sequence[int], total: float) -> None:
        self.counts = [one + other for one, other in zip(self.counts, counts, strict=True)]
        self.total += total


class Reading:
    """Everything that there is to show, at one moment."""

    def __init__(self) -> None:
        self.numbers: dict[str, Series] = {}
        self.timings: dict[str, dict[Labels, Timing]] = {}

    def add(self, name: str, labels: Labels, value: float) -> None:
        series = self.numbers.setdefault(name, {})
        series[labels] = series.get(labels, 0) + value

    def most(self, name: str, labels: Labels, value: float) -> None:
        """The largest of several."""
        series = self.numbers.setdefault(name, {})
        series[labels] = max(series.get(labels, value), value)

    def time(self, name: str, labels: Labels, bounds: Sequence[float], counts: Sequence[int], total: float) -> None:
        series = self.timings.setdefault(name, {})
        if labels in series:
            series[labels].add(counts, total)
        else:
            series[labels] = Timing(bounds, counts, total)


Source: TypeAlias = Callable[[Reading], None]
"""Adds what it knows to a reading."""


class Queues:
    """Which queues have series of their own. They keep them: a series that changes its meaning is worse than none."""

    def __init__(self, limit: int = QUEUES_LIMIT, mask: Callable[[str], str] = str) -> None:
        self._limit = limit
        self._mask = mask
        self._known: set[tuple[str, str]] = set()

    def masked(self, text: str) -> str:
        return self._mask(text)

    def name(self, framework: str, queue: str) -> str:
        """As it is shown: what is personal in it is masked."""
        queue = self._mask(queue)
        if (framework, queue) in self._known or queue == _OTHER:
            return queue
        if len(self._known) >= self._limit:
            return _OTHER
        self._known.add((framework, queue))
        return queue

    def label(self, metric: Metric, labels: Labels) -> Labels:
        """The labels of a count with a queue among them; of any other as they are."""
        if metric.labels[:2] != ("framework", "queue"):
            return labels
        framework, queue, *more = labels
        return (framework, self.name(framework, queue), *more)


class RelayCollector(Collector):
    """The relay's counts alone: all there is without a tracer, and the base of what the tracer shows.

    ``snapshots`` answers the latest of each worker.
    """

    metrics: Sequence[Metric] = (BUILD_INFO, *PROCESSES, *RELAY)

    def __init__(self, snapshots: Callable[[], Iterable[Snapshot]], frameworks: Iterable[str] = ()) -> None:
        self._snapshots = snapshots
        self._frameworks = tuple(frameworks)
        self.queues = Queues()

    def collect(self) -> Iterator[Family]:
        reading = Reading()
        self.read(reading)
        for metric in self.metrics:
            yield _family(metric, reading)

    def read(self, reading: Reading) -> None:
        for metric in self.metrics:
            for labels in metric.initial():
                if metric.kind != "histogram":
                    reading.add(metric.name, labels, 0)
        reading.add(BUILD_INFO.name, (__version__, platform.python_version(), platform.python_implementation()), 1)
        for framework in self._frameworks:
            reading.add("redspan_unrecognised_total", (framework,), 0)
        for snapshot in self._snapshots():
            self._add(reading, snapshot)
        # Hundreds of series, of frameworks that most applications do not use: each one's begin with its first job.
        for framework in {framework for framework, _ in reading.numbers.get("redspan_injections_total", {})}:
            for result in INJECTIONS:
                reading.add("redspan_injections_total", (framework, result), 0)

    def _add(self, reading: Reading, snapshot: Snapshot) -> None:
        for name, number in snapshot.gauges.items():
            metric = ALL.get(name)
            if metric is not None:
                reading.add(name, ("relay",) if metric.labels == ("process",) else (), number * metric.scale)
        for name, labels, count in snapshot.counters:
            metric = ALL.get(name)
            if metric is None or len(labels) != len(metric.labels):
                continue
            reading.add(name, self.queues.label(metric, labels), count * metric.scale)
            if name == "redspan_injections_total" and labels[1] in UNRECOGNISED:
                reading.add("redspan_unrecognised_total", labels[:1], count)


class TracerCollector(RelayCollector):
    """All of it. ``sources`` add what the tracer itself has counted."""

    metrics = (BUILD_INFO, *PROCESSES, *RELAY, *TRACER)
    sources: Sequence[Source] = ()

    def read(self, reading: Reading) -> None:
        super().read(reading)
        for source in self.sources:
            source(reading)
        self._name_messages(reading)

    def _name_messages(self, reading: Reading) -> None:
        """The same once more in OpenTelemetry's words."""
        for (framework, queue, event), count in list(reading.numbers.get("redspan_jobs_total", {}).items()):
            if event in _SENT:
                reading.add("messaging_client_sent_messages_total", (_system(framework), queue, event), count)
            elif event == "dequeue":
                reading.add("messaging_client_consumed_messages_total", (_system(framework), queue, event), count)
        for (framework, queue), timing in reading.timings.get("redspan_job_process_seconds", {}).items():
            labels = (_system(framework), queue, "process")
            reading.time("messaging_process_duration_seconds", labels, timing.bounds, timing.counts, timing.total)


def by_queue(
    reading: Reading, queues: Queues, name: str, bounds: Sequence[float], known: Mapping[tuple[str, str], Histogram]
) -> None:
    """Histograms by framework and queue into a reading."""
    for (framework, queue), histogram in known.items():
        labels = (framework, queues.name(framework, queue))
        reading.time(name, labels, bounds, histogram.counts, histogram.total)
        reading.timings[name][labels].exemplars.update(histogram.exemplars)


def render(collector: Collector, accept: str) -> tuple[bytes, str]:
    """The page and its content type: OpenMetrics for who accepts it, else Prometheus' text."""
    try:
        encode, content_type = choose_encoder(accept)
    except (TypeError, ValueError):
        # It asks for a version that is no number.
        encode, content_type = choose_encoder("")
    return encode(collector), content_type


def _system(framework: str) -> str:
    """``messaging.system``; plain lists are no system but Redis."""
    return "redis" if framework in ("list", "stream", "zset", "script") else framework


def _family(metric: Metric, reading: Reading) -> Family:
    if metric.kind == "histogram":
        histogram = HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
        for labels, timing in sorted(reading.timings.get(metric.name, {}).items()):
            cumulative = accumulate(timing.counts)
            bounds = (*map(str, timing.bounds), "+Inf")
            buckets: list[tuple[str, float] | tuple[str, float, Exemplar]] = [
                (bound, count, _exemplar(*timing.exemplars[at])) if at in timing.exemplars else (bound, count)
                for at, (bound, count) in enumerate(zip(bounds, cumulative, strict=True))
            ]
            histogram.add_metric(_safe(labels), buckets, timing.total)
        return histogram
    series = sorted(reading.numbers.get(metric.name, {}).items())
    kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
    family = kind(metric.name, metric.help, labels=metric.labels)
    for labels, value in series:
        family.add_metric(_safe(labels), value)
    return family


def _exemplar(trace_id: bytes, value: float) -> Exemplar:
    return Exemplar({"trace_id": trace_id.hex()}, value)


def _safe(labels: Labels) -> Labels:
    """As UTF-8 can hold them: a queue's name is whatever bytes somebody chose."""
    return tuple(label.encode(errors="backslashreplace").decode() for label in labels)
