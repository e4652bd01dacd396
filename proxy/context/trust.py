"""A context that a job brings along and that nobody vouches for: ``security.trust_inbound: false``.

It is replaced where it stands if it stands there once, and as redspan would write it; the payload around it keeps every
byte.  What cannot be replaced that way is left, and treated as no slot.
"""

from __future__ import annotations

from typing import Final

import msgspec

from proxy.context.fields_slot import unpack
from proxy.context.msgpack_slot import CopiedSlot, is_map, msgpack_slot
from proxy.context.protobuf_slot import ENTRY
from proxy.context.slot import NoSlot, Slot, State, Swap
from proxy.context.traceparent import LENGTH, SpanContext

UNTRUSTED: Final = NoSlot(State.INVALID, "untrusted")


class SwappedSlot(msgspec.Struct, frozen=True):
    """A context that is one whole argument of its command."""

    old: bytes
    context: SpanContext
    state: State = State.FOUND
    reason: str = ""
    bare: bool = False
    copied: bool = True

    def write(self, context: SpanContext) -> Swap:
        return Swap(self.old, context.header())


def distrusted(slot: Slot, value: bytes) -> Slot:
    """The same slot, but what is found in it is to be replaced."""
    found = slot.context
    if slot.state is not State.FOUND or found is None or slot.bare or slot.copied:
        return slot
    begins = b"00-%s-%s-" % (found.trace_id.hex().encode(), found.span_id.hex().encode())
    if value.lstrip(b" \t\r\n")[:1] != b"{":
        at = value.find(ENTRY + begins) + len(ENTRY)
        if at >= len(ENTRY) and value.count(begins) == 1:
            return CopiedSlot(value, (at,), found)
        _, fields = unpack(value)
        maps = [text for text in fields[1::2] if is_map(text) and begins in text]
        if len(maps) == 1:
            # The one field that has the slot; two members of it may hold the context.
            again = msgpack_slot(maps[0], copied=True)
            return again if again.copied else UNTRUSTED
        whole = [text for text in fields[1::2] if text.startswith(begins) and len(text) == LENGTH]
        return SwappedSlot(whole[0], found) if len(whole) == 1 and value.count(begins) == 1 else UNTRUSTED
    at = value.find(begins)
    quoted = at > 0 and value[at - 1 : at] == b'"' and value[at + LENGTH : at + LENGTH + 1] == b'"'
    return CopiedSlot(value, (at,), found) if quoted and value.count(begins) == 1 else UNTRUSTED
