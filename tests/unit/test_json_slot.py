"""The JSON slot: one member more, and not another byte; or nothing at all."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from proxy.context.json_slot import json_slot
from proxy.context.slot import State
from proxy.context.traceparent import SpanContext

CONTEXT = SpanContext(bytes(range(1, 17)), bytes(range(1, 9)), 3)
HEADER = CONTEXT.header().decode()

_MEMBER = re.compile(rb',?[ \t\r\n]*"traceparent"[ \t\r\n]*:[ \t\r\n]*"%s"' % CONTEXT.header())


def strip(value: bytes) -> bytes:
    """The job without the member that was added: the last one, with the separator before it."""
    *_, match = _MEMBER.finditer(value)
    return value[: match.start()] + value[match.end() :]


text = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=12)
values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), text),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(text, inner, max_size=3)),
    max_leaves=8,
)
objects = st.dictionaries(text, values, max_size=5)
styles: st.SearchStrategy[dict[str, Any]] = st.sampled_from(
    [{}, {"separators": (",", ":")}, {"indent": 2}, {"indent": "\t"}, {"ensure_ascii": False}]
)


@given(job=objects, style=styles, before=st.sampled_from(["", " ", "\n"]), after=st.sampled_from(["", "\n", " \r\n\t"]))
def test_strip_undoes_inject_and_nothing_else_changed(
    job: dict[str, Any], style: dict[str, Any], before: str, after: str
) -> None:
    assume(all(name.lower() != "traceparent" for name in job))
    stored = (before + json.dumps(job, **style) + after).encode()
    slot = json_slot(stored)
    assert slot.state is State.EMPTY
    written = slot.write(CONTEXT)
    assert isinstance(written, bytes)
    assert strip(written) == stored
    assert json.loads(written) == {**job, "traceparent": HEADER}


@given(job=objects.filter(bool), style=styles)
def test_a_worker_that_dumps_what_it_loaded_has_the_same_bytes(job: dict[str, Any], style: dict[str, Any]) -> None:
    assume(all(name.lower() != "traceparent" for name in job))
    written = json_slot(json.dumps(job, **style).encode()).write(CONTEXT)
    assert isinstance(written, bytes)
    assert json.dumps(json.loads(written), **style).encode() == written


@given(value=st.binary(max_size=60))
def test_any_bytes_are_refused_or_valid(value: bytes) -> None:
    slot = json_slot(value)
    if slot.state is State.EMPTY:
        assert isinstance(json.loads(value), dict)
        written = slot.write(CONTEXT)
        assert isinstance(written, bytes)
        assert json.loads(written)["traceparent"] == HEADER
    else:
        assert slot.reason


@pytest.mark.parametrize(
    ("value", "state", "reason"),
    [
        (b"", State.REFUSED, "not_object"),
        (b"[]", State.REFUSED, "not_object"),
        (b"\x80\x05pickle", State.REFUSED, "not_object"),
        (b"\xef\xbb\xbf{}", State.REFUSED, "bom"),
        (b'{"a":1}x', State.REFUSED, "not_json"),
        (b'{"a":1}{"b":2}', State.REFUSED, "not_json"),
        (b'{"a":NaN}', State.REFUSED, "not_json"),
        (b"{'a':1}", State.REFUSED, "not_json"),
        (b'{"a":' * 5000 + b"1" + b"}" * 5000, State.REFUSED, "not_json"),
        (b'{"a":"\xff"}', State.REFUSED, "not_utf8"),
        (b'{"TraceParent":1}', State.REFUSED, "similar_key"),
        (b'{"trace\\u0050arent":1}', State.REFUSED, "similar_key"),
        (b'{"traceparent":"x","Traceparent":"y"}', State.INVALID, "duplicate"),
        (b'{"traceparent":"x","traceparent":"y"}', State.INVALID, "duplicate"),
        (b'{"traceparent":"x","trac\\u0065parent":"y"}', State.INVALID, "duplicate"),
        (b'{"traceparent":7}', State.INVALID, "not_a_string"),
        (b'{"traceparent":""}', State.INVALID, "malformed"),
        (b'{"traceparent":"00-%s-%s-01"}' % (b"0" * 32, b"1" * 16), State.INVALID, "zero_id"),
    ],
)
def test_every_precondition_has_its_reason(value: bytes, state: State, reason: str) -> None:
    slot = json_slot(value)
    assert (slot.state, slot.reason) == (state, reason)


def test_a_context_that_is_there_is_found_and_a_nested_one_is_not_ours() -> None:
    assert json_slot(f'{{"traceparent": "{HEADER}", "a": 1}}'.encode()).context == CONTEXT
    assert json_slot(f'{{"a": {{"traceparent": "{HEADER}"}}}}'.encode()).state is State.EMPTY
    assert json_slot(b'{"a":"\\"traceparent\\":"}').state is State.EMPTY


def test_another_key_can_be_the_slot() -> None:
    written = json_slot(b'{"traceparent":1}', b"context").write(CONTEXT)
    assert written == b'{"traceparent":1,"context":"%s"}' % CONTEXT.header()


def test_a_slot_with_capitals_is_found_again() -> None:
    written = json_slot(b'{"a":1}', b"traceParent").write(CONTEXT)
    assert isinstance(written, bytes)
    assert json_slot(written, b"traceParent").context == CONTEXT
    assert json_slot(written).reason == "similar_key"


def test_a_first_name_of_any_length_costs_no_search() -> None:
    value = b'{"' + b"k" * 100_000 + b'":1}'
    written = json_slot(value).write(CONTEXT)
    assert written == value[:-1] + b',"traceparent":"%s"}' % CONTEXT.header()


def test_a_context_in_a_long_job_is_found_by_the_fast_decoder_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other one takes 50 ms for a megabyte of small objects, and meanwhile nobody else is served."""
    args = b'{"a":1},' * 1000
    long = b'{"args":[%s{}],"n":%s' % (args, b"9" * 5000)
    monkeypatch.setattr("proxy.context.json_slot.member_names", pytest.fail)
    assert json_slot(b'%s,"traceparent":"%s"}' % (long, HEADER.encode())).context == CONTEXT
    assert json_slot(b'%s,"Traceparent":"%s"}' % (long, HEADER.encode())).reason == "similar_key"


@pytest.mark.parametrize("name", ["traceparent", "trace\\u0070arent", "TRACEPARENT"])
def test_a_second_context_in_a_long_job_is_noticed(name: str) -> None:
    long = f'{{"{name}":"{HEADER}","args":[{"0," * 3000}0],"traceparent":"{HEADER}"}}'.encode()
    assert json_slot(long).reason == "duplicate"
