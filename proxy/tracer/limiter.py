"""At most so many spans a second: a token bucket that is handed the time.

A trace whose first span was let through may overdraw the bucket by its size again, and one that was refused a span
gets no more, so that what is exported is whole traces as far as that can be.  Over t seconds no more than
``rate * (t + 2)`` spans pass.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from proxy.context.tracestate import with_threshold
from proxy.tracer.span import Span

_REMEMBERED: Final = 50_000


class Limiter:
    def __init__(self, rate: int) -> None:
        self._rate = float(rate)
        self._tokens = self._rate
        self._at: float | None = None
        self._limiting = False
        self._traces: OrderedDict[bytes, bool] = OrderedDict()
        """Whether they were let through, of those last heard of."""

    def admit(self, span: Span, now: float) -> bool:
        """Whether it may pass; ``now`` in seconds. While any are refused, a span no longer says how many it is for."""
        elapsed = 0.0 if self._at is None else max(0.0, now - self._at)
        self._at = now
        self._tokens = min(self._rate, self._tokens + elapsed * self._rate)
        if self._tokens >= self._rate:
            self._limiting = False
        known = self._traces.get(span.trace_id)
        passes = known is not False and self._tokens - 1 >= (-self._rate if known else 0.0)
        self._traces[span.trace_id] = passes
        self._traces.move_to_end(span.trace_id)
        if len(self._traces) > _REMEMBERED:
            self._traces.popitem(last=False)
        if not passes:
            self._limiting = True
            return False
        self._tokens -= 1
        if self._limiting and "th:" in span.tracestate:
            span.tracestate = with_threshold(span.tracestate, None)
        return True
