"""The relay's end of the event channel: a bounded queue that never waits for the tracer.

Records are numbered as they come, whether or not they can be kept, so that the tracer sees from a batch's number how
many it missed.  What is kept goes out in batches: every `TICK` while there is something, each batch one datagram.  A
tracer that does not read makes the queue fill up; then the newest records are dropped and counted.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections import deque
from collections.abc import Callable
from typing import Final, Literal, TypeAlias, get_args

from proxy import __version__
from proxy.events import BATCH_LIMIT, Batch, Hello, JobEvent, Record, Snapshot, encode

Reason: TypeAlias = Literal["ring_full", "channel_broken", "no_tracer", "too_large"]
"""``redspan_events_dropped_total{reason}``: no room; sent into a broken channel; no tracer was there; no datagram."""

RECORDS_LIMIT: Final = 65_536
BYTES_LIMIT: Final = 16 * 1024 * 1024
"""Of the records that wait, by a rough count: over a second of what a busy sidecar says, while its tracer starts."""

TICK: Final = 0.005
"""Seconds between a first record and the batch it goes in; with more to send, between rounds."""
SNAPSHOT_EVERY: Final = 1.0
_PART: Final = 50
"""Counters in one record: even with the longest names of queues it fits into a datagram."""

_ROUND: Final = 4
"""Batches in one go: at most 256 KiB, about what the socket takes, and well under a millisecond to encode."""
_RECORD_OVERHEAD: Final = 160
"""Bytes of a record beside its value, in the queue about as on the wire."""
_BATCH_TARGET: Final = BATCH_LIMIT - 8 * 1024
_BATCH_RECORDS: Final = 400
_FULL: Final = (BlockingIOError, InterruptedError)

_Numbered: TypeAlias = tuple[int, int, Record]
"""(number, rough bytes, record)."""

Counts: TypeAlias = tuple[dict[str, int], list[tuple[str, tuple[str, ...], int]]]
"""Gauges by name, and counters, as in `proxy.events.Snapshot`."""


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
        self._waiting: deque[_Numbered] = deque()
        self._bytes = 0
        self._held: tuple[bytes, int] | None = None
        """An encoded batch that the socket did not take, and how many records are in it."""
        self._sock: socket.socket | None = None
        self._holding = False
        """There is no tracer, but there will be: what comes is kept for it."""
        self._timer: asyncio.TimerHandle | None = None
        self._ticker: asyncio.TimerHandle | None = None

    @property
    def waiting(self) -> int:
        """Records that are not with the tracer yet."""
        return len(self._waiting) + (self._held[1] if self._held else 0)

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
        size = _size(record)
        if len(self._waiting) >= RECORDS_LIMIT or self._bytes + size > BYTES_LIMIT:
            self.dropped["ring_full"] += 1
            return
        self._waiting.append((number, size, record))
        self._bytes += size
        if self._timer is None and self._sock is not None:
            self._timer = asyncio.get_running_loop().call_later(TICK, self._tick)

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
        self._waiting.clear()
        self._bytes = 0
        self._held = None
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
        try:
            for _ in range(_ROUND):
                if self._held is None:
                    self._held = self._encode()
                if self._held is None or self._sock is None:
                    return
                self._sock.send(self._held[0])
                self.sent += self._held[1]
                self._held = None
        except _FULL:
            pass
        except OSError:
            # Its end is closed. Who started the tracer knows, and attaches the next one.
            self.detach()
            return
        if self._held is not None or self._waiting:
            self._timer = asyncio.get_running_loop().call_later(TICK, self._tick)

    def _encode(self) -> tuple[bytes, int] | None:
        """The next batch, encoded, and its number of records; None: nothing waits."""
        while taken := self._take():
            while True:
                data = encode(Batch(self.worker, taken[0][0], [record for _, _, record in taken]))
                if len(data) <= BATCH_LIMIT:
                    return data, len(taken)
                if len(taken) == 1:
                    # Not a job: those carry no more than VALUE_LIMIT. A key as long as this is.
                    self.dropped["too_large"] += 1
                    break
                half = len(taken) // 2
                self._waiting.extendleft(reversed(taken[half:]))
                self._bytes += sum(size for _, size, _ in taken[half:])
                taken = taken[:half]
        return None

    def _take(self) -> list[_Numbered]:
        """Consecutive records from the front of the queue, about as many as fit into a datagram."""
        waiting = self._waiting
        taken: list[_Numbered] = []
        total = 0
        expected = waiting[0][0] if waiting else 0
        while waiting and len(taken) < _BATCH_RECORDS:
            number, size, _ = waiting[0]
            if number != expected or (taken and total + size > _BATCH_TARGET):
                break
            taken.append(waiting.popleft())
            total += size
            expected += 1
        self._bytes -= total
        return taken


def _size(record: Record) -> int:
    """About how many bytes a record takes, here and on the wire."""
    if isinstance(record, JobEvent):
        return _RECORD_OVERHEAD + len(record.value) + len(record.key) + len(record.dest) + len(record.ref)
    if isinstance(record, Snapshot):
        return _RECORD_OVERHEAD + 64 * len(record.counters)
    return _RECORD_OVERHEAD
