"""A page of /metrics, read whole: all of its numbers are of one moment."""

from __future__ import annotations

from typing import NamedTuple

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample


class Page:
    def __init__(self, text: str) -> None:
        self.samples: list[Sample] = [
            sample for family in text_string_to_metric_families(text) for sample in family.samples
        ]

    def labels(self, name: str) -> dict[str, set[str]]:
        """The labels that a metric has there, each with its values; KeyError: there is no such metric."""
        found = [sample.labels for sample in self.samples if sample.name == name]
        if not found:
            raise KeyError(name)
        return {label: {labels[label] for labels in found} for label in found[0]}

    def by(self, name: str, label: str) -> dict[str, int]:
        """The sums of a metric's series, by one of its labels."""
        sums: dict[str, int] = {}
        for sample in self.samples:
            if sample.name == name:
                sums[sample.labels[label]] = sums.get(sample.labels[label], 0) + int(sample.value)
        return sums

    def total(self, name: str) -> int:
        """The sum of all series of that name."""
        return int(sum(sample.value for sample in self.samples if sample.name == name))


class Spans(NamedTuple):
    """How many spans were started, and what became of them."""

    started: int
    exported: int
    dropped: dict[str, int]
    """By reason."""
    held: int

    @property
    def missing(self) -> int:
        """Those that are nowhere."""
        return self.started - self.exported - sum(self.dropped.values()) - self.held


def spans(page: Page) -> Spans:
    return Spans(
        page.total("redspan_spans_started_total"),
        page.total("redspan_spans_exported_total"),
        page.by("redspan_spans_dropped_total", "reason"),
        page.total("redspan_span_buffer_spans"),
    )
