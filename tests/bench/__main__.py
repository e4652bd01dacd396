"""What redspan costs: python -m tests.bench [tracer | index | frameworks | report FILE], see --help.

Without a word: CPU of each command, throughput and latency, beside the proxies that one would use otherwise.  What
counts is the median over rounds of the ratio within a round, because single runs on a shared machine differ by more
than what is measured.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
from rich.console import Console

from tests.bench import cells, plot, report
from tests.bench.contenders import missing
from tests.bench.measure import Bench, Result
from tests.redis import executable


class Machine(msgspec.Struct, frozen=True):
    cpus: int
    processor: str
    kernel: str
    python: str
    redis: str
    busy: float
    """How many processes wanted to run, on average over the minute before."""

    def __str__(self) -> str:
        busy = f"; it was not quiet, load average {self.busy:.1f}" if self.busy > 0.5 else ""
        return f"{self.cpus} CPUs ({self.processor}), Linux {self.kernel}, Python {self.python}, {self.redis}{busy}"


class Record(msgspec.Struct, frozen=True):
    """What ``--json`` writes and ``report`` reads."""

    machine: Machine
    seconds: float
    results: list[Result]
    failure: str = ""
    """Why there are no more."""


def machine() -> Machine:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    redis = subprocess.run([executable(), "--version"], capture_output=True, text=True, check=True).stdout
    return Machine(
        cpus=os.cpu_count() or 1,
        processor=names[0] if names else platform.machine(),
        kernel=platform.release(),
        python=platform.python_version(),
        redis=" ".join(redis.split()[:3]),
        busy=os.getloadavg()[0],
    )


def main(arguments: Sequence[str]) -> int:
    console = Console(width=None if sys.stdout.isatty() else 160)
    options = _parser().parse_args(arguments)
    if options.what == "relay":
        record = _measure(options, console)
        if options.json:
            Path(options.json).write_bytes(msgspec.json.format(msgspec.json.encode(record)))
        _show(record, options.plot, console)
        return 1 if record.failure else 0
    if options.what == "report":
        _show(msgspec.json.decode(Path(options.file).read_bytes(), type=Record), options.plot, console)
    elif options.what == "tracer":
        from tests.bench import tracer

        tracer.main(options, console)
    elif options.what == "index":
        from tests.bench import index

        with tempfile.TemporaryDirectory(prefix="redspan-bench-") as options.directory:
            index.main(options, console)
    else:
        from tests.bench import frameworks

        frameworks.main(options, console)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=(__doc__ or "").partition("\n")[0])
    words = parser.add_subparsers(dest="what", metavar="[tracer | index | frameworks | report]")
    parser.set_defaults(what="relay")
    parser.add_argument("--rounds", type=int, default=7, help="of the base; sweeps have half as many")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--quick", action="store_true", help="the base alone, and briefly")
    which.add_argument("--full", action="store_true", help="all axes against each other, for hours")
    parser.add_argument("--plot", metavar="FILE", help="write a picture, SVG")
    alone = words.add_parser("tracer", help="the tracer alone: what it takes, and what it costs")
    alone.add_argument("--seconds", type=float, default=4.0, help="of each step of the load")
    alone.add_argument("--jobs", type=int, default=30_000, help="for what is measured in memory and by stage")
    kept = words.add_parser("index", help="the index of recent jobs: what it costs, and how fast it answers")
    kept.add_argument("--rounds", type=int, default=9)
    kept.add_argument("--jobs", type=int, default=100_000, help="that are asked about")
    real = words.add_parser("frameworks", help="real applications, traced from within and by redspan")
    real.add_argument("--rounds", type=int, default=5)
    real.add_argument("--jobs", type=int, default=1_000, help="in each round")
    for one in (parser, alone):
        one.add_argument("--no-pin", action="store_true", help="leave it to the system what runs on which CPU")
    for one in (parser, alone, real):
        one.add_argument("--json", metavar="FILE", help="write all that was measured")
    again = words.add_parser("report", help="show again what --json wrote")
    again.add_argument("file")
    again.add_argument("--plot", metavar="FILE")
    return parser


def _measure(options: argparse.Namespace, console: Console) -> Record:
    stages = cells.full if options.full else cells.quick if options.quick else cells.standard
    absent = missing()
    if absent:
        console.print(f"not installed, so there is nothing to compare with: {', '.join(absent)}")
    before, began = machine(), time.monotonic()
    results: list[Result] = []
    failure = ""
    with tempfile.TemporaryDirectory(prefix="redspan-bench-") as directory, console.status("") as status:
        bench = Bench(Path(directory), status.update, pinned=not options.no_pin)
        try:
            for result in bench.run(stages(options.rounds)):
                console.print(f"{time.monotonic() - began:5.0f} s  {result.cell.name}")
                results.append(result)
        except RuntimeError as error:
            failure = str(error)
    return Record(before, time.monotonic() - began, results, failure)


def _show(record: Record, picture: str | None, console: Console) -> None:
    console.print(f"{record.machine}; {record.seconds / 60:.0f} minutes")
    report.print_all(record.results, console)
    if record.failure:
        console.print(f"It ended early: {record.failure}", style="bold red")
    if picture:
        Path(picture).write_text(plot.svg(record.results))


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except FileNotFoundError as error:
        sys.exit(f"needed, and not there: {error}")
