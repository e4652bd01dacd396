"""The ledger of pending commands: which reply belongs to which command. It only observes.

Replies come in the order of the commands, with these exceptions, all kept here:

- a push (``>``) and an attribute (``|``) take no place; neither do messages to a RESP2 subscriber, nor confirmations
  beyond the first;
- SUBSCRIBE and its kin have one confirmation per channel: arrays in RESP2, pushes in RESP3, or one error;
- CLIENT REPLY OFF and SKIP take replies away, but no messages, and confirmations only in some versions;
- between MULTI and EXEC the reply is ``+QUEUED``; the real one is an element of EXEC's, which may be nil.

Commands that nobody watches are only counted, except in a transaction, where each ``+QUEUED`` counts.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator, Sequence
from itertools import takewhile
from typing import Final

from proxy.relay.pending import Lost, OutOfStep, Pending, Place, Resolved
from proxy.resp.replies import Oversize, ReplyFramer
from proxy.resp.reply import Reply, ReplyError, Undecodable, decode
from proxy.resp.whole import count_lines, is_one_reply

SUBSCRIBES: Final = frozenset((b"SUBSCRIBE", b"PSUBSCRIBE", b"SSUBSCRIBE"))
UNSUBSCRIBES: Final = frozenset((b"UNSUBSCRIBE", b"PUNSUBSCRIBE", b"SUNSUBSCRIBE"))
CONTROLS: Final = (
    frozenset(
        (
            b"MULTI",
            b"EXEC",
            b"DISCARD",
            b"RESET",
            b"SELECT",
            b"HELLO",
            b"AUTH",
            b"CLIENT",
            b"MONITOR",
            b"SYNC",
            b"PSYNC",
        )
    )
    | SUBSCRIBES
    | UNSUBSCRIBES
)
"""Commands that change how replies follow commands, or to which database."""

_ALONE: Final = frozenset((b"MULTI", b"DISCARD", b"RESET"))
"""Refused with arguments, and then without effect; EXEC ends its transaction even so."""
_LIMIT: Final = 100_000
"""Commands that may be pending at once with each reply to be looked at."""
_QUEUED: Final = b"+QUEUED\r\n"
_ARRAY: Final = 0x2A
_MESSAGES: Final = frozenset((b"message", b"pmessage", b"smessage"))
_CONFIRMATIONS: Final = frozenset(name.lower() for name in SUBSCRIBES | UNSUBSCRIBES)


class Ledger:
    __slots__ = ("_channels", "_framer", "_patterns", "_pending", "_queued", "_received", "_sent", "_shards", "_silent",
                 "_skip", "_transaction", "_unconfirmed", "admitted", "db", "protocol", "size")  # fmt: skip

    def __init__(self, limit: int) -> None:
        """``limit``: bytes of one reply that are kept for somebody who wants it."""
        self._framer = ReplyFramer(limit)
        self._pending: deque[Pending] = deque()
        self._sent = 0
        self._received = 0
        self._silent = False  # CLIENT REPLY OFF
        self._skip = False  # CLIENT REPLY SKIP: the next command has no reply
        self._transaction = False  # MULTI was sent
        self._queued: list[Pending] | None = None  # MULTI was confirmed
        self._channels = self._patterns = self._shards = 0
        self._unconfirmed = False  # it may have subscribed to something while replies were off
        self.size = 0
        """Bytes of the commands that are pending."""
        self.db = 0
        """The database, as of the reply last read."""
        self.admitted = False
        """Redis has done something for this client: it is logged in, or need not be."""
        self.protocol = 2

    # ---- commands, as they are sent

    def plain(self, count: int) -> None:
        """``count`` commands that nobody watches."""
        if self._transaction:
            for _ in range(count):
                self.expect(Pending(Place.PLAIN))
            return
        if self._silent or not count:
            return
        self._sent += count - self._skip
        self._skip = False

    def expect(self, pending: Pending) -> bool:
        """A command whose reply is wanted. False: it will have none."""
        if self._silent or self._skip:
            self._skip = False
            return False
        if len(self._pending) + len(self._queued or ()) >= _LIMIT:
            raise OutOfStep("overflow")
        pending.slot = self._sent
        self.size += pending.size
        self._sent += 1
        self._pending.append(pending)
        return True

    def control(self, name: bytes, args: list[bytes]) -> None:
        """One of `CONTROLS`, except those after which there are no replies to match."""
        if name == b"CLIENT":
            self._client(args)
            return
        if name in _ALONE and len(args) > 1:
            self.plain(1)
            return
        if name in SUBSCRIBES or name in UNSUBSCRIBES:
            pending = Pending(Place.SUBSCRIBE, number=len(args) - 1, kind=name.lower())
        elif name in (b"SELECT", b"HELLO"):
            number = int(args[1]) if len(args) > 1 and args[1].isdigit() and len(args[1]) < 9 else 0
            pending = Pending(Place[name.decode()], number=number)
        else:
            pending = Pending(Place[name.decode()])
            if name == b"RESET":
                # It turns replies on again, and is answered, unless its own reply was to be left out.
                self._silent = False
            if name != b"AUTH":
                self._transaction = name == b"MULTI"
        if not self.expect(pending):
            # Nobody will know. Most commands succeed.
            self._take_effect(pending)

    def _client(self, args: list[bytes]) -> None:
        if len(args) != 3 or args[1].upper() != b"REPLY" or self._transaction:
            self.plain(1)
            return
        mode = args[2].upper()
        if mode == b"ON":
            self._silent = self._skip = False
            self.plain(1)
        elif mode == b"OFF":
            self._silent = True
        elif mode == b"SKIP":
            self._skip = not self._silent
        else:
            self.plain(1)

    def unresolved(self) -> Iterator[Pending]:
        """Every watched command without a reply, oldest first; the ledger is over."""
        yield from self._queued or ()
        yield from self._pending
        self._queued = None
        self._pending.clear()
        self.size = 0

    # ---- replies, as they come

    def whole(self, data: bytes) -> Sequence[Resolved] | None:
        """Who wants what of a chunk of nothing but whole replies, which is what most are; None: `feed` it."""
        if self._queued is not None or not self._framer.drained() or self._free_running():
            return None
        if self._sent - self._received != 1:
            return self._lines(data)
        pending = self._pending
        if not is_one_reply(data) or (pending and pending[0].place is not Place.JOB):
            return None
        self._received += 1
        return (self._taken(data),) if pending else ()

    def _lines(self, data: bytes) -> Sequence[Resolved] | None:
        first, pending = self._received, self._pending
        end = first + count_lines(data)
        if end == first or end > self._sent:
            return None
        wanted = [*takewhile(lambda one: one.slot < end, pending)]
        if any(one.place is not Place.JOB for one in wanted):
            return None
        self._received = end
        if not wanted:
            return ()
        frames = [line + b"\r\n" for line in data[:-2].split(b"\r\n")]
        return [self._taken(frames[one.slot - first]) for one in wanted]

    def _taken(self, frame: bytes) -> Resolved:
        """The oldest command's reply."""
        oldest, value = self._pending.popleft(), _value(frame)
        self.size -= oldest.size
        self.admitted = self.admitted or not isinstance(value, ReplyError)
        return oldest, value

    def feed(self, data: bytes) -> Iterator[Resolved]:
        """Match a chunk of replies. Raises `OutOfStep`, `proxy.resp.numbers.Malformed`."""
        framer, pending = self._framer, self._pending
        framer.feed(data)
        while not framer.drained():
            if self._free_running():
                if not (yield from self._subscribed()):
                    return
                continue
            gap = (pending[0].slot if pending else self._sent) - self._received
            if gap:
                passed = framer.skim(gap)
                self._received += passed
                if passed < gap:
                    return
                continue
            frame = framer.take()
            if frame is None:
                return
            if framer.push:
                self._confirmed(frame)
                continue
            yield from self._match(frame)

    def _free_running(self) -> bool:
        """A RESP2 subscriber: arrays come that answer nothing."""
        return self.protocol == 2 and bool(self._channels or self._patterns or self._shards or self._unconfirmed)

    def _subscribed(self) -> Generator[Resolved, None, bool]:
        """One frame that a RESP2 subscriber gets. False: it has not all come yet."""
        frame = self._framer.take()
        if frame is None:
            return False
        if isinstance(frame, Oversize) or self._framer.push:
            # Nothing that a subscriber may ask for has an answer of that length.
            self._confirmed(frame)
            return True
        if frame[0] == _ARRAY:
            kind = _first(frame)
            if kind in _MESSAGES:
                return True
            if kind in _CONFIRMATIONS:
                self._confirmed(frame)
                return True
        yield from self._match(frame)
        return True

    def _match(self, frame: bytes | Oversize) -> Iterator[Resolved]:
        """``frame`` answers the oldest command without a reply."""
        pending = self._pending
        if self._received >= self._sent:
            raise OutOfStep
        if not pending or pending[0].slot > self._received:
            self._received += 1
            return
        oldest = pending[0]
        if oldest.place is Place.SUBSCRIBE and isinstance(frame, bytes) and frame[0] == _ARRAY:
            if not self._confirmed(frame):
                raise OutOfStep
            return
        pending.popleft()
        self._received += 1
        yield from self._answer(oldest, frame)

    def _answer(self, oldest: Pending, frame: bytes | Oversize) -> Iterator[Resolved]:
        place, queued = oldest.place, self._queued
        if queued is not None and frame == _QUEUED:
            queued.append(oldest)
            return
        if place is Place.JOB:
            value = _value(frame)
            self.size -= oldest.size
            if queued is not None and not isinstance(value, ReplyError):
                yield oldest, Lost.UNREADABLE
                raise OutOfStep
            self.admitted = self.admitted or not isinstance(value, ReplyError)
            yield oldest, value
        elif place is Place.EXEC:
            self._queued = None
            self.size -= sum(pending.size for pending in queued or ())
            yield from self._executed(queued or [], _value(frame))
        elif place is not Place.PLAIN:
            self._done(oldest, _value(frame))

    def _done(self, control: Pending, reply: Reply | Lost) -> None:
        """A command that changes the connection was answered."""
        if isinstance(reply, ReplyError) or control.place is Place.PLAIN:
            return
        if not _fits(control.place, reply):
            # Some versions leave out the error of an AUTH.
            raise OutOfStep
        self.admitted = control.place is not Place.RESET
        self._take_effect(control, reply)

    def _take_effect(self, control: Pending, reply: Reply | Lost = None) -> None:
        place = control.place
        if place is Place.MULTI:
            self._queued = []
        elif place in (Place.DISCARD, Place.EXEC):
            self._forget_queued()
        elif place is Place.SELECT:
            self.db = control.number
        elif place is Place.HELLO:
            self.protocol = control.number or self.protocol
        elif place is Place.RESET:
            self._forget_queued()
            self.db, self.protocol = 0, 2
            self._channels = self._patterns = self._shards = 0
            self._unconfirmed = False
        elif place is Place.SUBSCRIBE:
            confirmation = _confirmation(reply)
            if confirmation is None:
                self._unconfirmed = True
            else:
                self._subscribed_to(*confirmation)

    def _forget_queued(self) -> None:
        self.size -= sum(pending.size for pending in self._queued or ())
        self._queued = None

    def _executed(self, queued: list[Pending], reply: Reply | Lost) -> Iterator[Resolved]:
        if isinstance(reply, list) and len(reply) == len(queued):
            for pending, element in zip(queued, reply, strict=True):
                if pending.place is Place.JOB:
                    yield pending, element
                else:
                    self._done(pending, element)
            return
        happened = reply is not None and not isinstance(reply, ReplyError)
        lost = Lost.UNREADABLE if happened else Lost.ABORTED
        yield from ((pending, lost) for pending in queued if pending.place is Place.JOB)
        if happened and not isinstance(reply, Lost):
            raise OutOfStep

    def _confirmed(self, frame: bytes | Oversize) -> bool:
        """A push, or a RESP2 confirmation: keep count of subscriptions, and of the confirmations still to come."""
        words = _confirmation(_value(frame))
        if words is None:
            return False
        kind, total = words
        oldest = self._pending[0] if self._pending and self._pending[0].slot == self._received else None
        if oldest is not None and oldest.kind == kind:
            if not oldest.number:
                oldest.number = max(1, self._count(kind))
            oldest.number -= 1
            if not oldest.number:
                self._pending.popleft()
                self._received += 1
        self._subscribed_to(kind, total)
        return True

    def _subscribed_to(self, kind: bytes, total: int) -> None:
        if kind.startswith(b"s") and kind != b"subscribe":
            self._shards = total
        elif kind.startswith(b"p"):
            self._patterns = total - self._channels
        else:
            self._channels = total - self._patterns

    def _count(self, kind: bytes) -> int:
        return {b"u": self._channels, b"p": self._patterns, b"s": self._shards}[kind[:1]]


def _fits(place: Place, reply: Reply | Lost) -> bool:
    """Whether it can be what a command that changes the connection is answered when it succeeds."""
    if place is Place.HELLO:
        return isinstance(reply, (dict, list))
    if place is Place.SUBSCRIBE:
        return _confirmation(reply) is not None
    return reply == (b"RESET" if place is Place.RESET else b"OK")


def _confirmation(reply: Reply | Lost) -> tuple[bytes, int] | None:
    """The word and the number of a confirmation of SUBSCRIBE and its kin."""
    if not isinstance(reply, list) or len(reply) != 3:
        return None
    kind, _, total = reply
    return (kind, total) if isinstance(kind, bytes) and kind in _CONFIRMATIONS and isinstance(total, int) else None


def _first(frame: bytes) -> bytes:
    """The first element of an array that begins with a bulk string, else nothing; the array is not decoded."""
    parts = frame.split(b"\r\n", 3)
    return parts[2] if len(parts) == 4 and parts[1][:1] == b"$" else b""


def _value(frame: bytes | Oversize) -> Reply | Lost:
    if isinstance(frame, Oversize):
        return Lost.UNREADABLE
    try:
        return decode(frame)
    except Undecodable:
        return Lost.UNREADABLE
