"""Which traces and spans are kept: rates, thresholds that agree, the limit, and decisions at the end of a job."""

from __future__ import annotations

import random
from math import sqrt

import pytest

from proxy.config import Sampling
from proxy.context import tracestate
from proxy.context.sampling import Rates
from proxy.context.traceparent import SpanContext, unpack
from proxy.frameworks.base import Fields
from proxy.tracer import attributes as a
from proxy.tracer.limiter import Limiter, QueueLimiter
from proxy.tracer.sieve import Sieve
from proxy.tracer.span import Operation, Span
from proxy.tracer.tail import TailOptions
from tests.unit.make_spans import make

IDS = 1_000_000


def trace(low: int) -> bytes:
    """A trace id whose randomness is ``low``."""
    return bytes(9) + low.to_bytes(7)


@pytest.mark.parametrize("rate", [0.001, 0.01, 0.1, 0.25, 0.5, 0.9])
def test_the_share_that_is_kept_is_the_rate_and_says_so(rate: float) -> None:
    pool = random.Random(rate).randbytes(16 * IDS)
    sampler = Rates(lambda *_: rate).sampler("q", b"q")
    kept = sum(sampler(pool[at : at + 16]) is not None for at in range(0, 16 * IDS, 16))
    assert abs(kept - rate * IDS) < 3 * sqrt(IDS * rate * (1 - rate))
    state = sampler(bytes(9) + b"\xff" * 7)
    assert state is not None
    least = tracestate.threshold(state.decode())
    assert least is not None
    assert 1 - least / 2**56 == pytest.approx(rate)


def test_two_configurations_that_give_a_queue_the_same_rate_decide_alike() -> None:
    one = Sampling(default_rate=0.3)
    other = Sampling(default_rate=1.0, queue_rates={"orders*": 0.3})
    third = Sampling(environments={"production": 0.3})
    samplers = [
        Rates(one.rate).sampler("orders", b"orders"),
        Rates(other.rate).sampler("orders:eu", b"q"),
        Rates(lambda queue, key: third.rate(queue, key, "production")).sampler("any", b"any"),
    ]
    source = random.Random(7)
    for _ in range(20_000):
        trace_id = source.randbytes(16)
        assert len({sampler(trace_id) for sampler in samplers}) == 1


def test_a_lower_rate_keeps_some_of_what_a_higher_one_keeps() -> None:
    low, high = (Rates(lambda *_, rate=rate: rate).sampler("q", b"q") for rate in (0.1, 0.6))
    source = random.Random(8)
    ids = [source.randbytes(16) for _ in range(10_000)]
    assert {one for one in ids if low(one) is not None} < {one for one in ids if high(one) is not None}


@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_none_and_all(rate: float) -> None:
    sampler = Rates(lambda *_: rate).sampler("q", b"q")
    for low in (0, 1, 2**56 - 1):
        assert sampler(trace(low)) == (b"" if rate else None)


class TestOperations:
    def sieve(self) -> Sieve:
        return Sieve({Operation.DEQUEUE: 0.25, Operation.PROCESS: 1.0})

    def test_children_of_a_span_that_is_left_out_take_its_parent(self) -> None:
        sieve, low = self.sieve(), trace(1)
        first = make(trace_id=low)
        second = make(Operation.DEQUEUE, trace_id=low, parent_id=first.span_id)
        third = make(Operation.PROCESS, trace_id=low, parent_id=second.span_id)
        assert sieve.take([first, second, third], 0) == [first, third]
        assert third.parent_id == first.span_id
        assert (sieve.decisions["sampled"], sieve.decisions["thinned"]) == (2, 1)

    def test_one_that_stays_says_how_many_it_stands_for(self) -> None:
        span = make(Operation.DEQUEUE, trace_id=trace(2**56 - 1), tracestate="ot=th:8,x=y")
        assert self.sieve().take([span], 0) == [span]
        assert span.tracestate == "ot=th:c,x=y"

    def test_the_random_value_of_the_trace_goes_before_its_id(self) -> None:
        kept = make(Operation.DEQUEUE, trace_id=trace(0), tracestate="ot=rv:ffffffffffffff")
        gone = make(Operation.DEQUEUE, trace_id=trace(2**56 - 1), tracestate="ot=rv:00000000000001")
        assert self.sieve().take([kept, gone], 0) == [kept]

    def test_shares(self) -> None:
        source, sieve = random.Random(9), self.sieve()
        spans = [make(Operation.DEQUEUE, trace_id=source.randbytes(16)) for _ in range(20_000)]
        assert abs(len(sieve.take(spans, 0)) - 5_000) < 3 * sqrt(20_000 * 0.25 * 0.75)

    def test_an_enqueue_without_a_span_is_nobodys_parent_in_any_sidecar(self) -> None:
        sampler = Rates(lambda *_: 1.0, enqueue=0.5).sampler("q", b"q")
        without, recorded = sampler(trace(1)), sampler(trace(2**56 - 1))
        assert (without, recorded) == (tracestate.UNRECORDED, b"")
        context = unpack(SpanContext(trace(1), b"12345678", 1, without or b"").pack())
        assert (context.span_id, context.parent) == (b"12345678", b"")
        assert tracestate.shown(b"ot=th:8,redspan=e:0") == "ot=th:8"


class TestLimiter:
    def test_no_more_than_the_rate_over_time(self) -> None:
        limiter, passed = Limiter(100), 0
        for step in range(10_000):  # ten seconds, a thousand traces of one span each
            passed += limiter.admit(make(Operation.PURGE), step / 1000)
        assert 1000 <= passed <= 100 * (10 + 2)

    def test_a_trace_that_was_let_in_is_finished_and_one_that_was_not_never_begins(self) -> None:
        limiter = Limiter(10)
        inside, refused = [make() for _ in range(10)], make()
        assert all(limiter.admit(span, 0) for span in inside)
        assert not limiter.admit(refused, 0)
        assert all(limiter.admit(make(Operation.DEQUEUE, trace_id=span.trace_id), 0) for span in inside)
        assert not limiter.admit(make(trace_id=inside[0].trace_id), 0)
        assert not limiter.admit(make(trace_id=refused.trace_id), 3600)

    def test_while_it_refuses_nobody_says_how_many_a_span_stands_for(self) -> None:
        limiter = Limiter(1)
        before, refused, after, later = (make(tracestate="ot=th:8;rv:ffffffffffffff,x=y") for _ in range(4))
        assert limiter.admit(before, 0)
        assert not limiter.admit(refused, 0)
        after.trace_id = before.trace_id
        assert limiter.admit(after, 0.4)
        assert (before.tracestate, after.tracestate) == (
            "ot=th:8;rv:ffffffffffffff,x=y",
            "ot=rv:ffffffffffffff,x=y",
        )
        assert limiter.admit(later, 60)
        assert later.tracestate == "ot=th:8;rv:ffffffffffffff,x=y"

    def test_a_clock_that_is_set_back_gives_nothing_away(self) -> None:
        limiter = Limiter(1)
        assert [limiter.admit(make(), at) for at in (100, 50, 50.5)] == [True, False, False]

    def test_it_is_counted(self) -> None:
        sieve = Sieve(rate=5)
        assert len(sieve.take([make() for _ in range(8)], 0)) == 5
        assert (sieve.decisions["sampled"], sieve.decisions["limited"]) == (5, 3)


class TestQueueLimiter:
    def admitted(self, limiter: QueueLimiter, queue: str, count: int = 100) -> int:
        return sum(limiter.admit(make(Operation.PURGE, queue=queue, key=queue), 0) for _ in range(count))

    def test_each_queue_has_its_own(self) -> None:
        limiter = QueueLimiter(Sampling(queue_max_spans_per_second={"mail": 10, "batch:*": 3}).queue_limit)
        queues = ("mail", "batch:1", "batch:2", "orders", "mail")
        assert [self.admitted(limiter, queue) for queue in queues] == [10, 3, 3, 100, 0]

    def test_a_trace_goes_by_each_queue_that_it_comes_through(self) -> None:
        limiter = QueueLimiter(lambda *_: 1)
        assert limiter.admit(make(queue="a", key="a"), 0)
        assert not limiter.admit(make(queue="a", key="a", trace_id=trace(1)), 0)
        assert limiter.admit(make(queue="b", key="b", trace_id=trace(1)), 0)
        assert not limiter.admit(make(queue="a", key="a", trace_id=trace(1)), 3600)

    def test_names_that_somebody_makes_up_are_no_way_out(self) -> None:
        limiter = QueueLimiter(lambda *_: 2)
        for number in range(1000):
            assert self.admitted(limiter, f"queue-{number}", 5) == 2
        assert [self.admitted(limiter, f"another-{number}", 5) for number in range(3)] == [2, 0, 0]
        assert len(limiter._queues) == 1000

    def test_what_one_has_too_many_of_takes_nothing_from_the_others(self) -> None:
        sieve = Sieve(rate=10, queue_rate=lambda queue, _: 4 if queue == "noisy" else 0)
        noisy = sieve.take([make(queue="noisy") for _ in range(50)], 0)
        calm = sieve.take([make(queue="calm") for _ in range(20)], 0)
        assert (len(noisy), len(calm)) == (4, 6)
        assert {name: count for name, count in sieve.decisions.items() if count} == {
            "sampled": 10,
            "queue_limited": 46,
            "limited": 14,
        }


class TestTail:
    WAIT = 30

    def job(self, low: int = 0, lasts: int = 5, **end: object) -> list[Span]:
        first = make(trace_id=trace(low), tracestate="ot=th:8")
        second = make(Operation.DEQUEUE, trace_id=first.trace_id, parent_id=first.span_id)
        third = make(Operation.PROCESS, trace_id=first.trace_id, parent_id=second.span_id, lasts=lasts, **end)  # type: ignore[arg-type]
        return [first, second, third]

    def sieve(self, limit: int = 100) -> Sieve:
        return Sieve(tail=TailOptions(self.WAIT, limit, 10**9, 0.25))

    @pytest.mark.parametrize(
        ("spans", "reason"),
        [
            ({"error": "failure"}, "error"),
            ({"error": "retry"}, "retry"),
            ({"error": "dead_letter"}, "dead_letter"),
            ({"fields": Fields(id="1", attempt=1)}, "retry"),
            ({"lasts": 1000}, "slow"),
            ({"low": 2**56 - 1}, "baseline"),
        ],
    )
    def test_what_is_kept_and_why(self, spans: dict[str, object], reason: str) -> None:
        sieve, job = self.sieve(), self.job(**spans)  # type: ignore[arg-type]
        assert sieve.take(job[:2], 0) == []
        assert sieve.take(job[2:], 1) == job
        assert {span.facts[a.SAMPLING_REASON] for span in job} == {reason}
        assert job[0].tracestate == ("ot=th:c" if reason == "baseline" else "ot=th:8")

    def test_what_went_well_is_left_out_and_counted(self) -> None:
        sieve = self.sieve()
        assert sieve.take(self.job(), 0) == []
        assert (sieve.decisions["tail"], sieve.decisions["sampled"]) == (3, 0)

    def test_no_end_within_the_time(self) -> None:
        sieve, quiet, chosen = self.sieve(), self.job(), self.job(2**56 - 1)
        sieve.take([*quiet[:2], *chosen[:2]], 0)
        assert sieve.tick(self.WAIT - 1) == []
        assert sieve.tick(self.WAIT) == chosen[:2]
        quiet[2].error = "failure"
        assert sieve.take(quiet[2:], self.WAIT + 1) == quiet[2:]

    def test_no_more_than_so_many_are_held(self) -> None:
        sieve = self.sieve(limit=10)
        jobs = [self.job(low) for low in range(100)]
        for job in jobs:
            sieve.take(job[:2], 0)
        assert sieve.tail is not None
        assert (sieve.tail.spans, sieve.tail.early) == (10, 95)
        assert sieve.flush(1) == []
        assert sieve.tail.spans == 0
        assert sieve.decisions["tail"] == 200

    def test_what_is_no_job_passes(self) -> None:
        span = make(Operation.PURGE)
        assert self.sieve().take([span], 0) == [span]
