"""What the tracer measures of jobs, for Prometheus: plain numbers, rendered on a scrape."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Mapping
from typing import Final

from proxy.tracer.how import ENDS, End
from proxy.tracer.span import JobFacts

BOUNDS: Final = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 30.0, 60.0, 300.0)
"""Seconds. The first fourteen are those that the messaging conventions advise; jobs last longer."""

Label = tuple[str, str]
"""Framework and queue."""

Place = tuple[str, str, str, int, str]
"""One key of a queue: framework and queue, and where it is: upstream, database, key."""

TROUBLES: Final = ("executed_twice", "ack_lost", "lost", "timed_out", "throttled")
"""What may go wrong with jobs, besides that they fail."""

_LABELS: Final = 1000
_KINDS: Final = 200
_RECENT: Final = 200


class Histogram:
    __slots__ = ("counts", "exemplars", "recent", "total")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS) + 1)
        self.total = 0.0
        self.recent: deque[float] = deque(maxlen=_RECENT)
        """The latest ones, seconds."""
        self.exemplars: dict[int, tuple[bytes, float]] = {}
        """Of each bucket the latest trace that is recorded, and how long it was there."""

    def observe(self, seconds: float, trace_id: bytes = b"") -> None:
        """``trace_id``: of a trace that shows it; empty where none is recorded."""
        bucket = bisect_left(BOUNDS, seconds)
        self.counts[bucket] += 1
        self.total += seconds
        self.recent.append(seconds)
        if trace_id:
            self.exemplars[bucket] = (trace_id, seconds)


class Measures:
    """By framework and queue; after 1,000 pairs the rest is counted under the queue ``other``."""

    def __init__(self) -> None:
        self.wait: dict[Label, Histogram] = {}
        self.process: dict[Label, Histogram] = {}
        self.in_flight: dict[Label, int] = {}
        """Of each queue that somebody was given a job from."""
        self.ends: dict[tuple[str, str, str], dict[End, int]] = {}
        """By framework, queue and type of job; after 200 the rest has queue and type ``other``."""
        self._depth: dict[Place, int] = {}
        self.asked: set[Place] = set()
        """Those whose depth was known last because somebody asked Redis for it."""
        self.troubles: dict[tuple[str, str, str], int] = {}
        """By framework, queue and what went wrong."""
        self.evicted = 0
        """Jobs forgotten because there were too many."""
        self.orphans = 0
        """Settles whose delivery this tracer has not seen."""
        self.lost_events = 0
        """Records missing between batches."""

    def _label(self, known: Mapping[Label, object], label: Label) -> Label:
        return label if label in known or len(known) < _LABELS else (label[0], "other")

    def _histogram(self, known: dict[Label, Histogram], label: Label) -> Histogram:
        found = known.get(label)
        return known.setdefault(self._label(known, label), Histogram()) if found is None else found

    def waited(self, label: Label, ns: int, trace_id: bytes) -> None:
        self._histogram(self.wait, label).observe(ns / 1e9, trace_id)

    def processed(self, label: Label, ns: int, trace_id: bytes) -> None:
        self._histogram(self.process, label).observe(ns / 1e9, trace_id)

    def trouble(self, label: Label, what: str) -> None:
        if (*label, what) not in self.troubles and len(self.troubles) >= _LABELS:
            label = (label[0], "other")
        key = (*label, what)
        self.troubles[key] = self.troubles.get(key, 0) + 1

    def flight(self, label: Label, change: int) -> None:
        label = self._label(self.in_flight, label)
        self.in_flight[label] = max(0, self.in_flight.get(label, 0) + change)

    def begin(self, label: Label, kind: str) -> dict[End, int]:
        """A job of this type is worked on: what starts with its first failure would have no rate before it."""
        key = (*label, kind)
        counts = self.ends.get(key)
        if counts is None:
            key = key if len(self.ends) < _KINDS else (label[0], "other", "other")
            counts = self.ends.setdefault(key, dict.fromkeys(ENDS, 0))
        return counts

    def end(self, label: Label, kind: str, how: End) -> None:
        self.begin(label, kind)[how] += 1

    def depth_is(self, place: Place, depth: int, *, asked: bool = False) -> None:
        """``asked``: somebody asked Redis for it."""
        if place not in self._depth and len(self._depth) >= _LABELS:
            return
        self._depth[place] = depth
        if asked:
            self.asked.add(place)
        else:
            self.asked.discard(place)

    def depth_at(self, place: Place) -> int | None:
        """How many wait under the key; None: that is not known."""
        return self._depth.get(place)

    @property
    def depth(self) -> dict[Label, int]:
        """How many wait, under all keys of a queue: of each priority, in each database."""
        sums: dict[Label, int] = {}
        for place, depth in self._depth.items():
            sums[place[:2]] = sums.get(place[:2], 0) + depth
        return sums


def place_of(facts: JobFacts) -> Place:
    return (facts.framework, facts.queue, facts.upstream, facts.db, facts.key)
