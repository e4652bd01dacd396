"""What redspan has to keep within, and whether it did: the medians, over all rounds of this one run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from tests.bench.contenders import HAPROXY, SAMPLED, TWEMPROXY, UNTRACED
from tests.bench.measure import Result
from tests.bench.spread import Spread, difference, of, ratio

GROWTH = ("connections", "in flight", "queues", "frameworks")
"""Axes along which the ratio to the yardstick should stay what it is."""


class Budget(NamedTuple):
    what: str
    goal: float
    found: Spread
    form: str = ".2f"
    unit: str = ""

    @property
    def met(self) -> bool:
        return self.found.median <= self.goal


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
    for result in results:
        if result.cell.axis in GROWTH:
            yield from _growth(result, _base(result, by_name))


def _base(result: Result, by_name: dict[str, Result]) -> Result | None:
    """Where its axis begins."""
    depth = result.cell.load.depth
    if result.cell.axis == "in flight":
        return by_name.get(f"in flight 50, {depth} deep")
    if result.cell.axis == "connections":
        return by_name.get(f"connections 1, {depth} deep")
    return by_name.get(f"base, {depth} deep")


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
    yield Budget("a whole traced job at 10,000 spans/s: relay and tracer", 100, cpu, ".0f", "µs")
    yield Budget("both processes at 10,000 spans/s: RSS", 70, resident, ".0f", "MB")
    yield Budget("both processes at 10,000 spans/s: PSS", 55, proportional, ".0f", "MB")
    loss = result.losses[SAMPLED]
    share = 100 * loss.otlp_bytes / (3 * loss.pushed * result.cell.load.size)
    yield Budget("OTLP bytes of a job's bytes on the wire, 1 KB", 3.5, Spread(share, share, share), ".1f", "%")


def _connections(result: Result | None) -> Iterator[Budget]:
    if result is None or not result.runs(UNTRACED):
        return
    most = max(run.connecting for run in result.runs(UNTRACED)) / result.cell.load.connections / 1000
    yield Budget("an idle connection", 6, Spread(most, most, most), ".1f", "kB")


def growth(result: Result, base: Result | None, contender: str) -> Spread | None:
    """How its ratio to the yardstick differs from that at the axis' beginning: 1.1 is a tenth more."""
    found, start = ratio(result, contender), ratio(base, contender) if base is not None else None
    if found is None or start is None or result is base:
        return None
    return Spread(*(value / start.median for value in found))


def _growth(result: Result, base: Result | None) -> Iterator[Budget]:
    for contender in (UNTRACED, SAMPLED):
        found = growth(result, base, contender)
        if found is not None:
            yield Budget(f"growth with {result.cell.name}, {contender}", 1.15, found)
