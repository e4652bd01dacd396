"""At most so many spans a second, of all queues or of each: token buckets that are handed the time.

A trace whose first span was let through may overdraw the bucket by its size again, and one that was refused a span
gets no more, so that what is exported is whole traces as far as that can be.  Over t seconds no more than
``rate * (t + 2)`` spans pass.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Final, TypeAlias

from proxy.context.tracestate import with_threshold
from proxy.tracer.span import Span

_REMEMBERED: Final = 50_000
_QUEUES: Final = 1000
"""Queues with a bucket of their own. The rest share one for each limit, so that new names of queues are no way out."""

Traces: TypeAlias = OrderedDict[tuple[int, bytes], bool]
"""By bucket and trace id: whether it was let through; of those last heard of."""


class Limiter:
    """One bucket. Several may have their ``traces`` in one place: then each needs a ``number`` of its own."""

    def __init__(self, rate: int, traces: Traces | None = None, number: int = 0) -> None:
        self._rate = float(rate)
        self._number = number
        self._tokens = self._rate
        self._at: float | None = None
        self._limiting = False
        self._traces: Traces = OrderedDict() if traces is None else traces

    def admit(self, span: Span, now: float) -> bool:
        """Whether it may pass; ``now`` in seconds. While any are refused, a span no longer says how many it is for."""
        elapsed = 0.0 if self._at is None else max(0.0, now - self._at)
        self._at = now
        self._tokens = min(self._rate, self._tokens + elapsed * self._rate)
        if self._tokens >= self._rate:
            self._limiting = False
        key = (self._number, span.trace_id)
        known = self._traces.get(key)
        passes = known is not False and self._tokens - 1 >= (-self._rate if known else 0.0)
        self._traces[key] = passes
        self._traces.move_to_end(key)
        if len(self._traces) > _REMEMBERED:
            self._traces.popitem(last=False)
        if not passes:
            self._limiting = True
            return False
        self._tokens -= 1
        if self._limiting and "th:" in span.tracestate:
            span.tracestate = with_threshold(span.tracestate, None)
        return True


class QueueLimiter:
    """A bucket for each queue that has a limit. ``limit(queue, key)`` answers spans a second, 0 for none."""

    def __init__(self, limit: Callable[[str, str], int]) -> None:
        self._limit = limit
        self._queues: dict[tuple[str, str, str], Limiter | None] = {}
        self._rest: dict[int, Limiter] = {}
        self._traces: Traces = OrderedDict()

    def admit(self, span: Span, now: float) -> bool:
        job = span.job
        place = (job.framework, job.queue, job.key)
        limiter = self._queues[place] if place in self._queues else self._begin(place)
        return limiter is None or limiter.admit(span, now)

    def _begin(self, place: tuple[str, str, str]) -> Limiter | None:
        rate, number = self._limit(*place[1:]), len(self._queues)
        if number < _QUEUES:
            limiter = self._queues[place] = Limiter(rate, self._traces, number) if rate else None
            return limiter
        if rate and rate not in self._rest:
            self._rest[rate] = Limiter(rate, self._traces, -1 - len(self._rest))
        return self._rest.get(rate)
