"""What the demo prints."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final

import redis
import yaml
from rich.console import Console
from rich.padding import Padding
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from proxy.demo.app.worker import ATTEMPTS
from proxy.demo.evidence import Added, Job
from proxy.demo.receiver import Received
from proxy.demo.stage import LISTS, Sidecar
from proxy.tracer.console import render_trace
from proxy.tracer.span import Span

_INDENT: Final = (0, 0, 0, 2)
_NAME: Final = 10
_PIPED_WIDTH: Final = 400
"""Columns where there is no terminal: long lines are better than cut ones."""
_STEPS: Final = 4
"""Lines of progress where there is no terminal."""
_EXCERPT: Final = (
    "redspan_injections_total",
    "redspan_jobs_total",
    "redspan_jobs_in_flight",
    "redspan_spans_exported_total",
    "redspan_connections",
)


class Report:
    def __init__(self) -> None:
        self._console = Console(highlight=False, markup=False, emoji=False)
        if not self._console.is_terminal:
            self._console.width = _PIPED_WIDTH

    def started(self, sidecar: Sidecar, server: redis.Redis, collector: str) -> None:
        info = server.info("server")
        name = "valkey" if "valkey_version" in info else "redis"
        self._console.print(Text("redspan demo: the jobs of a little shop", style="bold"))
        told = yaml.safe_dump({"frameworks": {"list": LISTS}}, default_flow_style=True, sort_keys=False, width=1000)
        self.row("shop", "a producer and two workers that know REDIS_URL=", (sidecar.url, "bold"))
        self.row("redspan", f"{sidecar.bind} -> {name} {info[f'{name}_version']}, admin http://{sidecar.admin}")
        self.row("config", told.strip())
        self.row("spans", f"to {collector}, an OTLP receiver in this process")

    @contextmanager
    def progress(self, total: int) -> Iterator[Callable[[int], None]]:
        """Gives a function to be told how many jobs are over."""
        if self._console.is_terminal:
            columns = (TextColumn("  {task.description}"), BarColumn(), MofNCompleteColumn())
            with Progress(*columns, console=self._console, transient=True) as bar:
                task = bar.add_task("jobs done", total=total)
                yield lambda count: bar.update(task, completed=count)
            return
        said = 0

        def say(count: int) -> None:
            nonlocal said
            if count * _STEPS // total > said:
                said = count * _STEPS // total
                self.line(f"{count} of {total} jobs done")

        yield say

    def title(self, text: str) -> None:
        self._console.print()
        self._console.print(Text(text, style="bold"))

    def line(self, *parts: str | Text | tuple[str, str]) -> None:
        self._console.print(Padding(Text.assemble(*parts), _INDENT, expand=False))

    def row(self, name: str, *parts: str | Text | tuple[str, str]) -> None:
        """A line with a name before it; where it is wrapped, what follows stands below its beginning."""
        row = Table.grid()
        row.add_column(width=_NAME)
        row.add_column(overflow="fold")
        row.add_row(Text(name, style="dim"), Text.assemble(*parts))
        self._console.print(Padding(row, _INDENT, expand=False))

    def ran(self, jobs: Sequence[Job], seconds: float) -> None:
        self.title("What ran")
        deliveries = sum(job.attempts for job in jobs)
        types = ", ".join(f"{count} {kind}" for kind, count in Counter(job.type for job in jobs).most_common())
        self.line(f"{len(jobs)} jobs, tried {deliveries} times in {seconds:.1f} s: {types}")
        at_once = sum(job.attempts == 1 and not job.dead for job in jobs)
        later = sum(job.attempts > 1 and not job.dead for job in jobs)
        dead = sum(job.dead for job in jobs)
        self.line((f"{at_once:>4}", "green"), " succeeded at once")
        self.line((f"{later:>4}", "yellow"), " succeeded after a retry")
        self.line((f"{dead:>4}", "red"), f" given up after {ATTEMPTS} attempts, now on the dead letter list")

    def bytes(self, sent: str, stored: Added, same: int) -> None:
        """``same``: how many jobs were compared."""
        self.title("One job, byte for byte")
        text = Text(stored.stored)
        text.stylize("bold green underline", stored.start, stored.end)
        self.row("sent", sent)
        self.row("in Redis", text)
        size = stored.end - stored.start
        if not self._console.is_terminal:
            self.row("", " " * stored.start, "^" * size)
        self.line(f"{size} bytes more, all others unchanged. So it is with each of the {same} jobs that")
        self.line("succeeded at once. Their workers acknowledged with the bytes they received,")
        self.line("and not one job was left on their lists.")

    def trees(self, received: Received, trees: Mapping[str, Sequence[Span]]) -> None:
        """``trees``: the spans of a trace by what it is an example of."""
        count = len({span.trace_id for span in received.spans})
        self.title(f"Three of {count} traces, as a backend gets them")
        self.line(f"{len(received.spans)} spans in {received.requests} requests of {received.size:,} bytes altogether")
        for name, spans in trees.items():
            self._console.print()
            self.line((name, "italic"))
            self.tree(spans)

    def tree(self, spans: Sequence[Span]) -> None:
        self._console.print(render_trace(spans))

    def idle(self, workers: int, seconds: float, polls: int) -> None:
        self.title("Then nothing to do")
        self.line(f"{workers} workers asked for a job {polls} times in {seconds:.0f} s: ", ("0 spans", "bold"))

    def metrics(self, address: str, lines: Iterable[str]) -> None:
        self.title(f"From http://{address}/metrics")
        for line in lines:
            self.line(line)

    def keeps(self, sidecar: Sidecar) -> None:
        self.title("A job each second from now on. Ctrl-C ends it all")
        self.line("REDIS_URL=", (sidecar.url, "bold"), f"   http://{sidecar.admin}/metrics")
        self.line("Jobs and traces: ", (f"http://{sidecar.admin}/ui", "bold"))

    def next_steps(self) -> None:
        self.title("With your own")
        self.line("redspan run --upstream redis://your-redis:6379 --config your.yaml")
        self.line("REDIS_URL=redis://127.0.0.1:6380 your-worker")
        self.line("curl http://127.0.0.1:9464/metrics")
        self.line("redspan demo --keep leaves this shop open, to look around.")


def excerpt(metrics: str) -> list[str]:
    """A few lines of a scrape, those that are not 0."""
    return [
        line
        for name in _EXCERPT
        for line in metrics.splitlines()
        if line.startswith((f"{name} ", f"{name}{{")) and float(line.rpartition(" ")[2])
    ]
