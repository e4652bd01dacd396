"""The relay's end of the event channel: a bounded queue that never waits for the tracer.

Records are numbered as they come, whether or not they can be kept, so that the tracer sees from a batch's number how
many it missed.  What is kept is encoded at once, while it is at hand, and goes out in batches: every `TICK` while there
is something, each batch one datagram.  A tracer that does not read makes the queue fill up; then the newest records are
dropped and counted.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections import deque
from collections.abc import Callable
from typing import Final, Literal, TypeAlias, get_args

import msgspec

from proxy import __version__
from proxy.events import BATCH_LIMIT, HEAD_LIMIT, Hello, Record, Snapshot, append, datagram

Reason: TypeAlias = Literal["ring_full", "channel_broken", "no_tracer", "too_large"]
"""``redspan_events_dropped_total{reason}``: no room; sent into a broken channel; no tracer there; cannot be sent."""

RECORDS_LIMIT: Final = 65_536
BYTES_LIMIT: Final = 16 * 1024 * 1024
"""Of the records that wait: over a second of what a busy sidecar says, while its tracer starts."""

TICK: Final = 0.005
"""Seconds between a first record and the batch it goes in; with more to send, between rounds."""
SNAPSHOT_EVERY: Final = 1.0
_PART: Final = 50
"""Counters in one record: even with the longest names of queues it fits into a datagram."""

_ROUND: Final = 4
"""Batches in one go: at most 256 KiB, about what the socket takes."""
_ROOM: Final = BATCH_LIMIT - HEAD_LIMIT
_FULL: Final = (BlockingIOError, InterruptedError)

Counts: TypeAlias = tuple[dict[str, int], list[tuple[str, tuple[str, ...], int]]]
"""Gauges by name, and counters, as in `proxy.events.Snapshot`."""


class _Batch(msgspec.Struct, gc=False):
    """Records of consecutive numbers, encoded one after the other; together they fit into a datagram."""

    first: int
    count: int
    records: bytearray


class Outbox:
    """``snapshot`` answers the worker's gauges and counters; ``wall`` is ns since the epoch."""

    def __init__(
        self,
        worker: int,
        wall: Callable[[], int],
        snapshot: Callable[[], Counts],
    ) -> None:
        self.worker = worker
        self.dropped: dict[Reason, int] = dict.fromkeys(get_args(Reason), 0)
        self.sent = 0
        """Records handed to the socket."""
        self._wall = wall
        self._snapshot = snapshot
        self._boot = wall()
        self._next = 0
        self._batches: deque[_Batch] = deque()
        self.waiting = 0
        """Records that are not with the tracer yet."""
        self._bytes = 0
        self._sock: socket.socket | None = None
        self._holding = False
        """There is no tracer, but there will be: what comes is kept for it."""
        self._timer: asyncio.TimerHandle | None = None
        self._ticker: asyncio.TimerHandle | None = None

    @property
    def attached(self) -> bool:
        return self._sock is not None

    def emit(self, record: Record) -> None:
        """Queue a record for the tracer, or drop it. Never waits, never raises."""
        number = self._next
        self._next = number + 1
        if self._sock is None and not self._holding:
            self.dropped["no_tracer"] += 1
            return
        if self.waiting >= RECORDS_LIMIT or self._bytes >= BYTES_LIMIT:
            self.dropped["ring_full"] += 1
            return
        batch = self._batches[-1] if self._batches else None
        if batch is None or batch.first + batch.count != number:
            batch = self._begin(number, bytearray())
        records = batch.records
        before = len(records)
        try:
            append(records, record)
        except (OverflowError, UnicodeEncodeError):
            # A number or a text that has no bytes. Half of it is there, and what the memory held before.
            del records[before:]
            self.dropped["too_large"] += 1
            return
        size = len(records) - before
        if before + size > _ROOM:
            last = records[before:]
            del records[before:]
            if size > _ROOM:
                # Not a job: those carry no more than VALUE_LIMIT. A key as long as this is.
                self.dropped["too_large"] += 1
                return
            batch = self._begin(number, last)
        batch.count += 1
        self.waiting += 1
        self._bytes += size
        if self._timer is None and self._sock is not None:
            self._timer = asyncio.get_running_loop().call_later(TICK, self._tick)

    def _begin(self, number: int, records: bytearray) -> _Batch:
        batch = _Batch(number, 0, records)
        self._batches.append(batch)
        return batch

    def attach(self, sock: socket.socket) -> None:
        """A new tracer: greet it, and send to it from now on. ``sock``: SEQPACKET, becomes ours."""
        if not self._holding:
            self.detach()
        self._holding = False
        sock.setblocking(False)
        self._sock = sock
        self.emit(Hello(self.worker, os.getpid(), self._boot, __version__))
        self._take_snapshot()

    def detach(self) -> None:
        """The tracer has gone. What waits for it is dropped: the next one could not make sense of half a job."""
        self.dropped["channel_broken"] += self.waiting
        self._batches.clear()
        self.waiting = self._bytes = 0
        self._holding = False
        for timer in (self._timer, self._ticker):
            if timer is not None:
                timer.cancel()
        self._timer = self._ticker = None
        if self._sock is not None:
            self._sock.close()
            self._sock = None

    def hold(self) -> None:
        """The tracer is being replaced: take no more to this one, and keep what comes, within limits, for the next."""
        self.detach()
        self._holding = True

    async def flush(self, within: float) -> bool:
        """A last snapshot, then wait until all is sent; False: it was not within so many seconds."""
        if self._sock is None:
            return False
        self.emit_snapshot()
        rounds = int(within / TICK)
        while self.waiting and rounds:
            rounds -= 1
            await asyncio.sleep(TICK)
        return not self.waiting

    def _take_snapshot(self) -> None:
        self.emit_snapshot()
        self._ticker = asyncio.get_running_loop().call_later(SNAPSHOT_EVERY, self._take_snapshot)

    def emit_snapshot(self) -> None:
        gauges, counters = self._snapshot()
        now = self._wall()
        self.emit(Snapshot(self.worker, now, gauges, counters[:_PART]))
        for at in range(_PART, len(counters), _PART):
            self.emit(Snapshot(self.worker, now, {}, counters[at : at + _PART]))

    def _tick(self) -> None:
        """Send what can be sent now, and come back while something is left."""
        self._timer = None
        sock, batches = self._sock, self._batches
        if sock is None:
            return
        try:
            for _ in range(_ROUND):
                if not batches:
                    return
                batch = batches[0]
                if batch.count:
                    sock.send(datagram(self.worker, batch.first, batch.count, batch.records))
                    self.sent += batch.count
                    self.waiting -= batch.count
                    self._bytes -= len(batch.records)
                batches.popleft()
        except _FULL:
            pass
        except OSError:
            # Its end is closed. Who started the tracer knows, and attaches the next one.
            self.detach()
            return
        if batches:
            self._timer = asyncio.get_running_loop().call_later(TICK, self._tick)
