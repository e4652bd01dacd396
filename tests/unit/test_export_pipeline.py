"""The pipeline: a real loop and a real worker thread, exporters that do as they are told."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Coroutine, Sequence
from functools import partial, wraps
from typing import ParamSpec

import pytest

from proxy.tracer.export.base import Result, Status, taken
from proxy.tracer.export.buffer import SpanBuffer
from proxy.tracer.export.http import HttpExporter
from proxy.tracer.export.pipeline import BUCKETS, LOG_EVERY, ExportPipeline
from proxy.tracer.otlp import Encoder
from proxy.tracer.span import Span
from tests.receiver import Receiver
from tests.unit.make_spans import make

P = ParamSpec("P")

RETRY = Result(Status.RETRYABLE, reason="HTTP 503")
NEVER = Result(Status.FATAL, reason="HTTP 400")
LONG = 20.0
"""Seconds after which a test that hangs fails."""


class Clock:
    """Stands still unless it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Scripted:
    """Answers as told, then with success; keeps what it was given."""

    def __init__(self, *results: Result | Exception) -> None:
        self.results = list(results)
        self.batches: list[list[Span]] = []
        self.threads: set[str] = set()
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self.closed = False

    def export(self, spans: Sequence[Span]) -> Result:
        self.threads.add(threading.current_thread().name)
        self.batches.append(list(spans))
        self.entered.set()
        assert self.gate.wait(LONG)
        result = self.results.pop(0) if self.results else taken(spans)
        if isinstance(result, Exception):
            raise result
        return result

    def close(self) -> None:
        self.closed = True

    @property
    def spans(self) -> list[Span]:
        return [span for batch in self.batches for span in batch]


def quick(batch: int = 3, interval: float = 0.01, capacity: int = 100) -> SpanBuffer:
    return SpanBuffer(capacity, batch, interval, jitter=lambda: 0.5)


def looped(test: Callable[P, Coroutine[None, None, None]]) -> Callable[P, None]:
    """Runs a test in a loop of its own."""

    @wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        asyncio.run(asyncio.wait_for(test(*args, **kwargs), LONG))

    return run


async def until(condition: Callable[[], object]) -> None:
    while not condition():  # noqa: ASYNC110 - what is waited for happens in code that knows no events
        await asyncio.sleep(0.001)


def dropped(buffer: SpanBuffer, count: int) -> bool:
    return buffer.dropped["export_failed"] == count


def balanced(buffer: SpanBuffer) -> bool:
    return buffer.started == buffer.exported + sum(buffer.dropped.values()) + buffer.held


@looped
async def test_a_full_batch_goes_at_once() -> None:
    exporter = Scripted()
    pipeline = ExportPipeline(quick(interval=1e6), [exporter])
    task = asyncio.create_task(pipeline.run())
    spans = [make() for _ in range(7)]
    for span in spans:
        assert pipeline.add(span)
        await until(lambda: not pipeline._wake.is_set())  # it has seen it and sleeps again
    await until(lambda: pipeline.buffer.exported == 6)
    assert exporter.batches == [spans[:3], spans[3:6]]
    assert pipeline.buffer.held == 1
    assert await pipeline.flush(5) == 0
    assert exporter.batches[2] == spans[6:]
    await task
    assert exporter.closed


@looped
async def test_the_rest_goes_after_the_interval() -> None:
    exporter = Scripted()
    pipeline = ExportPipeline(quick(batch=100), [exporter])
    task = asyncio.create_task(pipeline.run())
    await asyncio.sleep(0)
    pipeline.add(make())
    await until(lambda: pipeline.buffer.exported == 1)
    pipeline.add(make())
    await until(lambda: pipeline.buffer.exported == 2)
    await pipeline.flush(5)
    await task


@looped
async def test_one_thread_that_is_not_the_loops() -> None:
    exporter = Scripted()
    pipeline = ExportPipeline(quick(batch=1), [exporter])
    task = asyncio.create_task(pipeline.run())
    for _ in range(20):
        pipeline.add(make())
    await until(lambda: pipeline.buffer.exported == 20)
    assert exporter.threads == {"redspan-export"}
    await pipeline.flush(5)
    await task


@looped
async def test_the_loop_goes_on_while_an_export_hangs() -> None:
    exporter = Scripted()
    exporter.gate.clear()
    pipeline = ExportPipeline(quick(capacity=10), [exporter])
    task = asyncio.create_task(pipeline.run())
    added = [pipeline.add(make()) for _ in range(3)]
    await until(exporter.entered.is_set)
    added += [pipeline.add(make()) for _ in range(9)]
    assert added == [True] * 10 + [False] * 2
    assert (pipeline.buffer.held, pipeline.buffer.dropped["buffer_full"]) == (10, 2)
    exporter.gate.set()
    await pipeline.flush(5)
    await task
    assert (pipeline.buffer.exported, balanced(pipeline.buffer)) == (10, True)


@looped
async def test_retries_in_order_after_the_back_off() -> None:
    clock, exporter = Clock(), Scripted(RETRY, RETRY)
    pipeline = ExportPipeline(quick(batch=1), [exporter], clock)
    task = asyncio.create_task(pipeline.run())
    first, second = make(), make()
    pipeline.add(first)
    await until(lambda: pipeline.stats.requests["error"] == 1 and pipeline.buffer.waiting == 0)
    pipeline.add(second)
    await asyncio.sleep(0.02)
    assert exporter.batches == [[first]]  # the clock stands still, so the back-off is not over
    clock.now += 1
    pipeline._wake.set()  # the clock does not do that
    await until(lambda: pipeline.stats.requests["error"] == 2)
    assert exporter.batches == [[first], [first]]
    clock.now += 2
    pipeline._wake.set()
    await until(lambda: pipeline.buffer.held == 0)
    assert exporter.batches == [[first], [first], [first], [second]]
    assert pipeline.stats.requests == {"ok": 2, "error": 2}
    await pipeline.flush(5)
    await task


@looped
async def test_fatal_and_rejected_spans_are_dropped_and_counted() -> None:
    exporter = Scripted(NEVER, Result(Status.OK, 1, 2, "too old"))
    pipeline = ExportPipeline(quick(), [exporter])
    for _ in range(9):
        pipeline.add(make())
    await pipeline.flush(5)
    assert pipeline.buffer.dropped == {"buffer_full": 0, "export_failed": 3, "rejected": 2, "shutdown": 0}
    assert pipeline.buffer.exported == 4
    assert pipeline.stats.last_error == "too old"


@looped
async def test_an_exporters_bug_is_a_failed_export() -> None:
    exporter = Scripted(KeyError("x"))
    pipeline = ExportPipeline(quick(), [exporter])
    task = asyncio.create_task(pipeline.run())
    for _ in range(3):
        pipeline.add(make())
    await until(lambda: pipeline.buffer.dropped["export_failed"] == 3)
    for _ in range(3):
        pipeline.add(make())
    await until(lambda: pipeline.buffer.exported == 3)
    assert pipeline.stats.last_error == "bug: KeyError"
    await pipeline.flush(5)
    await task


# The others


@looped
async def test_the_first_leads() -> None:
    leader, other = Scripted(RETRY), Scripted(NEVER)
    clock = Clock()
    pipeline = ExportPipeline(quick(interval=1e6), [leader, other], clock)
    task = asyncio.create_task(pipeline.run())
    for _ in range(3):
        pipeline.add(make())
    await until(lambda: pipeline.stats.requests["error"] == 2)
    clock.now += 10
    for _ in range(3):
        pipeline.add(make())
    await until(lambda: pipeline.buffer.exported == 6)
    assert len(leader.batches) == 3
    assert len(other.batches) == 1  # it is not retried, and left alone after a failure
    clock.now += 60
    for _ in range(3):
        pipeline.add(make())
    await until(lambda: pipeline.buffer.exported == 9)
    assert len(other.batches) == 2
    await pipeline.flush(5)
    await task
    assert leader.closed
    assert other.closed


@looped
async def test_the_others_get_each_batch_once() -> None:
    leader, other = Scripted(RETRY), Scripted()
    buffer = SpanBuffer(100, 2, 5.0, jitter=lambda: -2.0)
    pipeline = ExportPipeline(buffer, [leader, other])
    for _ in range(4):
        pipeline.add(make())
    await pipeline.flush(5)
    assert len(leader.batches) == 3
    assert other.batches == [leader.batches[0], leader.batches[2]]


def test_nowhere_to_go() -> None:
    with pytest.raises(ValueError, match="no exporter"):
        ExportPipeline(quick(), [])


# The end


@looped
async def test_flush_retries_as_long_as_there_is_time() -> None:
    exporter = Scripted(RETRY)
    buffer = SpanBuffer(100, 3, 5.0, jitter=lambda: -2.0)  # no pause at all
    pipeline = ExportPipeline(buffer, [exporter])
    for _ in range(4):
        pipeline.add(make())
    assert await pipeline.flush(5) == 0
    assert buffer.exported == 4


@looped
async def test_flush_does_not_wait_for_what_comes_too_late() -> None:
    exporter = Scripted(Result(Status.RETRYABLE, reason="HTTP 503", retry_after=100))
    pipeline = ExportPipeline(quick(), [exporter])
    for _ in range(4):
        pipeline.add(make())
    assert await pipeline.flush(60) == 4
    assert (pipeline.buffer.dropped["shutdown"], balanced(pipeline.buffer)) == (4, True)
    assert len(exporter.batches) == 1
    assert exporter.closed


@looped
async def test_flush_ends_even_if_the_exporter_does_not() -> None:
    exporter = Scripted()
    exporter.gate.clear()
    pipeline = ExportPipeline(quick(), [exporter])
    task = asyncio.create_task(pipeline.run())
    for _ in range(4):
        pipeline.add(make())
    await until(exporter.entered.is_set)
    assert await pipeline.flush(0.05) == 4
    assert balanced(pipeline.buffer)
    await task
    exporter.gate.set()
    await asyncio.sleep(0.05)
    assert pipeline.buffer.exported == 0  # what is over is over
    assert balanced(pipeline.buffer)


@looped
async def test_cancelling_run_loses_nothing() -> None:
    exporter = Scripted()
    exporter.gate.clear()
    pipeline = ExportPipeline(quick(), [exporter])
    task = asyncio.create_task(pipeline.run())
    for _ in range(4):
        pipeline.add(make())
    await until(exporter.entered.is_set)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    exporter.gate.set()
    assert await pipeline.flush(5) == 0
    assert pipeline.buffer.exported == 4
    assert len(exporter.batches) == 2


@looped
async def test_flush_of_nothing() -> None:
    exporter = Scripted()
    assert await ExportPipeline(quick(), [exporter]).flush(5) == 0
    assert exporter.closed
    assert exporter.batches == []


# What is told


class Slow(Scripted):
    """Takes as long on the clock as it is told."""

    def __init__(self, clock: Clock, *seconds: float) -> None:
        super().__init__()
        self.clock = clock
        self.seconds = list(seconds)

    def export(self, spans: Sequence[Span]) -> Result:
        self.clock.now += self.seconds.pop(0)
        return super().export(spans)


@looped
async def test_durations() -> None:
    clock = Clock()
    pipeline = ExportPipeline(quick(batch=1), [Slow(clock, 0.25, 0.3, 100)], clock)
    for _ in range(3):
        pipeline.add(make())
    await pipeline.flush(1000)
    counts = dict(zip((*BUCKETS, "above"), pipeline.stats.duration_counts, strict=True))
    assert {bound: count for bound, count in counts.items() if count} == {0.25: 1, 0.5: 1, "above": 1}
    assert pipeline.stats.duration_sum == pytest.approx(100.55)


@looped
async def test_one_line_per_cause(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "proxy.tracer.export")
    clock = Clock()
    exporter = Scripted(NEVER, NEVER, Result(Status.FATAL, reason="HTTP 401"), NEVER)
    pipeline = ExportPipeline(quick(batch=1), [exporter], clock)
    task = asyncio.create_task(pipeline.run())
    for count in (1, 2, 3):
        pipeline.add(make())
        await until(partial(dropped, pipeline.buffer, count))
        clock.now += 1
    assert [record.getMessage() for record in caplog.records] == [
        "export failed (Scripted: HTTP 400); spans were dropped",
        "export failed (Scripted: HTTP 401); spans were dropped",
    ]
    clock.now += LOG_EVERY
    pipeline.add(make())
    await until(lambda: pipeline.buffer.dropped["export_failed"] == 4)
    assert caplog.records[2].getMessage().endswith("HTTP 400); spans were dropped; 1 times more since")
    assert len(caplog.records) == 3
    await pipeline.flush(5)
    await task


@looped
async def test_a_full_buffer_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "proxy.tracer.export")
    pipeline = ExportPipeline(quick(capacity=2), [Scripted()], Clock())
    for _ in range(4):
        pipeline.add(make())
    assert pipeline.buffer.dropped["buffer_full"] == 2
    assert [record.getMessage() for record in caplog.records] == [
        "the buffer of 2 spans is full; the newest spans are dropped"
    ]
    await pipeline.flush(5)


# All of it


@looped
async def test_to_a_receiver_that_is_sometimes_ill() -> None:
    with Receiver() as receiver:
        receiver.answer(503, times=2)
        receiver.answer()
        receiver.answer(400)
        receiver.answer(rejected=1)
        buffer = SpanBuffer(1000, 10, 0.01, jitter=lambda: -2.0)
        pipeline = ExportPipeline(buffer, [HttpExporter(Encoder({}), receiver.url)])
        task = asyncio.create_task(pipeline.run())
        spans = [make() for _ in range(50)]
        assert all(map(pipeline.add, spans))
        await until(lambda: buffer.held == 0)
        await pipeline.flush(5)
        await task
        assert buffer.exported == 39
        assert (buffer.dropped["export_failed"], buffer.dropped["rejected"]) == (10, 1)
        sent = [span.span_id.hex() for span in spans]
        assert [span.span_id for span in receiver.spans] == sent[:10] + sent[20:]
