"""A context as one more field of a stream entry (or a hash): name and value appended to the command's end.

An entry travels in events packed: a MessagePack array of its id (empty until Redis has given it one) and its fields
and values as they stand on the wire.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from proxy.context import tracestate
from proxy.context.json_slot import KEY, found
from proxy.context.nested_slot import path_slot
from proxy.context.slot import EmptySlot, NoSlot, Slot, State, Swap
from proxy.context.traceparent import SpanContext

_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(list[bytes])

_FOREIGN: Final = NoSlot(State.REFUSED, "foreign")


def pack(entry_id: bytes, fields: Sequence[bytes]) -> bytes:
    """``fields`` are name, value, name, value, as in the command."""
    return _encoder.encode([entry_id, *fields])


def unpack(packed: bytes) -> tuple[bytes, list[bytes]]:
    """Id and fields; nothing for bytes that `pack` did not make."""
    try:
        entry_id, *fields = _decoder.decode(packed)
    except (msgspec.DecodeError, ValueError):
        return b"", []
    return entry_id, fields


class FieldsSlot(EmptySlot, frozen=True):
    """An entry that has no field of our name yet."""

    key: bytes = KEY
    stateless: bool = False
    """No tracestate may be written: something of the name is there."""
    fields: Sequence[bytes] = ()
    """Names and values, as they are."""

    def beside(self) -> Mapping[str, object]:
        pairs = zip(self.fields[::2], self.fields[1::2], strict=False)
        return {name.decode(errors="replace"): text.decode(errors="replace") for name, text in pairs}

    def write(self, context: SpanContext) -> tuple[bytes, ...]:
        if not context.tracestate or self.stateless or self.key != KEY:
            return (self.key, context.header())
        return (self.key, context.header(), tracestate.KEY, context.tracestate)


def fields_slot(packed: bytes, key: bytes = KEY) -> Slot:
    """The slot ``key`` of a packed entry. Field names are bytes: only one in another case leaves a doubt."""
    _, fields = unpack(packed)
    if not fields or len(fields) % 2:
        return _FOREIGN
    alike = [at for at in range(0, len(fields), 2) if len(fields[at]) == len(key) and fields[at].lower() == key.lower()]
    if not alike:
        return FieldsSlot(key, any(name.lower() == tracestate.KEY for name in fields[::2]), fields)
    if len(alike) > 1:
        return NoSlot(State.INVALID, "duplicate")
    if fields[alike[0]] != key:
        return NoSlot(State.REFUSED, "similar_key")
    states = [fields[at + 1] for at in range(0, len(fields), 2) if fields[at] == tracestate.KEY] if key == KEY else []
    state = None if not states else states[0] if len(states) == 1 else b"="
    return found(fields[alike[0] + 1], state)


class InnerSlot(EmptySlot, frozen=True):
    """A slot inside the JSON that one field of an entry holds."""

    text: bytes
    inner: Slot

    def beside(self) -> Mapping[str, object]:
        return self.inner.beside() if isinstance(self.inner, EmptySlot) else {}

    def write(self, context: SpanContext) -> Swap:
        written = self.inner.write(context)
        assert isinstance(written, bytes)
        return Swap(self.text, written)


def inner_slot(packed: bytes, path: Sequence[str]) -> Slot:
    """The slot at a path whose first name is a field of the entry, and whose rest leads into the JSON it holds."""
    _, fields = unpack(packed)
    if not fields or len(fields) % 2:
        return _FOREIGN
    name = path[0].encode()
    found = [fields[at + 1] for at in range(0, len(fields), 2) if fields[at] == name]
    if len(found) != 1:
        return NoSlot(State.REFUSED, "duplicate_parent" if found else "no_parent")
    inner = path_slot(found[0], path[1:])
    if inner.state is not State.EMPTY:
        return inner
    # The argument is found again by what it holds: another one must not hold the same.
    return InnerSlot(found[0], inner) if fields.count(found[0]) == 1 else NoSlot(State.REFUSED, "duplicate_parent")
