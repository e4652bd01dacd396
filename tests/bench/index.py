"""python -m tests.bench index: what the index of jobs costs, how fast it answers, and what it is to be watched."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from statistics import median
from typing import Final

import msgspec
from rich.console import Console

from proxy.tracer import assembly
from proxy.tracer.entry import Wanted
from proxy.tracer.index import Index
from proxy.tracer.lifecycle import Lifecycle
from tests.bench import jobs, watching
from tests.bench.feeder import settings
from tests.sidecar import resident_memory

_BLOCK: Final = 2_000
"""Jobs that are timed together, with an index and without in turn."""
_ASKED: Final = 50
_CLOCK: Final = count(time.time_ns(), 10**6)
"""A job each millisecond, as the index sees it."""


def main(options: argparse.Namespace, console: Console) -> None:
    directory = Path(options.directory)
    made = jobs.Jobs()
    without, small = _lifecycle(directory, 0), _lifecycle(directory, 10_000)
    ratios, costs = [], []
    for _ in range(options.rounds):
        plain, indexed = (_feed(life, made, _BLOCK) for life in (without, small))
        ratios.append(indexed / plain)
        costs.append((indexed - plain) / _BLOCK)
    console.print(f"CPU of the lifecycle with an index, to that without: {median(ratios):.2f}")
    console.print(f"that is for each job: {median(costs) * 1e6:.1f} µs")
    large, before = _lifecycle(directory, options.jobs), _memory()
    _feed(large, made, options.jobs)
    index = large.index
    console.print(
        f"{len(index):,} jobs: {(_memory() - before) / 1e6:.0f} MB, by its own estimate {index.size / 1e6:.0f}"
    )
    usual = _lifecycle(directory, 10_000)
    _feed(usual, made, 20_000)
    console.print(
        f"{len(usual.index):,} jobs fit in the default of 16 MB; {usual.index.size / len(usual.index):,.0f} bytes each"
    )
    some = next(iter(reversed(list(index.all()))))
    questions: dict[str, Callable[[], object]] = {
        "a job by its id": lambda: index.by_id(some.id),
        "a job by its trace": lambda: index.by_trace(some.trace_id),
        "the first 50 jobs": lambda: index.find(Wanted(), 50),
        "a queue that has none": lambda: index.find(Wanted(queue="none"), 50),
    }
    for name, ask in questions.items():
        console.print(f"{name}: {_timed(ask, index):,.0f} µs")
    watching.main(directory, options.rounds, console)


def _lifecycle(directory: Path, kept: int) -> Lifecycle:
    own = settings(directory, 4318)
    size = 16 * 2**20 if kept <= 10_000 else 2**31 - 1
    index = msgspec.structs.replace(own.index, jobs=kept, bytes=size)
    return assembly.lifecycle(msgspec.structs.replace(own, index=index))


def _feed(life: Lifecycle, made: jobs.Jobs, number: int) -> float:
    """Seconds of CPU."""
    spent = 0
    for _ in range(number):
        events = list(made.events(next(_CLOCK), delivered=True, acknowledged=True))
        began = time.process_time_ns()
        for event in events:
            life.feed(0, event)
        spent += time.process_time_ns() - began
    return spent / 1e9


def _timed(ask: Callable[[], object], index: Index) -> float:
    """µs, the median."""
    assert len(index)
    taken = []
    for _ in range(_ASKED):
        began = time.perf_counter_ns()
        ask()
        taken.append(time.perf_counter_ns() - began)
    return median(taken) / 1000


def _memory() -> int:
    return resident_memory(os.getpid())
