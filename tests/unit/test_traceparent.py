"""``traceparent`` by the examples of W3C Trace Context Level 2 and of its test suite."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.context.traceparent import RANDOM, SAMPLED, SpanContext, parse, unpack

T, S = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def test_the_specification_s_examples() -> None:
    sampled = parse(f"00-{T}-{S}-01".encode())
    assert sampled == SpanContext(bytes.fromhex(T), bytes.fromhex(S), SAMPLED)
    assert parse(f"00-{T}-{S}-00".encode()) == SpanContext(bytes.fromhex(T), bytes.fromhex(S), 0)


@pytest.mark.parametrize(
    "header",
    [
        "",
        f"00-{T}-{S}",
        f"00-{T}-{S}-1",
        f"00-{T}-{S}-01-",
        f"00-{T}-{S}-01.x",
        f"00-{T}-{S}-01-extra",
        f" 00-{T}-{S}-01",
        f"00-{T}-{S}-01 ",
        f"00-{T}-{S}-01\n",
        f"00-{T.upper()}-{S}-01",
        f"00-{T}-{S.upper()}-01",
        f"00-{T}-{S}-0A",
        f"00-{'0' * 32}-{S}-01",
        f"00-{T}-{'0' * 16}-01",
        f"ff-{T}-{S}-01",
        f"0-{T}-{S}-01",
        f".0-{T}-{S}-01",
        f"00-{T[:-1]}.-{S}-01",
        f"00_{T}_{S}_01",
        f"01-{T}-{S}-01.x",
    ],
)
def test_what_breaks_a_rule_is_nothing(header: str) -> None:
    assert parse(header.encode()) is None


@pytest.mark.parametrize("header", [f"cc-{T}-{S}-01", f"cc-{T}-{S}-01-what-the-future-holds", f"01-{T}-{S}-01-"])
def test_a_higher_version_is_read_as_far_as_version_00_goes(header: str) -> None:
    context = parse(header.encode())
    assert context is not None
    assert context.header() == f"00-{T}-{S}-01".encode()


def test_unknown_flags_are_read_and_not_passed_on() -> None:
    context = parse(f"00-{T}-{S}-ff".encode())
    assert context is not None
    assert context.flags == SAMPLED | RANDOM


@given(
    st.binary(min_size=16, max_size=16).filter(any), st.binary(min_size=8, max_size=8).filter(any), st.integers(0, 3)
)
def test_a_context_reads_back_from_its_header_and_from_its_packed_form(trace: bytes, span: bytes, flags: int) -> None:
    context = SpanContext(trace, span, flags)
    assert parse(context.header()) == context
    assert unpack(context.pack()) == context


@given(st.binary(max_size=70))
def test_any_bytes_are_read_without_an_error(header: bytes) -> None:
    context = parse(header)
    assert context is None or len(header) >= 55
