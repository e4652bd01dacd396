"""What several rounds say: a median, and how far they lie apart."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable
from typing import NamedTuple

from tests.bench.measure import Result, Run


class Spread(NamedTuple):
    median: float
    low: float
    high: float

    def text(self, form: str = ".2f") -> str:
        return f"{self.median:{form}} [{self.low:{form}}, {self.high:{form}}]"


def spread(values: Iterable[float]) -> Spread | None:
    """None: there are no values."""
    found = sorted(values)
    return Spread(statistics.median(found), found[0], found[-1]) if found else None


def of(result: Result, contender: str, value: Callable[[Run], float]) -> Spread | None:
    return spread(value(run) for run in result.runs(contender))


def ratio(result: Result, contender: str, yardstick: str = "") -> Spread | None:
    """CPU time of what relays for each command, over the yardstick's in the same round."""
    other = yardstick or result.cell.yardstick
    return spread(one[contender].relay / one[other].relay for one in result.rounds if {contender, other} <= one.keys())


def difference(result: Result, contender: str, value: Callable[[Run], float], other: str = "") -> Spread | None:
    """To the yardstick, in the same round."""
    base = other or result.cell.yardstick
    return spread(value(one[contender]) - value(one[base]) for one in result.rounds if {contender, base} <= one.keys())
