"""What redspan has to keep within, and whether it did: the medians, over all rounds of this one run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from tests.bench.contenders import HAPROXY, SAMPLED, TWEMPROXY, UNTRACED
from tests.bench.measure import Result
from tests.bench.spread import Spread, difference, of, ratio

AXES = ("connections", "in flight", "queues", "frameworks")
"""Along these the ratio to the yardstick should stay what it is."""


class Budget(NamedTuple):
    what: str
    goal: float
    found: Spread
    form: str = ".2f"
    unit: str = ""
    lost: float = 0.0
    """Share of the spans that were lost meanwhile: what was not done costs nothing, so there must be none."""

    @property
    def met(self) -> bool:
        return self.found.median <= self.goal and not self.lost

    @property
    def verdict(self) -> str:
        if self.lost:
            return f"void: {100 * self.lost:.0f} % of the spans were lost"
        return "" if self.met else "over"


def budgets(results: Sequence[Result]) -> Iterator[Budget]:
    """Those that this run can speak of."""
    by_name = {one.cell.name: one for one in results}
    single, deep = by_name.get("base, 1 deep"), by_name.get("base, 16 deep")
    mixed = by_name.get("queues 1,000, 16 deep")
    yield from _ratios("untraced command, 1 deep: x HAProxy", 1.2, single, UNTRACED, HAPROXY)
    yield from _ratios("untraced command, 16 deep: x twemproxy", 0.6, deep, UNTRACED, TWEMPROXY)
    yield from _ratios("traced enqueue, 1 deep: x HAProxy", 1.5, single, SAMPLED, HAPROXY)
    yield from _ratios("traced enqueue, 16 deep, one queue: x twemproxy", 1.0, deep, SAMPLED, TWEMPROXY)
    yield from _ratios("traced enqueue, 16 deep, 1,000 queues: x twemproxy", 1.5, mixed, SAMPLED, TWEMPROXY)
    yield from _paced(by_name.get("base, 5,000/s"))
    yield from _whole_jobs(by_name.get("10,000 spans/s"))
    yield from _connections(by_name.get("connections 5,000, 1 deep"))
    for axis in AXES:
        yield from _growth(axis, [one for one in results if one.cell.axis == axis], by_name)


def _growth(axis: str, results: Sequence[Result], by_name: dict[str, Result]) -> Iterator[Budget]:
    """The worst that is found along an axis, as a multiple of the ratio where it begins: 1.1 is a tenth more."""
    found = []
    for result in results:
        base = by_name.get(_START.get(axis, "base, {} deep").format(result.cell.load.depth))
        # All frameworks on is the base: what grows is the base against the cell, not the cell against the base.
        small, large = (result, base) if axis == "frameworks" else (base, result)
        for contender in (UNTRACED, SAMPLED):
            start = ratio(small, contender) if small is not None else None
            end = ratio(large, contender) if large is not None else None
            if start is not None and end is not None and small is not large:
                grown = Spread(*(value / start.median for value in end))
                found.append((grown, f"{result.cell.value}, {result.cell.load.depth} deep, {contender}"))
    if found:
        worst, where = max(found)
        yield Budget(f"growth along {axis}, worst: {where}", 1.15, worst)


_START = {"in flight": "in flight 50, {} deep"}
"""Where an axis begins, if not with the base."""


def _ratios(what: str, goal: float, result: Result | None, contender: str, yardstick: str) -> Iterator[Budget]:
    found = ratio(result, contender, yardstick) if result is not None else None
    if found is not None:
        yield Budget(what, goal, found)


def _paced(result: Result | None) -> Iterator[Budget]:
    if result is None:
        return
    yield from _ratios("traced enqueue at 5,000/s: x HAProxy", 1.3, result, SAMPLED, HAPROXY)
    for name, goal in (("p50", 10.0), ("p99", 1000.0)):
        found = difference(result, SAMPLED, lambda run, name=name: getattr(run, name), HAPROXY)  # type: ignore[misc]
        if found is not None:
            yield Budget(f"traced enqueue at 5,000/s: {name} above HAProxy's", goal, found, "+.0f", "µs")


def _whole_jobs(result: Result | None) -> Iterator[Budget]:
    if result is None:
        return
    cpu = of(result, SAMPLED, lambda run: 3 * (run.relay + run.tracer))
    resident = of(result, SAMPLED, lambda run: (run.relay_memory + run.tracer_memory) / 1e6)
    proportional = of(result, SAMPLED, lambda run: (run.relay_proportional + run.tracer_proportional) / 1e6)
    if cpu is None or resident is None or proportional is None:
        return
    loss = result.losses[SAMPLED]
    lost = round(loss.lost, 2)
    yield Budget("a whole traced job at 10,000 spans/s: relay and tracer", 100, cpu, ".0f", "µs", lost)
    yield Budget("both processes at 10,000 spans/s: RSS", 70, resident, ".0f", "MB", lost)
    yield Budget("both processes at 10,000 spans/s: PSS", 55, proportional, ".0f", "MB", lost)
    if loss.spans_exported:
        # A job crosses the wire three times, and has three spans.
        share = 100 * loss.otlp_bytes / loss.spans_exported / result.cell.load.size
        yield Budget("OTLP bytes of a job's bytes on the wire, 1 KB", 3.5, Spread(share, share, share), ".1f", "%")


def _connections(result: Result | None) -> Iterator[Budget]:
    if result is None or not result.runs(UNTRACED):
        return
    most = max(run.connecting for run in result.runs(UNTRACED)) / result.cell.load.connections / 1000
    yield Budget("an idle connection", 6, Spread(most, most, most), ".1f", "kB")
