"""The first things of a pickle, read without making anything of them: no class is looked up, nothing is called.

Only what a job's head is made of is understood (protocols 2 to 5).  At anything else reading ends: `Unreadable`.
"""

from __future__ import annotations

import struct
from enum import Enum
from typing import Final, Self, TypeAlias


class Sign(Enum):
    """An instruction that has no value."""

    MARK = 0x28
    DICT = 0x7D
    SET_ITEM = 0x73
    SET_ITEMS = 0x75
    TUPLE_OF_1 = 0x85
    TUPLE_OF_2 = 0x86
    GLOBAL = 0x93
    """Module and name came before."""
    REDUCE = 0x52
    STOP = 0x2E


Token: TypeAlias = str | bytes | int | float | bool | Sign | None

_SIGNS: Final = {sign.value: sign for sign in Sign}
_CONSTANTS: Final[dict[int, bool | None]] = {0x4E: None, 0x88: True, 0x89: False}
_TEXTS: Final = {0x8C: 1, 0x58: 4}
"""Strings, and in how many bytes their length stands."""
_BYTES: Final = {0x43: 1, 0x42: 4}
_LONG: Final = 0x8A
_NUMBERS: Final = {0x4B: struct.Struct("<B"), 0x4D: struct.Struct("<H"), 0x4A: struct.Struct("<i")}
_FLOAT: Final = 0x47
_DOUBLE: Final = struct.Struct(">d")
_PROTO: Final = 0x80
_FRAME: Final = 0x95
_OLD_GLOBAL: Final = 0x63
_MEMOIZE: Final = 0x94
_PUTS: Final = {0x71: 1, 0x72: 4}
_GETS: Final = {0x68: 1, 0x6A: 4}
_NAME_LIMIT: Final = 256
_EMPTY: Final = b"\x80\x05"
_UNKNOWN: Final = 1 << 64
"""Nobody asks for this number."""


class Unreadable(ValueError):
    """It does not begin as expected, or ends too early."""


class Scanner:
    """``take`` one token after the other; what is memoized is understood, nothing else of the pickle's machine."""

    __slots__ = ("_data", "_memo", "_next", "_waiting", "at")

    def __init__(self, data: bytes, at: int = 0) -> None:
        """Raises `Unreadable`, unless a pickle begins at ``at``."""
        self._data = data
        self._memo: dict[int, Token] = {}
        self._next = 0
        self._waiting: list[Token] = []
        self.at = at
        """What was read ends here."""
        if self._byte() != _PROTO or not 2 <= self._byte() <= 5:
            raise Unreadable

    @classmethod
    def within(cls, data: bytes, at: int) -> Self:
        """From a place in the midst of a pickle; what was memoized before is not known."""
        scanner = cls(_EMPTY)
        scanner._data, scanner.at, scanner._next = data, at, _UNKNOWN
        return scanner

    def take(self) -> Token:
        """Raises `Unreadable`."""
        if self._waiting:
            return self._waiting.pop()
        code = self._byte()
        if code == _FRAME:
            self._bytes(8)
            code = self._byte()
        token = self._token(code)
        self._remember(Sign.GLOBAL if self._waiting else token)
        return token

    def expect(self, *tokens: Token) -> None:
        """Raises `Unreadable`, unless exactly these come next."""
        for wanted in tokens:
            token = self.take()
            if token != wanted or type(token) is not type(wanted):
                raise Unreadable

    def _token(self, code: int) -> Token:
        if code in _TEXTS:
            return self._bytes(self._number(_TEXTS[code])).decode(errors="replace")
        if code in _SIGNS:
            return _SIGNS[code]
        if code in _NUMBERS:
            number = _NUMBERS[code]
            value: int = number.unpack(self._bytes(number.size))[0]
            return value
        if code in _CONSTANTS:
            return _CONSTANTS[code]
        if code in _GETS:
            at = self._number(_GETS[code])
            if at not in self._memo:
                raise Unreadable
            return self._memo[at]
        if code == _LONG:
            return int.from_bytes(self._bytes(self._byte()), "little", signed=True)
        if code == _FLOAT:
            real: float = _DOUBLE.unpack(self._bytes(8))[0]
            return real
        if code in _BYTES:
            return self._bytes(self._number(_BYTES[code]))
        if code == _OLD_GLOBAL:
            module, name = self._line(), self._line()
            self._waiting = [Sign.GLOBAL, name]
            return module
        raise Unreadable

    def _remember(self, token: Token) -> None:
        """What follows a token may say under which number it will be asked for again."""
        code = self._data[self.at] if self.at < len(self._data) else -1
        if code == _MEMOIZE:
            self.at += 1
            number, self._next = self._next, self._next + 1
        elif code in _PUTS:
            self.at += 1
            number = self._number(_PUTS[code])
        else:
            return
        if not isinstance(token, Sign):
            self._memo[number] = token

    def _byte(self) -> int:
        self.at += 1
        if self.at > len(self._data):
            raise Unreadable
        return self._data[self.at - 1]

    def _number(self, size: int) -> int:
        return int.from_bytes(self._bytes(size), "little")

    def _bytes(self, count: int) -> bytes:
        end = self.at + count
        if end > len(self._data):
            raise Unreadable
        found, self.at = self._data[self.at : end], end
        return found

    def _line(self) -> str:
        end = self._data.find(b"\n", self.at, self.at + _NAME_LIMIT)
        if end < 0:
            raise Unreadable
        found, self.at = self._data[self.at : end], end + 1
        return found.decode(errors="replace")
