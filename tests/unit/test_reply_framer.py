"""The reply framer finds the boundaries that hiredis finds, however the stream is cut."""

from __future__ import annotations

import hiredis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.resp.numbers import Malformed
from proxy.resp.replies import OVERSIZE, ReplyFramer
from proxy.resp.reply import ReplyError, Undecodable, decode
from tests.unit.test_request_framer import cut

scalars = st.one_of(
    st.integers(-(10**9), 10**9).map(lambda value: b":%d\r\n" % value),
    st.binary(max_size=80).map(lambda value: b"$%d\r\n%s\r\n" % (len(value), value)),
    st.sampled_from([b"+OK\r\n", b"-ERR no\r\n", b"$-1\r\n", b"*-1\r\n", b"_\r\n", b"#t\r\n", b"#f\r\n", b",1.5\r\n",
                     b"(12345678901234567890\r\n", b"=7\r\ntxt:abc\r\n", b"*0\r\n", b"%0\r\n", b"~0\r\n"]),
)  # fmt: skip


def aggregate(children: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    def build(kind: bytes, items: list[bytes]) -> bytes:
        return b"%s%d\r\n%s" % (kind, len(items), b"".join(items))

    keys = st.binary(min_size=1, max_size=8).map(lambda key: b"$%d\r\n%s\r\n" % (len(key), key))
    pairs = st.lists(st.tuples(keys, children), max_size=3)
    return st.one_of(
        st.builds(build, st.just(b"*"), st.lists(children, max_size=4)),
        pairs.map(lambda items: b"%%%d\r\n%s" % (len(items), b"".join(key + value for key, value in items))),
    )


replies = st.recursive(scalars, aggregate, max_leaves=12)
pushes = replies.map(lambda item: b">2\r\n$4\r\npush\r\n" + item)
places = st.lists(st.integers(0, 100_000), max_size=10)


@given(frames=st.lists(replies, min_size=1, max_size=6), places=places)
def test_taking_gives_back_every_frame(frames: list[bytes], places: list[int]) -> None:
    framer, taken = ReplyFramer(1 << 20), []
    for chunk in cut(b"".join(frames), places):
        framer.feed(chunk)
        while (frame := framer.take()) is not None:
            taken.append(frame)
    assert taken == frames
    assert framer.drained()


@given(frames=st.lists(st.one_of(replies, pushes), min_size=1, max_size=8), places=places)
def test_skimming_counts_replies_and_no_pushes(frames: list[bytes], places: list[int]) -> None:
    framer, passed = ReplyFramer(1 << 20), 0
    for chunk in cut(b"".join(frames), places):
        framer.feed(chunk)
        passed += framer.skim(1_000_000)
    assert passed == sum(not frame.startswith(b">") for frame in frames)
    assert framer.drained()


@given(frame=replies)
def test_values_are_those_of_hiredis(frame: bytes) -> None:
    reader = hiredis.Reader(replyError=ReplyError)
    reader.feed(frame)
    assert repr(decode(frame)) == repr(reader.gets())


def test_an_attribute_takes_no_place_and_within_a_reply_belongs_to_what_follows() -> None:
    framer = ReplyFramer(1 << 20)
    attribute, nested = b"|1\r\n+ttl\r\n:3600\r\n", b"*2\r\n|1\r\n+a\r\n+b\r\n:1\r\n:2\r\n"
    framer.feed(attribute + b":7\r\n" + nested)
    assert (framer.take(), framer.push) == (attribute, True)
    assert (framer.take(), framer.push) == (b":7\r\n", False)
    assert (framer.take(), framer.push) == (nested, False)
    with pytest.raises(Undecodable):
        decode(nested)
    assert decode(b":7\r\n") == 7


def test_a_reply_over_the_limit_is_passed_and_not_kept() -> None:
    framer = ReplyFramer(100)
    framer.feed(b"$500\r\n" + b"x" * 50)
    assert framer.take() is None
    framer.feed(b"x" * 450 + b"\r\n:1\r\n")
    assert framer.take() is OVERSIZE
    assert framer.take() == b":1\r\n"


def test_a_push_that_was_half_skimmed_is_not_taken_for_a_reply() -> None:
    framer = ReplyFramer(1 << 20)
    framer.feed(b">2\r\n$1\r\na\r\n")
    assert framer.skim(10) == 0
    framer.feed(b"$1\r\nb\r\n:5\r\n")
    assert framer.take() == b":5\r\n"


@pytest.mark.parametrize("push", [b">2\r\n$10\r\ninvalidate\r\n_\r\n", b"|1\r\n+ttl\r\n:3600\r\n"])
def test_a_push_that_was_half_taken_is_no_part_of_a_reply(push: bytes) -> None:
    """It begins while nothing is awaited; by its end there is a reply to skim, and after that one to take."""
    for at in range(1, len(push)):
        framer = ReplyFramer(1000)
        framer.feed(push[:at])
        assert framer.take() is None
        framer.feed(push[at:] + b"+OK\r\n")
        assert framer.skim(1) == 1
        framer.feed(b":1\r\n")
        assert framer.take() == b":1\r\n"
        assert framer.drained()


def test_deep_nesting_needs_no_stack() -> None:
    framer = ReplyFramer(1 << 20)
    framer.feed(b"*1\r\n" * 100_000 + b":1\r\n")
    assert framer.skim(1) == 1


@pytest.mark.parametrize("stream", [b"?1\r\n", b"$?\r\n", b"*x\r\n", b"$01\r\n", b"hello\r\n", b":" + b"1" * 70_000])
def test_what_no_redis_sends_is_malformed(stream: bytes) -> None:
    framer = ReplyFramer(1 << 20)
    framer.feed(stream)
    with pytest.raises(Malformed):
        framer.skim(1)
