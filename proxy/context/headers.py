"""Trace contexts of other formats than W3C's, read where a job has them beside its slot; never written.

``b3``
    Zipkin's, in one header (``b3: <trace id>-<span id>-<sampled>-<parent>``) or several (``X-B3-TraceId`` …).  A trace
    id of 64 bits is filled up with zeros.  https://github.com/openzipkin/b3-propagation
``datadog``
    ``x-datadog-trace-id`` and ``x-datadog-parent-id`` in decimal; the upper half of a trace id of 128 bits is
    ``_dd.p.tid`` of ``x-datadog-tags``; ``x-datadog-sampling-priority`` above 0 keeps the trace.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Literal, TypeAlias

from proxy.context.begun import BegunSlot
from proxy.context.slot import Slot
from proxy.context.traceparent import SAMPLED, SpanContext

Format: TypeAlias = Literal["b3", "datadog"]

_B3: Final = re.compile(r"([0-9a-f]{16}|[0-9a-f]{32})-([0-9a-f]{16})(?:-([01d])(?:-[0-9a-f]{16})?)?")
_B3_TRACE: Final = re.compile(r"[0-9a-f]{16}|[0-9a-f]{32}")
_B3_SPAN: Final = re.compile(r"[0-9a-f]{16}")
_UPPER: Final = re.compile(r"(?:^|,)_dd\.p\.tid=([0-9a-f]{16})(?:,|$)")
_HEADERS: Final = 64
"""Members beside a slot that are looked at: carriers have few."""


def begun(slot: Slot, beside: Mapping[str, object], formats: Sequence[Format]) -> Slot:
    """The slot, of a job that may bring along one of these, the first of ``formats`` that is there."""
    found = {name.lower(): text for name, text in list(beside.items())[:_HEADERS] if isinstance(text, str | int)}
    for one in formats:
        mark, read = _READERS[one]
        if found.keys() & mark:
            context = read({name: str(text).strip() for name, text in found.items()})
            return BegunSlot(slot, context, reason="" if context is not None else "malformed")
    return slot


def _b3(found: Mapping[str, str]) -> SpanContext | None:
    whole = _B3.fullmatch(found["b3"]) if "b3" in found else None
    if whole is not None:
        return _context(whole[1].zfill(32), whole[2], sampled=whole[3] in ("1", "d"))
    trace, span = found.get("x-b3-traceid", ""), found.get("x-b3-spanid", "")
    if not _B3_TRACE.fullmatch(trace) or not _B3_SPAN.fullmatch(span):
        return None
    sampled = found.get("x-b3-sampled", "").lower() in ("1", "true") or found.get("x-b3-flags") == "1"
    return _context(trace.zfill(32), span, sampled=sampled)


def _datadog(found: Mapping[str, str]) -> SpanContext | None:
    ids = (_decimal(found.get("x-datadog-trace-id", "")), _decimal(found.get("x-datadog-parent-id", "")))
    if not all(ids):
        return None
    upper = _UPPER.search(found.get("x-datadog-tags", ""))
    priority = found.get("x-datadog-sampling-priority", "1")
    return _context(f"{upper[1] if upper else '':0>16}{ids[0]:016x}", f"{ids[1]:016x}", sampled=priority in ("1", "2"))


def _decimal(text: str) -> int:
    """0 for what is no number of 64 bits."""
    number = int(text) if text.isascii() and text.isdigit() and len(text) <= 20 else 0
    return number if number < 1 << 64 else 0


def _context(trace: str, span: str, *, sampled: bool) -> SpanContext | None:
    context = SpanContext(bytes.fromhex(trace), bytes.fromhex(span), SAMPLED * sampled)
    return context if any(context.trace_id) and any(context.span_id) else None


_READERS: Final[Mapping[Format, tuple[frozenset[str], Callable[[Mapping[str, str]], SpanContext | None]]]] = {
    "b3": (frozenset({"b3", "x-b3-traceid"}), _b3),
    "datadog": (frozenset({"x-datadog-trace-id"}), _datadog),
}
"""Of each format: the headers that mark it, in lower case, and how it is read."""
