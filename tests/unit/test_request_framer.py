"""The request framer: whatever the cut, the same commands; never a byte changed, lost or added."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.resp.commands import encode
from proxy.resp.numbers import Malformed, number
from proxy.resp.requests import RequestFramer, Watch

WATCHED = {b"LPUSH": Watch.HOLD, b"LREM": Watch.COPY, b"MULTI": Watch.COPY, b"HSET": Watch.CLAIMED}
LIMIT = 512

words = st.sampled_from([b"LPUSH", b"lpush", b"LREM", b"GET", b"MULTI", b"SET", b"HSET", b"A" * 40])
arguments = st.one_of(
    st.sampled_from([b"mine", b"other", b"", b"*3\r\n$5\r\nLPUSH\r\n$4\r\nmine\r\n"]), st.binary(max_size=700)
)
commands = st.builds(lambda name, args: encode([name, *args]), words, st.lists(arguments, max_size=4))
lines = [b"PING", b"", b" ", b"lpush mine v", b"GET a", b'"LPUSH" \'mine\' "a\\n"', b'MULTI "unbalanced', b'""']
oddities = st.one_of(
    st.sampled_from([b"*0\r\n", b"*-10\r\n"]),
    st.builds(bytes.__add__, st.sampled_from(lines), st.sampled_from([b"\r\n", b"\n"])),
)
streams = st.lists(st.one_of(commands, commands, oddities), min_size=1, max_size=8).map(b"".join)


def read(chunks: list[bytes]) -> tuple[list[tuple[bytes, list[bytes]]], int, bytes, int]:
    """Commands, plain ones counted, what was forwarded and is held, how many were too big."""
    framer = RequestFramer(WATCHED, lambda name, key: key == b"mine", LIMIT)
    found: list[tuple[bytes, list[bytes]]] = []
    plain, forwarded = 0, b""
    for chunk in chunks:
        passed = framer.feed(chunk)
        if passed is not None:
            forwarded += passed
            continue
        done = framer.released
        while (command := framer.next()) is not None:
            found.append((command.name, command.args))
            plain += command.plain
            assert command.inline or encode(command.args) == framer.buffer[command.start : command.end]
        forwarded += framer.buffer[done : max(done, framer.free)]
        framer.keep()
    return found, plain + framer.plain, forwarded + framer.held, len(framer.oversize)


def cut(stream: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted({place % (len(stream) + 1) for place in places}), len(stream)]
    return [stream[begin:end] for begin, end in pairwise(edges) if end > begin]


@given(stream=streams, places=st.lists(st.integers(0, 10_000), max_size=12), short=st.integers(0, 200))
def test_any_cut_reads_the_same_and_keeps_every_byte(stream: bytes, places: list[int], short: int) -> None:
    stream = stream[: max(1, len(stream) - short)]
    whole = read([stream])
    assert whole[2] == stream
    assert read(cut(stream, places)) == whole


@given(stream=streams)
def test_byte_by_byte_reads_the_same(stream: bytes) -> None:
    assert read([stream[at : at + 1] for at in range(len(stream))]) == read([stream])


def test_words_in_quotes_are_read_as_redis_reads_them() -> None:
    lines = b'"lpush" mine "{\\"id\\": 1}"\r\nLREM \'mine\' "\\x31" \'it\\\'s\'\nGET "mine\nMULTI\r\n'
    found, plain, _, _ = read([lines])
    assert found == [
        (b"LPUSH", [b"lpush", b"mine", b'{"id": 1}']),
        (b"LREM", [b"LREM", b"mine", b"1", b"it's"]),
        (b"MULTI", [b"MULTI"]),
    ]
    assert plain == 1, "one that cannot be split is refused, and so answered"


def test_only_what_may_be_rewritten_is_held() -> None:
    framer = RequestFramer(WATCHED, lambda name, key: key == b"mine", LIMIT)

    def forwarded(chunk: bytes) -> bytes:
        passed = framer.feed(chunk)
        if passed is not None:
            return passed
        done = framer.released
        assert framer.next() is None
        out = framer.buffer[done : framer.free]
        framer.keep()
        return out

    assert forwarded(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$9") == b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$9"
    assert forwarded(b"99\r\nab") == b"99\r\nab"
    assert forwarded(b"x" * 997 + b"\r\n*3\r\n$5\r\nLPU") == b"x" * 997 + b"\r\n*3\r\n$5\r\nLPU"
    assert forwarded(b"SH\r\n$4\r\nmine\r\n$3\r\na") == b""
    assert framer.held == b"SH\r\n$4\r\nmine\r\n$3\r\na"


def test_redis_may_refuse_a_command_by_its_count_alone() -> None:
    framer = RequestFramer(WATCHED, lambda name, key: True, LIMIT)
    assert framer.feed(b"*100\r\n") is None
    assert framer.next() is None
    assert framer.free == len(framer.buffer)


def test_a_client_that_is_logged_in_has_its_command_held_from_its_first_byte() -> None:
    framer = RequestFramer(WATCHED, lambda name, key: True, LIMIT)
    framer.heads = True
    assert framer.feed(b"PING\r\n*3\r\n$5\r\nLP") is None
    assert framer.next() is None
    assert framer.free == len(b"PING\r\n")
    framer.keep()
    assert framer.held == b"*3\r\n$5\r\nLP"


def test_a_key_of_nobody_lets_go_at_once() -> None:
    framer = RequestFramer(WATCHED, lambda name, key: False, LIMIT)
    start = b"*3\r\n$5\r\nLPUSH\r\n$5\r\nother\r\n$9999999\r\nabc"
    assert framer.feed(start) is None
    assert framer.next() is None
    assert framer.free == len(start)


def test_too_big_a_job_is_not_collected_and_counted_by_key() -> None:
    framer = RequestFramer(WATCHED, lambda name, key: True, LIMIT)
    start = b"*3\r\n$5\r\nLPUSH\r\n$4\r\nmine\r\n$600\r\n"
    assert framer.feed(start) is None
    assert framer.next() is None
    assert (framer.free, framer.oversize, framer.plain) == (len(start), [b"mine"], 1)


def test_a_huge_count_allocates_nothing() -> None:
    framer = RequestFramer(WATCHED, lambda name, key: True, LIMIT)
    assert framer.feed(b"*3000000000\r\n$3\r\nDEL\r\n$1\r\na\r\n") is None
    assert framer.next() is None
    assert framer.free == len(framer.buffer)


@pytest.mark.parametrize(
    "stream",
    [
        b"*1\r\n:1\r\n",
        b"*1\r\n$x\r\n",
        b"*+1\r\n",
        b"*2\r\n$4\r\nLREM\r\n$-1\r\n",
        b"*1" * 40_000,
        b"P" * 70_000,
        b"*-0\r\n",
        b"GET a\0b\r\n",
    ],
)
def test_what_redis_would_refuse_is_malformed(stream: bytes) -> None:
    framer = RequestFramer(WATCHED, lambda name, key: True, LIMIT)
    assert framer.feed(stream) is None
    with pytest.raises(Malformed):
        framer.next()


@pytest.mark.parametrize("digits", [b"", b"-", b"01", b"1_0", b" 5", b"+5", b"5 ", b"-01", b"9" * 20, "²".encode()])
def test_only_canonical_numbers_are_numbers(digits: bytes) -> None:
    with pytest.raises(Malformed):
        number(digits)


@given(st.integers(-(10**18), 10**18))
def test_numbers_read_back(value: int) -> None:
    assert number(b"%d" % value) == value


def test_a_command_that_is_watched_for_its_key_is_read_only_if_that_is_claimed_and_never_held() -> None:
    framer = RequestFramer(WATCHED, lambda name, key: key == b"mine", LIMIT)
    ours, others = encode([b"HSET", b"mine", b"f", b"v"]), encode([b"HSET", b"other", b"f", b"v"])
    assert framer.feed(others + ours[:-3]) is None
    assert framer.next() is None
    assert framer.free == len(others + ours) - 3
    framer.keep()
    assert framer.feed(ours[-3:]) is None
    command = framer.next()
    assert command is not None
    assert (command.args[1], command.plain) == (b"mine", 1)
