"""W3C Trace Context: the examples of the specification and the cases of its test suite (w3c/trace-context, test.py).

A context stands in a member of a job: there is no header, so there is no blank around it, no other case of its name and
no second line of it. Where the suite sends several, they stand here as one list, as section 3.3.1.1 joins them.
"""

from __future__ import annotations

import pytest

from proxy.context import tracestate
from proxy.context.json_slot import json_slot
from proxy.context.slot import State
from proxy.context.traceparent import parse

T, S = "12345678901234567890123456789012", "1234567890123456"
KEY = "abcdefghijklmnopqrstuvwxyz0123456789_-*/"
VALUE = "".join(map(chr, (*range(0x20, 0x2C), *range(0x2D, 0x3D), *range(0x3E, 0x7F))))
MEMBERS = [f"bar{number:02}={number:02}" for number in range(1, 34)]

VALID = {
    "section 1": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "section 1, rojo": "00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-01",
    "section 1, congo": "00-0af7651916cd43dd8448eb211c80319c-b9c7c989f97918e1-01",
    "3.2.4, sampled": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    "3.2.4, not sampled": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00",
    "random": f"00-{T}-{S}-02",
    "both flags": f"00-{T}-{S}-03",
    "version cc": f"cc-{T}-{S}-01",
    "version cc with more": f"cc-{T}-{S}-01-what-the-future-will-be-like",
}
INVALID = {
    "version 00, more": f"00-{T}-{S}-01.",
    "version 00, future": f"00-{T}-{S}-01-what-the-future-will-be-like",
    "version cc, no dash": f"cc-{T}-{S}-01.what-the-future-will-be-like",
    "version ff": f"ff-{T}-{S}-01",
    "version, illegal at 0": f".0-{T}-{S}-01",
    "version, illegal at 1": f"0.-{T}-{S}-01",
    "version of 3": f"000-{T}-{S}-01",
    "version of 4": f"0000-{T}-{S}-01",
    "version of 1": f"0-{T}-{S}-01",
    "trace id 0": f"00-{'0' * 32}-{S}-01",
    "trace id, illegal first": f"00-.{T[1:]}-{S}-01",
    "trace id, illegal last": f"00-{T[:-1]}.-{S}-01",
    "trace id, upper case": f"00-{T[:-1]}A-{S}-01",
    "trace id of 33": f"00-{T}3-{S}-01",
    "trace id of 31": f"00-{T[:-1]}-{S}-01",
    "parent id 0": f"00-{T}-{'0' * 16}-01",
    "parent id, illegal first": f"00-{T}-.{S[1:]}-01",
    "parent id, illegal last": f"00-{T}-{S[:-1]}.-01",
    "parent id of 17": f"00-{T}-{S}7-01",
    "parent id of 15": f"00-{T}-{S[:-1]}-01",
    "flags, illegal first": f"00-{T}-{S}-.0",
    "flags, illegal last": f"00-{T}-{S}-0.",
    "flags of 3": f"00-{T}-{S}-001",
    "flags of 1": f"00-{T}-{S}-1",
}
PASSED_ON = {
    "section 1": "congo=t61rcWkgMzE",
    "section 1, rojo": "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE",
    "section 1, congo": "congo=ucfJifl5GOE,rojo=00f067aa0ba902b7",
    "3.3.1.3": "vendorname1=opaqueValue1,vendorname2=opaqueValue2",
    "empty": "",
    "several lines": "foo=1,bar=2,rojo=1,congo=2,baz=3",
    "all characters": f"{KEY}={VALUE}",
    "all characters, vendor": f"{KEY}@a-z0-9_-*/={VALUE}",
    "ends with @": "foo@=1,bar=2",
    "two @ in a row": "foo@@bar=1,bar=2",
    "two @": "foo@bar@baz=1,bar=2",
    "32 members": ",".join(MEMBERS[:32]),
    "key of 256": f"foo=1,{'z' * 256}=1",
    "tenant of 241": f"foo=1,{'t' * 241}@{'v' * 14}=1",
    "tenant of 242": f"foo=1,{'t' * 242}@v=1",
    "system of 15": f"foo=1,t@{'v' * 15}=1",
}
"""As they are."""
MENDED = {
    "3.3.3": ("congo=congosFirst,rojo=rojosFirst,congo=congosSecond", "congo=congosFirst,rojo=rojosFirst"),
    "empty last": ("foo=1,", "foo=1"),
    "empty first": (",foo=1", "foo=1"),
    "a key twice, alike": ("foo=1,foo=1", "foo=1"),
    "a key twice": ("foo=1,foo=2", "foo=1"),
    "blanks": ("foo=1 \t , \t bar=2, \t baz=3", "foo=1,bar=2,baz=3"),
    "tabs": ("foo=1\t \t,\t \tbar=2,\t \tbaz=3", "foo=1,bar=2,baz=3"),
    "blank first": (" foo=1", "foo=1"),
    "tab last": ("foo=1\t", "foo=1"),
}
REFUSED = {
    "blank in a key": "foo =1",
    "upper case": "FOO=1",
    "dot": "foo.bar=1",
    "begins with @": "@foo=1,bar=2",
    "33 members": ",".join(MEMBERS),
    "key of 257": f"foo=1,{'z' * 257}=1",
    "two =": "foo=bar=baz",
    "no value": "foo=,bar=3",
}


@pytest.mark.parametrize("case", VALID)
def test_a_valid_traceparent_is_read_as_version_00(case: str) -> None:
    header = VALID[case]
    context = parse(header.encode())
    assert context is not None
    assert context.header().decode() == f"00{header[2:55]}"
    found = json_slot(f'{{"traceparent":"{header}"}}'.encode())
    assert (found.state, found.context) == (State.FOUND, context)


@pytest.mark.parametrize("case", INVALID)
def test_an_invalid_one_is_none_and_is_left_where_it_is(case: str) -> None:
    header = INVALID[case]
    assert parse(header.encode()) is None
    found = json_slot(f'{{"traceparent":"{header}","tracestate":"foo=1"}}'.encode())
    assert (found.state, found.context) == (State.INVALID, None)


def test_two_of_them_are_none() -> None:
    headers = ",".join(f'"traceparent":"00-{T[:-1]}{last}-{S}-01"' for last in "12")
    assert json_slot(f"{{{headers}}}".encode()).state is State.INVALID


@pytest.mark.parametrize(
    ("given", "passed_on"),
    [
        *((state, state) for state in PASSED_ON.values()),
        *MENDED.values(),
        *((state, None) for state in REFUSED.values()),
    ],
    ids=[*PASSED_ON, *MENDED, *REFUSED],
)
def test_tracestate(given: str, passed_on: str | None) -> None:
    read = tracestate.parse(given.encode())
    assert (None if read is None else read.decode()) == passed_on
