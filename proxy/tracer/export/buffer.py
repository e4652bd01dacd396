"""Finished spans on their way out: bounded, counted, in order, without I/O and without a clock.

Every span handed in is in exactly one place: ``started == exported + dropped + held``.  Held are those that wait, those
of a batch that somebody took, and those of a batch that came back.  When it is full the newest is refused: what is
held is older and belongs to traces that are half sent already.  A batch that came back is tried again until it is
taken, or until the end: there is no limit to how often, for the buffer is one to how much.
"""

from __future__ import annotations

import random
import sys
from collections import deque
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Final, Literal, TypeAlias, get_args

from proxy.tracer.span import Operation, Span

Dropped: TypeAlias = Literal["buffer_full", "export_failed", "rejected", "shutdown"]
"""Why a span was not exported: no room; its batch was refused; it was (partial success); still here at the end."""

FIRST_DELAY: Final = 1.0
LONGEST_DELAY: Final = 30.0
BREAK: Final = 5
"""Failures in a row after which the receiver counts as away. One batch asks after it, as often as the back-off says."""
LONGEST_RETRY_AFTER: Final = 300.0
"""Seconds; a receiver that asks for more has its reasons, but a queue that never moves again is of no use."""

_SAMPLE: Final = 32


class SpanBuffer:
    """A queue of at most ``capacity`` spans, handed out in batches of ``batch``.

    A batch is due when it is full or ``interval`` seconds after the first span came, and after a failure not before the
    back-off is over: 1 s, doubled up to 30 s, ± 20 %, or longer where the receiver said so.  All times are seconds on
    the caller's clock.  ``jitter`` gives a number from 0 to 1.
    """

    def __init__(
        self,
        capacity: int = 10_000,
        batch: int = 512,
        interval: float = 5.0,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.capacity = capacity
        self.batch = batch
        self.interval = interval
        self.started_by: dict[str, int] = {operation.value: 0 for operation in Operation}
        self.exported = 0
        self.dropped: dict[Dropped, int] = dict.fromkeys(get_args(Dropped), 0)
        self.retries = 0
        """Batches that came back."""
        self._failures = 0
        self._jitter = jitter
        self._queue: deque[Span] = deque()
        self._since = 0.0
        """When the oldest of ``_queue`` came, or a batch was taken from before it."""
        self._returned: deque[list[Span]] = deque()
        self._out = 0
        """Spans of batches that were taken and are neither settled nor given back."""
        self._delay = FIRST_DELAY
        self._not_before = 0.0
        self._closed = False

    @property
    def started(self) -> int:
        return sum(self.started_by.values())

    @property
    def broken(self) -> bool:
        """The receiver is away: nothing is sent but one batch from time to time."""
        return self._failures >= BREAK

    @property
    def waiting(self) -> int:
        """Spans that nobody has taken yet."""
        return len(self._queue)

    @property
    def held(self) -> int:
        return len(self._queue) + self._out + sum(map(len, self._returned))

    @property
    def bytes(self) -> int:
        """About how much memory the held spans take, judged by a few of them."""
        sample = list(islice(self._queue, _SAMPLE)) or [span for batch in self._returned for span in batch[:_SAMPLE]]
        return _weigh(sample) * self.held // len(sample) if sample else 0

    def add(self, span: Span, now: float) -> bool:
        """Take a span in; False: there was no room, or it is too late, and it is gone."""
        self.started_by[span.operation._value_] += 1
        if self._closed:
            self.dropped["shutdown"] += 1
            return False
        waiting = len(self._queue)
        if waiting + self._out >= self.capacity or (self._returned and self.held >= self.capacity):
            self.dropped["buffer_full"] += 1
            return False
        if not waiting:
            self._since = now
        self._queue.append(span)
        return True

    def wait(self, now: float) -> float | None:
        """Seconds until the next batch is due (0: now); None: nothing is here."""
        if self._returned:
            at = self._not_before
        elif self._queue:
            full = len(self._queue) >= self.batch
            at = max(self._not_before, now if full else self._since + self.interval)
        else:
            return None
        return max(at - now, 0.0)

    def due(self, now: float) -> bool:
        return self.wait(now) == 0.0

    def take(self, now: float) -> list[Span]:
        """The next batch, due or not; one that came back goes first and as it was. Empty: nothing is here.

        It stays held until exactly one of `sent`, `failed`, `give_back` or `abandon` is called for it.
        """
        if self._returned:
            batch = self._returned.popleft()
        else:
            queue = self._queue
            batch = [queue.popleft() for _ in range(min(self.batch, len(queue)))]
            self._since = now
        self._out += len(batch)
        return batch

    def sent(self, batch: list[Span], rejected: int = 0) -> None:
        """The batch was taken by the receiver, all but ``rejected`` of it."""
        rejected = min(max(rejected, 0), len(batch))
        self._out -= len(batch)
        self.exported += len(batch) - rejected
        self.dropped["rejected"] += rejected
        self._delay, self._not_before, self._failures = FIRST_DELAY, 0.0, 0

    def failed(self, batch: list[Span], reason: Dropped = "export_failed") -> None:
        """The batch will never be taken."""
        self._out -= len(batch)
        self.dropped[reason] += len(batch)

    def give_back(self, batch: list[Span], now: float, retry_after: float = 0.0) -> None:
        """The batch was not taken this time: it is the next one again, after the back-off."""
        self._out -= len(batch)
        self._returned.appendleft(batch)
        self.retries += 1
        self._failures += 1
        delay = min(self._delay * (0.8 + 0.4 * self._jitter()), LONGEST_DELAY)
        self._not_before = now + max(delay, min(retry_after, LONGEST_RETRY_AFTER))
        self._delay = min(self._delay * 2, LONGEST_DELAY)

    def abandon(self) -> int:
        """Drop everything, batches that are out included, and whatever comes later; how many were held.

        No batch may be settled after it.
        """
        self._closed = True
        held = self.held
        self.dropped["shutdown"] += held
        self._queue.clear()
        self._returned.clear()
        self._out = 0
        return held


def _weigh(spans: Iterable[Span]) -> int:
    """Bytes of these spans; what they share (`JobFacts`, strings) is counted once."""
    seen: set[int] = set()

    def once(*things: object) -> int:
        fresh = [thing for thing in things if id(thing) not in seen]
        seen.update(map(id, fresh))
        return sum(map(sys.getsizeof, fresh))

    total = 0
    for span in spans:
        job, facts, fields = span.job, span.facts, span.job.fields
        total += once(span, span.trace_id, span.span_id, span.parent_id, span.start, span.end, span.message)
        total += once(facts, *facts.values(), span.events, *span.events, span.links, *span.links)
        total += once(job, job.queue, job.key, fields, fields.id, fields.type, fields.correlation_id)
    return total
