"""What is measured: one base, and from there one axis at a time; or, in full, all of them against each other.

A `Stage` is a set of contenders that are started together, and the cells that are measured on them.  Each stage has
fresh ones, so that no cell finds what another has left in a tracer.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Final

import msgspec

from tests.bench.contenders import ALL, DIRECT, FORWARDER, HAPROXY, SAMPLED, TWEMPROXY, UNTRACED, Setup
from tests.bench.load import Load

YARDSTICK: Final = {1: HAPROXY, 16: TWEMPROXY}
"""By depth: the cheaper one of the two."""
_LIMIT: Final = 1_000
"""Milliseconds of a closed loop."""
_BYTES: Final = 200_000_000
"""Of jobs in one run: they stay in Redis until its end."""
_COMMANDS: Final = 400_000
_RATE: Final = 5_000
_SPANS: Final = 10_000


class Cell(msgspec.Struct, frozen=True):
    name: str
    """Unique; what is in it."""
    axis: str
    """``base``, or what differs from it."""
    value: str
    """How it differs."""
    load: Load
    contenders: tuple[str, ...]
    yardstick: str
    rounds: int


class Stage(msgspec.Struct, frozen=True):
    cells: tuple[Cell, ...]
    setup: Setup = Setup()

    @property
    def contenders(self) -> list[str]:
        """All that any cell needs."""
        return [name for name in ALL if any(name in cell.contenders for cell in self.cells)]


def standard(rounds: int) -> Iterator[Stage]:
    """The base, and one sweep for each axis. ``rounds`` of the base; open loops have twice as many, sweeps half."""
    few = max(1, rounds // 2)
    closed = [_cell("base", "", depth, rounds, ALL) for depth in YARDSTICK]
    paced = Load(_RATE * 2, rate=_RATE)
    names = (DIRECT, HAPROXY, FORWARDER, SAMPLED)
    steady = Cell("base, 5,000/s", "rate", "5,000/s", paced, names, HAPROXY, 2 * rounds + 1)
    yield Stage((*closed, steady))
    yield Stage(tuple(_sizes(few)))
    yield Stage(tuple(_connections(few)))
    yield Stage(tuple(_both("frameworks", "one of them on", few)), Setup(frameworks=False))
    yield Stage(tuple(_both("queues", "1,000", few, queues=1000)), Setup(queues=1000))
    for window in (1, 50, 200):
        # It is the tracer that remembers them: of untraced commands there is nothing to see here.
        cells = _both("in flight", f"{50 * window:,}", few, (SAMPLED,), work="job", window=window)
        yield Stage(tuple(cells))
    whole = Load(_SPANS * 60, rate=_SPANS, work="job", size=1000)
    yield Stage((Cell("10,000 spans/s", "spans", "10,000/s for a minute", whole, (HAPROXY, SAMPLED), HAPROXY, 1),))


def quick(rounds: int) -> Iterator[Stage]:
    """The base alone, briefly: to see that everything works."""
    cells = [_cell("base", "", depth, rounds, ALL, limit=_LIMIT // 5) for depth in YARDSTICK]
    steady = Cell("base, 5,000/s", "rate", "5,000/s", Load(_RATE // 2, rate=_RATE), (HAPROXY, SAMPLED), HAPROXY, rounds)
    yield Stage((*cells, steady))


def full(rounds: int) -> Iterator[Stage]:
    """Everything against everything. Takes hours."""
    yield from standard(rounds)
    for setup in (Setup(), Setup(frameworks=False), Setup(queues=1000)):
        cells = []
        for size, connections in product((100, 300, 1_000, 10_000, 100_000), (1, 50, 1_000, 5_000)):
            value = f"{size:,} B, {connections:,} connections, {setup.queues:,} queues"
            value += "" if setup.frameworks else ", one framework"
            more = {"size": size, "connections": connections, "queues": setup.queues}
            cells += [
                _cell("matrix", value, depth, rounds, ALL, **more)
                for depth in YARDSTICK
                if size * connections * depth <= _BYTES
            ]
        yield Stage(tuple(cells), setup)


def _sizes(rounds: int) -> Iterator[Cell]:
    for size in (100, 1_000, 100_000):
        yield from _both("size", f"{size:,} B", rounds, size=size)
    yield from _both("size", "150 to 450 B", rounds, vary=True)


def _connections(rounds: int) -> Iterator[Cell]:
    # The most of them first: what they take in memory shows only as long as there were never as many.
    for connections in (5_000, 1_000, 1):
        for cell in _both("connections", f"{connections:,}", rounds, connections=connections):
            # To connect them takes most of the time: once is enough here.
            if connections < 5_000 or cell.load.depth == 1:
                yield cell


def _both(
    axis: str, value: str, rounds: int, names: tuple[str, ...] = (UNTRACED, SAMPLED), **load: int | str
) -> Iterator[Cell]:
    """One deep and 16 deep, beside the yardstick."""
    for depth, yardstick in YARDSTICK.items():
        yield _cell(axis, value, depth, rounds, (yardstick, *names), **load)


def _cell(axis: str, value: str, depth: int, rounds: int, names: tuple[str, ...], **load: int | str) -> Cell:
    name = f"{axis}{f' {value}' if value else ''}, {depth} deep"
    work = msgspec.convert({"commands": 0, "limit": _LIMIT, "depth": depth, **load}, Load)
    work = msgspec.structs.replace(work, commands=min(_COMMANDS, _BYTES // work.size))
    return Cell(name, axis, value, work, names, YARDSTICK[depth], rounds)
