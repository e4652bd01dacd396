"""Chunks that are whole: commands from the first byte to the last, or exactly one reply.

Most chunks of most clients are.  Such a chunk costs a fraction of what it costs to look for boundaries byte by byte:
hiredis reads the commands, and that it has read all of them, whole, is proved by their size when they are written
canonically.  (That hiredis has taken in a whole chunk proves nothing: it may be inside an array.)  Whatever is not
proved is left to `proxy.resp.requests` and `proxy.resp.replies`.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Sequence
from itertools import chain
from typing import Final

import hiredis

LIMIT: Final = 16 * 1024
"""Bytes of a chunk of commands that is looked at this way."""

_NOTHING: Final = object()
# hiredis makes room for as many elements as a header announces, and a header stands wherever it looks for one: it does
# not look at the two bytes that end a string.
_COUNT_WITHIN: Final = len(b"*9999\r\n")
_MANY: Final = re.compile(rb"\*\d{4}").search
_MANY_IN_SET: Final = re.compile(rb"~\d{4}").search
_MANY_IN_PUSH: Final = re.compile(rb">\d{4}").search
_MANY_IN_ATTRIBUTE: Final = re.compile(rb"\|\d{4}").search
_BULK_SIZES: Final = array("I", (len(b"$%d\r\n\r\n" % size) + size for size in range(LIMIT + 1)))
"""Bytes of a bulk string, by its length."""
_COUNT_SIZES: Final = array("I", (len(b"*%d\r\n" % count) for count in range(LIMIT + 1)))
_bulk_size: Final = _BULK_SIZES.__getitem__
_count_size: Final = _COUNT_SIZES.__getitem__

_LENGTHS: Final = {b"$%d" % length: length for length in range(4096)}
_LENGTH_WITHIN: Final = len(b"$4095\r\n")
_NIL: Final = b"$-1\r\n"
_LINES: Final = frozenset((b"+", b"-", b":", b"_", b",", b"#", b"("))

Args = list[bytes]


class WholeCommands:
    """One for all connections: between two chunks it remembers nothing."""

    __slots__ = ("_reader",)

    def __init__(self) -> None:
        self._reader = _fresh()

    def read(self, data: bytes) -> list[Args] | None:
        """The commands in ``data``; None unless it is nothing but whole commands of at least one argument each."""
        if len(data) > LIMIT or data[:1] != b"*" or data.find(b"\r\n", 0, _COUNT_WITHIN) < 0 or _swells(data):
            return None
        reader = self._reader
        try:
            reader.feed(data)
            first = reader.gets()
            if command_size(first) == len(data) and first:
                return [first]
            commands = [first, *iter(reader.gets, _NOTHING)]
            # A command of no arguments has no reply: not for here.
            if all(commands) and _pipeline_size(commands) == len(data):
                return commands
        except (hiredis.HiredisError, TypeError, ValueError, IndexError):
            # Not arrays of bulk strings: it is for others to say what that is.
            pass
        self._reader = _fresh()
        return None


def command_size(args: Sequence[bytes]) -> int:
    """Bytes of a command of at most `LIMIT`, as clients write it. Raises TypeError for other things than strings."""
    return sum(map(_bulk_size, map(len, args)), _count_size(len(args)))


def count_lines(data: bytes) -> int:
    """How many replies are in a chunk of nothing but numbers, statuses, errors and the like; 0: it may be more."""
    kind = data[:1]
    if kind not in _LINES or data[-2:] != b"\r\n":
        return 0
    count = data.count(b"\r\n")
    if data.count(b"\r\n" + kind) == count - 1 or _LINES.issuperset(line[:1] for line in data[:-2].split(b"\r\n")):
        return count
    return 0


def is_one_reply(data: bytes) -> bool:
    """Whether a chunk is exactly one reply: a line, or a bulk string that is not long. False: perhaps it is not."""
    kind = data[:1]
    if kind == b"$":
        cr = data.find(b"\r\n", 1, _LENGTH_WITHIN)
        length = _LENGTHS.get(data[:cr]) if cr > 0 else None
        return data == _NIL if length is None else cr + 4 + length == len(data)
    return kind in _LINES and 0 < data.find(b"\r\n") == len(data) - 2


def _swells(data: bytes) -> bool:
    """Whether a header in it might announce much more than there is."""
    return bool(
        (data.find(b"*", 1) > 0 and _MANY(data, 1))
        or (b">" in data and _MANY_IN_PUSH(data))
        or (b"|" in data and _MANY_IN_ATTRIBUTE(data))
        or (b"~" in data and _MANY_IN_SET(data))
    )


def _pipeline_size(commands: Sequence[Args]) -> int:
    return sum(map(_bulk_size, map(len, chain.from_iterable(commands)))) + sum(map(_count_size, map(len, commands)))


def _fresh() -> hiredis.Reader:
    return hiredis.Reader(notEnoughData=_NOTHING)
