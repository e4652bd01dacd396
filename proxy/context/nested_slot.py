"""A context as a member of an object inside a job: ``headers``, ``options``, ``labels`` …, spliced in as bytes.

The inner object is found by walking the outer one's members, never by searching for its text: a job's arguments may
hold the same text.  Inside, the rules are those of `proxy.context.json_slot`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from proxy.context import tracestate
from proxy.context.json_slot import KEY, decoded, json_slot, refused, splice
from proxy.context.slot import EmptySlot, NoSlot, Slot, State
from proxy.context.traceparent import SpanContext

_OPEN: Final = re.compile(rb"[ \t\r\n]*\{")
_NAME: Final = re.compile(rb'[ \t\r\n]*"((?:[^"\\]|\\.)*)"[ \t\r\n]*:[ \t\r\n]*', re.DOTALL)
_COMMA: Final = re.compile(rb"[ \t\r\n]*,")
_members: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ABSENT: Final = NoSlot(State.REFUSED, "no_parent")
_DUPLICATE: Final = NoSlot(State.REFUSED, "duplicate_parent")

REFUSALS: Final = ("no_parent", "duplicate_parent")


class NestedSlot(EmptySlot, frozen=True):
    """An inner object, ``value[start:end]``, that has no member of our name yet."""

    value: bytes
    start: int
    end: int
    key: bytes = KEY

    def beside(self) -> Mapping[str, object]:
        return decoded(self.value[self.start : self.end])

    def write(self, context: SpanContext) -> bytes:
        value, start, end = self.value, self.start, self.end
        inner = value[start:end]
        edited = splice(inner, self.key, context.header(), value)
        if context.tracestate and self.key == KEY and b'"%s"' % tracestate.KEY not in inner.lower():
            edited = splice(edited, tracestate.KEY, context.tracestate, value)
        return b"%s%s%s" % (value[:start], edited, value[end:])


def nested_slot(value: bytes, parent: str, key: bytes = KEY) -> Slot:
    """The slot ``key`` of the object that is ``value``'s top-level member ``parent`` (a name without escapes).

    No such member, or one that is no object, has none: nothing is ever added to the outer object.
    """
    return _inside(value, (parent,), key)


def path_slot(value: bytes, path: Sequence[str]) -> Slot:
    """The slot at a path into the job: the last name is the slot's own, the others are of objects that are there."""
    key = path[-1].encode()
    return _inside(value, path[:-1], key) if len(path) > 1 else json_slot(value, key)


def _inside(value: bytes, parents: Sequence[str], key: bytes) -> Slot:
    refusal = refused(value)
    if refusal is not None:
        return refusal
    start, end = 0, len(value)
    for parent in parents:
        span = _find(value[start:end], parent)
        if isinstance(span, NoSlot):
            return span
        start, end = start + span[0], start + span[1]
    inner = json_slot(value[start:end], key)
    return NestedSlot(value, start, end, key) if inner.state is State.EMPTY else inner


def _find(value: bytes, parent: str) -> tuple[int, int] | NoSlot:
    """Where the member begins and ends, in a value that is valid JSON."""
    try:
        members = _members.decode(value)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return NoSlot(State.REFUSED, "not_json")
    if parent not in members:
        return _ABSENT
    opened = _OPEN.match(value)
    assert opened is not None
    at, wanted = opened.end(), parent.encode()
    # A decoded object has its members in the order of their first places, and the values of their last.
    found: tuple[int, int] | None = None
    for raw in members.values():
        name = _NAME.match(value, at)
        if name is None:
            return _DUPLICATE
        text = bytes(raw)
        start, end = name.end(), name.end() + len(text)
        if value[start:end] != text:
            return _DUPLICATE
        if name[1] == wanted:
            found = start, end
        comma = _COMMA.match(value, end)
        at = comma.end() if comma is not None else end
    if found is None or value[at:].strip(b" \t\r\n") != b"}":
        return _DUPLICATE
    return found
