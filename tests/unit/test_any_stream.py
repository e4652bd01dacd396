"""Whatever a stream holds and wherever it is cut: the same bytes, the same frames, the same jobs."""

from __future__ import annotations

from dataclasses import dataclass, field

import hiredis
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.events import Op
from proxy.resp.commands import encode
from proxy.resp.numbers import Malformed
from proxy.resp.replies import OVERSIZE, Oversize, ReplyFramer
from proxy.resp.reply import ReplyError, Undecodable, decode
from tests.frameworks import lists
from tests.playbook import Play, traceparent
from tests.unit.resp_streams import asides, bulk, places, strange, streamed, values
from tests.unit.test_request_framer import cut

frames = st.lists(st.one_of(strange, asides), min_size=1, max_size=8)


def take(stream: bytes, places: list[int]) -> list[tuple[bytes | Oversize, bool]]:
    """Every frame, and whether it answers nothing; what was read before something broken is in the error."""
    framer, taken = ReplyFramer(1 << 20), list[tuple[bytes | Oversize, bool]]()
    try:
        for chunk in cut(stream, places):
            framer.feed(chunk)
            while (frame := framer.take()) is not None:
                taken.append((frame, framer.push))
    except Malformed as error:
        raise Malformed(taken) from error
    assert framer.drained()
    return taken


def told(frames: list[bytes]) -> list[tuple[bytes, bool]]:
    return [(frame, frame[:1] in b">|") for frame in frames]


class TestReplies:
    @given(frames=frames, places=places)
    def test_the_frames_are_those_that_were_sent(self, frames: list[bytes], places: list[int]) -> None:
        assert take(b"".join(frames), places) == told(frames)

    @given(frames=frames, places=places, number=st.integers(0, 7))
    def test_one_is_wanted_and_those_around_it_are_not(
        self, frames: list[bytes], places: list[int], number: int
    ) -> None:
        replies = [frame for frame, aside in told(frames) if not aside]
        framer, passed, found = ReplyFramer(1 << 20), 0, list[bytes | Oversize]()
        for chunk in cut(b"".join(frames), places):
            framer.feed(chunk)
            while not framer.drained():
                if passed == number and not found:
                    frame = framer.take()
                    if frame is None:
                        break
                    if not framer.push:
                        found.append(frame)
                else:
                    most = 1000 if found else number - passed
                    skimmed = framer.skim(most)
                    passed += skimmed
                    if skimmed < most:
                        break
        assert found == replies[number : number + 1]
        assert passed + len(found) == len(replies)

    @given(frame=values)
    def test_values_are_those_of_hiredis(self, frame: bytes) -> None:
        reader = hiredis.Reader(replyError=ReplyError)
        reader.feed(frame)
        assert repr(decode(frame)) == repr(reader.gets())

    @given(frames=st.lists(st.one_of(values, strange), min_size=1, max_size=5))
    def test_what_cannot_be_read_leaves_nothing_behind(self, frames: list[bytes]) -> None:
        for frame in frames:
            reader = hiredis.Reader(replyError=ReplyError, notEnoughData=...)
            reader.feed(frame)
            try:
                alone = reader.gets()
                readable = alone is not ... and not reader.has_data()
            except (hiredis.ProtocolError, TypeError, ValueError):
                readable = False
            if readable:
                assert repr(decode(frame)) == repr(alone)
            else:
                with pytest.raises(Undecodable):
                    decode(frame)

    @given(frames=st.lists(values, max_size=4), broken=streamed, rest=values, places=places)
    def test_a_type_without_a_length_is_where_reading_ends(
        self, frames: list[bytes], broken: bytes, rest: bytes, places: list[int]
    ) -> None:
        with pytest.raises(Malformed) as raised:
            take(b"".join([*frames, broken, rest]), places)
        assert raised.value.args == (told(frames),)

    @settings(max_examples=30)
    @given(
        kind=st.sampled_from([b"+", b"-ERR ", b"("]),
        size=st.integers(60_000, 300_000),
        piece=st.integers(1000, 70_000),
        nested=st.booleans(),
        limit=st.sampled_from([1 << 20, 1000]),
    )
    def test_lines_of_any_length(self, kind: bytes, size: int, piece: int, nested: bool, limit: int) -> None:
        line = kind + b"7" * size + b"\r\n"
        frames = [b"*2\r\n" + line + b":1\r\n" if nested else line, b":2\r\n"]
        stream = b"".join(frames)
        taking, skimming = ReplyFramer(limit), ReplyFramer(limit)
        taken, skimmed = list[bytes | Oversize](), 0
        for at in range(0, len(stream), piece):
            taking.feed(stream[at : at + piece])
            while (frame := taking.take()) is not None:
                taken.append(frame)
            skimming.feed(stream[at : at + piece])
            skimmed += skimming.skim(10)
        assert taken == [frames[0] if limit > size else OVERSIZE, frames[1]]
        assert skimmed == 2


@dataclass
class Conversation:
    """Commands with what should reach Redis of them, the replies, and the jobs that are seen."""

    sent: bytes = b""
    arrives: bytes = b""
    replies: bytes = b""
    jobs: list[tuple[Op, bytes]] = field(default_factory=list)
    written: int = 0

    def add(self, command: bytes, reply: bytes, arrives: bytes | None = None) -> None:
        self.sent += command
        self.arrives += command if arrives is None else arrives
        self.replies += reply

    def push(self, number: int, before: bytes) -> None:
        """A job that a context is written into."""
        self.written += 1
        job = b'{"id":%d,"traceparent":"%s"}' % (number, traceparent(self.written).encode())
        command = [b"RPUSH", b"jobs", b'{"id":%d}' % number]
        self.add(encode(command), before + b":%d\r\n" % self.written, encode([*command[:2], job]))
        self.jobs.append((Op.ENQUEUE, job))

    def pop(self, body: bytes | None, before: bytes) -> None:
        self.add(encode([b"LPOP", b"jobs"]), before + (b"$-1\r\n" if body is None else bulk(body)))
        if body is not None:
            self.jobs.append((Op.DEQUEUE, body))


names = st.sampled_from([b"GET", b"get", b"EVAL", b"N" * 50, b"", b"STRLEN", b"lpush", b"XADD"])
arguments = st.lists(
    st.one_of(st.binary(max_size=40), st.sampled_from([b"jobs:none of ours", b"", b"x" * 3000])), max_size=3
)
unwatched = st.builds(lambda name, words: encode([name, b"other", *words]), names, arguments)
inline = st.sampled_from(
    [b"PING\r\n", b'GET "a b"\r\n', b"get 'a\\'b'\n", b'"STRLEN" "jobs\\x00"\r\n', b'ECHO "\xff\r"\r\n']
)
silent = st.sampled_from([b"\r\n", b"\n", b" \t\r\n", b"*0\r\n", b"*-1\r\n", b"*-7\r\n"])
before = st.lists(asides, max_size=2).map(b"".join)


@st.composite
def conversations(draw: st.DrawFn) -> Conversation:
    found = Conversation()
    # Only a client that is known to be logged in has the beginning of a command held back.
    found.add(b"SELECT 0\r\n", b"+OK\r\n")
    for number in range(draw(st.integers(1, 8))):
        kind = draw(st.sampled_from(["push", "pop", "plain", "plain", "inline", "silent", "foreign"]))
        if kind == "push":
            found.push(number, draw(before))
        elif kind == "pop":
            found.pop(draw(st.one_of(st.none(), st.binary(max_size=80))), draw(before))
        elif kind == "silent":
            found.add(draw(silent), b"")
        elif kind == "foreign":
            job = draw(st.sampled_from([b"[1]", b"\x80\x05", b'{"id":', b""]))
            found.add(encode([b"RPUSH", b"jobs", job]), draw(before) + b":1\r\n")
            found.jobs.append((Op.ENQUEUE, job))
        else:
            found.add(draw(unwatched if kind == "plain" else inline), draw(before) + draw(strange))
    return found


class TestConversations:
    @given(found=conversations(), places=places, others=places)
    def test_jobs_are_those_of_their_commands_and_nothing_else_has_changed(
        self, found: Conversation, places: list[int], others: list[int]
    ) -> None:
        run = Play((lists(),), {})
        session = run.session("client")
        login = found.sent.index(b"\n") + 1
        arrived = session.client_data(found.sent[:login], 1)
        session.upstream_data(found.replies[:5], 1, delivered=True)
        arrived += b"".join(session.client_data(chunk, 1) for chunk in cut(found.sent[login:], places))
        assert arrived + session.client_eof(1) == found.arrives
        for chunk in cut(found.replies[5:], others):
            session.upstream_data(chunk, 2, delivered=True)
        assert [(event.op, event.value) for event in run.events] == found.jobs
        assert run.blind == {}

    @given(found=conversations(), places=places)
    def test_observed_alone_every_byte_stays(self, found: Conversation, places: list[int]) -> None:
        run = Play((lists(),), {"inject": False})
        session = run.session("client")
        arrived = b"".join(session.client_data(chunk, 1) for chunk in cut(found.sent, places))
        assert arrived + session.client_eof(1) == found.sent

    @given(found=conversations(), broken=streamed, places=places, others=places)
    def test_a_session_that_meets_a_type_without_a_length_passes_the_rest(
        self, found: Conversation, broken: bytes, places: list[int], others: list[int]
    ) -> None:
        run = Play((lists(),), {})
        session = run.session("client")
        arrived = b"".join(session.client_data(chunk, 1) for chunk in cut(found.sent + b"PING\r\n", places))
        for chunk in cut(found.replies + broken, others):
            session.upstream_data(chunk, 2, delivered=True)
        assert run.blind == {"unknown_type": 1}
        more = encode([b"RPUSH", b"jobs", b'{"id":1}'])
        assert session.client_data(more, 3) == more
        assert len(arrived) >= len(found.sent)
