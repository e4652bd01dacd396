"""A context as a top-level member of a JSON object, spliced in as bytes.

The job's text is never re-serialised: numbers, key order and escapes stay as its producer wrote them, because a
worker may acknowledge a job by its exact bytes.  The member that is added looks like its neighbours (separators are
those of the first member), so that even a worker which dumps what it loaded arrives at the bytes Redis holds.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Final

import msgspec

from proxy.context import tracestate
from proxy.context.slot import EmptySlot, NoSlot, Slot, State
from proxy.context.traceparent import SpanContext, parse, wrong

KEY: Final = b"traceparent"

_BOM: Final = b"\xef\xbb\xbf"
_SPACE: Final = b" \t\r\n"
_FIRST_MEMBER: Final = re.compile(rb'\s*\{([ \t\r\n]*)"(?:[^"\\]|\\.)*"([ \t\r\n]*:[ \t\r\n]*)', re.DOTALL)
_LONG: Final = 4096
"""Bytes from which on it is cheaper to look at an object's names than for a name in its text."""
_STYLE_LIMIT: Final = 4096
"""Bytes in which the first member's name has to end for its style to be copied."""
_QUOTED: Final = re.compile(rb'"([^"\\]*)"')


class _Anything(msgspec.Struct):
    """Decoding into it checks the syntax of a whole object and builds nothing."""


_MEMBER: Final = "member"
_STATE: Final = b'"%s"' % tracestate.KEY


@lru_cache(64)
def _only(name: str) -> msgspec.json.Decoder[msgspec.Struct]:
    """For one member of an object, and nothing else of it."""
    field = (_MEMBER, msgspec.Raw | msgspec.UnsetType, msgspec.field(name=name, default=msgspec.UNSET))
    return msgspec.json.Decoder(msgspec.defstruct("Only", [field]))


_check: Final = msgspec.json.Decoder(_Anything)
_members: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_anything: Final = msgspec.json.Decoder(dict[str, object])

REFUSALS: Final = ("not_object", "not_json", "not_utf8", "bom", "similar_key")
INVALID: Final = ("malformed", "version", "zero_id", "not_a_string", "duplicate", "tracestate", "untrusted")
"""What is wrong with a context; ``tracestate``: only that, and the context is taken without it.

``untrusted``: nothing, but it cannot be replaced."""


class JsonSlot(EmptySlot, frozen=True, gc=False):
    """An object that has no member of our name yet."""

    value: bytes
    key: bytes = KEY

    def beside(self) -> Mapping[str, object]:
        return decoded(self.value)

    def write(self, context: SpanContext) -> bytes:
        edited = splice(self.value, self.key, context.header())
        if not context.tracestate or self.key != KEY or _STATE in self.value.lower():
            return edited
        return splice(edited, tracestate.KEY, context.tracestate)


def splice(value: bytes, key: bytes, text: bytes, around: bytes = b"") -> bytes:
    """``value``, a JSON object, with a last member ``key: text``; both must need no escaping.

    An object without members looks to the one ``around`` it for its style.
    """
    if value.endswith(b"}") and value[-2] not in _SPACE:
        body, tail = value[:-1], b"}"
    else:
        brace = len(value.rstrip(_SPACE)) - 1
        body = value[:brace].rstrip(_SPACE)
        tail = value[len(body) :]
    first = _FIRST_MEMBER.match(value, 0, _STYLE_LIMIT)
    if first is None:
        comma = b"" if body.endswith(b"{") else b","
        outer = _FIRST_MEMBER.match(around, 0, _STYLE_LIMIT)
        return b'%s%s"%s"%s"%s"%s' % (body, comma, key, outer[2] if outer else b":", text, tail)
    indent, colon = first.groups()
    separator = b"," + (indent or (b" " if colon.endswith(b" ") else b""))
    return b'%s%s"%s"%s"%s"%s' % (body, separator, key, colon, text, tail)


def json_slot(value: bytes, key: bytes = KEY) -> Slot:
    """The slot ``key`` of a job; only a value that is one JSON object, whole and valid, has one that may be written."""
    refusal = refused(value)
    if refusal is not None:
        return refusal
    name = key.decode()
    if len(value) <= _LONG and b"\\u" not in value:
        count = value.lower().count(key.lower())
        if not count:
            return JsonSlot(value, key)
        member = getattr(_only(name).decode(value), _MEMBER) if count == 1 else msgspec.UNSET
        # Otherwise it is inside of something else, or not ours in every letter.
        if member is not msgspec.UNSET:
            return _read(member, value, key)
    try:
        # Names are few where bytes are many.
        members = _members.decode(value)
        alike = [member for member in members if member.lower() == name.lower()]
        if not alike:
            return JsonSlot(value, key)
        if b"\\u" in value or value.lower().count(key.lower()) > 1:
            # One of them may be there several times, which only a much slower decoder tells.
            alike = [member for member in member_names(value) if member.lower() == name.lower()]
    except (ValueError, RecursionError):
        # Numbers of thousands of digits, nesting at the very limit: what one decoder takes, another does not.
        return NoSlot(State.REFUSED, "not_json")
    if alike != [name]:
        return NoSlot(State.INVALID, "duplicate") if name in alike else NoSlot(State.REFUSED, "similar_key")
    return _read(members[name], value, key)


def refused(value: bytes) -> NoSlot | None:
    """The slot of a value that is not one JSON object; None for one that is."""
    if value[:1] != b"{" and value.lstrip(_SPACE)[:1] != b"{":
        return NoSlot(State.REFUSED, "bom" if value.startswith(_BOM) else "not_object")
    try:
        _check.decode(value)
        if not value.isascii():
            value.decode()
    except UnicodeDecodeError:
        return NoSlot(State.REFUSED, "not_utf8")
    except (msgspec.DecodeError, RecursionError):
        return NoSlot(State.REFUSED, "not_json")
    return None


def decoded(value: bytes) -> Mapping[str, object]:
    """The members of an object; none of anything else, nor of what this decoder does not take."""
    try:
        return _anything.decode(value)
    except (ValueError, RecursionError):
        return {}


def member_names(value: bytes) -> list[str]:
    """Names of an object's top-level members, in order, as often as they occur."""
    outermost: list[str] = []

    def remember(pairs: list[tuple[str, object]]) -> None:
        # Called for every object, for the outermost one last.
        outermost[:] = [name for name, _ in pairs]

    json.loads(value, object_pairs_hook=remember)
    return outermost


def _read(member: msgspec.Raw, value: bytes, key: bytes) -> NoSlot:
    quoted = _QUOTED.fullmatch(bytes(member))
    if quoted is None:
        return NoSlot(State.INVALID, "not_a_string")
    return found(quoted[1], _tracestate(value) if key == KEY and _STATE in value else None)


def found(header: bytes, state: bytes | None = None) -> NoSlot:
    """What a ``traceparent`` and a ``tracestate`` beside it come to. A bad one of these is left out, and said to be."""
    context = parse(header)
    if context is None:
        return NoSlot(State.INVALID, wrong(header))
    if state is None:
        return NoSlot(State.FOUND, context=context)
    members = tracestate.parse(state)
    if members is None:
        return NoSlot(State.FOUND, "tracestate", context)
    return NoSlot(State.FOUND, context=SpanContext(context.trace_id, context.span_id, context.flags, members))


def _tracestate(value: bytes) -> bytes | None:
    """The member of that name; None: there is none. One that is no text without escapes is as good as a bad one."""
    if value.count(_STATE) > 1:
        return b"="
    member = getattr(_only(tracestate.KEY.decode()).decode(value), _MEMBER)
    if member is msgspec.UNSET:
        return None
    quoted = _QUOTED.fullmatch(bytes(member))
    return b"=" if quoted is None else quoted[1]
