"""Jobs that name their trace elsewhere than in a W3C context in their slot: by ids at paths, in other headers."""

from __future__ import annotations

import json
from typing import Any

import pytest

from proxy.context import baggage, bare
from proxy.context.begun import BegunSlot
from proxy.context.carry import Carried, Carrier
from proxy.context.derive import Deriver
from proxy.context.fields_slot import pack
from proxy.context.headers import Format, begun
from proxy.context.json_slot import json_slot
from proxy.context.nested_slot import nested_slot
from proxy.context.slot import Slot, State, Swap
from proxy.context.traceparent import RANDOM, SAMPLED, SpanContext
from proxy.events import Carry
from tests.frameworks import lists, script, streams, zsets
from tests.playbook import CountedIds, span_id, trace_id

T, S = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACE, SPAN = bytes.fromhex(T), bytes.fromhex(S)
UUID = "0af76519-16cd-43dd-8448-eb211c80319c"
FORMATS: tuple[Format, ...] = ("b3", "datadog")


def carrier(**options: Any) -> Carrier:
    return Carrier(Deriver(), CountedIds(), **options)


def carry(slot: Slot, *, inject: bool = True, sampled: bool = True, **options: Any) -> Carried:
    return carrier(**options).carry(slot, None, lambda _: b"" if sampled else None, inject=inject)


def recover(slot: Slot, *, inject: bool = True, **options: Any) -> Carried:
    return carrier(**options).recover(slot, None, lambda _: b"", inject=inject)


@pytest.mark.parametrize("text", [T, UUID, f"trace-{UUID}", UUID.upper(), f"00-{T}-{S}-01"])
def test_a_trace_id_in_whatever_form(text: str) -> None:
    assert bare.trace_id(text) == TRACE
    assert bare.otherwise(text) == ("" if text == T else text)


@pytest.mark.parametrize(
    "text", ["", "0" * 32, T.upper(), T[:-1], f"{UUID}0", "trace-1", "00000000-0000-0000-0000-" + "0" * 12]
)
def test_what_is_no_trace_id(text: str) -> None:
    assert bare.trace_id(text) is None
    assert bare.otherwise(text) == ""


@pytest.mark.parametrize(
    ("headers", "trace", "sampled"),
    [
        ({"b3": f"{T}-{S}-1"}, T, True),
        ({"b3": f"{T}-{S}-0-{S}"}, T, False),
        ({"b3": f"{T}-{S}"}, T, False),
        ({"b3": f"{T}-{S}-d"}, T, True),
        ({"B3": f"{T[16:]}-{S}-1"}, f"{T[16:]:0>32}", True),
        ({"X-B3-TraceId": T, "X-B3-SpanId": S, "X-B3-Sampled": "1"}, T, True),
        ({"x-b3-traceid": T, "x-b3-spanid": S, "x-b3-flags": "1"}, T, True),
        ({"x-b3-traceid": T, "x-b3-spanid": S}, T, False),
        ({"x-datadog-trace-id": str(int(T[16:], 16)), "x-datadog-parent-id": int(S, 16)}, f"{T[16:]:0>32}", True),
        (
            {
                "x-datadog-trace-id": str(int(T[16:], 16)),
                "x-datadog-parent-id": str(int(S, 16)),
                "x-datadog-sampling-priority": "-1",
                "x-datadog-tags": f"_dd.p.dm=-0,_dd.p.tid={T[:16]}",
            },
            T,
            False,
        ),
    ],
)
def test_headers_of_other_formats(headers: dict[str, object], trace: str, sampled: bool) -> None:
    value = json.dumps({"id": 1, "headers": headers}).encode()
    slot = nested_slot(value, "headers")
    carried = carry(slot, formats=FORMATS)
    context = SpanContext(bytes.fromhex(trace), span_id(1), SAMPLED * sampled)
    assert (carried.how, carried.context, carried.previous, carried.verified) == (Carry.WRITTEN, context, SPAN, True)
    written = json.loads(carried.edit if isinstance(carried.edit, bytes) else b"")
    assert written == {"id": 1, "headers": {**headers, "traceparent": context.header().decode()}}
    # Who only observes joins the span itself.
    found = SpanContext(context.trace_id, SPAN, context.flags)
    for seen in (carry(slot, formats=FORMATS, inject=False), recover(slot, formats=FORMATS)):
        assert (seen.how, seen.context, seen.edit) == (Carry.FOUND, found, None)


@pytest.mark.parametrize(
    "headers",
    [
        {"b3": "0"},
        {"b3": f"{'0' * 32}-{S}-1"},
        {"b3": f"{T}-{S}-2"},
        {"X-B3-TraceId": T},
        {"x-datadog-trace-id": "no"},
        {"x-datadog-trace-id": str(1 << 64), "x-datadog-parent-id": "1"},
        {"x-datadog-trace-id": "1", "x-datadog-parent-id": "0"},
    ],
)
def test_headers_that_are_not_in_order_begin_a_new_trace_and_are_counted(headers: dict[str, object]) -> None:
    carried = carry(json_slot(json.dumps(headers).encode()), formats=FORMATS)
    assert (carried.how, carried.reason, carried.previous) == (Carry.WRITTEN, "malformed", b"")
    assert recover(json_slot(json.dumps(headers).encode()), formats=FORMATS).context is None


def test_other_formats_are_looked_for_only_if_that_is_wanted_and_only_where_there_is_no_w3c_context() -> None:
    value = json.dumps({"b3": f"{T}-{S}-1"}).encode()
    assert carry(json_slot(value)).previous == b""
    both = json.dumps({"b3": f"{S}{S}-{S}-1", "traceparent": f"00-{T}-{S}-00"}).encode()
    assert carry(json_slot(both), formats=FORMATS).context == SpanContext(TRACE, SPAN, 0)


def test_who_trusts_nobody_believes_none_of_it() -> None:
    slot = begun(json_slot(b'{"b3":"x"}'), {"b3": f"{T}-{S}-1"}, FORMATS)
    assert isinstance(slot, BegunSlot)
    carried = carry(slot, trusts=False)
    assert carried.context == SpanContext(trace_id(1), span_id(1), SAMPLED | RANDOM)
    assert recover(slot, trusts=False).context is None


PATHS = {"trace_id": "meta.trace_id", "span_id": "meta.span_id", "parent_span_id": "parent", "traceparent": "tp"}


@pytest.mark.parametrize(
    ("job", "parent", "how"),
    [
        ({"meta": {"trace_id": UUID}}, b"", Carry.ADOPTED),
        ({"meta": {"trace_id": T, "span_id": S}}, SPAN, Carry.ADOPTED),
        ({"meta": {"trace_id": f"trace-{UUID}"}, "parent": S}, SPAN, Carry.ADOPTED),
        ({"meta": {"trace_id": T}, "parent": "the-id-of-a-job"}, b"", Carry.ADOPTED),
        ({"meta": {"trace_id": "x"}, "tp": f"00-{T}-{S}-01"}, SPAN, Carry.WRITTEN),
    ],
)
def test_ids_and_contexts_at_paths_of_the_user(job: dict[str, object], parent: bytes, how: Carry) -> None:
    """The slot gets a context in their trace, and they stay as they are; whoever reads it finds the same trace."""
    framework = lists(**PATHS)
    value = json.dumps(job).encode()
    carried = carry(framework.slot(value))
    assert carried.context == SpanContext(TRACE, span_id(1), SAMPLED)
    assert (carried.how, carried.previous, carried.verified) == (how, parent, how is Carry.WRITTEN)
    assert isinstance(carried.edit, bytes)
    assert json.loads(carried.edit) == {**job, "traceparent": carried.context.header().decode()}
    assert recover(framework.slot(carried.edit)).context == carried.context
    # Without redspan at the producer.
    late = recover(framework.slot(value)).context
    assert late is not None
    assert (late.trace_id, late.span_id) == (TRACE, parent)


@pytest.mark.parametrize("job", [{"meta": {"trace_id": "x"}}, {"tp": "00-1-2-3"}, {"tp": f"00-{'0' * 32}-{S}-01"}])
def test_what_is_no_id_begins_a_new_trace_and_is_counted(job: dict[str, object]) -> None:
    carried = carry(lists(**PATHS).slot(json.dumps(job).encode()))
    assert carried.how is Carry.WRITTEN
    assert carried.reason in ("malformed", "zero_id")


def test_where_nothing_is_written_the_trace_is_the_same() -> None:
    value = json.dumps({"meta": {"trace_id": UUID}}).encode()
    carried = carry(zsets(**PATHS).slot(value), inject=False)
    assert (carried.how, carried.edit) == (Carry.NONE, None)
    assert carried.context is not None
    assert carried.context.trace_id == TRACE
    recovered = recover(zsets(**PATHS).slot(value), inject=False)
    assert recovered.context == SpanContext(TRACE, b"", SAMPLED)


def test_unsampled_by_the_rates_of_redspan_where_ids_do_not_say() -> None:
    carried = carry(lists(**PATHS).slot(json.dumps({"meta": {"trace_id": T}}).encode()), sampled=False)
    assert carried.context == SpanContext(TRACE, span_id(1), 0)


def test_bare_ids_in_a_slot_of_their_own_stay_as_they_are_written() -> None:
    framework = lists(trace_id="trace_id", span_id="span_id")
    carried = carry(framework.slot(f'{{"trace_id":"{UUID}","span_id":"{S}"}}'.encode()))
    ours = Deriver().adopted_span_id(TRACE, b"").hex()
    assert carried.edit == f'{{"trace_id":"{UUID}","span_id":"{ours}"}}'.encode()
    assert framework.fields(f'{{"trace_id":"{UUID}"}}'.encode()).trace_id == UUID


@pytest.mark.parametrize("make", [lists, zsets, script])
def test_a_slot_inside_of_objects_that_are_there(make: Any) -> None:
    framework = make(slot="metadata.trace.traceparent")
    slot = framework.slot(b'{"metadata": {"trace": {}, "b": 1}}')
    assert slot.write(SpanContext(TRACE, SPAN, 1)) == (
        f'{{"metadata": {{"trace": {{"traceparent": "00-{T}-{S}-01"}}, "b": 1}}}}'.encode()
    )
    for other in (b"{}", b'{"metadata":{}}', b'{"metadata":{"trace":[]}}', b'{"metadata":[{"trace":{}}]}'):
        assert framework.slot(other).state is State.REFUSED


def test_baggage_of_w3c() -> None:
    header = 'user=ada%20l, n=1;ttl=30 ,bad, =x, sp ace=1, q="no", long=' + "x" * 257
    assert baggage.parse(header) == {"user": "ada l", "n": "1"}
    assert len(baggage.parse(",".join(f"k{n}=v" for n in range(50)))) == baggage.ENTRIES


def test_no_baggage_is_ever_invented_and_what_is_there_stays() -> None:
    for carried in ('"user=ada,n=1"', '{"user":"ada"}', "[]", "null"):
        value = f'{{"id":1,"baggage":{carried}}}'
        written = json_slot(value.encode()).write(SpanContext(TRACE, SPAN, 1))
        assert written == f'{value[:-1]},"traceparent":"00-{T}-{S}-01"}}'.encode()
    assert b"baggage" not in str(json_slot(b"{}").write(SpanContext(TRACE, SPAN, 1))).encode()


def test_a_slot_in_the_json_of_a_field() -> None:
    framework = streams(slot="metadata.traceparent")
    slot = framework.slot(pack(b"", [b"payload", b'{"a":1}', b"metadata", b'{"b":1}']))
    assert slot.write(SpanContext(TRACE, SPAN, 1)) == Swap(
        b'{"b":1}', f'{{"b":1,"traceparent":"00-{T}-{S}-01"}}'.encode()
    )
    twice = framework.slot(pack(b"", [b"payload", b"{}", b"metadata", b"{}"]))
    assert (twice.state, twice.reason) == (State.REFUSED, "duplicate_parent")
    assert framework.slot(pack(b"", [b"payload", b"{}"])).reason == "no_parent"
