"""The buffer: every span is counted in one place, and time is what the caller says."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from proxy.tracer.export.buffer import SpanBuffer
from proxy.tracer.span import Operation, Span
from tests.unit.make_spans import make


def buffer(capacity: int = 100, batch: int = 3, interval: float = 5.0) -> SpanBuffer:
    return SpanBuffer(capacity, batch, interval, jitter=lambda: 0.5)


def filled(count: int, **options: int) -> SpanBuffer:
    held = buffer(**options)
    for _ in range(count):
        held.add(make(), 0.0)
    return held


def balanced(held: SpanBuffer) -> bool:
    return held.started == held.exported + sum(held.dropped.values()) + held.held


def test_empty() -> None:
    held = buffer()
    assert held.wait(0.0) is None
    assert not held.due(1e9)
    assert held.take(0.0) == []
    assert held.bytes == 0


def test_in_order_and_in_batches() -> None:
    held, spans = buffer(), [make() for _ in range(7)]
    for span in spans:
        assert held.add(span, 0.0)
    assert [held.take(0.0) for _ in range(4)] == [spans[:3], spans[3:6], spans[6:], []]
    assert (held.held, held.waiting) == (7, 0)


def test_due_when_full() -> None:
    held = filled(2)
    assert not held.due(0.0)
    held.add(make(), 0.0)
    assert held.due(0.0)


def test_due_after_the_interval() -> None:
    held = buffer()
    held.add(make(), 10.0)
    held.add(make(), 14.0)
    assert held.wait(12.0) == 3.0
    assert not held.due(14.9)
    assert held.due(15.0)


def test_the_interval_starts_again_with_what_is_left() -> None:
    held = filled(4)
    held.take(4.0)
    assert held.wait(4.0) == 5.0


def test_refuses_the_newest() -> None:
    held = filled(5, capacity=4)
    assert not held.add(make(), 0.0)
    assert (held.started, held.held, held.dropped["buffer_full"]) == (6, 4, 2)


def test_what_is_out_counts_against_the_capacity() -> None:
    held = filled(4, capacity=4)
    batch = held.take(0.0)
    assert not held.add(make(), 0.0)
    held.give_back(batch, 0.0)
    assert not held.add(make(), 0.0)
    held.sent(held.take(1.0))
    assert held.add(make(), 1.0)
    assert balanced(held)


def test_sent() -> None:
    held = filled(5)
    held.sent(held.take(0.0))
    held.sent(held.take(0.0), rejected=1)
    assert (held.exported, held.dropped["rejected"], held.held) == (4, 1, 0)


def test_no_more_is_rejected_than_was_sent() -> None:
    held = filled(6)
    held.sent(held.take(0.0), rejected=1000)
    held.sent(held.take(0.0), rejected=-5)
    assert (held.exported, held.dropped["rejected"]) == (3, 3)


def test_failed() -> None:
    held = filled(3)
    held.failed(held.take(0.0))
    assert (held.dropped["export_failed"], held.held) == (3, 0)


def test_a_batch_that_came_back_is_the_next_one_again() -> None:
    held = filled(6)
    batch = held.take(0.0)
    held.give_back(batch, 0.0)
    assert held.held == 6
    assert held.take(0.0) is batch


def test_backs_off() -> None:
    held = filled(3)
    now, waits = 0.0, []
    for _ in range(7):
        batch = held.take(now)
        held.give_back(batch, now)
        wait = held.wait(now)
        assert wait is not None
        assert not held.due(now + wait - 0.001)
        waits.append(wait)
        now += wait
        assert held.due(now)
    assert waits == [1, 2, 4, 8, 16, 30, 30]
    held.sent(held.take(now))
    held.add(make(), now)
    batch = held.take(now)
    held.give_back(batch, now)
    assert held.wait(now) == 1


def test_a_full_batch_waits_for_the_back_off_too() -> None:
    held = filled(6)
    held.give_back(held.take(0.0), 0.0)
    batch = held.take(0.0)
    assert len(batch) == 3
    held.give_back(batch, 0.0, retry_after=10)
    assert held.wait(0.0) == 10


@pytest.mark.parametrize(("jitter", "expected"), [(0.0, 0.8), (1.0, 1.2)])
def test_jitter(jitter: float, expected: float) -> None:
    held = SpanBuffer(batch=1, jitter=lambda: jitter)
    held.add(make(), 0.0)
    held.give_back(held.take(0.0), 0.0)
    assert held.wait(0.0) == pytest.approx(expected)


@pytest.mark.parametrize(("asked", "waits"), [(0.5, 1), (20, 20), (86400, 300), (float("inf"), 300)])
def test_the_receivers_wish_counts_within_limits(asked: float, waits: float) -> None:
    held = filled(3)
    held.give_back(held.take(0.0), 0.0, retry_after=asked)
    assert held.wait(0.0) == waits


def test_abandon() -> None:
    held = filled(10)
    held.take(0.0)
    held.give_back(held.take(0.0), 0.0)
    assert held.abandon() == 10
    assert (held.held, held.dropped["shutdown"], held.take(0.0)) == (0, 10, [])
    assert not held.add(make(), 0.0)
    assert (held.started, held.dropped["shutdown"]) == (11, 11)
    assert balanced(held)


def test_started_by_operation() -> None:
    held = buffer()
    for operation in (Operation.ENQUEUE, Operation.ENQUEUE, Operation.PROCESS):
        held.add(make(operation), 0.0)
    assert held.started_by["queue.enqueue"] == 2
    assert held.started_by["job.process"] == 1
    assert set(held.started_by) == {operation.value for operation in Operation}  # for /metrics: all, from the start


def test_bytes_grow_with_what_is_held() -> None:
    held = filled(100)
    few = held.bytes
    assert few > 100 * 100
    held.take(0.0)
    assert held.bytes == few  # what is out is held
    assert filled(10).bytes < few
    held = filled(2)
    held.give_back(held.take(0.0), 0.0)
    assert held.bytes > 0


class Ledger(RuleBasedStateMachine):
    """Whatever is called in whatever order, the sum is right and the limit holds."""

    @initialize(capacity=st.integers(1, 20), batch=st.integers(1, 8))
    def start(self, capacity: int, batch: int) -> None:
        self.buffer = SpanBuffer(capacity, batch)
        self.out: list[list[Span]] = []
        self.now = 0.0

    @rule(count=st.integers(1, 12), seconds=st.floats(0, 10))
    def add(self, count: int, seconds: float) -> None:
        self.now += seconds
        for _ in range(count):
            self.buffer.add(make(), self.now)

    @rule()
    def take(self) -> None:
        if batch := self.buffer.take(self.now):
            self.out.append(batch)

    @precondition(lambda self: self.out)
    @rule(how=st.sampled_from(["sent", "rejected", "failed", "back"]), which=st.integers(0, 100))
    def settle(self, how: str, which: int) -> None:
        batch = self.out.pop(which % len(self.out))
        match how:
            case "sent":
                self.buffer.sent(batch)
            case "rejected":
                self.buffer.sent(batch, which)
            case "failed":
                self.buffer.failed(batch)
            case "back":
                self.buffer.give_back(batch, self.now)

    @rule()
    def abandon(self) -> None:
        self.buffer.abandon()
        self.out.clear()

    @invariant()
    def adds_up(self) -> None:
        assert balanced(self.buffer)
        assert 0 <= self.buffer.held <= self.buffer.capacity
        assert (self.buffer.wait(self.now) is None) == (self.buffer.held == sum(map(len, self.out)))


TestLedger = Ledger.TestCase
TestLedger.settings = settings(max_examples=100, stateful_step_count=40)
