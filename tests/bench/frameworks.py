"""python -m tests.bench frameworks: what tracing costs an application, in its own processes and beside them."""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

import msgspec
from rich.console import Console
from rich.table import Table

from tests.bench.applications import CELERY, RQ, Application, Kind, application
from tests.bench.contenders import HAPROXY, SAMPLED, Contender, Setup, collected, collector, contenders, total
from tests.bench.spread import Spread, spread
from tests.redis import RedisServer

PLAIN: Final = "plain"
INSIDE: Final = "OpenTelemetry inside"
HOP: Final = "through HAProxy"
"""What a hop costs an application, whoever it leads through."""
THROUGH: Final = "through redspan"
WAYS: Final = (
    *((CELERY, how) for how in (PLAIN, INSIDE, HOP, THROUGH)),
    *((RQ, how) for how in (PLAIN, HOP, THROUGH)),
)
_PROXIES: Final = {HOP: HAPROXY, THROUGH: SAMPLED}


class Run(msgspec.Struct, frozen=True):
    """Of one way in one round: microseconds of CPU for each job, and jobs a second."""

    application: float
    relay: float
    tracer: float
    per_second: float
    otlp: float
    """Bytes that the collector got for each job."""

    @property
    def all(self) -> float:
        return self.application + self.relay + self.tracer


_INTERVAL: Final = 1.0
"""Seconds after which either tracer sends a batch that is not full. By default it is five, and idle costs count."""

Rounds = list[dict[str, Run]]


class _Way:
    """An application, and the proxy that it goes through, if it does."""

    def __init__(
        self, kind: Kind, how: str, app: Application, proxy: Contender | None, jobs: int, collector_port: int
    ) -> None:
        self.name = _name(kind, how)
        self.traced = how in (INSIDE, THROUGH)
        self._kind = kind
        self._collector = collector_port
        self._app = app
        self._proxy = proxy
        self._jobs = jobs
        self._sent = 0

    def run(self) -> Run:
        self._settle()
        app, (relay, tracer), exported = self._app.cpu(), self._beside(), collected(self._collector)["bytes"]
        seconds = self._app.run()
        if self.traced:
            time.sleep(1.2 * _INTERVAL)
        self._settle()
        app_after, (relay_after, tracer_after) = self._app.cpu(), self._beside()
        self._sent += self._jobs
        each = 1e6 / self._jobs
        return Run(
            application=(app_after.total - app.total) * each,
            relay=(relay_after - relay) * each,
            tracer=(tracer_after - tracer) * each,
            per_second=self._jobs / seconds,
            otlp=(collected(self._collector)["bytes"] - exported) / self._jobs,
        )

    def check(self) -> None:
        """What was not traced costs nothing: every job must have been. Raises RuntimeError."""
        if self._proxy is None or not self._proxy.admin:
            return
        page = self._proxy.metrics()
        written = page.get(f'redspan_injections_total{{framework="{self._kind.name.lower()}",result="written"}}', 0)
        started = page['redspan_spans_started_total{operation="job.process"}']
        lost = total(page, "redspan_blind_total") + total(page, "redspan_spans_dropped_total")
        if written != self._sent or started != self._sent or lost:
            raise RuntimeError(
                f"{self.name}: {self._sent} sent, {written:.0f} injected, {started:.0f} traced to their end"
            )

    def _beside(self) -> tuple[float, float]:
        if self._proxy is None:
            return 0.0, 0.0
        relay, tracer = self._proxy.cpu()
        return relay.total, tracer.total

    def _settle(self) -> None:
        self._app.settle()
        if self._proxy is not None:
            self._proxy.settle()


def _name(kind: Kind, how: str) -> str:
    return f"{kind.name}, {how}"


@contextmanager
def _ways(directory: Path, redis_port: int, collector_port: int, jobs: int) -> Iterator[list[_Way]]:
    with ExitStack() as stack:
        found = []
        for database, (kind, how) in enumerate(WAYS):
            proxy = None
            if how in _PROXIES:
                folder = directory / str(database)
                folder.mkdir()
                setup = contenders(
                    [_PROXIES[how]], folder, redis_port, collector_port, Setup(interval=_INTERVAL), pinned=False
                )
                proxy = next(iter(stack.enter_context(setup)), None)
                if proxy is None:
                    continue
            variables = {}
            if how == INSIDE:
                variables["OTLP_ENDPOINT"] = f"http://127.0.0.1:{collector_port}"
                variables["OTEL_BSP_SCHEDULE_DELAY"] = str(int(1000 * _INTERVAL))
            port = redis_port if proxy is None else proxy.port
            app = stack.enter_context(application(kind, port, redis_port, database, jobs, variables))
            found.append(_Way(kind, how, app, proxy, jobs, collector_port))
        yield found


def main(options: argparse.Namespace, console: Console) -> None:
    rounds: Rounds = []
    with (
        tempfile.TemporaryDirectory(prefix="redspan-bench-") as directory,
        RedisServer() as server,
        collector() as (collector_port, _),
        _ways(Path(directory), server.port, collector_port, options.jobs) as ways,
    ):
        # The first round finds everybody cold.
        for number in range(options.rounds + 1):
            console.print(f"round {number} of {options.rounds}" if number else "warming up")
            rounds.append({way.name: way.run() for way in random.sample(ways, len(ways))})
            silent = [way.name for way in ways if way.traced and not rounds[-1][way.name].otlp]
            if silent:
                raise RuntimeError(f"no spans came from: {', '.join(silent)}")
        for way in ways:
            way.check()
    del rounds[0]
    console.print(_table(rounds, options.jobs))
    if options.json:
        Path(options.json).write_bytes(msgspec.json.format(msgspec.json.encode(rounds)))


def _table(rounds: Rounds, jobs: int) -> Table:
    caption = f"{jobs:,} jobs in each of {len(rounds)} rounds, medians; above plain: in the same round"
    table = Table(title="CPU for each job", caption=caption, title_justify="left", caption_justify="left")
    columns = (
        "",
        "application µs",
        "above plain (range)",
        "relay µs",
        "tracer µs",
        "all µs",
        "above plain (range)",
        "jobs/s",
        "OTLP B",
    )
    for column in columns:
        table.add_column(column, justify="right" if column else "left", no_wrap=not column)
    for kind, how in WAYS:
        if how == PLAIN and kind is not WAYS[0][0]:
            table.add_section()
        name, plain = _name(kind, how), _name(kind, PLAIN)
        if name not in rounds[0]:
            continue
        runs = [one[name] for one in rounds]
        table.add_row(
            name,
            f"{_median([run.application for run in runs]):,.0f}",
            "-" if how == PLAIN else _above([one[name].application - one[plain].application for one in rounds]),
            f"{_median([run.relay for run in runs]):,.0f}" if how in _PROXIES else "-",
            f"{_median([run.tracer for run in runs]):,.0f}" if how == THROUGH else "-",
            f"{_median([run.all for run in runs]):,.0f}",
            "-" if how == PLAIN else _above([one[name].all - one[plain].all for one in rounds]),
            f"{_median([run.per_second for run in runs]):,.0f}",
            "-" if how not in (INSIDE, THROUGH) else f"{_median([run.otlp for run in runs]):,.0f}",
        )
    return table


def _median(values: list[float]) -> float:
    found = spread(values)
    return 0.0 if found is None else found.median


def _above(values: list[float]) -> str:
    found: Spread | None = spread(values)
    return "-" if found is None else found.text("+,.0f")
