"""The tracestate beside a traceparent: valid and invalid ones, limits, where it is read and where it is written."""

from __future__ import annotations

import pytest

from proxy.context import tracestate
from proxy.context.fields_slot import fields_slot, pack
from proxy.context.json_slot import json_slot
from proxy.context.nested_slot import nested_slot
from proxy.context.slot import State
from proxy.context.traceparent import SpanContext

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
KEPT = SpanContext(bytes(15) + b"\1", bytes(7) + b"\1", 1, b"ot=th:8")


@pytest.mark.parametrize(
    ("header", "read"),
    [
        (b"rojo=00f067aa0ba902b7", b"rojo=00f067aa0ba902b7"),
        (b"congo=t61rcWkgMzE", b"congo=t61rcWkgMzE"),
        (b"rojo=1,congo=2", b"rojo=1,congo=2"),
        (b"rojo=1 \t,\t congo=2", b"rojo=1,congo=2"),
        (b"rojo=1,,congo=2,", b"rojo=1,congo=2"),
        (b"fw529a3039@dt=FfAAAAA", b"fw529a3039@dt=FfAAAAA"),
        (b"0a=1", b"0a=1"),
        (b"a/b*c_d-e=1", b"a/b*c_d-e=1"),
        (b"foo=1,foo=2", b"foo=1"),
        (b"", b""),
        (b",".join(b"k%d=v" % n for n in range(32)), b",".join(b"k%d=v" % n for n in range(32))),
        (b",".join(b"k%d=v" % n for n in range(33)), None),
        (b"foo", None),
        (b"foo=", None),
        (b"=1", None),
        (b"FOO=1", None),
        (b"foo@=1,bar=2", b"foo@=1,bar=2"),
        (b"foo =1", None),
        (b"foo=1=2", None),
        (b"foo=b\xc3\xa4r", None),
        (b"foo=bar\x00", None),
        (b"foo.bar=1", None),
        (b"a" * 257 + b"=1", None),
        (b"a=" + b"v" * 257, None),
        (b"a=" + b"v" * 256, b"a=" + b"v" * 256),
        (b"a=1," * 5000, None),
    ],
)
def test_valid_and_invalid_ones(header: bytes, read: bytes | None) -> None:
    assert tracestate.parse(header) == read


def test_of_one_that_is_too_long_the_long_members_go_first_then_the_last() -> None:
    long, short = b"long=" + b"x" * 200, [b"k%02d=%s" % (n, b"v" * 20) for n in range(20)]
    assert tracestate.parse(b",".join((long, *short))) == b",".join(short)
    wide = [b"k%02d=%s" % (n, b"v" * 100) for n in range(6)]
    assert tracestate.parse(b",".join(wide)) == b",".join(wide[:4])


@pytest.mark.parametrize("state", ["ot=th:c", "ot=rv:1234567890abcd;th:c", "x=y,ot=th:c"])
def test_thresholds(state: str) -> None:
    assert tracestate.threshold(state) == 0xC << 52
    assert tracestate.with_threshold(state, 8 << 52).startswith("ot=th:8")
    assert tracestate.threshold(tracestate.with_threshold(state, None)) is None


@pytest.mark.parametrize("state", ["", "x=y", "ot=th:", "ot=th:123456789012345", "ot=rv:123", "not=th:8"])
def test_no_threshold_and_no_random_value(state: str) -> None:
    assert tracestate.threshold(state) is None
    assert tracestate.randomness(bytes(15) + b"\5", state) == 5


def test_it_is_written_beside_the_context_and_read_again() -> None:
    assert json_slot(b'{"id": 1}').write(KEPT) == (
        b'{"id": 1, "traceparent": "%s", "tracestate": "ot=th:8"}' % KEPT.header()
    )
    nested = nested_slot(b'{"headers":{}}', "headers").write(KEPT)
    fields = fields_slot(pack(b"", [b"id", b"1"])).write(KEPT)
    assert isinstance(nested, bytes)
    assert isinstance(fields, tuple)
    slots = (
        json_slot(b'{"traceparent":"%s","tracestate":"ot=th:8"}' % KEPT.header()),
        nested_slot(nested, "headers"),
        fields_slot(pack(b"", fields)),
    )
    assert [slot.context for slot in slots] == [KEPT] * 3


@pytest.mark.parametrize("state", ['"FOO=1"', "1", '"a=b","tracestate":"c=d"', r'"a=\"b"'])
def test_a_bad_one_costs_itself_only(state: str) -> None:
    slot = json_slot(f'{{"traceparent":"{TRACEPARENT}","tracestate":{state}}}'.encode())
    assert (slot.state, slot.reason) == (State.FOUND, "tracestate")
    assert slot.context is not None
    assert slot.context.tracestate == b""


def test_what_is_called_so_already_is_left_alone() -> None:
    assert json_slot(b'{"TraceState":1}').write(KEPT) == b'{"TraceState":1,"traceparent":"%s"}' % KEPT.header()
    assert json_slot(b"{}", b"ctx").write(KEPT) == b'{"ctx":"%s"}' % KEPT.header()
