"""What the commands print. Text of jobs is not trusted: `printable` takes out what a terminal would obey."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from proxy.tracer.console import duration, printable

Shown = Mapping[str, Any]

STYLES: Final = {
    "succeeded": "green",
    "running": "cyan",
    "failed": "bold red",
    "dead": "bold red",
    "lost": "bold red",
    "retrying": "yellow",
    "scheduled": "blue",
    "cancelled": "dim",
    "unknown": "dim",
}
_BAR: Final = 32
_PIPED_WIDTH: Final = 400


def console() -> Console:
    """As wide as the terminal; where there is none, wide enough for whole lines."""
    made = Console(highlight=False, markup=False, emoji=False)
    if not made.is_terminal:
        made.width = _PIPED_WIDTH
    return made


def ms(value: object) -> str:
    return duration(int(value * 1e6)) if isinstance(value, int | float) else ""


def clock(at: object) -> str:
    """A time of the API, in this place's."""
    if not isinstance(at, str):
        return ""
    return datetime.fromisoformat(at).astimezone().strftime("%H:%M:%S.%f")[:-3]


def status(text: str) -> Text:
    return Text(printable(text), STYLES.get(text, ""))


def jobs_table(jobs: Iterable[Shown]) -> Table:
    table = _table("STATUS", "QUEUE", "ID", "TYPE", "TRY", "WAITED", "TOOK", "HEARD", "TRACE")
    for job in jobs:
        _row(table, *job_cells(job))
    return table


def job_cells(job: Shown) -> list[RenderableType]:
    cells: list[RenderableType] = [
        status(str(job["status"])),
        printable(job["queue"]),
        printable(job["id"]),
        printable(job["type"]),
        str(job["attempt"]),
        ms(job["wait_ms"]),
        ms(job["process_ms"]),
        clock(job["heard_at"]),
        job["trace_id"],
    ]
    return [_literal(cell) for cell in cells]


def job_line(job: Shown) -> Text:
    """A job as it changes, on one line."""
    facts = [f"{name} {ms(job[key])}" for name, key in (("waited", "wait_ms"), ("took", "process_ms")) if job[key]]
    parts = [job["queue"], job["id"], job["type"], f"try {job['attempt']}", *facts, job["error"]]
    return Text.assemble(
        (f"{clock(job['heard_at'])}  ", "dim"),
        (f"{job['status']:<10}", STYLES.get(job["status"], "")),
        "  ".join(printable(part) for part in parts if part),
        (f"  {job['trace_id']}", "dim"),
    )


def queues_table(queues: Iterable[Shown]) -> Table:
    rates, spreads = ("IN/S", "OUT/S", "FAILED/S"), ("WAIT p50", "p95", "TOOK p50", "p95")
    table = _table("QUEUE", "FRAMEWORK", "DEPTH", "IN FLIGHT", *rates, *spreads)
    for one in queues:
        rate, wait, took = one["per_second"], one["wait_ms"] or {}, one["process_ms"] or {}
        _row(
            table,
            printable(one["queue"]),
            one["framework"],
            "" if one["depth"] is None else str(one["depth"]),
            str(one["in_flight"]),
            *(f"{rate[name]:.2f}" for name in ("enqueued", "delivered", "failed")),
            *(ms(spread.get(name)) for spread in (wait, took) for name in ("p50", "p95")),
        )
    return table


def workers_table(workers: Iterable[Shown]) -> Table:
    table = _table("WORKER", "QUEUES", "JOBS", "FAILED", "HEARD", "RUNNING")
    for one in workers:
        _row(
            table,
            printable(one["worker"]),
            printable(", ".join(one["queues"])),
            str(one["jobs"]),
            str(one["failed"]),
            clock(one["heard_at"]),
            printable(", ".join(one["running"])),
        )
    return table


def details(job: Shown) -> Iterator[RenderableType]:
    """A job: its facts, what happened, and the waterfall of its spans."""
    table = Table(box=None, show_header=False, pad_edge=False)
    skipped = {"timeline", "spans", "traces", "spans_left_out", "final", "trace_url"}
    for name, value in job.items():
        if name not in skipped and value not in (None, ""):
            shown = ms(value) if name.endswith("_ms") else printable(str(value))
            _row(table, Text(name.replace("_", " "), "dim"), status(shown) if name == "status" else shown)
    if job["status"] == "unknown":
        seen = job["process_ms"] is not None
        text = "nothing on the wire has told how" if seen else "was not seen: nothing on the wire has told when, or how"
        _row(table, Text("end", "dim"), text)
    if job["trace_id"]:
        flags = "01" if any(span["sampled"] for span in job["spans"]) else "00"
        parent = next((span["span_id"] for span in job["spans"] if span["trace_id"] == job["trace_id"]), "0" * 16)
        _row(table, Text("traceparent", "dim"), f"00-{job['trace_id']}-{parent}-{flags}")
    if job["trace_url"]:
        _row(table, Text("link", "dim"), Text(printable(job["trace_url"]), f"link {job['trace_url']}"))
    yield table
    yield Text("")
    for step in job["timeline"]:
        error = step.get("error", "")
        yield Text.assemble(
            (f"{clock(step['at'])}  ", "dim"), printable(f"{step['event']}{f': {error}' if error else ''}")
        )
    yield Text("")
    yield waterfall([(span, 0) for span in job["spans"]])


def trace_rows(spans: Sequence[Shown], depth: int = 0) -> Iterator[tuple[Shown, int]]:
    """The spans of a tree, each with its depth."""
    stack = [(span, depth) for span in reversed(spans)]
    while stack:
        span, level = stack.pop()
        yield span, level
        stack += [(child, level + 1) for child in reversed(span["children"])]


def waterfall(rows: Sequence[tuple[Shown, int]]) -> Table:
    """Spans with bars that show when they were."""
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    start = min((span["start_us"] for span, _ in rows), default=0)
    length = max((span["start_us"] + span["duration_us"] for span, _ in rows), default=0) - start
    for span, depth in rows:
        left, width = bar(span["start_us"] - start, span["duration_us"], length, _BAR)
        style = "bold red" if span["error"] else ""
        _row(
            table,
            Text("  " * depth + printable(span["name"]), style),
            printable(str(span["attributes"].get("queue.name", ""))),
            f"+{ms((span['start_us'] - start) / 1000)}",
            Text.assemble(("." * left, "dim"), ("#" * width, style), ("." * (_BAR - left - width), "dim")),
            ms(span["duration_us"] / 1000),
            Text(printable(span["error"]), "bold red"),
        )
    return table


def bar(offset: int, length: int, whole: int, columns: int) -> tuple[int, int]:
    """Where a bar begins, and how long it is: at least one column."""
    scale = columns / whole if whole > 0 else 0.0
    left = min(int(offset * scale), columns - 1)
    return left, min(max(round(length * scale), 1), columns - left)


def mermaid(rows: Sequence[tuple[Shown, int]]) -> str:
    """A Gantt chart of spans, as Mermaid reads it: a section for each queue."""
    start = min((span["start_us"] for span, _ in rows), default=0)
    lines = ["gantt", "    dateFormat x", "    axisFormat %S.%L s"]
    section = None
    for span, _ in rows:
        queue = _plain(str(span["attributes"].get("queue.name", ""))) or "jobs"
        if queue != section:
            section = queue
            lines.append(f"    section {queue}")
        begin = (span["start_us"] - start) // 1000
        end = max(begin + 1, (span["start_us"] + span["duration_us"] - start) // 1000)
        tag = "crit, " if span["error"] else ""
        name = " ".join(filter(None, (_plain(span["name"]), _plain(span.get("job_id", "")))))
        lines.append(f"    {name} ({_plain(ms(span['duration_us'] / 1000))}) :{tag}{begin}, {end}")
    return "\n".join(lines)


def _plain(text: str) -> str:
    """Without what means something to Mermaid."""
    return "".join(char if char.isalnum() or char in " ._-/" else "_" for char in text)


def _row(table: Table, *cells: RenderableType) -> None:
    """A row in which no text is markup, whoever prints it."""
    table.add_row(*map(_literal, cells))


def _literal(cell: RenderableType) -> RenderableType:
    return Text(cell) if isinstance(cell, str) else cell


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold", no_wrap=column in ("STATUS", "HEARD"))
    return table
