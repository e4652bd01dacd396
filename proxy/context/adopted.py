"""A context as two bare ids that the job's own format already has: ``trace_id`` (32 hex) and ``span_id`` (16 hex).

They are kept, filled or replaced where they stand, with no change of length unless they were empty.  Bare ids carry no
flags, and nobody knows whether the span they name was ever exported.  A trace id that is written in another way
(`proxy.context.bare`) stays as it is written.
"""

from __future__ import annotations

import re
from functools import lru_cache

import msgspec

from proxy.context.bare import HEX, span_id, trace_id
from proxy.context.json_slot import member_names, refused
from proxy.context.slot import NoSlot, Slot, State
from proxy.context.traceparent import SpanContext

_ID = rb'"[ \t\r\n]*:[ \t\r\n]*"([^"\\]*)"'
REFUSALS = ("foreign",)


class AdoptedSlot(msgspec.Struct, frozen=True):
    value: bytes
    state: State
    trace_at: tuple[int, int]
    """Where in ``value`` the trace id stands, without its quotes."""
    span_at: tuple[int, int]
    context: SpanContext | None = None

    @property
    def reason(self) -> str:
        return ""

    @property
    def bare(self) -> bool:
        return True

    @property
    def copied(self) -> bool:
        return False

    def write(self, context: SpanContext) -> bytes:
        a, b = self.trace_at
        given = self.value[a:b]
        trace = (a, b, given or context.trace_id.hex().encode())
        span = (*self.span_at, context.span_id.hex().encode())
        (a, b, first), (c, d, second) = sorted((trace, span))
        return b"".join((self.value[:a], first, self.value[b:c], second, self.value[d:]))


@lru_cache(maxsize=16)
def _pattern(key: bytes) -> re.Pattern[bytes]:
    return re.compile(rb'"' + re.escape(key) + _ID)


def _find(value: bytes, key: bytes) -> tuple[int, int] | None:
    """Where the one string member ``key`` has its text; None if there is none, or a doubt about which it is.

    Go's decoder matches names in any case and lets the last one win, so one in another case is a doubt too.
    """
    if value.lower().count(b'"%s"' % key.lower()) != 1:
        return None
    if b"\\u" in value and not _once(value, key.decode()):
        return None
    match = _pattern(key).search(value)
    return None if match is None else match.span(1)


def _once(value: bytes, key: str) -> bool:
    try:
        return [name.lower() for name in member_names(value)].count(key.lower()) == 1
    except (ValueError, RecursionError):
        return False


def adopted_slot(value: bytes, trace_key: bytes = b"trace_id", span_key: bytes = b"span_id") -> Slot:
    """The slot of a job that has bare ids. Without both members, exactly once each, nothing may be written."""
    refusal = refused(value)
    if refusal is not None:
        return refusal
    trace_at, span_at = _find(value, trace_key), _find(value, span_key)
    if trace_at is None or span_at is None:
        return NoSlot(State.REFUSED, "similar_key" if trace_at or span_at else "foreign")
    trace, span = value[slice(*trace_at)].decode(), value[slice(*span_at)].decode()
    if not trace and not span:
        return AdoptedSlot(value, State.EMPTY, trace_at, span_at)
    if len(trace) == 32 and len(span) in (0, 16) and HEX.fullmatch(trace) and (not span or HEX.fullmatch(span)):
        context = SpanContext(bytes.fromhex(trace), bytes.fromhex(span) or bytes(8))
    else:
        found, named = trace_id(trace), span_id(span) if span else bytes(8)
        if found is None or named is None:
            return NoSlot(State.INVALID, "malformed")
        context = SpanContext(found, named)
    return AdoptedSlot(value, State.FOUND, trace_at, span_at, context)
