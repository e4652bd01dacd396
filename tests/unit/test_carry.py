"""The rules of identity: what is written, what is kept, what is derived, and that both sides agree."""

from __future__ import annotations

import pytest

from proxy.context.adopted import AdoptedSlot, adopted_slot
from proxy.context.carry import Carried, Carrier, Named
from proxy.context.derive import Deriver, PooledIds
from proxy.context.json_slot import json_slot
from proxy.context.sampling import Rates, keeps, threshold
from proxy.context.slot import ABSENT, NoSlot, Slot, State
from proxy.context.traceparent import RANDOM, SAMPLED, SpanContext
from proxy.events import Carry
from tests.playbook import CountedIds, span_id, trace_id, traceparent

DERIVER = Deriver()
NAMED = Named("list", b"job-1")
T, S = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def carry(slot: Slot, named: Named | None = None, *, sampled: bool = True, inject: bool = True) -> Carried:
    return Carrier(DERIVER, CountedIds()).carry(slot, named, lambda _: b"" if sampled else None, inject=inject)


def recover(slot: Slot, named: Named | None = None, *, inject: bool = True) -> Carried:
    return Carrier(DERIVER, CountedIds()).recover(slot, named, lambda _: b"", inject=inject)


def test_w1_an_empty_slot_gets_a_random_context_without_identity() -> None:
    carried = carry(json_slot(b"{}"))
    assert (carried.how, carried.context) == (Carry.WRITTEN, SpanContext(trace_id(1), span_id(1), SAMPLED | RANDOM))
    assert carried.edit == f'{{"traceparent":"{traceparent(1)}"}}'.encode()


def test_w1_an_unsampled_job_gets_its_context_too() -> None:
    carried = carry(json_slot(b"{}"), sampled=False)
    assert carried.context is not None
    assert carried.context.flags == RANDOM
    assert carried.edit is not None


def test_w1_with_identity_the_context_is_derived_and_not_called_random() -> None:
    carried = carry(json_slot(b"{}"), NAMED)
    trace = DERIVER.trace_id("list", b"job-1")
    assert carried.context == SpanContext(trace, DERIVER.span_id(trace), SAMPLED)


def test_w2_a_valid_context_is_kept() -> None:
    carried = carry(json_slot(f'{{"traceparent":"00-{T}-{S}-01"}}'.encode()), NAMED)
    assert (carried.how, carried.edit) == (Carry.FOUND, None)


@pytest.mark.parametrize("slot", [json_slot(b'{"traceparent":"x"}'), json_slot(b"[]"), ABSENT])
def test_w3_anything_else_is_treated_as_no_slot(slot: Slot) -> None:
    assert (carry(slot).how, carry(slot).reason) == (Carry.NONE, slot.reason)
    derived = carry(slot, NAMED)
    assert (derived.how, derived.edit) == (Carry.DERIVED, None)


def test_observing_writes_nothing_and_derives_where_it_can() -> None:
    assert carry(json_slot(b"{}"), inject=False) == Carried(Carry.NONE, reason="disabled")
    derived = carry(json_slot(b"{}"), NAMED, inject=False)
    assert (derived.how, derived.context) == (Carry.DERIVED, recover(json_slot(b"{}"), NAMED, inject=False).context)


def test_what_may_not_be_written_refuses_to_be() -> None:
    with pytest.raises(AssertionError):
        NoSlot(State.REFUSED, "bom").write(SpanContext(bytes(16), bytes(8)))


def test_both_sides_derive_the_same_and_attempts_and_hops_differ() -> None:
    first, second, scheduled = (
        carry(ABSENT, Named("rq", b"1", attempt, hop)).context for attempt, hop in ((0, b""), (1, b""), (0, b"z"))
    )
    assert first is not None
    assert second is not None
    assert scheduled is not None
    assert first == recover(ABSENT, Named("rq", b"1")).context
    assert first.trace_id == second.trace_id == scheduled.trace_id
    assert len({first.span_id, second.span_id, scheduled.span_id}) == 3


def test_a_key_makes_ids_that_nobody_else_can_aim_at() -> None:
    plain, keyed, long = Deriver(), Deriver(b"secret"), Deriver(b"x" * 100)
    assert len({deriver.trace_id("rq", b"1") for deriver in (plain, keyed, long)}) == 3
    assert plain.trace_id("rq", b"1") != plain.trace_id("r", b"q1")


def bare(trace: str = T, span: str = S) -> bytes:
    return f'{{"id":"1","trace_id":"{trace}","span_id": "{span}","n":{{}}}}'.encode()


def test_x1_bare_ids_keep_their_trace_and_change_no_length() -> None:
    carried = carry(adopted_slot(bare()), NAMED)
    ours = DERIVER.adopted_span_id(bytes.fromhex(T), b"job-1")
    assert (carried.how, carried.previous.hex(), carried.verified) == (Carry.ADOPTED, S, False)
    assert carried.edit == bare(span=ours.hex())
    assert recover(adopted_slot(bare()), NAMED).verified is False


def test_x1_what_is_ours_already_is_not_touched() -> None:
    ours = DERIVER.adopted_span_id(bytes.fromhex(T), b"job-1").hex()
    carried = carry(adopted_slot(bare(span=ours)), NAMED)
    assert (carried.how, carried.edit, carried.verified) == (Carry.FOUND, None, True)
    assert recover(adopted_slot(bare(span=ours)), NAMED) == carried


def test_x1_empty_ids_are_filled() -> None:
    carried = carry(adopted_slot(bare("", "")), NAMED)
    trace = DERIVER.trace_id("list", b"job-1")
    assert carried.how is Carry.WRITTEN
    assert carried.edit == bare(trace.hex(), DERIVER.adopted_span_id(trace, b"job-1").hex())


def test_x1_a_trace_without_a_span_is_joined_at_its_root() -> None:
    carried = carry(adopted_slot(bare(span="")), NAMED)
    assert (carried.how, carried.previous) == (Carry.ADOPTED, b"")


@pytest.mark.parametrize(
    ("value", "state", "reason"),
    [
        (bare(T.upper()), State.INVALID, "malformed"),
        (bare("0" * 32), State.INVALID, "malformed"),
        (bare("", S), State.INVALID, "malformed"),
        (bare(T[:-1]), State.INVALID, "malformed"),
        (b'{"id":1}', State.REFUSED, "foreign"),
        (b'{"trace_id":"","span_id":1}', State.REFUSED, "similar_key"),
        (b'{"trace_id":"","Trace_ID":"x","span_id":""}', State.REFUSED, "similar_key"),
        (b'{"trace_id":"","span_id":"","a":{"span_id":""}}', State.REFUSED, "similar_key"),
        (b'{"trace_id":"","trac\\u0065_id":"","span_id":""}', State.REFUSED, "similar_key"),
        (b"[]", State.REFUSED, "not_object"),
    ],
)
def test_bare_ids_that_leave_a_doubt_are_not_touched(value: bytes, state: State, reason: str) -> None:
    slot = adopted_slot(value)
    assert (slot.state, slot.reason) == (state, reason)


def test_escapes_elsewhere_in_a_job_are_no_doubt() -> None:
    assert isinstance(adopted_slot(b'{"path":"a\\u0026b","trace_id":"","span_id":""}'), AdoptedSlot)


def test_an_empty_slot_at_dequeue_gives_a_trace_and_no_parent() -> None:
    assert recover(json_slot(b"{}")) == Carried(Carry.NONE)
    rooted = recover(json_slot(b"{}"), NAMED).context
    assert rooted is not None
    assert (rooted.trace_id, rooted.span_id) == (DERIVER.trace_id("list", b"job-1"), b"")


def test_pooled_ids_are_never_zero_and_never_repeat() -> None:
    sizes: list[int] = []

    def source(size: int) -> bytes:
        sizes.append(size)
        return bytes(size) if len(sizes) == 1 else len(sizes).to_bytes() * 16 + bytes(range(1, 129)) * (size // 128)

    ids = PooledIds(source)
    made = [ids.trace_id() if number % 2 else ids.span_id() for number in range(40)]
    assert all(any(one) for one in made)
    assert {len(one) for one in made} == {8, 16}


@pytest.mark.parametrize(("rate", "kept"), [(0.0, 0), (0.25, 64), (1.0, 256)])
def test_a_rate_is_a_threshold_on_the_trace_id(rate: float, kept: int) -> None:
    ids = [bytes(9) + bytes((first,)) + bytes(6) for first in range(256)]
    assert sum(keeps(one, threshold(rate)) for one in ids) == kept


def test_samplers_are_made_once_per_queue() -> None:
    asked: list[tuple[str, str]] = []

    def rate(queue: str, key: str) -> float:
        asked.append((queue, key))
        return 1.0

    rates = Rates(rate)
    assert rates.sampler("mails", b"rq:mails") is rates.sampler("mails", b"rq:mails")
    assert asked == [("mails", "rq:mails")]
