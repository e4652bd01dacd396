"""A context inside an object inside a job."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.context.nested_slot import nested_slot
from proxy.context.slot import State
from proxy.context.traceparent import SpanContext

CONTEXT = SpanContext(b"\xaa" * 16, b"\xbb" * 8, 1)
HEADER = CONTEXT.header().decode()


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (b'{"a":1,"headers":{}}', f'{{"a":1,"headers":{{"traceparent":"{HEADER}"}}}}'),
        (
            b'{"a": {"headers": {}}, "headers": {"id": "x"}, "z": 1}',
            f'{{"a": {{"headers": {{}}}}, "headers": {{"id": "x", "traceparent": "{HEADER}"}}, "z": 1}}',
        ),
        (b' {"headers" : {"id":1} }\n', f' {{"headers" : {{"id":1,"traceparent":"{HEADER}"}} }}\n'),
    ],
)
def test_written_into_the_inner_object_and_nowhere_else(value: bytes, written: str) -> None:
    slot = nested_slot(value, "headers")
    assert slot.state is State.EMPTY
    assert slot.write(CONTEXT) == written.encode()


@pytest.mark.parametrize(
    ("value", "state", "reason"),
    [
        (b'{"a":1}', State.REFUSED, "no_parent"),
        (b'{"headers":[]}', State.REFUSED, "not_object"),
        (b'{"headers":null}', State.REFUSED, "not_object"),
        (b'{"headers":{},"headers":{}}', State.REFUSED, "duplicate_parent"),
        (b'{"headers":{},"a":1,"headers":{}}', State.REFUSED, "duplicate_parent"),
        (b'{"a":1,"a":2,"headers":{}}', State.REFUSED, "duplicate_parent"),
        (b'{"he\\u0061ders":{}}', State.REFUSED, "duplicate_parent"),
        (b'{"headers":{"Traceparent":"x"}}', State.REFUSED, "similar_key"),
        (b'{"headers":{"traceparent":"x"}}', State.INVALID, "malformed"),
        (b'{"headers":{}', State.REFUSED, "not_json"),
        (b"[]", State.REFUSED, "not_object"),
    ],
)
def test_in_doubt_nothing_is_written(value: bytes, state: State, reason: str) -> None:
    slot = nested_slot(value, "headers")
    assert (slot.state, slot.reason) == (state, reason)


def test_what_is_there_is_found() -> None:
    slot = nested_slot(b'{"x":"{}","headers":{"traceparent":"%s"}}' % HEADER.encode(), "headers")
    assert slot.state is State.FOUND
    assert slot.context == CONTEXT


documents = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.dictionaries(st.text(), documents, max_size=4),
    st.dictionaries(st.text(), documents, max_size=3),
    st.booleans(),
)
def test_only_the_member_is_added(job: dict[str, object], headers: dict[str, object], compact: bool) -> None:
    job = {**job, "headers": headers, "end": {"headers": headers}}
    text = json.dumps(job, separators=(",", ":") if compact else None).encode()
    slot = nested_slot(text, "headers")
    if slot.state is State.EMPTY:
        written = slot.write(CONTEXT)
        assert isinstance(written, bytes)
        assert json.loads(written) == {**job, "headers": {**headers, "traceparent": HEADER}}
        added = len(HEADER) + len('"traceparent":""') + (not compact) + bool(headers) * (1 + (not compact))
        assert len(written) - len(text) == added
