"""Commands in a client's byte stream: where each begins and ends, and what the watched ones say.

The framer reads every command's name and skips over the rest of those that nobody watches, by length, whatever their
size.  A watched command is collected, up to a limit.  Everything may be forwarded as it comes, except a command that
might be rewritten: from its name on, that one is held until it is whole.

Accepted is what Redis accepts (``networking.c``: processMultibulkBuffer, processInlineBuffer): inline commands too, and
empty lines and non-positive counts, which have no reply.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import IntEnum
from typing import Final

import msgspec

from proxy.resp.inline import split
from proxy.resp.numbers import Malformed, number

_STAR: Final = 0x2A
_DOLLAR: Final = 0x24
_HEADER_LIMIT: Final = 64 * 1024
"""Redis' own limit for an inline command or a length line (PROTO_INLINE_MAX_SIZE)."""
_COUNT_LIMIT: Final = 100_000
"""Arguments of a command that is looked at. Redis itself refuses more than 1,048,576 at once."""
NAME_LIMIT: Final = 32
"""Longer than any name that is watched."""


class Watch(IntEnum):
    """How much the framer cares for a command's name."""

    COPY = 1
    """Collect its arguments; forward it as it comes."""
    HOLD = 2
    """It may be rewritten if its argument 1 is claimed: collect it, and hold it back until it is whole."""
    CLAIMED = 3
    """Collect its arguments if its argument 1 is claimed; forward it as it comes."""


class Command(msgspec.Struct, gc=False):
    """A watched command, whole: ``buffer[start:end]`` of the framer."""

    name: bytes
    """Upper case."""
    args: list[bytes]
    """All arguments; ``args[0]`` is the name as it was sent."""
    start: int
    end: int
    plain: int
    """Unwatched commands, each with one reply to come, since the `Command` before."""
    inline: bool = False


class RequestFramer:
    """``feed`` a chunk, call ``next`` until None, forward ``buffer`` up to ``free``, then ``keep`` the rest.

    ``claims(name, argument 1)`` tells whether a command that is watched for its key may be anybody's; at most ``limit``
    bytes of one command are collected.
    """

    __slots__ = (
        "_argc",
        "_args",
        "_asks",
        "_at",
        "_claims",
        "_hold",
        "_limit",
        "_need",
        "_parts",
        "_passing",
        "_skip",
        "_start",
        "_watched",
        "buffer",
        "heads",
        "idle",
        "oversize",
        "plain",
        "released",
    )

    def __init__(self, watched: Mapping[bytes, Watch], claims: Callable[[bytes, bytes], bool], limit: int) -> None:
        self.watch(watched, claims, limit)
        self.buffer = b""
        self.released = 0
        """Bytes at the head of ``buffer`` that have been forwarded already."""
        self.plain = 0
        """Unwatched commands since the last `Command`."""
        self.oversize: list[bytes] = []
        """Keys of commands that were too big to hold and went by unread."""
        self.heads = False
        """Hold commands whose name is not known yet."""
        self.idle = True
        """Between two commands: nothing of a next one has come."""
        self._at = 0  # the next byte to read
        self._start = 0  # where the command being read begins
        self._args: list[bytes] | None = None  # collected so far, while a watched command is read
        self._argc = 0
        self._hold = False
        self._asks = False  # whether it is wanted depends on its argument 1
        self._passing = 0  # arguments left of an unwatched command
        self._skip = 0  # bytes of an unwatched argument that have not come yet
        self._need = 0  # bytes without which a watched command cannot go on
        self._parts: list[bytes] = []

    def watch(self, watched: Mapping[bytes, Watch], claims: Callable[[bytes, bytes], bool], limit: int) -> None:
        """Look for others from the next command on; one that is being read is read to its end."""
        self._watched = watched
        self._claims = claims
        self._limit = limit

    @property
    def held(self) -> bytes:
        """What came in and has not been forwarded."""
        return b"".join((self.buffer, *self._parts))[self.released :]

    @property
    def free(self) -> int:
        """How much of ``buffer`` may be forwarded.

        Before a command's name is known it is held only if ``heads`` allows it: a client that is not logged in is
        refused by the count of its arguments alone, at once.
        """
        size = len(self.buffer)
        if self._passing or self._start >= size:
            return size
        held = self._hold if self._args is not None else self.heads and self.buffer[self._start] == _STAR
        return max(self._start, self.released) if held else size

    def feed(self, data: bytes) -> bytes | None:
        """Take a chunk in. None: call ``next``. Else there is nothing to read yet; forward what is returned."""
        if self._skip:
            if len(data) <= self._skip:
                self._skip -= len(data)
                return data
            self.buffer, self._at, self._skip = data, self._skip, 0
            self._start = self._at
            return None
        if self._need > len(data):
            self._need -= len(data)
            self._parts.append(data)
            if self._hold:
                return b""
            self.released += len(data)
            return data
        if self._parts:
            data = b"".join((*self._parts, data))
            self._parts = []
        self._need = 0
        self.buffer = self.buffer + data if self.buffer else data
        return None

    def next(self) -> Command | None:
        """The next watched command that is whole. Raises `Malformed`."""
        while True:
            if self._passing:
                if not self._pass():
                    return None
                continue
            if self._args is None:
                self._start = self._at
                if self._at >= len(self.buffer):
                    return None
                if self.buffer[self._at] != _STAR:
                    command = self._inline()
                    if command is not None or self._at == self._start:
                        return command
                    continue
                if not self._begin():
                    return None
                continue
            if not self._collect():
                return None
            args = self._args
            if args is not None:
                self._args = None
                return self._command(args, inline=False)

    def keep(self) -> None:
        """Drop what is read and forwarded; stay ready for the chunk that follows."""
        base = self._at if self._passing else self._start
        self.released = max(self.released, self.free) - base
        self.buffer = self.buffer[base:]
        self._at -= base
        self._start = 0
        self.idle = not (self.buffer or self._skip or self._passing)

    def _command(self, args: list[bytes], *, inline: bool) -> Command:
        plain, self.plain = self.plain, 0
        return Command(self._known(args[0]), args, self._start, self._at, plain, inline)

    def _known(self, name: bytes) -> bytes:
        return name if name in self._watched else name.upper()

    def _line(self, at: int) -> int:
        """The CR of the line that begins at ``at``, or -1 while it has none."""
        end = self.buffer.find(b"\r\n", at)
        if end < 0 and len(self.buffer) - at > _HEADER_LIMIT:
            raise Malformed("a length line without end")
        return end

    def _bulk(self, at: int) -> tuple[int, int]:
        """Where the body of the bulk string at ``at`` begins and ends; (-1, -1) while its header is unfinished."""
        if at >= len(self.buffer):
            return -1, -1
        if self.buffer[at] != _DOLLAR:
            raise Malformed("expected '$'")
        cr = self._line(at)
        if cr < 0:
            return -1, -1
        length = number(self.buffer[at + 1 : cr])
        if length < 0:
            raise Malformed("a negative length in a command")
        return cr + 2, cr + 2 + length

    def _begin(self) -> bool:
        """Read count and name, or nothing at all while they are not all here."""
        cr = self._line(self._at)
        if cr < 0:
            return False
        argc = number(self.buffer[self._at + 1 : cr])
        if argc <= 0:
            self._at = cr + 2
            return True
        if argc > _COUNT_LIMIT:
            self._at, self._passing = cr + 2, argc
            return True
        begin, end = self._bulk(cr + 2)
        if begin < 0:
            return False
        if end - begin > NAME_LIMIT:
            self._at, self._passing = cr + 2, argc
            return True
        if end + 2 > len(self.buffer):
            return False
        name = self.buffer[begin:end]
        self._at, self._argc = end + 2, argc
        watch = self._watched.get(name) or self._watched.get(name.upper())
        if watch is not None:
            self._args = [name]
            self._hold = watch is Watch.HOLD
            self._asks = watch is not Watch.COPY
        else:
            self._leave(argc - 1)
        return True

    def _leave(self, left: int) -> None:
        """Whatever the command is, nobody wants it: ``left`` arguments to skip."""
        self._args = None
        self._passing = left
        if not left:
            self.plain += 1

    def _collect(self) -> bool:
        """Read arguments until the command is whole, or left to pass. False: bytes are missing."""
        args, size = self._args, len(self.buffer)
        assert args is not None
        while len(args) < self._argc:
            begin, end = self._bulk(self._at)
            if begin < 0:
                return False
            if end - self._start > self._limit:
                if self._hold and len(args) > 1:
                    self.oversize.append(args[1])
                self._leave(self._argc - len(args))
                return True
            if end + 2 > size:
                self._need = end + 2 - size
                return False
            args.append(self.buffer[begin:end])
            self._at = end + 2
            if self._asks and len(args) == 2 and not self._claims(args[0], args[1]):
                self._leave(self._argc - 2)
                return True
        return True

    def _pass(self) -> bool:
        """Skip the arguments of an unwatched command. False: some of them have not come yet."""
        size = len(self.buffer)
        while self._passing:
            begin, end = self._bulk(self._at)
            if begin < 0:
                return False
            self._passing -= 1
            self._at = end + 2
            if self._at > size:
                self._skip = self._at - size
                self._at = size
                break
        if not self._passing:
            # Counted before its last bytes are here: its reply cannot come any sooner.
            self.plain += 1
        return True

    def _inline(self) -> Command | None:
        """An inline command, if it is watched. One that is unfinished leaves ``_at`` where it was."""
        end = self.buffer.find(b"\n", self._at)
        if end < 0:
            if len(self.buffer) - self._at > _HEADER_LIMIT:
                raise Malformed("an inline command without end")
            return None
        line = self.buffer[self._at : end]
        if b"\0" in line:
            # Redis reads to the NUL, and waits for the end of the line.
            raise Malformed("NUL in an inline command")
        args = split(line.removesuffix(b"\r"))
        self._at = end + 1
        if args and self._known(args[0]) in self._watched:
            return self._command(args, inline=True)
        # One that cannot be split is refused, which is a reply, too.
        self.plain += args is None or bool(args)
        return None
