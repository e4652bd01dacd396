"""Spans on a terminal: ``tree``, a trace as a picture that a person can read, and ``json``, one span per line.

Text from jobs is not trusted: control characters, which a terminal would obey, are shown as escapes.  Where the output
is no terminal, or one that knows nothing but ASCII, the picture is drawn in ASCII.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Final, Literal, TextIO

from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from proxy.tracer.attributes import (
    ATTEMPT,
    END_INFERRED,
    ERROR_TYPE,
    JOB_ERROR,
    JOB_ID,
    JOB_TYPE,
    LINK_RELATION,
    OUTCOME,
    PARENT_UNVERIFIED,
    QUEUE_NAME,
    START_INFERRED,
    WAIT_MS,
    Naming,
    Rule,
    apply,
    attributes,
    span_name,
)
from proxy.tracer.export.base import Result, Status, taken
from proxy.tracer.span import Operation, Span, Value

_PIPED_WIDTH: Final = 400
"""Columns where there is no terminal: long lines are better than cut ones."""

_BARS: Final = ((120, 24), (90, 12))
"""Columns there are -> characters for the time line; with fewer there is none."""

_INFERRED: Final = (
    (START_INFERRED, "start inferred"),
    (END_INFERRED, "end inferred"),
    (PARENT_UNVERIFIED, "parent unverified"),
)

_STYLES: Final = {Operation.ENQUEUE: "cyan", Operation.DEQUEUE: "blue", Operation.PROCESS: "green"}


class TraceView:
    """A trace as rich prints it; made by `render_trace`."""

    def __init__(
        self, spans: Sequence[Span], service: str, naming: Naming, ascii_only: bool | None, rule: Rule | None
    ) -> None:
        self._spans = sorted(spans, key=lambda span: (span.start, span.end))
        self._service = service
        self._naming: Naming = naming
        self._ascii = ascii_only
        self._rule = rule
        self._start = min((span.start for span in spans), default=0)
        self._length = max((span.end for span in spans), default=0) - self._start

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        plain = self._ascii if self._ascii is not None else options.ascii_only or not console.is_terminal
        bar = next((size for columns, size in _BARS if options.max_width >= columns), 0)
        table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
        # Name, service and queue, job, offset, bar, duration, notes. What may be wrapped gives way first.
        for right, wrap in ((0, 0), (0, 1), (0, 1), (1, 0), (0, 0), (1, 0), (0, 1)):
            table.add_column(justify="right" if right else "left", no_wrap=not wrap, overflow="fold")
        for span, guide, below in _walk(self._spans, plain):
            table.add_row(*self._row(span, guide, bar, plain))
            for text in self._links(span, plain):
                table.add_row(Text(below, style="dim"), *[""] * 5, Text(text, style="italic"))
        if self._spans:
            count = f"{len(self._spans)} span{'s' * (len(self._spans) > 1)}"
            yield Text(f"trace {self._spans[0].trace_id.hex()}  {count}  {duration(self._length)}", style="bold")
        yield table

    def _row(self, span: Span, guide: str, bar: int, plain: bool) -> Iterator[Text]:
        style = "bold red" if span.error else _STYLES.get(span.operation, "")
        fields = span.job.fields
        job = (self._kept(JOB_ID, fields.id), self._kept(JOB_TYPE, fields.type))
        yield Text.assemble((guide, "dim"), (printable(span_name(span, self._naming, self._rule), plain), style))
        queue = self._kept(QUEUE_NAME, span.job.queue)
        yield Text(printable(_joined("/", span.service or self._service, queue), plain))
        yield Text(printable(_joined(" ", *job), plain))
        yield Text(f"+{duration(span.start - self._start)}", style="dim")
        yield self._bar(span, bar, plain, style)
        yield Text(duration(span.end - span.start))
        yield Text.assemble(printable(_notes(span), plain), (printable(self._error(span), plain), "bold red"))

    def _bar(self, span: Span, columns: int, plain: bool, style: str) -> Text:
        """Where the span lies in its trace; at least one character wide."""
        if not columns:
            return Text()
        scale = columns / self._length if self._length > 0 else 0.0
        left = min(int((span.start - self._start) * scale), columns - 1)
        width = min(max(round((span.end - span.start) * scale), 1), columns - left)
        full, empty = "#." if plain else "━·"
        return Text.assemble((empty * left, "dim"), (full * width, style), (empty * (columns - left - width), "dim"))

    def _error(self, span: Span) -> str:
        error = self._kept(ERROR_TYPE, span.error)
        return _joined(": ", error, self._kept(JOB_ERROR, span.message)) if span.error else ""

    def _links(self, span: Span, plain: bool) -> Iterator[str]:
        for link in span.links:
            known = next((other for other in self._spans if other.span_id == link.span_id), None)
            yield printable(
                _joined(
                    " ",
                    "->" if plain else "↳",
                    link.relation.replace("_", " "),
                    span_name(known, self._naming, self._rule) if known is not None else link.span_id.hex(),
                    f"in trace {link.trace_id.hex()}" if link.trace_id != span.trace_id else "",
                ),
                plain,
            )

    def _kept(self, name: str, text: str) -> str:
        """``text`` as far as the rule lets it out as the attribute ``name``."""
        if self._rule is None or not text:
            return text
        kept = self._rule(name, text)
        return "" if kept is None else str(kept)


def render_trace(
    spans: Sequence[Span],
    *,
    service: str = "",
    naming: Naming = "queue",
    ascii_only: bool | None = None,
    rule: Rule | None = None,
) -> TraceView:
    """The spans of one trace as something that `rich.console.Console.print` takes.

    ``service`` is that of spans without one of their own; ``ascii_only`` None: the console decides.
    """
    return TraceView(spans, service, naming, ascii_only, rule)


def _walk(spans: Sequence[Span], plain: bool) -> Iterator[tuple[Span, str, str]]:
    """Spans depth first, each with what stands before it and before the lines that belong to it.

    A span whose parent is not among them is a root.  Ids that repeat, or parents in a circle, repeat no span.
    """
    more, last, through, gap = ("|- ", "`- ", "|  ", "   ") if plain else ("├─ ", "└─ ", "│  ", "   ")
    children: dict[bytes, list[Span]] = {span.span_id: [] for span in spans}
    roots: list[Span] = []
    for span in spans:
        known = span.parent_id in children and span.parent_id != span.span_id
        (children[span.parent_id] if known else roots).append(span)
    seen: set[int] = set()
    # What is in a circle hangs from no root: it comes after them.
    stack = [(span, "", "") for span in reversed([*roots, *spans])]
    while stack:
        span, before, indent = stack.pop()
        if id(span) in seen:
            continue
        seen.add(id(span))
        under = [child for child in children[span.span_id] if id(child) not in seen]
        yield span, before, indent + (through if under else gap)
        for child in reversed(under):
            final = child is under[-1]
            stack.append((child, indent + (last if final else more), indent + (gap if final else through)))


def _notes(span: Span) -> str:
    facts, notes = span.facts, []
    wait = facts.get(WAIT_MS)
    if isinstance(wait, (int, float)):
        notes.append(f"waited {duration(int(wait * 1e6))}")
    attempt = facts.get(ATTEMPT) or (span.job.fields.attempt + 1 if span.job.fields.attempt else 0)
    if attempt:
        notes.append(f"attempt {attempt}")
    if facts.get(OUTCOME):
        notes.append(f"outcome {facts[OUTCOME]}")
    notes += [word for fact, word in _INFERRED if fact in facts]
    return "".join(f"{note}  " for note in notes)


def _joined(separator: str, *parts: str) -> str:
    return separator.join(filter(None, parts))


def duration(nanoseconds: int) -> str:
    """Three digits at most: ``0.12 ms``, ``340 ms``, ``1.25 s``, ``2 m 05 s``."""
    ms = nanoseconds / 1e6
    if ms < 1000:
        return "0 ms" if ms == 0 else f"{ms:.2f} ms" if ms < 10 else f"{ms:.0f} ms"
    seconds = ms / 1000
    if seconds < 60:
        return f"{seconds:.2f} s"
    return f"{int(seconds // 60)} m {int(seconds % 60):02d} s"


def printable(text: str, ascii_only: bool = False) -> str:
    """Text that moves no cursor and changes no colour: what is not printable is shown as an escape."""
    if not text.isprintable():
        text = "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
    return text.encode("ascii", "backslashreplace").decode() if ascii_only else text


def json_line(span: Span, service: str = "", naming: Naming = "queue", rule: Rule | None = None) -> str:
    """A span as one line of JSON, in ASCII; ids in hex, times in UTC with nanoseconds."""
    line = {
        "name": span_name(span, naming, rule),
        "kind": span.kind.name,
        "trace_id": span.trace_id.hex(),
        "span_id": span.span_id.hex(),
        "parent_id": span.parent_id.hex(),
        "service": span.service or service,
        "start": _utc(span.start),
        "end": _utc(span.end),
        "duration_ms": (span.end - span.start) / 1e6,
        "status": "ERROR" if span.error else "UNSET",
        "message": span.message if span.error else "",
        "tracestate": span.tracestate,
        "attributes": _finite(attributes(span, rule)),
        "events": [
            {"name": event.name, "at": _utc(event.at), "attributes": _finite(apply(rule, event.attributes))}
            for event in span.events
        ],
        "links": [
            {"trace_id": link.trace_id.hex(), "span_id": link.span_id.hex(), LINK_RELATION: link.relation}
            for link in span.links
        ],
    }
    return json.dumps({name: value for name, value in line.items() if value not in ("", [])})


def _utc(at: int) -> str:
    return f"{datetime.fromtimestamp(at // 10**9, UTC):%Y-%m-%dT%H:%M:%S}.{at % 10**9:09d}Z"


def _finite(rendered: dict[str, Value]) -> dict[str, Value]:
    """JSON has no infinity and no NaN: as text."""
    return {
        name: str(value) if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in rendered.items()
    }


class ConsoleExporter:
    """An exporter that prints. Of a trace it shows together what comes in one batch.

    ``stream`` None: standard output as it is at the time.
    """

    def __init__(
        self,
        style: Literal["tree", "json"] = "tree",
        stream: TextIO | None = None,
        *,
        service: str = "",
        naming: Naming = "queue",
        rule: Rule | None = None,
    ) -> None:
        self._style = style
        self._stream = stream
        self._service = service
        self._naming: Naming = naming
        self._rule = rule

    def export(self, spans: Sequence[Span]) -> Result:
        stream = self._stream or sys.stdout
        try:
            if self._style == "json":
                for span in spans:
                    stream.write(json_line(span, self._service, self._naming, self._rule) + "\n")
            else:
                self._trees(spans, stream)
            stream.flush()
        except (OSError, ValueError) as error:  # the reader has gone, or the stream was closed
            return Result(Status.FATAL, reason=type(error).__name__)
        return taken(spans)

    def _trees(self, spans: Sequence[Span], stream: TextIO) -> None:
        console = Console(file=stream, highlight=False, markup=False, emoji=False)
        if not console.is_terminal:
            console.width = _PIPED_WIDTH
        traces: dict[bytes, list[Span]] = {}
        for span in spans:
            traces.setdefault(span.trace_id, []).append(span)
        for trace in traces.values():
            console.print(render_trace(trace, service=self._service, naming=self._naming, rule=self._rule))

    def close(self) -> None:
        pass
