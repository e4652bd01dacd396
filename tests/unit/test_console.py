"""What a person sees."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from proxy.frameworks.base import Fields
from proxy.tracer.console import ConsoleExporter, duration, json_line, printable, render_trace
from proxy.tracer.export.base import Status
from proxy.tracer.span import Link, Operation, Span, SpanEvent, Value
from tests.unit import make_spans
from tests.unit.make_spans import make

TRACE = bytes.fromhex("4bf92f3577b34da6a3ce929d0e0e4736")


def number(n: int) -> bytes:
    return bytes([n]) * 8


def span(operation: Operation, n: int, parent: int = 0, attempt: int = 0, **rest: Any) -> Span:
    return make(
        operation,
        fields=Fields(id="42", type="mail", attempt=attempt),
        trace_id=TRACE,
        span_id=number(n),
        parent_id=number(parent) if parent else b"",
        **rest,
    )


RETRIED = [
    span(Operation.ENQUEUE, 1, lasts=1, service="shop"),
    span(Operation.DEQUEUE, 2, 1, at=1, lasts=118, facts={"queue.wait_time_ms": 118}),
    span(Operation.PROCESS, 3, 2, at=119, lasts=581, error="retry", message="boom"),
    span(
        Operation.DEQUEUE,
        4,
        1,
        1,
        at=720,
        lasts=180,
        facts={"redspan.parent.unverified": True},
        links=(Link(TRACE, number(3), "retry_of"), Link(b"\x0a" * 16, number(9), "batch")),
    ),
    span(Operation.PROCESS, 5, 4, 1, at=900, lasts=340, facts={"redspan.end.inferred": True}),
]

PLAIN = """\
trace 4bf92f3577b34da6a3ce929d0e0e4736  5 spans  1.24 s
queue.enqueue      shop/orders    42 mail     +0 ms  #.......................  1.00 ms
|- queue.dequeue   worker/orders  42 mail  +1.00 ms  ##......................   118 ms  waited 118 ms
|  `- job.process  worker/orders  42 mail   +119 ms  ..###########...........   581 ms  retry: boom
`- queue.dequeue   worker/orders  42 mail   +720 ms  .............###........   180 ms  attempt 2  parent unverified
   |                                                                                    -> retry of job.process
   |                                                                                    -> batch 0909090909090909 \
in trace 0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a
   `- job.process  worker/orders  42 mail   +900 ms  .................#######   340 ms  attempt 2  end inferred
"""


def piped(spans: Sequence[Span], **options: Any) -> str:
    stream = io.StringIO()
    assert ConsoleExporter("tree", stream, **options).export(spans).accepted == len(spans)
    return "".join(f"{line.rstrip()}\n" for line in stream.getvalue().splitlines())


def on_terminal(spans: Sequence[Span], width: int = 150) -> str:
    console = Console(file=io.StringIO(), force_terminal=True, width=width, color_system=None, legacy_windows=False)
    console.print(render_trace(spans, service="worker"))
    return str(console.file.getvalue())  # type: ignore[attr-defined]


def test_piped() -> None:
    assert piped(RETRIED, service="worker") == PLAIN


def test_order_of_arrival_does_not_matter() -> None:
    assert piped(RETRIED[::-1], service="worker") == PLAIN


def test_on_a_terminal() -> None:
    shown = on_terminal(RETRIED)
    for piece in (
        "├─ queue.dequeue",
        "│  └─ job.process",
        "↳ retry of job.process",
        "━",
        "retry: boom",
        "worker/orders",
    ):
        assert piece in shown


@pytest.mark.parametrize("width", [40, 80, 100, 120, 200])
def test_as_wide_as_the_terminal(width: int) -> None:
    assert max(map(len, on_terminal(RETRIED, width).splitlines())) <= width


def test_errors_are_red() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=150, color_system="standard")
    console.print(render_trace(RETRIED))
    assert "\x1b[1;31mretry: boom" in console.file.getvalue()  # type: ignore[attr-defined]


def test_the_name_under_semconv() -> None:
    assert "enqueue orders" in piped(RETRIED, naming="semconv")


def test_a_trace_each() -> None:
    other = [make(trace_id=b"\x01" * 16), make(trace_id=b"\x02" * 16), make(trace_id=b"\x01" * 16)]
    assert [line for line in piped(other).splitlines() if line.startswith("trace")] == [
        "trace 01010101010101010101010101010101  2 spans  5.00 ms",
        "trace 02020202020202020202020202020202  1 span  5.00 ms",
    ]


def test_text_from_jobs_moves_no_cursor() -> None:
    hostile = Fields(id="\x1b[2J\x1b[31m", type="[bold]x[/bold]\r\n:smile:")
    for shown in (piped([make(fields=hostile)]), on_terminal([make(fields=hostile)])):
        assert "\\x1b[2J\\x1b[31m [bold]x[/bold]\\r\\n:smile:" in shown
        assert "\x1b" not in shown


def test_printable() -> None:
    assert printable("Grüße\u202e\ud800") == "Grüße\\u202e\\ud800"
    assert printable("Grüße", ascii_only=True) == "Gr\\xfc\\xdfe"


def test_what_a_rule_hides_is_not_shown() -> None:
    def rule(name: str, value: Value) -> Value | None:
        return None if name in ("job.id", "job.error") else value

    shown = piped(RETRIED, rule=rule)
    assert "42" not in shown
    assert "boom" not in shown
    assert "mail" in shown


def test_parents_in_a_circle_and_twins() -> None:
    circle = [span(Operation.ENQUEUE, 1, 2), span(Operation.DEQUEUE, 2, 1), span(Operation.PROCESS, 3, 3)]
    twins = [span(Operation.ENQUEUE, 1), span(Operation.ENQUEUE, 1), span(Operation.DEQUEUE, 2, 1)]
    for spans in (circle, twins):
        shown = piped(spans)
        assert len(shown.splitlines()) == 4


def test_a_long_chain() -> None:
    chain = [
        make(trace_id=TRACE, span_id=n.to_bytes(8, "big"), parent_id=(n - 1).to_bytes(8, "big")) for n in range(1, 3000)
    ]
    assert len(piped(chain).splitlines()) >= 3000


@settings(max_examples=50)
@given(st.lists(make_spans.spans(), max_size=5))
def test_anything_can_be_shown(spans: list[Span]) -> None:
    assert piped(spans).isascii()
    on_terminal(spans)
    for each in spans:
        assert json.loads(json_line(each))["span_id"] == each.span_id.hex()


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (0, "0 ms"),
        (0.4, "0.40 ms"),
        (9.99, "9.99 ms"),
        (10, "10 ms"),
        (999.4, "999 ms"),
        (1000, "1.00 s"),
        (59_990, "59.99 s"),
        (125_000, "2 m 05 s"),
    ],
)
def test_duration(ms: float, text: str) -> None:
    assert duration(int(ms * 1e6)) == text


def test_json() -> None:
    stream = io.StringIO()
    odd = span(
        Operation.PROCESS,
        3,
        2,
        error="retry",
        message="é",
        facts={"x": float("inf"), "y": 1.5},
        events=(SpanEvent("stalled", make_spans.START, {"n": 1}),),
        links=(Link(TRACE, number(1), "retry_of"),),
    )
    ConsoleExporter("json", stream, service="worker").export([odd, RETRIED[0]])
    first, second = stream.getvalue().splitlines()
    assert first.isascii()
    line = json.loads(first)
    assert line["attributes"].items() >= {"x": "inf", "y": 1.5, "job.id": "42"}.items()
    del line["attributes"]
    assert line == {
        "name": "job.process",
        "kind": "CONSUMER",
        "trace_id": TRACE.hex(),
        "span_id": "03" * 8,
        "parent_id": "02" * 8,
        "service": "worker",
        "start": "2023-11-14T22:13:20.000000000Z",
        "end": "2023-11-14T22:13:20.005000000Z",
        "duration_ms": 5.0,
        "status": "ERROR",
        "message": "é",
        "events": [{"name": "stalled", "at": "2023-11-14T22:13:20.000000000Z", "attributes": {"n": 1}}],
        "links": [{"trace_id": TRACE.hex(), "span_id": "01" * 8, "redspan.link": "retry_of"}],
    }
    assert json.loads(second)["service"] == "shop"


def test_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    ConsoleExporter("json").export([make()])
    ConsoleExporter("tree").export([make()])
    assert len(capsys.readouterr().out.splitlines()) == 3


@pytest.mark.parametrize("style", ["tree", "json"])
def test_the_reader_has_gone(style: Any) -> None:
    stream = io.StringIO()
    stream.close()
    result = ConsoleExporter(style, stream).export([make()])
    assert (result.status, result.reason) == (Status.FATAL, "ValueError")
