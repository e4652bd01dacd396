"""A context as members of a MessagePack map, spliced in as bytes.

Two members are written: ``traceparent`` itself, and a whole carrier as JSON text (``{"traceparent": …}``), which is
where OpenTelemetry's instrumentation of some queues looks.  The map's header is the only byte string that is replaced;
nothing is ever unpacked and packed anew, so that NaN, float width, extensions and the order of members stay.

A worker finds the same members in JSON, once a script has stored the map that way: `carried_slot`.  Where it is JSON
from the start, but packed as one text, only that text's header changes: `text_slot`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from proxy.context import tracestate
from proxy.context.json_slot import KEY, json_slot, refused
from proxy.context.json_slot import found as read_context
from proxy.context.slot import EmptySlot, NoSlot, Slot, State
from proxy.context.traceparent import LENGTH, SpanContext

REFUSALS: Final = ("not_msgpack",)

_members: Final = msgspec.msgpack.Decoder(dict[str, msgspec.Raw])
_anything: Final = msgspec.msgpack.Decoder(dict[str, object])
_text: Final = msgspec.msgpack.Decoder(str)
_json_members: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_json_text: Final = msgspec.json.Decoder(str)
_UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_NOT_MSGPACK: Final = NoSlot(State.REFUSED, "not_msgpack")
_FIX, _FIX_END, _MAP16, _MAP32 = 0x80, 0x8F, 0xDE, 0xDF
_NIL, _FALSE = b"\xc0", b"\xc2"


class Places(msgspec.Struct, frozen=True):
    """The members that may hold a context."""

    key: str = KEY.decode()
    carrier: str = "tm"
    """Holds a carrier as JSON text."""
    omit: str = "omc"
    """If this is true, the carrier is to stay away."""


PLACES: Final = Places()


class MsgpackSlot(EmptySlot, frozen=True):
    """A map that has no context yet."""

    value: bytes
    carrier: str
    """Empty: only ``key`` is written."""
    key: str

    def beside(self) -> Mapping[str, object]:
        try:
            return _anything.decode(self.value)
        except _UNREADABLE:
            return {}

    def write(self, context: SpanContext) -> bytes:
        header = context.header()
        pairs = [(self.key.encode(), header)]
        if self.carrier:
            pairs.insert(0, (self.carrier.encode(), b'{"traceparent":"%s"}' % header))
        return splice(self.value, pairs)


class TextSlot(EmptySlot, frozen=True):
    """A JSON object, packed as text or not packed, that has no context yet."""

    inner: Slot
    packed: bool

    def beside(self) -> Mapping[str, object]:
        return self.inner.beside() if isinstance(self.inner, EmptySlot) else {}

    def write(self, context: SpanContext) -> bytes:
        written = self.inner.write(context)
        assert isinstance(written, bytes)
        return _packed(written) if self.packed else written


class CopiedSlot(msgspec.Struct, frozen=True):
    """A context that came along with what was copied from an earlier job: it is replaced where it stands."""

    value: bytes
    at: tuple[int, ...]
    """Where in ``value`` its text begins, `LENGTH` bytes each."""
    context: SpanContext
    state: State = State.FOUND
    reason: str = ""
    bare: bool = False
    copied: bool = True

    def write(self, context: SpanContext) -> bytes:
        written = bytearray(self.value)
        for at in self.at:
            written[at : at + LENGTH] = context.header()
        return bytes(written)


def msgpack_slot(value: bytes, places: Places = PLACES, *, copied: bool = False) -> Slot:
    """The slot of a map that is whole and valid, with text for names. ``copied``: what is in it was copied there."""
    members = read(value)
    if members is None:
        return _NOT_MSGPACK
    key, carrier = places.key, places.carrier
    if _count(value) != len(members):
        return NoSlot(State.INVALID, "duplicate")
    if key.encode() not in value.lower():
        return _empty(value, members, places)
    if any(name not in (key, carrier) and name.lower() == key for name in members):
        return NoSlot(State.REFUSED, "similar_key")
    found = _found(_texts(members, (carrier, key), _text), places)
    if found is None:
        return _empty(value, members, places)
    return _copied(value, members, (carrier, key), found) if copied else found


def _empty(value: bytes, members: Mapping[str, msgspec.Raw], places: Places) -> Slot:
    omitted = places.omit in members and bytes(members[places.omit]) not in (_NIL, _FALSE)
    return MsgpackSlot(value, "" if omitted or places.carrier in members else places.carrier, places.key)


def text_slot(value: bytes, *, copied: bool = False) -> Slot:
    """The slot of a JSON object that is packed as text, or not packed. ``copied``: what is in it was copied there."""
    text = unpacked(value)
    slot = json_slot(text)
    if slot.state is State.EMPTY:
        return TextSlot(slot, text is not value)
    if not copied or slot.context is None:
        return slot
    at = _place(value, slot.context, 0, len(value))
    return slot if at is None else CopiedSlot(value, (at,), slot.context)


def unpacked(value: bytes) -> bytes:
    """The text that a whole value is; one that is no text in MessagePack is returned as it is."""
    if not value:
        return value
    size = {0xD9: 1, 0xDA: 2, 0xDB: 4}.get(value[0], 0)
    if not size and value[0] & 0xE0 != 0xA0:
        return value
    length = int.from_bytes(value[1 : 1 + size]) if size else value[0] & 0x1F
    text = value[1 + size :]
    return text if len(text) == length else value


def carried_slot(value: bytes, places: Places = PLACES) -> Slot:
    """The same members of a JSON object; to be read only, for nobody writes into what a worker is given."""
    refusal = refused(value)
    if refusal is not None:
        return refusal
    members = _json_members.decode(value)
    return _found(_texts(members, (places.carrier, places.key), _json_text), places) or NoSlot(State.EMPTY)


def read(value: bytes) -> Mapping[str, msgspec.Raw] | None:
    """The members of a map, as they stand; None for anything else. Of a name that occurs twice, the last."""
    if not is_map(value):
        return None
    try:
        return _members.decode(value)
    except _UNREADABLE:
        return None


def is_map(value: bytes) -> bool:
    """By its first byte: it is one, or nothing."""
    return bool(value) and (_FIX <= value[0] <= _FIX_END or value[0] in (_MAP16, _MAP32))


def splice(value: bytes, pairs: Sequence[tuple[bytes, bytes]]) -> bytes:
    """``value``, a map, with more members at its end, all of them text."""
    count, size = _count(value) + len(pairs), _header_size(value)
    if size == 1 and count < 16:
        header = bytes((_FIX | count,))
    elif size < 5 and count < 1 << 16:
        header = bytes((_MAP16, *count.to_bytes(2)))
    else:
        header = bytes((_MAP32, *count.to_bytes(4)))
    return b"".join((header, value[size:], *(_packed(text) for pair in pairs for text in pair)))


def _header_size(value: bytes) -> int:
    return {_MAP16: 3, _MAP32: 5}.get(value[0], 1)


def _count(value: bytes) -> int:
    size = _header_size(value)
    return value[0] & 0x0F if size == 1 else int.from_bytes(value[1:size])


def _packed(text: bytes) -> bytes:
    size = len(text)
    if size < 32:
        return b"%c%s" % (0xA0 | size, text)
    if size < 256:
        return b"\xd9%c%s" % (size, text)
    return b"\xda%s%s" % (size.to_bytes(2), text) if size < 1 << 16 else b"\xdb%s%s" % (size.to_bytes(4), text)


def _texts(
    members: Mapping[str, msgspec.Raw],
    names: Sequence[str],
    decoder: msgspec.msgpack.Decoder[str] | msgspec.json.Decoder[str],
) -> list[bytes | None]:
    """What stands there as text; nothing for what is no text, and None where there is nothing."""
    texts: list[bytes | None] = []
    for name in names:
        if name not in members:
            texts.append(None)
            continue
        try:
            texts.append(decoder.decode(members[name]).encode(errors="replace"))
        except _UNREADABLE:
            texts.append(b"")
    return texts


def _found(texts: list[bytes | None], places: Places) -> NoSlot | None:
    """The context that there is, or what is in its place; None: there is room for one."""
    carrier, own = texts
    state = None
    if carrier:
        try:
            inner = _json_members.decode(carrier)
        except _UNREADABLE:
            inner = {}
        if places.key in inner:
            own, state = _texts(inner, (places.key, tracestate.KEY.decode()), _json_text)
    if own is None:
        return None
    return read_context(own, state)


def _copied(value: bytes, members: Mapping[str, msgspec.Raw], names: Sequence[str], found: NoSlot) -> Slot:
    """Every place of the context that was found, if it stands there as it would be written."""
    if found.context is None:
        return found
    places: list[int] = []
    for name, start, end in _spans(value, members):
        if name in names:
            at = _place(value, found.context, start, end)
            if at is None:
                return found
            places.append(at)
    return CopiedSlot(value, tuple(places), found.context) if places else found


def _place(value: bytes, context: SpanContext, start: int, end: int) -> int | None:
    """Where a context stands as it would be written, if it does so once."""
    begins = b"00-%s-%s-" % (context.trace_id.hex().encode(), context.span_id.hex().encode())
    at = value.find(begins, start, end)
    again = value.find(begins, at + LENGTH, end)
    return at if 0 <= at <= end - LENGTH and again < 0 else None


def _spans(value: bytes, members: Mapping[str, msgspec.Raw]) -> list[tuple[str, int, int]]:
    """Where each member's value stands in a map that names none of them twice."""
    spans = []
    at = _header_size(value)
    for name, raw in members.items():
        start = at + {0xD9: 2, 0xDA: 3, 0xDB: 5}.get(value[at], 1) + len(name.encode())
        at = start + len(bytes(raw))
        spans.append((name, start, at))
    return spans
