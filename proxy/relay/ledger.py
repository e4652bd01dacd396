"""The ledger of pending commands: which reply belongs to which command. It only observes.

Replies come in the order of the commands, with these exceptions, all kept here:

- a push (``>``) takes no place; neither do messages to a RESP2 subscriber, nor confirmations beyond the first;
- SUBSCRIBE and its kin have one confirmation per channel: arrays in RESP2, pushes in RESP3, or one error;
- CLIENT REPLY OFF and SKIP take replies away;
- between MULTI and EXEC the reply is ``+QUEUED``; the real one is an element of EXEC's, which may be nil.

Commands that nobody watches are only counted, except in a transaction, where each ``+QUEUED`` counts.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator
from enum import IntEnum
from typing import Final

import msgspec

from proxy.context.carry import Carried
from proxy.frameworks.base import Intent
from proxy.resp.replies import Oversize, ReplyFramer
from proxy.resp.reply import Reply, ReplyError, Undecodable, decode
from proxy.resp.whole import is_one_reply

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

_LIMIT: Final = 100_000
"""Commands that may be pending at once with each reply to be looked at."""
_QUEUED: Final = b"+QUEUED\r\n"
_ARRAY: Final = 0x2A
_MESSAGES: Final = frozenset((b"message", b"pmessage", b"smessage"))
_CONFIRMATIONS: Final = frozenset(name.lower() for name in SUBSCRIBES | UNSUBSCRIBES)


class Place(IntEnum):
    PLAIN = 0
    JOB = 1
    MULTI = 2
    EXEC = 3
    DISCARD = 4
    RESET = 5
    SELECT = 6
    HELLO = 7
    AUTH = 8
    SUBSCRIBE = 9


class Pending(msgspec.Struct, gc=False):
    """A command whose reply is awaited."""

    place: Place
    slot: int = 0
    """Number of its reply."""
    at: int = 0
    """When it was read, ns."""
    intent: Intent | None = None
    carried: list[Carried] = []
    """For each of the intent's jobs."""
    number: int = 0
    """SELECT: the database; HELLO: the protocol; SUBSCRIBE: confirmations to come, 0 for all there are."""
    size: int = 0
    """Bytes of its arguments."""
    kind: bytes = b""
    """SUBSCRIBE: the word its confirmations begin with."""


class Lost(IntEnum):
    """What stands for a reply that cannot be had."""

    ABORTED = 1
    """The transaction did not happen."""
    UNREADABLE = 2
    """It came, but was too long or of a kind that is not understood."""


class OutOfStep(Exception):
    """A reply without a command, or one that cannot be its command's. ``reason`` is one of the blind reasons."""

    def __init__(self, reason: str = "reply_mismatch") -> None:
        super().__init__(reason)
        self.reason = reason


Resolved = tuple[Pending, Reply | Lost]


class Ledger:
    __slots__ = ("_channels", "_framer", "_patterns", "_pending", "_queued", "_received", "_sent", "_shards", "_silent",
                 "_skip", "_transaction", "admitted", "db", "protocol", "size")  # fmt: skip

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
        if name in SUBSCRIBES or name in UNSUBSCRIBES:
            self.expect(Pending(Place.SUBSCRIBE, number=len(args) - 1, kind=name.lower()))
        elif name == b"CLIENT":
            self._client(args)
        elif name in (b"SELECT", b"HELLO"):
            number = int(args[1]) if len(args) > 1 and args[1].isdigit() and len(args[1]) < 9 else self.protocol
            self.expect(Pending(Place[name.decode()], number=number))
        else:
            if name == b"RESET":
                # It turns replies on again, and is answered.
                self._silent = self._skip = False
            self.expect(Pending(Place[name.decode()]))
            if name != b"AUTH":
                self._transaction = name == b"MULTI"

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

    def only(self, data: bytes) -> Resolved | bool:
        """A chunk that is the one reply that is awaited: true, or who wants it and what it is. False: `feed` it."""
        if self._sent - self._received != 1 or not is_one_reply(data) or not self._framer.drained():
            return False
        if self._queued is not None or self._free_running():
            return False
        pending = self._pending
        if not pending:
            self._received += 1
            return True
        if pending[0].place is not Place.JOB:
            return False
        oldest = pending.popleft()
        self._received += 1
        self.size -= oldest.size
        value = _value(data)
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
        return self.protocol == 2 and bool(self._channels or self._patterns or self._shards)

    def _subscribed(self) -> Generator[Resolved, None, bool]:
        """One frame that a RESP2 subscriber gets. False: it has not all come yet."""
        frame = self._framer.take()
        if frame is None:
            return False
        if isinstance(frame, bytes) and frame[0] == _ARRAY:
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
            self._confirmed(frame)
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
            self.admitted = self.admitted or not isinstance(value, ReplyError)
            yield oldest, value
        elif place is Place.EXEC:
            self._queued = None
            self.size -= sum(pending.size for pending in queued or ())
            yield from self._executed(queued or [], _value(frame))
        elif isinstance(frame, bytes) and frame[:1] != b"-":
            self._done(oldest)

    def _done(self, control: Pending) -> None:
        """A command that changes the connection has succeeded."""
        place = control.place
        self.admitted = place is not Place.RESET
        if place is Place.MULTI:
            self._queued = []
        elif place is Place.DISCARD:
            self._forget_queued()
        elif place is Place.SELECT:
            self.db = control.number
        elif place is Place.HELLO:
            self.protocol = control.number
        elif place is Place.RESET:
            self._forget_queued()
            self.db, self.protocol = 0, 2
            self._channels = self._patterns = self._shards = 0

    def _forget_queued(self) -> None:
        self.size -= sum(pending.size for pending in self._queued or ())
        self._queued = None

    def _executed(self, queued: list[Pending], reply: Reply | Lost) -> Iterator[Resolved]:
        if not isinstance(reply, list):
            lost = reply if isinstance(reply, Lost) else Lost.ABORTED
            yield from ((pending, lost) for pending in queued if pending.place is Place.JOB)
            return
        if len(reply) != len(queued):
            raise OutOfStep
        for pending, element in zip(queued, reply, strict=True):
            if pending.place is Place.JOB:
                yield pending, element
            elif not isinstance(element, ReplyError):
                self._done(pending)

    def _confirmed(self, frame: bytes | Oversize) -> None:
        """A push, or a RESP2 confirmation: keep count of subscriptions, and of the confirmations still to come."""
        words = _value(frame)
        if not isinstance(words, list) or len(words) != 3:
            return
        kind, _, total = words
        if not isinstance(kind, bytes) or kind not in _CONFIRMATIONS or not isinstance(total, int):
            return
        oldest = self._pending[0] if self._pending and self._pending[0].slot == self._received else None
        if oldest is not None and oldest.kind == kind:
            if not oldest.number:
                oldest.number = max(1, self._count(kind))
            oldest.number -= 1
            if not oldest.number:
                self._pending.popleft()
                self._received += 1
        if kind.startswith(b"s") and kind != b"subscribe":
            self._shards = total
        elif kind.startswith(b"p"):
            self._patterns = total - self._channels
        else:
            self._channels = total - self._patterns

    def _count(self, kind: bytes) -> int:
        return {b"u": self._channels, b"p": self._patterns, b"s": self._shards}[kind[:1]]


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
