"""``trust_inbound: false``: what a job brings along is replaced in place, and nothing else of it changes."""

from __future__ import annotations

import random

import msgspec
import pytest

from proxy.context import tracestate
from proxy.context.carry import Carried, Carrier, Named
from proxy.context.derive import Deriver
from proxy.context.fields_slot import fields_slot, pack
from proxy.context.json_slot import json_slot
from proxy.context.msgpack_slot import msgpack_slot
from proxy.context.nested_slot import nested_slot
from proxy.context.slot import Slot, State, Swap
from proxy.context.traceparent import SpanContext, parse, unpack
from proxy.events import Carry
from tests.playbook import CountedIds, traceparent

T, S = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
FOUND = f"00-{T}-{S}-01"
CARRIER = Carrier(Deriver(b"key"), CountedIds(), trusts=False)
NAMED = Named("rq", b"job-1")


def carry(slot: Slot, value: bytes, named: Named | None = None, *, sampled: bool = True) -> Carried:
    carrier = Carrier(Deriver(b"key"), CountedIds(), trusts=False)
    return carrier.carry(carrier.distrust(slot, value, named), named, lambda _: b"" if sampled else None)


def test_a_member_is_replaced_and_the_old_one_linked_to() -> None:
    value = f'{{"a": 1.0, "traceparent" : "{FOUND}", "b":[ ]}}'.encode()
    carried = carry(json_slot(value), value)
    assert carried.how is Carry.REPLACED
    assert carried.edit == f'{{"a": 1.0, "traceparent" : "{traceparent(1)}", "b":[ ]}}'.encode()
    assert unpack(carried.previous) == parse(FOUND.encode())


def test_sampling_cannot_be_asked_for() -> None:
    value = f'{{"traceparent":"{FOUND}"}}'.encode()
    context = carry(json_slot(value), value, sampled=False).context
    assert context is not None
    assert not context.sampled


def test_inside_of_an_envelope_and_in_a_field() -> None:
    value = f'{{"headers":{{"traceparent":"{FOUND}"}},"body":"x"}}'.encode()
    assert carry(nested_slot(value, "headers"), value).edit == value.replace(FOUND.encode(), traceparent(1).encode())
    entry = pack(b"", [b"id", b"1", b"traceparent", FOUND.encode()])
    assert carry(fields_slot(entry), entry).edit == Swap(FOUND.encode(), traceparent(1).encode())


def test_both_members_of_a_map_in_a_field() -> None:
    options = msgspec.msgpack.encode({"tm": f'{{"traceparent":"{FOUND}"}}', "a": 1.0, "traceparent": FOUND})
    value = pack(b"", [b"data", f'"{FOUND}"'.encode(), b"opts", options])
    edit = carry(msgpack_slot(options), value).edit
    assert edit == options.replace(FOUND.encode(), traceparent(1).encode())


@pytest.mark.parametrize(
    "value",
    [
        f'{{"traceparent":"{FOUND}","copy":"{FOUND}"}}',
        f'{{"traceparent":"{FOUND}","text":"see {FOUND}"}}',
        f'{{"traceparent":"cc-{T}-{S}-01-more"}}',
    ],
)
def test_what_is_in_doubt_is_left_and_counted(value: str) -> None:
    slot = CARRIER.distrust(json_slot(value.encode()), value.encode(), None)
    assert (slot.state, slot.reason) == (State.INVALID, "untrusted")
    assert carry(json_slot(value.encode()), value.encode()).edit is None
    # Nor does it count where the job is taken from the queue.
    stored = CARRIER.stored(json_slot(value.encode()), value.encode(), None)
    assert CARRIER.recover(stored, None, lambda _: b"").context is None


def test_what_follows_from_the_identity_and_the_key_is_our_own() -> None:
    own = CARRIER.carry(fields_slot(pack(b"", [b"id", b"1"])), NAMED, lambda _: b"").context
    assert own is not None
    entry = pack(b"", [b"traceparent", own.header()])
    assert carry(fields_slot(entry), entry, NAMED).how is Carry.FOUND
    guessed = Carrier(Deriver(), CountedIds()).carry(fields_slot(pack(b"", [b"id", b"1"])), NAMED, lambda _: b"")
    assert guessed.context is not None
    entry = pack(b"", [b"traceparent", guessed.context.header()])
    carried = carry(fields_slot(entry), entry, NAMED)
    assert (carried.how, carried.context) == (Carry.REPLACED, own)


def test_the_old_tracestate_stays_in_the_job_and_is_not_believed() -> None:
    value = f'{{"traceparent":"{FOUND}","tracestate":"ot=rv:ffffffffffffff,redspan=e:0"}}'.encode()
    carried = carry(json_slot(value), value)
    assert isinstance(carried.edit, bytes)
    stored = CARRIER.recover(json_slot(carried.edit), None, lambda _: b"ot=th:8").context
    assert stored is not None
    assert (stored.span_id, stored.tracestate, stored.parent) == (
        bytes.fromhex(traceparent(1)[36:52]),
        b"ot=th:8",
        stored.span_id,
    )


def test_a_hundred_thousand_hostile_contexts_are_read_strictly_or_not_at_all() -> None:
    source = random.Random(11)
    header = f"00-{T}-{S}-01".encode()
    alphabet = b'0123456789abcdefABCDEF-_ \t\r\n\x00\xff"\\,=;'
    for _ in range(100_000):
        hostile = bytearray(header)
        for _ in range(source.randint(1, 4)):
            at = source.randrange(len(hostile))
            if source.random() < 0.3:
                hostile.insert(at, source.choice(alphabet))
            elif source.random() < 0.2:
                del hostile[at]
            else:
                hostile[at] = source.choice(alphabet)
        value = b'{"id":1,"traceparent":"%s","tracestate":"%s"}' % (hostile, hostile)
        slot = json_slot(value)
        context = slot.context
        if context is None:
            assert slot.state in (State.INVALID, State.REFUSED, State.EMPTY)
            continue
        assert any(context.trace_id)
        assert any(context.span_id)
        assert bytes(hostile[2:52]) == context.header()[2:52]
        assert tracestate.parse(context.tracestate) == context.tracestate
        assert SpanContext(context.trace_id, context.span_id, context.flags) == parse(context.header())
