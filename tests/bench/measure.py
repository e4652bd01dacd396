"""Takes the measurements: contenders take turns within each round, in another order each time."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import msgspec

from tests.bench import accounting
from tests.bench.cells import Cell, Stage
from tests.bench.contenders import QUEUE, Contender, collected, collector, contenders, total
from tests.bench.load import Load, Loading, compile_generator
from tests.redis import RedisServer

_WARM_UP = 2_000


class Run(msgspec.Struct, frozen=True, omit_defaults=True):
    """One contender in one round. Times are in microseconds, CPU time for each command, memory in bytes."""

    relay: float
    relay_system: float
    tracer: float
    per_second: float
    relay_memory: int = 0
    """At the end of the load, all clients still connected."""
    relay_proportional: int = 0
    tracer_memory: int = 0
    tracer_proportional: int = 0
    connecting: int = 0
    """What the clients' connections made it grow by."""
    p50: float = 0.0
    p99: float = 0.0
    p999: float = 0.0
    max: float = 0.0


class Loss(msgspec.Struct, frozen=True):
    """What redspan itself says of a cell, all rounds taken together."""

    pushed: int
    spans_exported: int
    spans_dropped: int
    events: int
    events_dropped: int
    otlp_bytes: int
    """That the collector got, all of redspan's contenders taken together."""

    @property
    def lost(self) -> float:
        """Share of the spans that were not made or not exported: saturated, the relay goes on without them."""
        records, spans = self.events + self.events_dropped, self.spans_exported + self.spans_dropped
        kept = (self.events / records if records else 1.0) * (self.spans_exported / spans if spans else 1.0)
        return 1 - kept


class Result(msgspec.Struct, frozen=True):
    cell: Cell
    rounds: list[dict[str, Run]]
    """By contender."""
    losses: dict[str, Loss]

    def runs(self, contender: str) -> list[Run]:
        return [one[contender] for one in self.rounds if contender in one]


class Bench:
    """Redis, a collector and the generator, for as many stages as wanted."""

    def __init__(self, directory: Path, say: Callable[[str], None], *, pinned: bool = True) -> None:
        self._directory = directory
        self._say = say
        self._pinned = pinned

    def run(self, stages: Iterable[Stage]) -> Iterator[Result]:
        accounting.raise_limit()
        self._generator = compile_generator(self._directory)
        with RedisServer(maxclients="15000") as self._redis, collector() as (self._collector, collecting):
            for pid in (self._redis.pid, collecting) if self._pinned else ():
                accounting.pin_other(pid)
            for stage in stages:
                yield from self._stage(stage)

    def _stage(self, stage: Stage) -> Iterator[Result]:
        with contenders(
            stage.contenders, self._directory, self._redis.port, self._collector, stage.setup, pinned=self._pinned
        ) as found:
            for one in found:
                self._measure(one, Load(_WARM_UP, queues=stage.setup.queues))
            for cell in stage.cells:
                yield self._cell(cell, [one for one in found if one.name in cell.contenders])

    def _cell(self, cell: Cell, found: list[Contender]) -> Result:
        before = {one.name: self._books(one) for one in found}
        rounds = []
        for number in range(cell.rounds):
            self._say(f"{cell.name}: round {number + 1} of {cell.rounds}")
            rounds.append({one.name: self._measure(one, cell.load) for one in random.sample(found, len(found))})
        losses = {}
        for one in found:
            if one.admin:
                now, then = self._books(one), before[one.name]
                fields = {name: getattr(now, name) - getattr(then, name) for name in Loss.__struct_fields__}
                losses[one.name] = Loss(**fields)
        return Result(cell, rounds, losses)

    def _books(self, one: Contender) -> Loss:
        """So far. Fails if redspan has not seen all that was sent."""
        page = one.check()
        return Loss(
            pushed=one.pushed,
            spans_exported=int(total(page, "redspan_spans_exported_total")),
            spans_dropped=int(total(page, "redspan_spans_dropped_total")),
            events=int(total(page, "redspan_events_total")),
            events_dropped=int(total(page, "redspan_events_dropped_total")),
            otlp_bytes=collected(self._collector)["bytes"],
        )

    def _measure(self, one: Contender, load: Load) -> Run:
        with self._redis.connect() as control:
            control.sendall(b"FLUSHALL SYNC\r\n")
            control.recv(64)
        empty = sum(each.resident for each in one.memory())
        with Loading(self._generator, load, one.port, QUEUE, pinned=self._pinned) as loading:
            full = sum(each.resident for each in one.memory())
            one.settle()
            relay, tracer = one.cpu()
            report = loading.go()
            one.settle()
            relay_after, tracer_after = one.cpu()
            relay_memory, tracer_memory = one.memory()
        one.pushed += report.pushed
        one.commands += report.total
        each = 1e6 / report.commands
        return Run(
            relay=(relay_after - relay).total * each,
            relay_system=(relay_after - relay).system * each,
            tracer=(tracer_after - tracer).total * each,
            per_second=report.commands / report.seconds,
            relay_memory=relay_memory.resident,
            relay_proportional=relay_memory.proportional,
            tracer_memory=tracer_memory.resident,
            tracer_proportional=tracer_memory.proportional,
            connecting=full - empty,
            p50=report.p50,
            p99=report.p99,
            p999=report.p999,
            max=report.max,
        )
