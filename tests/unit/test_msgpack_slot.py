"""A context as members of a MessagePack map, against msgspec's own reading and writing."""

from __future__ import annotations

import json
import math
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.context.carry import Carrier
from proxy.context.derive import Deriver
from proxy.context.msgpack_slot import CopiedSlot, carried_slot, msgpack_slot, splice
from proxy.context.slot import Slot, State
from proxy.context.traceparent import SpanContext
from proxy.events import Carry
from tests.playbook import CountedIds, traceparent

CONTEXT = SpanContext(b"\xaa" * 16, b"\xbb" * 8, 1)
HEADER = CONTEXT.header().decode()
CARRIER = f'{{"traceparent":"{HEADER}"}}'
OLD = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

pack, unpack = msgspec.msgpack.encode, msgspec.msgpack.decode


def wide(value: dict[str, Any], size: int) -> bytes:
    """The same map with a header of 16 or 32 bits, as some encoders write it whatever its size."""
    body = b"".join(pack(name) + pack(member) for name, member in value.items())
    return {2: b"\xde", 4: b"\xdf"}[size] + len(value).to_bytes(size) + body


SCALARS = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text() | st.binary() | st.floats()
NAMES = st.text().filter(lambda name: name.lower() not in ("traceparent", "tm", "omc"))
MAPS = st.dictionaries(
    NAMES,
    st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=12),
    max_size=20,
)


@given(MAPS, st.sampled_from([0, 2, 4]))
def test_the_map_and_two_members_more(value: dict[str, Any], size: int) -> None:
    packed = wide(value, size) if size else pack(value)
    slot = msgpack_slot(packed)
    assert slot.state is State.EMPTY
    written = slot.write(CONTEXT)
    assert isinstance(written, bytes)
    # Compared as text: NaN is not equal to itself.
    assert repr(unpack(written)) == repr({**value, "tm": CARRIER, "traceparent": HEADER})
    members = pack("tm") + pack(CARRIER) + pack("traceparent") + pack(HEADER)
    start = {0x80: 1, 0x90: 1, 0xDE: 3, 0xDF: 5}.get(packed[0] & 0xF0 if packed[0] < 0xA0 else packed[0], 1)
    assert written.endswith(packed[start:] + members)
    assert len(written) - len(packed) - len(members) in (0, 2)
    again = msgpack_slot(written)
    assert (again.state, again.context) == (State.FOUND, CONTEXT)


@given(st.binary(max_size=200))
def test_whatever_it_is_it_is_a_map_or_refused(value: bytes) -> None:
    slot = msgpack_slot(value)
    try:
        decoded = unpack(value)
    except (msgspec.DecodeError, UnicodeDecodeError):
        decoded = None
    if slot.state is State.EMPTY:
        written = slot.write(CONTEXT)
        assert isinstance(written, bytes)
        assert msgpack_slot(written).context == CONTEXT
    elif isinstance(decoded, dict) and all(isinstance(name, str) for name in decoded) and not slot.context:
        assert slot.reason in ("duplicate", "similar_key", "malformed", "not_msgpack")


@pytest.mark.parametrize("count", [0, 13, 14, 15, 16, 65_533, 65_534, 65_535, 65_536])
def test_headers_grow_where_they_have_to(count: int) -> None:
    value = {f"k{number}": number for number in range(count)}
    written = splice(pack(value), [(b"a", b"x" * 40), (b"b", b"y" * 300)])
    assert unpack(written) == {**value, "a": "x" * 40, "b": "y" * 300}


def test_what_json_cannot_say_stays() -> None:
    packed = bytes.fromhex("de0003") + pack("delay") + bytes.fromhex("cb7ff8000000000000")
    packed += pack("at") + bytes.fromhex("d6ff00000001") + pack("f") + bytes.fromhex("ca3f800000")
    written = msgpack_slot(packed).write(CONTEXT)
    assert isinstance(written, bytes)
    assert written[:3] == bytes.fromhex("de0005")
    assert written[3:].startswith(packed[3:])
    assert math.isnan(unpack(written)["delay"])


@pytest.mark.parametrize(
    ("value", "state", "reason"),
    [
        (b"", State.REFUSED, "not_msgpack"),
        (b"{}", State.REFUSED, "not_msgpack"),
        (b"\x90", State.REFUSED, "not_msgpack"),
        (b"\x81\x01\x02", State.REFUSED, "not_msgpack"),
        (b"\x81\xa1a", State.REFUSED, "not_msgpack"),
        (b"\x80\x80", State.REFUSED, "not_msgpack"),
        (b"\x82\xa1a\x01\xa1a\x02", State.INVALID, "duplicate"),
        (pack({"Traceparent": "x"}), State.REFUSED, "similar_key"),
        (pack({"traceparent": "x"}), State.INVALID, "malformed"),
        (pack({"traceparent": None}), State.INVALID, "malformed"),
        (pack({"traceparent": {"a": 1}}), State.INVALID, "malformed"),
        (pack({"tm": '{"traceparent":"x"}'}), State.INVALID, "malformed"),
        (pack({"tm": '{"traceparent":7}'}), State.INVALID, "malformed"),
    ],
)
def test_nothing_is_written_where_it_may_not(value: bytes, state: State, reason: str) -> None:
    slot = msgpack_slot(value)
    assert (slot.state, slot.reason) == (state, reason)


@pytest.mark.parametrize(
    "value",
    [
        {"tm": f'{{"traceparent":"{OLD}","baggage":"a=1"}}'},
        {"tm": "{}", "traceparent": OLD},
        {"traceparent": OLD, "attempts": 3},
        {"tm": f'{{"traceparent":"{OLD}"}}', "traceparent": HEADER},
    ],
)
def test_a_context_that_is_there_is_found(value: dict[str, Any]) -> None:
    for slot in (msgpack_slot(pack(value)), carried_slot(json.dumps(value).encode())):
        assert slot.context is not None
        assert slot.context.header().decode() == OLD


@pytest.mark.parametrize("value", [{"tm": "{}"}, {"tm": "b3=1"}, {"tm": {"a": 1}}, {"tm": None}, {"omc": True}])
def test_a_carrier_of_somebody_else_or_one_that_is_not_wanted_stays_away(value: dict[str, Any]) -> None:
    written = msgpack_slot(pack(value)).write(CONTEXT)
    assert isinstance(written, bytes)
    assert unpack(written) == {**value, "traceparent": HEADER}


def test_a_carrier_that_may_be_there_is_written() -> None:
    written = msgpack_slot(pack({"omc": False})).write(CONTEXT)
    assert isinstance(written, bytes)
    assert unpack(written) == {"omc": False, "tm": CARRIER, "traceparent": HEADER}


@pytest.mark.parametrize(
    ("value", "state"),
    [(b"{}", State.EMPTY), (b'{"tm":"{}"}', State.EMPTY), (b'{"traceparent":1}', State.INVALID), (b"[", State.REFUSED)],
)
def test_the_members_of_json_are_only_read(value: bytes, state: State) -> None:
    assert carried_slot(value).state is state


def copied(value: dict[str, Any]) -> Slot:
    return msgpack_slot(pack(value), copied=True)


def test_x2_a_copied_context_is_replaced_where_it_stands() -> None:
    value = {"a": 1, "tm": f'{{"baggage":"b","traceparent":"{OLD}"}}', "é" * 40: [OLD], "traceparent": OLD, "z": 2}
    slot = copied(value)
    assert isinstance(slot, CopiedSlot)
    carried = Carrier(Deriver(), CountedIds()).carry(slot, None, lambda _: b"")
    new = traceparent(1)
    assert isinstance(carried.edit, bytes)
    assert unpack(carried.edit) == {
        **value,
        "tm": f'{{"baggage":"b","traceparent":"{new}"}}',
        "traceparent": new,
    }
    assert len(carried.edit) == len(pack(value))
    assert slot.context is not None
    assert (carried.how, carried.previous) == (Carry.REPLACED, slot.context.pack())
    observed = Carrier(Deriver(), CountedIds()).carry(slot, None, lambda _: b"", inject=False)
    assert (observed.how, observed.edit) == (Carry.FOUND, None)


@pytest.mark.parametrize(
    "value",
    [
        {"traceparent": OLD.replace("00-", "cc-", 1) + "-more"},
        {"tm": f'{{"traceparent":"{OLD}","again":"{OLD}"}}'},
        {"tm": f'{{"traceparent":"{OLD}"}}', "traceparent": HEADER},
    ],
)
def test_x2_one_that_cannot_be_replaced_surely_is_kept(value: dict[str, Any]) -> None:
    slot = copied(value)
    assert (slot.state, slot.copied) == (State.FOUND, False)


def test_x2_without_a_context_there_is_nothing_to_replace() -> None:
    assert copied({"a": 1}).state is State.EMPTY
    assert copied({"traceparent": "x"}).state is State.INVALID
