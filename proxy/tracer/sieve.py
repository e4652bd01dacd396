"""Which finished spans are exported: those of sampled traces, less what tail, operation rates and limits take."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from typing import Final, Literal, TypeAlias, get_args

from proxy.context.sampling import threshold
from proxy.context.tracestate import randomness
from proxy.tracer.limiter import Limiter, QueueLimiter
from proxy.tracer.span import Operation, Span
from proxy.tracer.tail import Tail, TailOptions, raise_threshold

Decision: TypeAlias = Literal["sampled", "not_sampled", "tail", "thinned", "queue_limited", "limited"]
"""``redspan_sampling_decisions_total{decision}``: all but the first are left out."""

_REMEMBERED: Final = 50_000


class Sieve:
    """``operations``: shares by `Operation`; ``rate``: spans a second, 0 for no limit.

    ``queue_rate`` answers the same for a queue's name and key.
    """

    def __init__(
        self,
        operations: Mapping[Operation, float] | None = None,
        rate: int = 0,
        tail: TailOptions | None = None,
        queue_rate: Callable[[str, str], int] | None = None,
    ) -> None:
        self.tail: Final = None if tail is None else Tail(tail)
        self._decisions: dict[Decision, int] = dict.fromkeys(get_args(Decision), 0)
        self._least = {operation: threshold(share) for operation, share in (operations or {}).items() if share < 1}
        self._limiter = Limiter(rate) if rate else None
        self._queues = QueueLimiter(queue_rate) if queue_rate is not None else None
        self._passes_all = self.tail is None and not self._least and self._limiter is None and self._queues is None
        self._gone: OrderedDict[bytes, bytes] = OrderedDict()
        """Spans that their operation's rate left out, and their parents: their children's from now on."""

    @property
    def decisions(self) -> Mapping[Decision, int]:
        """How many spans, so far."""
        if self.tail is not None:
            self._decisions["tail"] = self.tail.dropped
        return self._decisions

    def take(self, spans: list[Span], now: float) -> list[Span]:
        """The spans to export, of these and of those that were held; ``now`` in seconds."""
        sampled = [span for span in spans if span.sampled]
        self._decisions["not_sampled"] += len(spans) - len(sampled)
        if self._passes_all:
            self._decisions["sampled"] += len(sampled)
            return sampled
        tail = self.tail
        if tail is None:
            return self._let_through(sampled, now)
        return self._let_through((kept for span in sampled for kept in tail.take(span, now)), now)

    def tick(self, now: float) -> list[Span]:
        """Those whose time to be held is over."""
        return [] if self.tail is None else self._let_through(self.tail.tick(now), now)

    def flush(self, now: float) -> list[Span]:
        """All that are held, judged by what there is."""
        return [] if self.tail is None else self._let_through(self.tail.flush(), now)

    def _let_through(self, spans: Iterable[Span], now: float) -> list[Span]:
        through = []
        for span in spans:
            if not self._wanted(span):
                self._decisions["thinned"] += 1
            elif self._queues is not None and not self._queues.admit(span, now):
                # First: what one queue has too many of shall not take from the others' share.
                self._decisions["queue_limited"] += 1
            elif self._limiter is not None and not self._limiter.admit(span, now):
                self._decisions["limited"] += 1
            else:
                self._decisions["sampled"] += 1
                through.append(span)
        return through

    def _wanted(self, span: Span) -> bool:
        if not self._least:
            return True
        gone = self._gone
        while span.parent_id in gone:
            span.parent_id = gone[span.parent_id]
        least = self._least.get(span.operation)
        if least is None:
            return True
        if randomness(span.trace_id, span.tracestate) >= least:
            raise_threshold(span, least)
            return True
        gone[span.span_id] = span.parent_id
        if len(gone) > _REMEMBERED:
            gone.popitem(last=False)
        return False
