"""A context as entries of a ``map<string, string>`` in a protobuf message, appended as bytes.

A map is a repeated field, whose entries may stand anywhere in their message: one more goes to its very end.  The
message is never decoded and encoded again, so that fields nobody here knows of, and the order of all, stay.
"""

from __future__ import annotations

from typing import Final

from proxy.context import tracestate
from proxy.context.json_slot import KEY
from proxy.context.json_slot import found as read_context
from proxy.context.protobuf import LEN, as_varint, fields
from proxy.context.slot import EmptySlot, NoSlot, Slot, State
from proxy.context.traceparent import LENGTH, SpanContext

REFUSALS: Final = ("not_protobuf",)

ENTRY: Final = b"\x0a\x0b%s\x12%c" % (KEY, LENGTH)
"""What stands before the context in an entry as it is written here."""

_NOT_PROTOBUF: Final = NoSlot(State.REFUSED, "not_protobuf")


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
    pair = b"\x0a%s%s\x12%s%s" % (as_varint(len(name)), name, as_varint(len(value)), value)
    return b"%s%s%s" % (as_varint(number << 3 | LEN), as_varint(len(pair)), pair)
