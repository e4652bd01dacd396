"""Chunks that are whole: the same answers as of the framers, or none."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.resp.commands import encode, with_last
from proxy.resp.replies import ReplyFramer
from proxy.resp.whole import LIMIT, WholeCommands, command_size, is_one_reply

ARGUMENT = st.one_of(st.binary(max_size=40), st.sampled_from([b"\r\n*1\r\n", b"\r\n~", b"$3\r\nabc\r\n", b"*12345"]))
COMMANDS = st.lists(st.lists(ARGUMENT, min_size=1, max_size=6), min_size=1, max_size=20)


@given(COMMANDS)
def test_what_is_read_is_what_was_written(commands: list[list[bytes]]) -> None:
    data = b"".join(map(encode, commands))
    found = WholeCommands().read(data)
    assert found in (commands, None)
    if not any(sign in argument for command in commands for argument in command for sign in (b"*", b"~", b">")):
        assert len(data) <= LIMIT
        assert found == commands
        assert sum(map(command_size, commands)) == len(data)


@given(COMMANDS, st.data())
def test_nothing_is_read_of_a_part(commands: list[list[bytes]], draw: st.DataObject) -> None:
    ends = {0}
    for command in commands:
        ends.add(max(ends) + len(encode(command)))
    data = b"".join(map(encode, commands))
    cut = draw.draw(st.integers(1, len(data)))
    reader = WholeCommands()
    found = reader.read(data[:cut])
    assert (found is None) or cut in ends
    # And it is remembered for nobody.
    assert reader.read(b"*1\r\n$4\r\nPING\r\n") == [[b"PING"]]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"PING\r\n",
        b"*0\r\n",
        b"*-1\r\n",
        b"*1\r\n$-1\r\n",
        b"*1\r\n:1\r\n",
        b"*1\r\n+PING\r\n",
        b"*1\r\n*1\r\n$4\r\nPING\r\n",
        b"*1\r\n$04\r\nPING\r\n",
        b"*01\r\n$4\r\nPING\r\n",
        b"*1\r\n$4\r\nPING\r\n*0\r\n",
        b"*1\r\n$4\r\nPING\r\nPING\r\n",
        b"*2\r\n$4\r\nPING\r\n",
        b"*1\r\n#t\r\n",
        b"*1\r\n$4\r\nPIN",
        b"*1\r\n$20000\r\n" + 20000 * b"x" + b"\r\n",
    ],
)
def test_what_is_left_to_the_framer(data: bytes) -> None:
    assert WholeCommands().read(data) is None


@pytest.mark.parametrize("kind", [b"*", b"~", b">", b"%", b"|"])
def test_a_header_reserves_no_memory(kind: bytes) -> None:
    header = b"%b99999999\r\n" % kind
    tracemalloc.start()
    try:
        # Redis and hiredis do not look at what ends a string, nor hiredis at what an inline command is.
        for before in (b"", b"*1\r\n", b"*2\r\n$1\r\na\r\n", b"*2\r\n$1\r\naXX", b"*1\r\n$4\r\nPINGXX"):
            assert WholeCommands().read(before + header) is None
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("kind", [b"*", b"~", b">", b"|"])
def test_many_headers_reserve_little_memory(kind: bytes) -> None:
    tracemalloc.start()
    try:
        for header in (b"*9999\r\n", b"%b1000\r\n" % kind, b"%b999\r\n" % kind):
            assert WholeCommands().read(b"*1\r\n" + header * ((LIMIT - 4) // len(header))) is None
        assert tracemalloc.get_traced_memory()[1] < 48 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("data", "one"),
    [
        (b"+OK\r\n", True),
        (b":1\r\n", True),
        (b"-ERR no\r\n", True),
        (b"_\r\n", True),
        (b"$-1\r\n", True),
        (b"$0\r\n\r\n", True),
        (b"$3\r\nab\r\n", False),
        (b"$3\r\nabc\r\n", True),
        (b"$3\r\nabc\r\n+", False),
        (b":0\r\n+", False),
        (b":0\r\n:0\r\n", False),
        (b"+O", False),
        (b"+", False),
        (b"", False),
        (b"$3", False),
        (b"$3\r", False),
        (b"$0\r", False),
        (b"*1\r\n:1\r\n", False),
        (b">1\r\n:1\r\n", False),
        (b"$5000\r\n" + 5000 * b"x" + b"\r\n", False),
    ],
)
def test_one_reply(data: bytes, one: bool) -> None:
    assert is_one_reply(data) is one


@given(
    st.one_of(st.binary(min_size=1, max_size=30), st.from_regex(rb"\A[+:$_-][\x00-\xff]{0,3}\r\n[\x00-\xff]{0,6}\Z"))
)
def test_one_reply_is_what_the_framer_says(data: bytes) -> None:
    if is_one_reply(data):
        framer = ReplyFramer(1000)
        framer.feed(data)
        assert framer.take() == data
        assert framer.drained()


@given(st.lists(st.binary(max_size=20), min_size=1, max_size=4), st.binary(max_size=2000))
def test_another_last_argument(args: list[bytes], new: bytes) -> None:
    assert with_last(encode(args), args[-1], new) == encode([*args[:-1], new])
