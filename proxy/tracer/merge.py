"""What several relay workers say, put in order: each is heard when it comes round to sending, so one may be ahead.

A job may be popped by way of one worker and acknowledged by way of another within a millisecond, and an end without
a beginning is worth nothing.  So records wait for `WINDOW`, and then go by their times.  All workers are on one host
and have one clock.
"""

from __future__ import annotations

from collections.abc import Iterator
from heapq import heappop, heappush
from itertools import count
from typing import Final

from proxy.events import Connection, JobEvent

WINDOW: Final = 50_000_000
"""Ns that a record waits for earlier ones of other workers: ten times what a worker waits before it sends."""
LIMIT: Final = 65_536
"""Records that wait; of more, the earliest go at once."""


class Merge:
    """Records are `JobEvent` and `Connection`; None is the end of a worker."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, int, JobEvent | Connection | None]] = []
        self._order = count()

    def add(self, worker: int, record: JobEvent | Connection | None, now: int) -> None:
        """``now``: ns since the epoch, like the records' own times."""
        at = now if record is None else record.done if isinstance(record, JobEvent) else record.at
        heappush(self._heap, (at, next(self._order), worker, record))

    def due(self, now: int) -> Iterator[tuple[int, JobEvent | Connection | None]]:
        """Those that have waited long enough, with their workers."""
        heap = self._heap
        while heap and (heap[0][0] <= now - WINDOW or len(heap) > LIMIT):
            _, _, worker, record = heappop(heap)
            yield worker, record

    def rest(self) -> Iterator[tuple[int, JobEvent | Connection | None]]:
        while self._heap:
            _, _, worker, record = heappop(self._heap)
            yield worker, record
