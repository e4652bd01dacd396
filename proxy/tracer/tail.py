"""Sampling at the end: the spans of a trace are held until it is known how its job ended.

Only what this tracer sees counts: where a job's producer and worker go through different sidecars, each decides about
its own spans, alike for the baseline (by the trace id) and not for the rest.  Whole traces are a collector's business.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

import msgspec

from proxy.context.sampling import threshold
from proxy.context.tracestate import randomness, with_threshold
from proxy.context.tracestate import threshold as stated
from proxy.tracer import attributes as a
from proxy.tracer.span import Operation, Span

_REMEMBERED: Final = 50_000
_OF_JOBS: Final = frozenset({Operation.ENQUEUE, Operation.DEQUEUE, Operation.PROCESS})

LEFT_OUT: Final = ""


class TailOptions(msgspec.Struct, frozen=True):
    wait: float = 30.0
    """Seconds."""
    limit: int = 20_000
    """Spans."""
    slow: int = 10 * 10**9
    """ns."""
    baseline: float = 0.1


class _Held(msgspec.Struct):
    since: float
    spans: list[Span]


class Tail:
    """All times are seconds on the caller's clock."""

    def __init__(self, options: TailOptions) -> None:
        self._options = options
        self._least = threshold(options.baseline)
        self._held: OrderedDict[bytes, _Held] = OrderedDict()
        self._decided: OrderedDict[bytes, str] = OrderedDict()
        """Why they are kept, or `LEFT_OUT`: for spans that come later."""
        self.spans = 0
        """Held now."""
        self.dropped = 0
        self.early = 0
        """Traces that were judged before their time, because too many spans were held."""

    def take(self, span: Span, now: float) -> list[Span]:
        """The spans that are kept from now on."""
        if span.operation not in _OF_JOBS:
            return [span]
        trace_id, reason = span.trace_id, self._reason(span)
        decided = self._decided.get(trace_id)
        if decided is not None:
            if reason and decided == LEFT_OUT:
                decided = self._decided[trace_id] = reason
            return self._finish([span], decided)
        held = self._held.get(trace_id)
        if held is None:
            held = self._held[trace_id] = _Held(now, [])
        held.spans.append(span)
        self.spans += 1
        if reason:
            return self._decide(trace_id, reason)
        if span.operation is Operation.PROCESS:
            return self._decide(trace_id, self._otherwise(span))
        kept: list[Span] = []
        while self.spans > self._options.limit:
            self.early += 1
            kept += self._judge(next(iter(self._held)))
        return kept

    def tick(self, now: float) -> list[Span]:
        """Of traces that have been held long enough, the spans that are kept."""
        kept: list[Span] = []
        while self._held:
            trace_id, held = next(iter(self._held.items()))
            if held.since <= now < held.since + self._options.wait:
                break
            kept += self._judge(trace_id)
        return kept

    def flush(self) -> list[Span]:
        return [span for trace_id in list(self._held) for span in self._judge(trace_id)]

    def _reason(self, span: Span) -> str:
        if span.error:
            return span.error if span.error in ("retry", "dead_letter") else "error"
        if span.job.fields.attempt > 0:
            return "retry"
        slow = span.operation is Operation.PROCESS and span.end - span.start >= self._options.slow
        return "slow" if slow else ""

    def _otherwise(self, span: Span) -> str:
        return "baseline" if randomness(span.trace_id, span.tracestate) >= self._least else LEFT_OUT

    def _judge(self, trace_id: bytes) -> list[Span]:
        """By no more than there is."""
        return self._decide(trace_id, self._otherwise(self._held[trace_id].spans[0]))

    def _decide(self, trace_id: bytes, reason: str) -> list[Span]:
        spans = self._held.pop(trace_id).spans
        self.spans -= len(spans)
        self._decided[trace_id] = reason
        if len(self._decided) > _REMEMBERED:
            self._decided.popitem(last=False)
        return self._finish(spans, reason)

    def _finish(self, spans: list[Span], reason: str) -> list[Span]:
        if reason == LEFT_OUT:
            self.dropped += len(spans)
            return []
        for span in spans:
            span.facts[a.SAMPLING_REASON] = reason
            if reason == "baseline":
                raise_threshold(span, self._least)
        return spans


def raise_threshold(span: Span, least: int) -> None:
    """It was kept by a smaller share than its trace: it says so, if it says anything."""
    said = stated(span.tracestate) if span.tracestate else None
    if said is not None and said < least:
        span.tracestate = with_threshold(span.tracestate, least)
