"""What the tracer measures of jobs, for Prometheus: plain numbers, rendered on a scrape."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Mapping
from typing import Final, Literal, NamedTuple, TypeAlias, get_args

from proxy.tracer import attributes as a
from proxy.tracer.span import JobFacts, Operation, Span

BOUNDS: Final = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 30.0, 60.0, 300.0)
"""Seconds. The first fourteen are those that the messaging conventions advise; jobs last longer."""

Label = tuple[str, str]
"""Framework and queue."""

End: TypeAlias = Literal[
    "success", "failure", "retry", "dead_letter", "taken_over", "ack_lost", "undelivered", "unknown"
]
"""How an attempt ended. ``taken_over``: somebody else was given the job. ``ack_lost``: there was nothing to acknowledge
any more, so somebody else may have the job as well. ``undelivered``: its client had gone before it could be written."""

Place = tuple[str, str, str, int, str]
"""One key of a queue: framework and queue, and where it is: upstream, database, key."""

ENDS: Final[tuple[End, ...]] = get_args(End)
_LABELS: Final = 1000
_RECENT: Final = 200


class Example(NamedTuple):
    """A measurement with a trace to look at."""

    trace_id: bytes
    seconds: float
    at: int
    """ns."""


class Histogram:
    __slots__ = ("counts", "examples", "recent", "total")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS) + 1)
        self.total = 0.0
        self.recent: deque[float] = deque(maxlen=_RECENT)
        """The latest ones, seconds."""
        self.examples: dict[int, Example] = {}
        """By bucket, the latest whose span was exported."""

    def observe(self, seconds: float) -> None:
        self.counts[bisect_left(BOUNDS, seconds)] += 1
        self.total += seconds
        self.recent.append(seconds)


class Measures:
    """By framework and queue; after 1,000 pairs the rest is counted under the queue ``other``."""

    def __init__(self) -> None:
        self.wait: dict[Label, Histogram] = {}
        self.process: dict[Label, Histogram] = {}
        self.in_flight: dict[Label, int] = {}
        """Of each queue that somebody was given a job from."""
        self.ends: dict[Label, dict[End, int]] = {}
        self._depth: dict[Place, int] = {}
        self.evicted = 0
        """Jobs forgotten because there were too many."""
        self.orphans = 0
        """Settles whose delivery this tracer has not seen."""
        self.lost_events = 0
        """Records missing between batches."""

    @staticmethod
    def _label(known: Mapping[Label, object], label: Label) -> Label:
        return label if label in known or len(known) < _LABELS else (label[0], "other")

    def _histogram(self, known: dict[Label, Histogram], label: Label) -> Histogram:
        found = known.get(label)
        return known.setdefault(self._label(known, label), Histogram()) if found is None else found

    def waited(self, label: Label, ns: int) -> None:
        self._histogram(self.wait, label).observe(ns / 1e9)

    def processed(self, label: Label, ns: int) -> None:
        self._histogram(self.process, label).observe(ns / 1e9)

    def flight(self, label: Label, change: int) -> None:
        label = self._label(self.in_flight, label)
        self.in_flight[label] = max(0, self.in_flight.get(label, 0) + change)

    def ended(self, label: Label, end: End) -> None:
        counts = self.ends.get(label)
        if counts is None:
            counts = self.ends.setdefault(self._label(self.ends, label), dict.fromkeys(ENDS, 0))
        counts[end] += 1

    def exported(self, span: Span) -> None:
        """The span goes to the collector: what it says of waiting or taking time can be looked at there."""
        if span.operation is Operation.PROCESS:
            known, seconds = self.process, (span.end - span.start) / 1e9
        elif span.operation is Operation.DEQUEUE and a.WAIT_MS in span.facts:
            known, seconds = self.wait, float(span.facts[a.WAIT_MS]) / 1e3
        else:
            return
        histogram = known.get((span.job.framework, span.job.queue))
        if histogram is not None:
            histogram.examples[bisect_left(BOUNDS, seconds)] = Example(span.trace_id, seconds, span.end)

    def depth_is(self, facts: JobFacts, depth: int) -> None:
        place = _place(facts)
        if place in self._depth or len(self._depth) < _LABELS:
            self._depth[place] = depth

    def depth_at(self, facts: JobFacts) -> int | None:
        """How many wait under the key; None: that is not known."""
        return self._depth.get(_place(facts))

    @property
    def depth(self) -> dict[Label, int]:
        """How many wait, under all keys of a queue: of each priority, in each database."""
        sums: dict[Label, int] = {}
        for place, depth in self._depth.items():
            sums[place[:2]] = sums.get(place[:2], 0) + depth
        return sums


def _place(facts: JobFacts) -> Place:
    return (facts.framework, facts.queue, facts.upstream, facts.db, facts.key)
