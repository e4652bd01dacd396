"""Every type of RESP2 and RESP3 as hypothesis may put them together: what a Redis could say, and what none does."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import strategies as st


def bulk(body: bytes, kind: bytes = b"$") -> bytes:
    return b"%s%d\r\n%s\r\n" % (kind, len(body), body)


def aggregate(kind: bytes, items: Sequence[bytes]) -> bytes:
    count = len(items) // 2 if kind in b"%|" else len(items)
    return b"%s%d\r\n%s" % (kind, count, b"".join(items))


lines = st.binary(max_size=40).map(lambda text: text.replace(b"\r", b"").replace(b"\n", b""))
bodies = st.one_of(
    st.binary(max_size=60),
    st.sampled_from([b"\r\n", b"$3\r\nabc\r\n", b"*2\r\n", b"-ERR\r\n", b">2\r\n", b"|1\r\n", b"\r", b"x" * 3000]),
)
integers = st.integers(-(2**63), 2**63 - 1).map(lambda number: b":%d\r\n" % number)
doubles = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False).map(lambda number: b",%r\r\n" % number),
    st.sampled_from([b",inf\r\n", b",-inf\r\n", b",nan\r\n", b",1e300\r\n", b",10\r\n"]),
)
strings = st.one_of(
    bodies.map(bulk), bodies.map(lambda body: bulk(b"txt:" + body, b"=")), lines.map(b"+%b\r\n".__mod__)
)
nothing = st.sampled_from([b"$-1\r\n", b"*-1\r\n", b"_\r\n", b"$0\r\n\r\n", b"*0\r\n", b"%0\r\n", b"~0\r\n"])
others = st.one_of(
    lines.map(b"-ERR %b\r\n".__mod__),
    st.sampled_from([b"#t\r\n", b"#f\r\n"]),
    st.integers(2**63, 2**200).map(b"(%d\r\n".__mod__),
)
scalars = st.one_of(integers, doubles, strings, nothing, others)
blob_errors = bodies.map(lambda body: bulk(b"ERR " + body, b"!"))
"""hiredis cannot read these; no Redis sends them."""


def _nested(inner: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    items = st.lists(inner, max_size=4)
    # Some keys of maps are none for a dict in Python.
    pairs = st.lists(st.tuples(st.one_of(integers, strings), inner), max_size=3)
    return st.one_of(
        items.map(lambda found: aggregate(b"*", found)),
        items.map(lambda found: aggregate(b"~", found)),
        pairs.map(lambda found: aggregate(b"%", [part for pair in found for part in pair])),
    )


values = st.recursive(scalars, _nested, max_leaves=12)
"""Replies that hiredis can read."""

attributes = st.lists(st.tuples(strings, values), max_size=2).map(
    lambda found: aggregate(b"|", [part for pair in found for part in pair])
)


def _strange(inner: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    return st.one_of(
        _nested(inner),
        st.builds(bytes.__add__, attributes, inner),
        st.tuples(inner, inner).map(lambda pair: aggregate(b"%", pair)),
        st.sampled_from([b"%-1\r\n", b"~-1\r\n"]),
    )


strange = st.recursive(st.one_of(scalars, blob_errors), _strange, max_leaves=12).filter(lambda reply: reply[0] != 0x7C)
"""Replies that hiredis cannot all read: attributes within, aggregates as keys, ``!`` errors."""

pushes = st.lists(values, max_size=3).map(lambda items: aggregate(b">", [bulk(b"push"), *items]))
asides = st.one_of(pushes, attributes)
"""What answers no command."""

streamed = st.sampled_from(
    [
        b"$?\r\n;3\r\nabc\r\n;0\r\n",
        b"*?\r\n:1\r\n.\r\n",
        b"%?\r\n+a\r\n:1\r\n.\r\n",
        b"~?\r\n.\r\n",
        b"*1\r\n$?\r\n;0\r\n",
    ]
)
"""Types without a length, of the specification and of no Redis."""

places = st.lists(st.integers(0, 1_000_000), max_size=12)
"""Where to cut a stream."""
