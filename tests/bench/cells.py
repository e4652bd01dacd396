"""What is measured: one base, and from there one axis at a time; or, in full, all of them against each other.

A `Stage` is a set of contenders that are started together, and the cells that are measured on them.  Each stage has
fresh ones, so that no cell finds what another has left in a tracer.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec

from tests.bench.contenders import ALL, DIRECT, FORWARDER, HAPROXY, NOT_SAMPLED, SAMPLED, TWEMPROXY, UNTRACED, Setup
from tests.bench.load import Load

YARDSTICK: Final = {1: HAPROXY, 16: TWEMPROXY}
"""By depth: the cheaper one of the two."""
_COMMANDS: Final = {1: 30_000, 16: 150_000}
"""About a second of work."""
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
    names = (DIRECT, HAPROXY, FORWARDER, NOT_SAMPLED, SAMPLED)
    steady = Cell("base, 5,000/s", "rate", "5,000/s", paced, names, HAPROXY, 2 * rounds + 1)
    yield Stage((*closed, steady))
    yield Stage(tuple(_sizes(few)))
    yield Stage(tuple(_connections(few)))
    yield Stage(tuple(_both("frameworks", "one of them on", few)), Setup(frameworks=False))
    yield Stage(tuple(_both("queues", "1,000", few, queues=1000)), Setup(queues=1000))
    for window in (1, 200, 800):
        yield Stage(tuple(_both("in flight", f"{50 * window:,}", few, work="job", window=window)))
    whole = Load(_SPANS * 5, rate=_SPANS, work="job", size=1000)
    yield Stage((Cell("10,000 spans/s", "spans", "10,000/s", whole, (HAPROXY, SAMPLED), HAPROXY, 1),))


def quick(rounds: int) -> Iterator[Stage]:
    """The base alone, briefly: to see that everything works."""
    cells = [_cell("base", "", depth, rounds, ALL, share=0.1) for depth in YARDSTICK]
    steady = Cell("base, 5,000/s", "rate", "5,000/s", Load(_RATE // 2, rate=_RATE), (HAPROXY, SAMPLED), HAPROXY, rounds)
    yield Stage((*cells, steady))


def full(rounds: int) -> Iterator[Stage]:
    """Everything against everything. Takes hours."""
    yield from standard(rounds)
    for setup in (Setup(), Setup(frameworks=False), Setup(queues=1000)):
        cells = []
        for size in (100, 300, 1_000, 10_000, 100_000):
            for connections in (1, 50, 1_000, 5_000):
                for depth in YARDSTICK:
                    if size * connections * depth > 1 << 30:
                        continue
                    value = f"{size:,} B, {connections:,} connections, {setup.queues:,} queues"
                    value += "" if setup.frameworks else ", one framework"
                    share = min(1.0, 4_000 / size) * (0.3 if connections == 1 else 1.0)
                    more = {"size": size, "connections": connections, "queues": setup.queues}
                    cells.append(_cell("matrix", value, depth, rounds, ALL, share=share, **more))
        yield Stage(tuple(cells), setup)


def _sizes(rounds: int) -> Iterator[Cell]:
    for size, share in ((100, 1.0), (1_000, 1.0), (100_000, 0.05)):
        for cell in _both("size", f"{size:,} B", rounds, share=share, size=size):
            yield msgspec.structs.replace(cell, load=_at_most(cell.load, 2_000) if size == 100_000 else cell.load)
    yield from _both("size", "150 to 450 B", rounds, vary=True)


def _connections(rounds: int) -> Iterator[Cell]:
    for connections, share in ((1, 0.3), (1_000, 1.0), (5_000, 1.0)):
        yield from _both("connections", f"{connections:,}", rounds, share=share, connections=connections)


def _at_most(load: Load, commands: int) -> Load:
    return msgspec.structs.replace(load, commands=min(load.commands, commands))


def _both(axis: str, value: str, rounds: int, *, share: float = 1.0, **load: object) -> Iterator[Cell]:
    """One deep and 16 deep, with the yardstick, without and with tracing."""
    for depth, yardstick in YARDSTICK.items():
        yield _cell(axis, value, depth, rounds, (yardstick, UNTRACED, SAMPLED), share=share, **load)


def _cell(
    axis: str, value: str, depth: int, rounds: int, names: tuple[str, ...], *, share: float = 1.0, **load: object
) -> Cell:
    commands = int(_COMMANDS[depth] * share)
    name = f"{axis}{f' {value}' if value else ''}, {depth} deep"
    work = Load(commands, depth=depth, **load)  # type: ignore[arg-type]  # fields of Load
    return Cell(name, axis, value, work, names, YARDSTICK[depth], rounds)
