"""Replies in Redis' byte stream: where each ends, without building any value.

RESP2 and RESP3 alike: every type announces itself.  Neither a push nor an attribute takes a place among the replies;
within a reply, an attribute belongs to the element that it precedes.  Nesting is counted, not recursed into; bulk
strings are skipped by length.

Source: the RESP3 specification; ``networking.c`` for the forms that Redis sends.
"""

from __future__ import annotations

from typing import Final

from proxy.resp.numbers import Malformed, number

_LINE: Final = frozenset(b"+-:_,#(")
_BULK: Final = frozenset(b"$=!")
_AGGREGATE: Final = frozenset(b"*~>")
_MAP: Final = 0x25
_ATTRIBUTE: Final = 0x7C
_PUSH: Final = 0x3E
_TEXT: Final = frozenset(b"+-(")
_HEADER_LIMIT: Final = 64 * 1024
"""A line longer than this is no length. An error may be of any length: scripts and modules write their own."""
_LINE_END: Final = -1
"""To skip: not so many bytes, but what is left of a line."""


class Oversize:
    """Stands for a reply that was longer than the limit."""


OVERSIZE: Final = Oversize()


class ReplyFramer:
    """``feed`` a chunk; then ``skim`` past replies nobody wants, and ``take`` those that somebody does."""

    __slots__ = ("_at", "_buffer", "_left", "_limit", "_open", "_parts", "_size", "_skip", "_start", "_taking", "push")

    def __init__(self, limit: int) -> None:
        """At most ``limit`` bytes of one reply are kept for ``take``."""
        self._limit = limit
        self._buffer = b""
        self._at = 0  # the next byte to read
        self._open = False  # inside a frame
        self._left = 0  # elements missing of it
        self._skip = 0  # bytes of a bulk string that have not come yet, or `_LINE_END`
        self.push = False
        """The frame last read, or being read, is a push, or an attribute of the reply that follows."""
        self._taking = False  # the frame is collected from its first byte on
        self._start = 0  # where in the buffer the part of it begins that is not collected yet
        self._parts: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> None:
        # What is left over here is at most half a header line: `_advance` reads everything else.
        rest = self._buffer[self._at :]
        self._buffer = rest + data if rest else data
        self._at = self._start = 0
        if self._skip > 0:
            self._at = min(self._skip, len(data))
            self._skip -= self._at
        elif self._skip:
            self._to_line_end()

    def _to_line_end(self) -> None:
        end = self._buffer.find(b"\r\n")
        if end >= 0:
            self._at, self._skip = end + 2, 0
        else:
            # The last byte may be half of it.
            self._at = max(len(self._buffer) - 1, 0)

    def skim(self, most: int) -> int:
        """Pass up to ``most`` replies, and any push on the way; how many replies were passed."""
        if self._taking:
            # A push that began before anybody asked for the reply behind it.
            self._drop()
        passed = 0
        while passed < most and self._advance():
            passed += not self.push
        return passed

    def drained(self) -> bool:
        """Every byte that was fed belongs to a frame that has ended."""
        return not self._open and self._at >= len(self._buffer)

    def take(self) -> bytes | Oversize | None:
        """The next frame, a push too, from its first byte to its last; None: it has not all come yet."""
        if not self._open:
            self._taking = True
        if not self._taking:
            # Its beginning was skimmed, when nobody wanted anything.
            if not self._advance():
                return None
            if not self.push:
                return OVERSIZE
            self._taking = True
        whole = self._advance()
        if self._open or whole:
            self._collect()
        if not whole:
            return None
        frame = b"".join(self._parts) if self._size <= self._limit else OVERSIZE
        self._drop()
        return frame

    def _drop(self) -> None:
        """Nothing is collected any more."""
        self._parts = []
        self._size = 0
        self._taking = False

    def _collect(self) -> None:
        piece = self._buffer[self._start : self._at]
        self._start = self._at
        self._size += len(piece)
        if self._size <= self._limit:
            self._parts.append(piece)
        else:
            self._parts = []

    def _advance(self) -> bool:  # noqa: C901 - one loop, a branch for each kind of type
        """Read to the end of the current frame. False: it goes on in the next chunk."""
        if self._skip:
            return False
        buffer, at, size = self._buffer, self._at, len(self._buffer)
        if not self._open:
            if at >= size:
                return False
            if buffer[at] == _ATTRIBUTE:
                return self._attribute()
            self._open, self._left, self._start, self.push = True, 1, at, buffer[at] == _PUSH
        left = self._left
        while left and at < size:
            cr = buffer.find(b"\r\n", at)
            if cr < 0:
                if size - at > _HEADER_LIMIT:
                    if buffer[at] not in _TEXT:
                        raise Malformed("a reply line without end")
                    self._skip, at, left = _LINE_END, size - 1, left - 1
                break
            kind = buffer[at]
            left -= 1
            if kind in _BULK:
                length = number(buffer[at + 1 : cr])
                at = cr + 2 if length < 0 else cr + 4 + length
                if at > size:
                    self._skip, at = at - size, size
                continue
            if kind in _AGGREGATE:
                left += max(number(buffer[at + 1 : cr]), 0)
            elif kind == _MAP:
                left += 2 * max(number(buffer[at + 1 : cr]), 0)
            elif kind == _ATTRIBUTE:
                left += 2 * max(number(buffer[at + 1 : cr]), 0) + 1
            elif kind not in _LINE:
                raise Malformed(f"reply type {kind:#04x}")
            at = cr + 2
        self._at, self._left = at, left
        if left or self._skip:
            return False
        self._open = False
        return True

    def _attribute(self) -> bool:
        """Read an attribute of a whole reply: a frame of its own, with what its header says."""
        buffer, at = self._buffer, self._at
        cr = buffer.find(b"\r\n", at)
        if cr < 0:
            if len(buffer) - at > _HEADER_LIMIT:
                raise Malformed("a reply line without end")
            return False
        self._open, self._left, self._start, self.push = True, 2 * max(number(buffer[at + 1 : cr]), 0), at, True
        self._at = cr + 2
        return self._advance()
