"""A context as entries of a ``map<string, string>`` in a protobuf message, appended as bytes.

A map is a repeated field, whose entries may stand anywhere in their message: one more goes to its very end.  The
message is never decoded and encoded again, so that fields nobody here knows of, and the order of all, stay.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeAlias

from proxy.context import tracestate
from proxy.context.json_slot import KEY
from proxy.context.json_slot import found as read_context
from proxy.context.slot import EmptySlot, NoSlot, Slot, State
from proxy.context.traceparent import LENGTH, SpanContext

REFUSALS: Final = ("not_protobuf",)

VARINT, I64, LEN, I32 = 0, 1, 2, 5
"""Wire types. Groups have others, and no message of ours has groups."""
ENTRY: Final = b"\x0a\x0b%s\x12%c" % (KEY, LENGTH)
"""What stands before the context in an entry as it is written here."""

_FIXED: Final = {I64: 8, I32: 4}
_LONGEST: Final = 10
"""Bytes of a varint."""
_FIELDS: Final = 10_000
"""Fields of a message that is looked at."""
_NOT_PROTOBUF: Final = NoSlot(State.REFUSED, "not_protobuf")


Field: TypeAlias = tuple[int, int, int, int, int]
"""Number, wire type, where its tag begins, where what it holds begins (behind tag and length), and where that ends."""


class MapSlot(EmptySlot, frozen=True):
    """A message whose map has no entry of our name yet."""

    message: bytes
    number: int
    """Of the map's field."""
    stateless: bool = False
    """No tracestate may be written: something of the name is there."""

    def write(self, context: SpanContext) -> bytes:
        edited = self.message + _entry(self.number, KEY, context.header())
        if not context.tracestate or self.stateless:
            return edited
        return edited + _entry(self.number, tracestate.KEY, context.tracestate)


def map_slot(message: bytes, number: int) -> Slot:
    """The slot in the map that is field ``number`` of a message; it need have no entries yet."""
    entries = _entries(message, number)
    if entries is None:
        return _NOT_PROTOBUF
    alike = [(name, value) for name, value in entries if name.lower() == KEY]
    states = [value for name, value in entries if name == tracestate.KEY]
    if not alike:
        return MapSlot(message, number, any(name.lower() == tracestate.KEY for name, _ in entries))
    if len(alike) > 1:
        return NoSlot(State.INVALID, "duplicate")
    name, value = alike[0]
    if name != KEY:
        return NoSlot(State.REFUSED, "similar_key")
    return read_context(value, None if not states else states[0] if len(states) == 1 else b"=")


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


def _entries(message: bytes, number: int) -> list[tuple[bytes, bytes]] | None:
    """Names and values of a map, as often as they occur; None if it is none."""
    entries = []
    whole = fields(message)
    for found, kind, _, content, end in whole or ():
        if found == number:
            entry = _pair(message[content:end]) if kind == LEN else None
            if entry is None:
                return None
            entries.append(entry)
    return None if whole is None else entries


def _pair(entry: bytes) -> tuple[bytes, bytes] | None:
    """Name and value of an entry: the last of each, and nothing where there is none."""
    pair = {1: b"", 2: b""}
    whole = fields(entry)
    for number, kind, _, content, end in whole or ():
        if number in pair:
            if kind != LEN:
                return None
            pair[number] = entry[content:end]
    return None if whole is None else (pair[1], pair[2])


def _entry(number: int, name: bytes, value: bytes) -> bytes:
    pair = b"\x0a%s%s\x12%s%s" % (_size(len(name)), name, _size(len(value)), value)
    return b"%s%s%s" % (_size(number << 3 | LEN), _size(len(pair)), pair)


def _size(value: int) -> bytes:
    """A number as a varint."""
    written = bytearray()
    while value > 0x7F:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    written.append(value)
    return bytes(written)
