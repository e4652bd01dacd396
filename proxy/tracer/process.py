"""The tracer process: events from the relay in, spans to the collector out, pages for who asks.

Started by `proxy.child` as ``python -m proxy.tracer.process EVENTS CONTROL``: two descriptors, and the settings on
standard input.  It ends when the relay has told it to, or has gone; not by a signal that was meant for the relay.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from proxy import log
from proxy.admin.handoff import NOT_FOR_THE_TRACER, TracerEnd
from proxy.assembly import CannotStart
from proxy.config import Settings
from proxy.events import BATCH_LIMIT, Batch, Connection, Hello, JobEvent, Record, Snapshot, decode
from proxy.tracer import assembly
from proxy.tracer.export.pipeline import ExportPipeline
from proxy.tracer.journal import Journal
from proxy.tracer.merge import Merge
from proxy.tracer.span import Span

if TYPE_CHECKING:
    from proxy.admin.app import AdminServer
    from proxy.tracer.happened import Happened

TICK: Final = 0.1
"""Seconds between looks at what has waited long enough."""

_ALONE: Final = 0
"""The number of the one worker that is the parent itself: there is nobody to be out of step with."""

_NICENESS: Final = 5
_DATAGRAMS: Final = 16
"""Read in one go, before the loop sees to anything else: at most 1 MiB."""
_GC_THRESHOLD: Final = 50_000
_LAST_RESORT: Final = 5
"""Seconds after the time to flush is over when the kernel ends this process, whatever it does."""


class Counts:
    """What the tracer counts of its own work."""

    def __init__(self) -> None:
        self.errors = 0
        """Records that a bug kept from being processed, and batches that could not be read."""


class Tracer:
    """Everything in this process, on one loop."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.counts = Counts()
        self.snapshots: dict[int, Snapshot] = {}
        """The latest of each relay worker."""
        self.lifecycle = assembly.lifecycle(settings)
        self.sieve = assembly.sieve(settings)
        self.buffer = assembly.buffer(settings)
        self.stories = assembly.stories(settings)
        self.journal: Journal | None = None
        self.listeners: list[Callable[[Happened], None]] = []
        """Told of everything that happens to a job; who wants that calls `Lifecycle.listen`."""
        self.pipeline: ExportPipeline | None = None
        self._expected: dict[int, int] = {}
        self._merge = Merge()
        self._retired: set[int] = set()
        """Workers that have died: the parent has their last counts, and counts them among its own."""
        self._channels: dict[socket.socket, int] = {}
        """Events come by these, the parent's and one of each other worker; with the worker that was heard there."""
        self._events: socket.socket | None = None
        """The parent's."""
        self._done = asyncio.Event()
        self._admin: AdminServer | None = None

    async def run(self, events: socket.socket, control: socket.socket) -> None:
        """Until the relay says so, or is gone."""
        loop = asyncio.get_running_loop()
        try:
            exporters = list(assembly.exporters(self.settings))
        except ValueError as error:
            log.error("export_settings", f"spans cannot be exported: {error}")
            exporters = []
        self.pipeline = ExportPipeline(self.buffer, exporters) if exporters else None
        self._keep_journal()
        exporting = loop.create_task(self.pipeline.run()) if self.pipeline is not None else None
        self._events = events
        self._listen(events)
        channel = TracerEnd(control, self._visit, self._done.set, self._listen)
        ticking = loop.create_task(self._tick())
        gc.collect()
        gc.freeze()
        gc.set_threshold(_GC_THRESHOLD)
        await self._done.wait()
        # Once more around: what the parent said before may not have been read yet, such as who else has events.
        await asyncio.sleep(0)
        signal.alarm(int(self.settings.tracing.export.flush_timeout) + _LAST_RESORT)
        ticking.cancel()
        for one in list(self._channels):
            while self._read(one):
                pass
        channel.close()
        self._merged(self._merge.rest())
        self._take(self.lifecycle.flush())
        self._tell()
        if self.journal is not None:
            self.journal.close()
        self._export(self.sieve.flush(time.monotonic()))
        if self.pipeline is not None:
            await self.pipeline.flush(self.settings.tracing.export.flush_timeout)
        if exporting is not None:
            exporting.cancel()

    def _keep_journal(self) -> None:
        if self.settings.events.to:
            try:
                self.journal = Journal(self.settings.events.to)
            except OSError as error:
                log.error("journal", f"cannot write events to {self.settings.events.to}: {error.strerror}")
            else:
                self.lifecycle.listen()

    def _tell(self) -> None:
        """Those who listen of what has happened."""
        for one in self.lifecycle.happened():
            if self.journal is not None:
                self.journal.add(self.stories.line(one))
            for tell in self.listeners:
                tell(one)
        if self.journal is not None:
            self.journal.flush()

    # ---- events

    def _listen(self, events: socket.socket) -> None:
        self._channels[events] = -1
        asyncio.get_running_loop().add_reader(events, self._read, events)

    def _read(self, events: socket.socket) -> bool:
        """Some datagrams; whether there may be more."""
        if events not in self._channels:
            return False
        for _ in range(_DATAGRAMS):
            try:
                datagram = events.recv(BATCH_LIMIT + 1)
            except BlockingIOError:
                return False
            except OSError:
                datagram = b""
            if not datagram:
                self._hung_up(events)
                return False
            self._batch(datagram, events)
        return True

    def _hung_up(self, events: socket.socket) -> None:
        asyncio.get_running_loop().remove_reader(events)
        worker = self._channels.pop(events)
        events.close()
        if events is self._events:
            # The relay has gone without a word, or has attached a successor of ours.
            self._done.set()
        elif worker >= 0:
            self._merge.add(worker, None, time.time_ns())

    def _batch(self, datagram: bytes, events: socket.socket) -> None:
        try:
            batch = decode(datagram)
        except msgspec.DecodeError as error:
            self.counts.errors += 1
            log.exception("batch", error)
            return
        self._channels[events] = batch.worker
        self._number(batch)
        for record in batch.records:
            try:
                self._record(batch.worker, record)
            except Exception as error:  # noqa: BLE001 - a bug costs one record, not all that follow
                self.counts.errors += 1
                log.exception("record", error)

    def _number(self, batch: Batch) -> None:
        """Notice what is missing between this batch and the one before."""
        expected = self._expected.get(batch.worker)
        self._expected[batch.worker] = batch.first + len(batch.records)
        # Before a tracer's first batch nothing was for it.
        missing = batch.first - expected if expected is not None else 0
        if missing > 0:
            self.lifecycle.gap(batch.worker, missing)

    def _record(self, worker: int, record: Record) -> None:
        if isinstance(record, Snapshot):
            self._snapshot(record)
        elif isinstance(record, Hello):
            self._retired.discard(record.worker)
        elif worker == _ALONE:
            self._take(self.lifecycle.feed(worker, record))
        else:
            self._merge.add(worker, record, time.time_ns())

    def _merged(self, records: Iterator[tuple[int, JobEvent | Connection | None]]) -> None:
        for worker, record in records:
            try:
                if record is None:
                    spans = self.lifecycle.worker_gone(worker, time.time_ns())
                else:
                    spans = self.lifecycle.feed(worker, record)
                self._take(spans)
            except Exception as error:  # noqa: BLE001 - a bug costs one record, not all that follow
                self.counts.errors += 1
                log.exception("record", error)

    def _count(self, part: Snapshot) -> None:
        """A snapshot comes in parts; what they say replaces what was said of the same."""
        known = self.snapshots.get(part.worker)
        if known is not None:
            counters = {entry[:2]: entry for entry in (*known.counters, *part.counters)}
            part = Snapshot(part.worker, part.at, {**known.gauges, **part.gauges}, list(counters.values()))
        self.snapshots[part.worker] = part

    def _snapshot(self, snapshot: Snapshot) -> None:
        if not snapshot.gauges and not snapshot.counters:
            self._retired.add(snapshot.worker)
            self.snapshots.pop(snapshot.worker, None)
        elif snapshot.worker not in self._retired:
            self._count(snapshot)

    def _take(self, spans: list[Span]) -> None:
        if spans:
            self._export(self.sieve.take(spans, time.monotonic()))

    def _export(self, spans: list[Span]) -> None:
        for span in spans:
            if self.pipeline is not None:
                self.pipeline.add(span)
            else:
                self.buffer.started_by[span.operation.value] += 1

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK)
            self._merged(self._merge.due(time.time_ns()))
            self._take(self.lifecycle.tick(time.time_ns()))
            self._tell()
            self._export(self.sieve.tick(time.monotonic()))

    # ---- pages

    def _visit(self, connection: socket.socket) -> None:
        if self._admin is None:
            # Loaded with the first request: without one, its memory is saved.
            from proxy.tracer.pages import admin_server

            self._admin = admin_server(self)
        self._admin.serve(connection)


def main() -> int:
    for number in NOT_FOR_THE_TRACER:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, NOT_FOR_THE_TRACER)
    os.nice(_NICENESS)
    with contextlib.suppress(OSError):
        # Where Linux schedules by session, this process is in one of its own, and niceness only counts within one.
        Path("/proc/self/autogroup").write_text(str(_NICENESS))
    events, control = (socket.socket(fileno=int(argument)) for argument in sys.argv[1:3])
    settings = msgspec.json.decode(sys.stdin.buffer.read(), type=Settings)
    log.configure(settings.log.level, settings.log.format, "tracer")
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            runner.run(_run(settings, events, control))
        except CannotStart as error:
            log.error("cannot_start", str(error))
            return 1
    return 0


async def _run(settings: Settings, events: socket.socket, control: socket.socket) -> None:
    asyncio.get_running_loop().set_exception_handler(log.loop_exception)
    await Tracer(settings).run(events, control)


if __name__ == "__main__":
    sys.exit(main())
