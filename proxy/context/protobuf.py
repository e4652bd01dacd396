"""Protobuf's wire format, as far as it goes without knowing a message's schema."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeAlias

VARINT, I64, LEN, I32 = 0, 1, 2, 5
"""Wire types. Groups have others, and no message that is looked at has groups."""

_FIXED: Final = {I64: 8, I32: 4}
_LONGEST: Final = 10
"""Bytes of a varint."""
_FIELDS: Final = 10_000
"""Fields of a message that is looked at."""

Field: TypeAlias = tuple[int, int, int, int, int]
"""Number, wire type, where its tag begins, where what it holds begins (behind tag and length), and where that ends."""


def fields(message: bytes) -> Sequence[Field] | None:
    """The fields of a message, as they stand; None for anything that is no whole message."""
    parts: list[Field] = []
    at, size = 0, len(message)
    while at < size:
        start, tag, at = at, message[at], at + 1
        if tag > 0x7F:
            tag, at = varint(message, start)
        content, kind = at, tag & 7
        if kind == LEN:
            length, content = varint(message, at)
            at = content + length
        elif kind == VARINT:
            _, at = varint(message, at)
        else:
            at += _FIXED.get(kind, size)
        if not start < content <= at <= size or not 0x07 < tag < 1 << 32 or len(parts) >= _FIELDS:
            return None
        parts.append((tag >> 3, kind, start, content, at))
    return parts


def varint(message: bytes, at: int) -> tuple[int, int]:
    """A number, and where it ends: 0, if it does not."""
    value = shift = 0
    if at < len(message) and message[at] < 0x80:
        return message[at], at + 1
    for byte in message[at : at + _LONGEST]:
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return (value, at) if value < 1 << 64 else (0, 0)
    return 0, 0


def as_varint(number: int) -> bytes:
    """A non-negative number, seven bits a byte, the lowest first."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)
