"""python -m tests.bench tracer: what the tracer takes, and what it costs, without a relay."""

from __future__ import annotations

import argparse
import asyncio
import os
import tempfile
from pathlib import Path
from typing import Final

import msgspec
import uvloop
from rich.console import Console
from rich.table import Table

from tests.bench import accounting, jobs
from tests.bench.contenders import collector
from tests.bench.feeder import Fed, Feeder, settings
from tests.bench.stages import STAGES, Stages
from tests.redis import free_port

STEADY: Final = 10_000
"""Spans a second at which CPU and memory are looked at."""
_FIRST: Final = 20_000
_CLOSER: Final = 3
"""How often the space between what was sustained and what was not is halved."""
_WARM_UP: Final = 2_000
"""Jobs."""


class Found(msgspec.Struct, kw_only=True):
    """Bytes, microseconds of CPU for each span, spans a second."""

    stages: dict[str, float] = {}
    raw: float = 0.0
    packed: float = 0.0
    steps: list[Fed] = []
    steady_memory: int = 0
    waiting_job: float = 0.0
    running_job: float = 0.0
    buffered_span: float = 0.0
    own_estimate: float = 0.0

    @property
    def best(self) -> Fed | None:
        return max((step for step in self.steps if step.sustained), key=lambda step: step.rate, default=None)


class Measurement:
    def __init__(self, options: argparse.Namespace, directory: Path, collector_port: int, console: Console) -> None:
        self._pinned = not options.no_pin
        self._seconds: float = options.seconds
        self._jobs: int = options.jobs
        self._directory = directory
        self._port = collector_port
        self._console = console
        self.found = Found()

    def run(self) -> None:
        self._by_stage()
        uvloop.run(self._rates())
        uvloop.run(self._job_memory())
        uvloop.run(self._span_memory())

    def _by_stage(self) -> None:
        own = settings(self._directory, self._port)
        Stages(own, f"http://127.0.0.1:{self._port}").run(_WARM_UP)
        stages = Stages(own, f"http://127.0.0.1:{self._port}")
        stages.run(self._jobs)
        self.found.stages, self.found.raw, self.found.packed = stages.cost, stages.raw, stages.packed

    async def _rates(self) -> None:
        async with Feeder(settings(self._directory, self._port), pinned=self._pinned) as feeder:
            await feeder.hand(_WARM_UP)
            steady = await self._step(feeder, STEADY)
            self.found.steady_memory = feeder.memory.resident
            low, high = steady.rate if steady.sustained else 0.0, float(_FIRST)
            while (step := await self._step(feeder, high)).sustained and step.rate > 0.9 * high:
                low, high = high, 2 * high
            for _ in range(_CLOSER):
                middle = (low + high) / 2
                if (await self._step(feeder, middle)).sustained:
                    low = middle
                else:
                    high = middle

    async def _step(self, feeder: Feeder, rate: float) -> Fed:
        step = await feeder.feed(rate, self._seconds)
        self.found.steps.append(step)
        self._console.print(f"{rate:,.0f} spans/s: {'sustained' if step.sustained else 'too much'}")
        return step

    async def _job_memory(self) -> None:
        for delivered in (False, True):
            async with Feeder(settings(self._directory, self._port), pinned=self._pinned) as feeder:
                each = await self._growth(feeder, delivered=delivered, acknowledged=False)
            if delivered:
                self.found.running_job = each
            else:
                self.found.waiting_job = each

    async def _span_memory(self) -> None:
        # Nobody listens there, so spans stay; done jobs are forgotten after a while.
        own = settings(self._directory, free_port(), buffer=jobs.SPANS * (self._jobs + 2 * _WARM_UP))
        async with Feeder(own, pinned=self._pinned) as feeder:
            self.found.buffered_span = await self._growth(feeder, pause=3.0) / jobs.SPANS
            page = await feeder.metrics()
        held, size = page["redspan_span_buffer_spans"], page["redspan_span_buffer_bytes"]
        self.found.own_estimate = size / held if held else 0.0

    async def _growth(
        self, feeder: Feeder, *, pause: float = 0.5, delivered: bool = True, acknowledged: bool = True
    ) -> float:
        """Bytes for each job, once those that came first have paid for what all share."""
        await feeder.hand(_WARM_UP, delivered=delivered, acknowledged=acknowledged)
        await asyncio.sleep(pause)
        before = feeder.memory.resident
        await feeder.hand(self._jobs, delivered=delivered, acknowledged=acknowledged)
        await asyncio.sleep(pause)
        return (feeder.memory.resident - before) / self._jobs


def main(options: argparse.Namespace, console: Console) -> None:
    with tempfile.TemporaryDirectory(prefix="redspan-bench-") as directory, collector() as (port, pid):
        for one in () if options.no_pin else (pid, os.getpid()):
            accounting.pin_other(one)
        measurement = Measurement(options, Path(directory), port, console)
        measurement.run()
    console.print(_table(measurement.found))
    if options.json:
        Path(options.json).write_bytes(msgspec.json.format(msgspec.json.encode(measurement.found)))


def _table(found: Found) -> Table:
    table = Table(title="The tracer alone", title_justify="left")
    for column in ("", "found", "goal"):
        table.add_column(column, justify="right" if column else "left")
    for name in STAGES:
        table.add_row(f"CPU for each span: {name}", f"{found.stages[name]:.2f} µs")
    table.add_row("CPU for each span: all of these", f"{sum(found.stages.values()):.2f} µs")
    for step in found.steps[:1]:
        table.add_row(f"CPU for each span: the process, at {STEADY:,}/s", f"{1e6 * step.cpu / step.spans:.2f} µs")
    best = found.best
    if best is not None:
        table.add_row("CPU for each span: the process, at its best", f"{1e6 * best.cpu / best.spans:.2f} µs")
        table.add_row("spans a second until the first one is lost", f"{best.rate:,.0f}", "≥ 100,000")
    table.add_section()
    table.add_row(f"RSS at {STEADY:,} spans/s", f"{found.steady_memory / 1e6:.0f} MB")
    table.add_row("memory for each job that waits", f"{found.waiting_job:,.0f} B")
    table.add_row("memory for each job in flight", f"{found.running_job:,.0f} B")
    table.add_row("memory for each buffered span", f"{found.buffered_span:,.0f} B", "≤ 300 B")
    table.add_row("the same by its own estimate", f"{found.own_estimate:,.0f} B")
    table.add_section()
    table.add_row("OTLP for each span", f"{found.raw:,.0f} B")
    table.add_row("the same, gzip", f"{found.packed:,.0f} B")
    return table
