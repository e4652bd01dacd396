"""Tables of what was measured."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from rich.console import Console
from rich.table import Table

from tests.bench.budgets import budgets
from tests.bench.contenders import SAMPLED, UNTRACED
from tests.bench.measure import Loss, Result, Run
from tests.bench.spread import Spread, difference, of, ratio

_NONE = "-"


def print_all(results: Sequence[Result], console: Console) -> None:
    for result in results:
        if result.cell.axis in ("base", "matrix"):
            console.print(_closed(result))
        elif result.cell.load.rate:
            console.print(_paced(result))
    swept = [one for one in results if one.cell.axis not in ("base", "matrix") and not one.cell.load.rate]
    for depth in sorted({one.cell.load.depth for one in swept}):
        console.print(_sweeps(depth, [one for one in swept if one.cell.load.depth == depth]))
    console.print(_budgets(results))


def _table(title: str, columns: Iterable[str], caption: str = "") -> Table:
    table = Table(title=title, caption=caption, title_justify="left", caption_justify="left")
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left", no_wrap=not number)
    return table


def _text(found: Spread | None, form: str) -> str:
    return _NONE if found is None else f"{found.median:{form}}"


def _ranged(found: Spread | None, form: str = ".2f") -> str:
    return _NONE if found is None else found.text(form)


def _cpu(result: Result, name: str, value: Callable[[Run], float]) -> str:
    found = of(result, name, value)
    return _text(found, ".1f") if found is not None and found.high > 0 else _NONE


def _names(result: Result) -> list[str]:
    return [name for name in result.cell.contenders if result.runs(name)]


def _closed(result: Result) -> Table:
    cell = result.cell
    columns = ("", "relay µs", "in kernel", f"x {cell.yardstick} (range)", "tracer µs", "commands/s", "spans lost")
    caption = f"{cell.load.connections:,} connections, {cell.load.size:,} bytes, {cell.rounds} rounds, medians"
    table = _table(f"CPU for each command: {cell.name}", columns, caption)
    for name in _names(result):
        table.add_row(
            name,
            _cpu(result, name, lambda run: run.relay),
            _cpu(result, name, lambda run: run.relay_system),
            _ranged(ratio(result, name) if _relays(result, name) else None),
            _cpu(result, name, lambda run: run.tracer),
            _text(of(result, name, lambda run: run.per_second), ",.0f"),
            _lost(result.losses.get(name)) if name == SAMPLED else _NONE,
        )
    return table


def _paced(result: Result) -> Table:
    cell = result.cell
    above = f"above {cell.yardstick} (range)"
    columns = ("", "relay µs", f"x {cell.yardstick}", "tracer µs", "p50 µs", above, "p99", above, "p99.9", "spans lost")
    caption = f"open loop, {cell.load.connections} connections, {cell.load.size:,} bytes, {cell.rounds} rounds, medians"
    table = _table(f"CPU and latency: {cell.name}", columns, caption)
    for name in _names(result):
        table.add_row(
            name,
            _cpu(result, name, lambda run: run.relay),
            _text(ratio(result, name) if _relays(result, name) else None, ".2f"),
            _cpu(result, name, lambda run: run.tracer),
            _text(of(result, name, lambda run: run.p50), ".0f"),
            _ranged(difference(result, name, lambda run: run.p50), "+.0f"),
            _text(of(result, name, lambda run: run.p99), ".0f"),
            _ranged(difference(result, name, lambda run: run.p99), "+.0f"),
            _text(of(result, name, lambda run: run.p999), ".0f"),
            _lost(result.losses.get(name)) if name == SAMPLED else _NONE,
        )
    return table


def _relays(result: Result, name: str) -> bool:
    """Whether it spends anything: a direct connection does not."""
    return any(run.relay > 0 for run in result.runs(name))


def _lost(loss: Loss | None) -> str:
    return f"{100 * loss.lost:.0f} %" if loss is not None and loss.pushed else _NONE


def _sweeps(depth: int, results: Sequence[Result]) -> Table:
    yardstick = results[0].cell.yardstick
    columns = ("", f"{yardstick} µs", "untraced µs", f"x {yardstick} (range)", "sampled µs", "x (range)", "tracer µs")
    table = _table(f"CPU for each command along the axes, {depth} deep", columns, "in flight: of whole jobs' commands")
    axis = ""
    for result in results:
        if axis and result.cell.axis != axis:
            table.add_section()
        axis = result.cell.axis
        table.add_row(
            f"{axis} {result.cell.value}",
            _cpu(result, yardstick, lambda run: run.relay),
            _cpu(result, UNTRACED, lambda run: run.relay),
            _ranged(ratio(result, UNTRACED)),
            _cpu(result, SAMPLED, lambda run: run.relay),
            _ranged(ratio(result, SAMPLED)),
            _cpu(result, SAMPLED, lambda run: run.tracer),
        )
    return table


def _budgets(results: Sequence[Result]) -> Table:
    table = _table("Budgets", ("", "goal", "found (range)", ""))
    for one in budgets(results):
        unit = f" {one.unit}" if one.unit else ""
        goal = f"≤ {one.goal:g}{unit}"
        table.add_row(one.what, goal, one.found.text(one.form) + unit, one.verdict)
    return table
