"""Tests that read like a wire transcript.

::

    producer >> LPUSH jobs '{"id": 1}'                what a connection sends (names are free: one session each)
    redis    >> LPUSH jobs '{"id": 1, …}'             what of it reaches Redis; left out: exactly what was sent
    redis    << :1                                    the answer to who spoke last (or ``producer << :1``)
    producer :: closes                                either side is gone
    event enqueue queue=jobs number=1                 what the session reports, in order and completely

Commands are words as in a shell; ``raw "…"`` sends bytes with backslash escapes.  Replies: ``:1  +OK  -ERR no  nil
"bulk"  ["array", :2]  %["map", 1]  >["push"]  raw "…"``.  Nothing stands for ids: `trace_id` and `span_id` say what the
n-th random one is.

A transcript is played once as it stands, once byte by byte, once with each connection's consecutive lines joined, and
once for every place where a line can be cut in two.  Whatever the cut, the same bytes arrive and the same is reported.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from functools import cached_property
from textwrap import dedent
from typing import Any

from proxy.context.carry import Carrier
from proxy.context.derive import Deriver
from proxy.context.sampling import Rates
from proxy.context.traceparent import SpanContext
from proxy.events import Connection, JobEvent, Op, Record
from proxy.frameworks.base import Framework
from proxy.frameworks.router import Router
from proxy.relay.context import RelayContext
from proxy.relay.session import Session
from proxy.resp.commands import encode
from proxy.tracer.book import Policy
from proxy.tracer.lifecycle import Lifecycle
from proxy.tracer.span import Span

MS = 1_000_000
START = 1_700_000_000_000 * MS


def trace_id(number: int) -> bytes:
    """The n-th random trace id of a play, from 1."""
    return b"\xaa" * 13 + number.to_bytes(3)


def span_id(number: int) -> bytes:
    """The n-th random span id of a play, from 1."""
    return b"\xbb" * 5 + number.to_bytes(3)


def traceparent(number: int, flags: int = 3) -> str:
    """What the n-th injection of a play writes, where ids are random."""
    return SpanContext(trace_id(number), span_id(number), flags).header().decode()


class CountedIds:
    def __init__(self, start: int = 0) -> None:
        self.traces = self.spans = start

    def trace_id(self) -> bytes:
        self.traces += 1
        return trace_id(self.traces)

    def span_id(self) -> bytes:
        self.spans += 1
        return span_id(self.spans)

    def both(self) -> tuple[bytes, bytes]:
        return self.trace_id(), self.span_id()


class Line:
    """One line of a transcript."""

    def __init__(self, text: str, number: int) -> None:
        self.at = START + number * MS
        who, arrow, rest = re.fullmatch(r"(\w+)\s*(>>|<<|::|)\s*(.*)", text).groups()  # type: ignore[union-attr]
        self.who, self.arrow, self.rest = who, arrow, rest

    @cached_property
    def sent(self) -> bytes:
        words = shlex.split(self.rest)
        return _raw(words[1]) if words[0] == "raw" else encode([word.encode() for word in words])

    @cached_property
    def reply(self) -> bytes:
        return b"".join(_replies(self.rest))


def _raw(text: str) -> bytes:
    return text.encode("latin-1", "backslashreplace").decode("unicode_escape").encode("latin-1")


_TOKEN = re.compile(
    r"""raw\s+("(?:[^"\\]|\\.)*")|([%~>]?)\[|(\])|("(?:[^"\\]|\\.)*"|'[^']*')|nil3|nil|[:+][^\],\s]*|-[^\],]*|,|\s+"""
)


def _replies(text: str) -> Iterator[bytes]:
    stack: list[tuple[str, list[bytes]]] = []
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        assert match is not None, f"what reply is {text[at:]!r}?"
        at, token = match.end(), match[0]
        raw, mark, closing, quoted = match.groups()
        if raw:
            item = _raw(raw[1:-1])
        elif mark is not None:
            stack.append((mark or "*", []))
            continue
        elif closing:
            kind, items = stack.pop()
            count = len(items) // 2 if kind == "%" else len(items)
            item = f"{kind}{count}\r\n".encode() + b"".join(items)
        elif quoted:
            body = _raw(quoted[1:-1]) if quoted[0] == '"' else quoted[1:-1].encode()
            item = b"$%d\r\n%s\r\n" % (len(body), body)
        elif token in ("nil", "nil3"):
            item = b"$-1\r\n" if token == "nil" else b"_\r\n"
        elif token.isspace() or token == ",":
            continue
        else:
            item = f"{token.strip()}\r\n".encode()
        if stack:
            stack[-1][1].append(item)
        else:
            yield item


class Play:
    """The outcome of one way of playing a transcript."""

    def __init__(self, frameworks: tuple[Framework, ...], options: dict[str, Any]) -> None:
        self.records: list[Record] = []
        self.notices: list[str] = []
        rates = Rates(lambda queue, key: options.get("rate", 1.0))
        deriver, formats = Deriver(), options.get("formats", ())
        self.context = RelayContext(
            Router(frameworks),
            Carrier(deriver, CountedIds(), formats=formats),
            rates,
            self.records.append,
            lambda reason, conn, detail: self.notices.append(detail or reason),
            inject=options.get("inject", True),
            max_inspect=options.get("max_inspect", 1 << 20),
        )
        self.lifecycle = Lifecycle(
            frameworks, Carrier(deriver, CountedIds(100), formats=formats), rates, options.get("policy", Policy())
        )
        self.sessions: dict[str, Session] = {}
        self.sent: dict[str, bytes] = {}

    def session(self, who: str) -> Session:
        if who not in self.sessions:
            self.sessions[who] = Session(self.context, len(self.sessions) + 1, "127.0.0.1:6380", "redis:6379", "::1")
            self.sent[who] = b""
        return self.sessions[who]

    @property
    def events(self) -> list[JobEvent]:
        return [record for record in self.records if isinstance(record, JobEvent)]

    @property
    def blind(self) -> dict[str, int]:
        return {reason: count for reason, count in self.context.counters.blind.items() if count}

    @property
    def injections(self) -> dict[str, int]:
        return {result: count for (_, result), count in self.context.counters.injections.items()}

    @property
    def connections(self) -> list[Connection]:
        return [record for record in self.records if isinstance(record, Connection)]

    @cached_property
    def spans(self) -> list[Span]:
        """What the lifecycle makes of the events."""
        spans = [span for record in self.records for span in self.lifecycle.feed(0, record)]
        return spans + self.lifecycle.flush()

    def tree(self) -> str:
        """Every trace as an indented tree, children by start."""
        return tree(self.spans)


def tree(spans: list[Span]) -> str:
    """A line per span, children indented: operation, kind, queue, status, !error, ~links; (?) for an unknown parent."""
    ids = {span.span_id for span in spans}
    lines: list[str] = []

    def add(span: Span, depth: int) -> None:
        words = [span.operation.value, span.kind.name, span.job.queue or span.job.key]
        words += [str(span.facts[name]) for name in ("job.status",) if name in span.facts]
        words += [f"!{span.error}"] * bool(span.error) + [f"~{link.relation}" for link in span.links]
        words += ["(?)"] * bool(span.parent_id and span.parent_id not in ids)
        lines.append("  " * depth + " ".join(words))
        for child in sorted((one for one in spans if one.parent_id == span.span_id), key=lambda one: one.start):
            assert child.trace_id == span.trace_id
            add(child, depth + 1)

    for span in sorted(spans, key=lambda one: one.start):
        if span.parent_id not in ids:
            add(span, 0)
    return "\n".join(lines)


def play(transcript: str, *frameworks: Framework, **options: Any) -> Play:
    """Play a transcript in every way; what the plain way gave. Options: inject, rate, formats, max_inspect, policy."""
    lines = [
        Line(text.strip(), number)
        for number, text in enumerate(dedent(transcript).strip().splitlines())
        if text.strip() and not text.strip().startswith("#")
    ]
    plain = _perform(lines, frameworks, options, lambda data: [data])
    _check_events(lines, plain)
    bytewise = _perform(lines, frameworks, options, lambda data: [data[i : i + 1] for i in range(len(data))])
    _same(plain, bytewise, "byte by byte")
    longest = max(len(line.sent if line.arrow == ">>" else line.reply) for line in lines if line.arrow in (">>", "<<"))
    for cut in range(1, min(longest, 600)):
        halves = _perform(lines, frameworks, options, lambda data, cut=cut: [data[:cut], data[cut:]])
        _same(plain, halves, f"cut at {cut}")
    _same(plain, _perform(lines, frameworks, options, lambda data: [data], join=True), "joined")
    return plain


def _same(plain: Play, other: Play, how: str) -> None:
    assert other.sent == plain.sent, how
    untimed = [_untimed(event) for event in other.events]
    assert untimed == [_untimed(event) for event in plain.events], how
    assert other.blind == plain.blind, how


def _untimed(event: JobEvent) -> JobEvent:
    copy = JobEvent(*(getattr(event, name) for name in JobEvent.__struct_fields__))
    copy.at = copy.done = 0
    return copy


def _perform(
    lines: list[Line], frameworks: tuple[Framework, ...], options: dict[str, Any], cut: Any, *, join: bool = False
) -> Play:
    run, speaker, expected = Play(frameworks, options), "", dict[str, bytes]()
    at = 0
    while at < len(lines):
        line, at = lines[at], at + 1
        if line.arrow == ">>" and line.who != "redis":
            speaker = line.who
            data = line.sent
            arrives, at = _arriving(lines, at)
            while join and at < len(lines) and lines[at].arrow == ">>" and lines[at].who == speaker:
                data += lines[at].sent
                more, at = _arriving(lines, at + 1)
                arrives += more
            expected[speaker] = expected.get(speaker, b"") + arrives
            session = run.session(speaker)
            for piece in cut(data):
                run.sent[speaker] += session.client_data(piece, line.at)
            if not join:
                assert run.sent[speaker] == expected[speaker], f"{line.rest}: {run.sent[speaker]!r}"
        elif line.arrow == "<<":
            who = speaker if line.who == "redis" else line.who
            for piece in cut(line.reply):
                run.session(who).upstream_data(piece, line.at, delivered=True)
        elif line.arrow == "::":
            session = run.session(line.who)
            if line.rest == "ends":
                run.sent[line.who] += session.client_eof(line.at)
            else:
                session.closed(line.at)
    return run


def _arriving(lines: list[Line], after: int) -> tuple[bytes, int]:
    """What should reach Redis of the line before ``after``, and the line to go on with."""
    if after < len(lines) and (lines[after].who, lines[after].arrow) == ("redis", ">>"):
        return lines[after].sent, after + 1
    return lines[after - 1].sent, after


def _check_events(lines: list[Line], run: Play) -> None:
    wanted = [line for line in lines if line.who == "event"]
    if not wanted:
        return
    found = [_describe(event) for event in run.events]
    for number, line in enumerate(wanted):
        assert number < len(found), f"missing: {line.rest}"
        words = shlex.split(line.rest)
        op, attributes = words[0], dict(word.split("=", 1) for word in words[1:])
        actual = found[number]
        assert actual["op"] == op, f"{line.rest}: {actual}"
        assert {name: actual[name] for name in attributes} == attributes, f"{line.rest}: {actual}"
    assert len(found) == len(wanted), f"and also: {found[len(wanted) :]}"


def _describe(event: JobEvent) -> dict[str, str]:
    described = {name: getattr(event, name) for name in JobEvent.__struct_fields__}
    return {
        name: value.name.lower() if isinstance(value, Op) or hasattr(value, "name") else
        value.decode("latin-1") if isinstance(value, bytes) else str(value)
        for name, value in described.items()
    }  # fmt: skip
