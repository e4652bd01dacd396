"""Inline commands: a line of words, quoted as in redis-cli (``sds.c``: sdssplitargs)."""

from __future__ import annotations

import re
from typing import Final

_BLANK: Final = re.compile(rb"\s*")
_PIECE: Final = re.compile(
    rb"""
      "((?:\\.|[^"])*+)"(?=\s|\Z)    # double quotes know escapes
    | '((?:\\'|[^'])*+)'(?=\s|\Z)    # single quotes know one
    | ([^ \t\r\n"']++)
    """,
    re.DOTALL | re.VERBOSE,
)
_ESCAPE: Final = re.compile(rb"\\(?:x([0-9A-Fa-f]{2})|(.))", re.DOTALL)
_MEANS: Final = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"b": b"\b", b"a": b"\a"}
_ENDS_WORD: Final = frozenset(b" \t\r\n")


def split(line: bytes) -> list[bytes] | None:
    """The words of a line. None: its quotes are not balanced, and Redis refuses it."""
    words: list[bytes] = []
    at = _end_of_blank(line, 0)
    while at < len(line):
        word = b""
        while at < len(line) and line[at] not in _ENDS_WORD:
            piece = _PIECE.match(line, at)
            if piece is None:
                return None
            at = piece.end()
            double, single, bare = piece.groups()
            if bare is None:
                word += _ESCAPE.sub(_meaning, double) if single is None else single.replace(b"\\'", b"'")
                break
            word += bare
        words.append(word)
        at = _end_of_blank(line, at)
    return words


def _end_of_blank(line: bytes, at: int) -> int:
    found = _BLANK.match(line, at)
    assert found is not None
    return found.end()


def _meaning(escape: re.Match[bytes]) -> bytes:
    digits, letter = escape.groups()
    return bytes.fromhex(digits.decode()) if letter is None else _MEANS.get(letter, letter)
