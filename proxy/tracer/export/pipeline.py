"""From the buffer to the exporters: one task in the tracer's loop, one worker thread that may block.

The first exporter leads: its results decide what is retried and what counts as exported.  The others (a console, a
second collector) get each batch once, at its first attempt; one that fails is left alone for the buffer's longest
back-off, so that it cannot hold up the leader, and its failures only show in `ExportStats`.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from typing import Final, ParamSpec, TypeVar

from proxy.tracer.export.base import Exporter, Result, Status
from proxy.tracer.export.buffer import LONGEST_DELAY, SpanBuffer
from proxy.tracer.span import Span

logger = logging.getLogger(__name__)

BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of the duration histogram, seconds; the last count is of everything above."""

LOG_EVERY: Final = 60.0
"""Seconds between two log lines of one cause."""

_CAUSES: Final = 64

_P = ParamSpec("_P")
_T = TypeVar("_T")


class ExportStats:
    """What /metrics shows of exporting; cumulative."""

    def __init__(self) -> None:
        self.requests = {"ok": 0, "error": 0}
        self.duration_counts = [0] * (len(BUCKETS) + 1)
        """Per bucket, not cumulative over buckets."""
        self.duration_sum = 0.0
        self.last_error = ""
        self.last_error_at = 0.0
        """On the pipeline's clock."""

    def observe(self, result: Result, seconds: float) -> None:
        self.requests["ok" if result.status is Status.OK else "error"] += 1
        self.duration_counts[bisect_left(BUCKETS, seconds)] += 1
        self.duration_sum += seconds


class ExportPipeline:
    """Carries spans from ``buffer`` to ``exporters``.

    `add` from the loop, `run` as a task, `flush` once at the end.  ``clock`` is monotonic, in seconds, and is also
    called in the worker thread.  Raises ValueError without an exporter.
    """

    def __init__(
        self,
        buffer: SpanBuffer,
        exporters: Sequence[Exporter],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not exporters:
            raise ValueError("no exporter to carry spans to")
        self.buffer = buffer
        self.stats = ExportStats()
        self._exporters = tuple(exporters)
        self._clock = clock
        self._wake = asyncio.Event()
        self._worker = _Worker()
        self._flight: asyncio.Task[None] | None = None
        """The batch that is out. A task of its own: it is settled even if whoever waits for it is cancelled."""
        self._closing = False
        self._retrying: list[Span] | None = None
        self._resting = [0.0] * len(self._exporters)
        self._logged: dict[str, tuple[float, int]] = {}
        """Cause -> when it was last logged, and how often it came since."""
        self._saying = threading.Lock()

    def add(self, span: Span) -> bool:
        """Hand in a finished span; False: it was dropped, and counted."""
        now = self._clock()
        added = self.buffer.add(span, now)
        if not added and not self._closing:
            self._say(f"the buffer of {self.buffer.capacity} spans is full", "the newest spans are dropped", now)
        # The first one starts the interval, a full batch ends it: in between there is nothing to wake up for.
        if added and self.buffer.waiting in (1, self.buffer.batch):
            self._wake.set()
        return added

    async def run(self) -> None:
        """Export what is due until `flush` is called or the task is cancelled."""
        while not self._closing:
            self._wake.clear()
            wait = self.buffer.wait(self._clock())
            if wait == 0.0:
                await self._export()
            else:
                await _wait(self._wake, wait)

    async def flush(self, timeout: float) -> int:  # noqa: ASYNC109 - what it does not manage is counted, not raised
        """Export everything, due or not, close the exporters and stop; how many spans were given up instead.

        A batch that has to wait longer than is left is given up at once. Takes at most ``timeout`` seconds, even if
        an exporter hangs: its thread is left behind and does not hold up the end of the process.
        """
        deadline = self._clock() + timeout
        self._closing = True
        self._wake.set()
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._drain(deadline)
        if self._flight is not None:
            self._flight.cancel()
        given_up = self.buffer.abandon()
        if given_up:
            logger.warning("%d spans not exported: shutting down", given_up)
        with suppress(TimeoutError):
            async with asyncio.timeout(max(deadline - self._clock(), 0.0)):
                await self._call(self._close)
        self._worker.stop()
        return given_up

    async def _drain(self, deadline: float) -> None:
        while self._flight is not None or self.buffer.wait(0.0) is not None:
            await self._export()
            if self._retrying is not None:
                pause = self.buffer.wait(self._clock()) or 0.0
                if pause > deadline - self._clock():
                    return
                await asyncio.sleep(pause)

    async def _export(self) -> None:
        """Send one batch, or wait for the one that is out."""
        if self._flight is None:
            self._flight = asyncio.create_task(self._carry(self.buffer.take(self._clock())))
        await asyncio.wait((self._flight,))

    async def _carry(self, batch: list[Span]) -> None:
        try:
            again = batch is self._retrying
            self._retrying = None
            self._settle(batch, await self._call(self._deliver, batch, again))
        finally:
            self._flight = None

    def _settle(self, batch: list[Span], result: Result) -> None:
        if result.status is Status.OK:
            self.buffer.sent(batch, result.rejected)
        elif result.status is Status.RETRYABLE:
            self.buffer.give_back(batch, self._clock(), result.retry_after)
            self._retrying = batch
        else:
            self.buffer.failed(batch)

    def _deliver(self, batch: list[Span], again: bool) -> Result:
        """In the worker thread: to the leader, and the first time to those of the others that are well."""
        leading = self._attempt(0, batch)
        for index in range(1, len(self._exporters)):
            if not again and self._clock() >= self._resting[index]:
                result = self._attempt(index, batch)
                if result.status is not Status.OK:
                    self._resting[index] = self._clock() + LONGEST_DELAY
        return leading

    def _attempt(self, index: int, batch: list[Span]) -> Result:
        exporter = self._exporters[index]
        start = self._clock()
        try:
            result = exporter.export(batch)
        except Exception as error:
            logger.debug("exporter bug", exc_info=True)
            result = Result(Status.FATAL, reason=f"bug: {type(error).__name__}")
        now = self._clock()
        self.stats.observe(result, now - start)
        if result.status is not Status.OK or result.rejected:
            # Two may be of one kind: where they send to tells them apart.
            self._complain(getattr(exporter, "where", "") or type(exporter).__name__, result, now)
        return result

    def _complain(self, exporter: str, result: Result, now: float) -> None:
        self.stats.last_error = result.reason or result.status.value
        self.stats.last_error_at = now
        what = {
            Status.OK: f"{result.rejected} spans were rejected",
            Status.RETRYABLE: "will be tried again",
            Status.FATAL: "spans were dropped",
        }[result.status]
        self._say(f"export failed ({exporter}: {self.stats.last_error})", what, now)

    def _say(self, cause: str, what: str, now: float) -> None:
        """A line in the log, unless the same cause had one just now."""
        with self._saying:
            at, unsaid = self._logged.get(cause, (None, 0))
            if at is not None and now - at < LOG_EVERY:
                self._logged[cause] = (at, unsaid + 1)
                return
            if len(self._logged) >= _CAUSES:
                self._logged.clear()
            self._logged[cause] = (now, 0)
        logger.warning("%s; %s%s", cause, what, f"; {unsaid} times more since" if unsaid else "")

    def _close(self) -> None:
        for exporter in self._exporters:
            try:
                exporter.close()
            except Exception:
                logger.debug("closing an exporter", exc_info=True)

    async def _call(self, function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        return await asyncio.wrap_future(self._worker.submit(function, *args, **kwargs))


async def _wait(event: asyncio.Event, seconds: float | None) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()


class _Worker:
    """One daemon thread. The standard pool's is joined at exit, where a hanging request would hold up the process."""

    def __init__(self) -> None:
        self._tasks: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def submit(self, fn: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> Future[_T]:
        future: Future[_T] = Future()

        def task() -> None:
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(fn(*args, **kwargs))
                except BaseException as error:  # noqa: BLE001 - whoever waits for the future gets it
                    future.set_exception(error)

        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="redspan-export", daemon=True)
            self._thread.start()
        self._tasks.put(task)
        return future

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None:
            task()

    def stop(self) -> None:
        """Ends the thread once what it has been given is done; does not wait for that."""
        self._tasks.put(None)
