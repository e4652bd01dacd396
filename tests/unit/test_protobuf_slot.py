"""A context as an entry of a map in a protobuf message, against Google's own reading and writing."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from proxy.context.carry import Carrier
from proxy.context.derive import Deriver
from proxy.context.protobuf import LEN, fields, varint
from proxy.context.protobuf_slot import map_slot
from proxy.context.slot import State
from proxy.context.traceparent import SpanContext
from proxy.events import Carry
from tests.playbook import CountedIds, traceparent
from tests.protobuf import message_type

CONTEXT = SpanContext(b"\xaa" * 16, b"\xbb" * 8, 1)
STATED = SpanContext(b"\xaa" * 16, b"\xbb" * 8, 1, b"a=1,b=2")
HEADER = CONTEXT.header().decode()
OLD = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
NUMBER = 15
"""Of the map."""

Task = message_type(
    {
        "text": (1, "string"),
        "blob": (2, "bytes"),
        "count": (3, "int64"),
        "fixed": (4, "fixed64"),
        "small": (5, "fixed32"),
        "real": (6, "double"),
        "far": (100_000, "string"),
    },
    headers=NUMBER,
)
NAMES = st.text().filter(lambda name: name.lower() not in ("traceparent", "tracestate"))
TASKS = st.fixed_dictionaries(
    {
        "text": st.text(),
        "blob": st.binary(max_size=300),
        "count": st.integers(-(2**63), 2**63 - 1),
        "fixed": st.integers(0, 2**64 - 1),
        "small": st.integers(0, 2**32 - 1),
        "real": st.floats(allow_nan=False),
        "far": st.text(),
        "headers": st.dictionaries(NAMES, st.text(), max_size=5),
    }
)


def packed(**values: Any) -> bytes:
    whole: bytes = Task(**values).SerializeToString(deterministic=True)
    return whole


def entry(name: bytes, value: bytes, *, more: bytes = b"") -> bytes:
    pair = b"\x0a%c%s\x12%c%s%s" % (len(name), name, len(value), value, more)
    return b"\x7a%c%s" % (len(pair), pair)


@given(TASKS, st.sampled_from([CONTEXT, STATED]))
def test_the_message_and_one_entry_more(values: dict[str, Any], context: SpanContext) -> None:
    message = packed(**values)
    slot = map_slot(message, NUMBER)
    assert slot.state is State.EMPTY
    written = slot.write(context)
    assert isinstance(written, bytes)
    # What was added comes off again by cutting it off.
    assert written[: len(message)] == message
    more = {"traceparent": HEADER, **({"tracestate": "a=1,b=2"} if context.tracestate else {})}
    assert Task.FromString(written) == Task(**{**values, "headers": {**values["headers"], **more}})
    again = map_slot(written, NUMBER)
    assert (again.state, again.context) == (State.FOUND, context)


@given(st.binary(max_size=200) | TASKS.map(lambda values: packed(**values)), st.integers(0, 400), st.binary(max_size=3))
def test_whatever_it_is_it_is_a_message_to_both_or_refused(message: bytes, at: int, more: bytes) -> None:
    broken = message[:at] + more + message[at + len(more) :]
    slot = map_slot(broken, NUMBER)
    try:
        told = Task.FromString(broken)
    except DecodeError:
        # It knows more than what is a message: which of its fields are text, and what the types of others are.
        told = None
    if slot.state is State.EMPTY and told is not None:
        written = slot.write(CONTEXT)
        assert isinstance(written, bytes)
        told.headers["traceparent"] = HEADER
        assert Task.FromString(written) == told
    if slot.state is State.REFUSED:
        assert slot.reason in ("not_protobuf", "similar_key")


@given(TASKS)
def test_fields_are_found_where_they_stand(values: dict[str, Any]) -> None:
    message = packed(**values)
    found = fields(message)
    assert found is not None
    assert b"".join(message[start:end] for _, _, start, _, end in found) == message
    texts = {number: message[content:end] for number, kind, _, content, end in found if kind == LEN}
    assert texts.get(1, b"").decode() == values["text"]
    assert texts.get(100_000, b"").decode() == values["far"]
    (count,) = [varint(message, content)[0] for number, _, _, content, _ in found if number == 3] or [0]
    assert count == values["count"] % 2**64


@pytest.mark.parametrize(
    ("message", "state", "reason"),
    [
        (packed(headers={"traceparent": OLD}), State.FOUND, ""),
        (packed(headers={"traceparent": OLD, "tracestate": "a=1"}), State.FOUND, ""),
        (packed(headers={"traceparent": OLD, "tracestate": "a"}), State.FOUND, "tracestate"),
        (packed(headers={"traceparent": ""}), State.INVALID, "malformed"),
        (packed(headers={"traceparent": "00-1-2-3"}), State.INVALID, "malformed"),
        (packed(headers={"TraceParent": OLD}), State.REFUSED, "similar_key"),
        (packed(headers={"traceparent": OLD, "Traceparent": OLD}), State.INVALID, "duplicate"),
        (entry(b"traceparent", OLD.encode()) * 2, State.INVALID, "duplicate"),
        (entry(b"traceparent", OLD.encode(), more=b"\x18\x01"), State.FOUND, ""),
        (entry(b"traceparent", OLD.encode(), more=b"\x10\x01"), State.REFUSED, "not_protobuf"),
        (entry(b"traceparent", OLD.encode(), more=b"\x1b"), State.REFUSED, "not_protobuf"),
        (b"\x7a\x00", State.EMPTY, ""),
        (b"", State.EMPTY, ""),
        (b"\x78\x01", State.REFUSED, "not_protobuf"),
        (b"\x0b\x0c", State.REFUSED, "not_protobuf"),
        (b"\x00\x01", State.REFUSED, "not_protobuf"),
        (b"\x0a\x05abc", State.REFUSED, "not_protobuf"),
        (b"\x08" + b"\xff" * 10 + b"\x01", State.REFUSED, "not_protobuf"),
        (b"\x08" + b"\xff" * 9 + b"\x02", State.REFUSED, "not_protobuf"),
        (b'{"a": 1}', State.REFUSED, "not_protobuf"),
    ],
)
def test_what_is_in_a_map(message: bytes, state: State, reason: str) -> None:
    slot = map_slot(message, NUMBER)
    assert (slot.state, slot.reason) == (state, reason)
    assert (slot.context is not None) == (state is State.FOUND)


def test_a_tracestate_that_is_there_stays_alone() -> None:
    message = packed(headers={"TraceState": "x=1"})
    written = map_slot(message, NUMBER).write(STATED)
    assert isinstance(written, bytes)
    assert dict(Task.FromString(written).headers) == {"TraceState": "x=1", "traceparent": HEADER}


def test_a_context_that_nobody_vouches_for_is_replaced_where_it_stands() -> None:
    message = packed(text="a", headers={"traceparent": OLD}, far="z")
    carrier = Carrier(Deriver(), CountedIds(), trusts=False)
    carried = carrier.carry(carrier.distrust(map_slot(message, NUMBER), message, None), None, lambda trace_id: b"")
    assert carried.how is Carry.REPLACED
    assert carried.edit == message.replace(OLD.encode(), traceparent(1).encode())
    assert isinstance(carried.edit, bytes)
    assert Task.FromString(carried.edit).headers["traceparent"] == traceparent(1)
