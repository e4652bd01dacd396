"""Ids as applications write them, where the bytes of W3C Trace Context are meant."""

from __future__ import annotations

import re
from typing import Final

from proxy.context.traceparent import parse

HEX: Final = re.compile(r"(?!0+$)[0-9a-f]+")
_UUID: Final = re.compile(r"(?:trace-)?([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})", re.IGNORECASE)


def trace_id(text: str) -> bytes | None:
    """32 hexadecimal digits, a UUID, ``trace-<uuid>``, or the one of a whole ``traceparent``; None: no such text."""
    if is_plain(text):
        return bytes.fromhex(text)
    match = _UUID.fullmatch(text)
    if match is not None:
        found = bytes.fromhex(match[1].replace("-", ""))
        return found if any(found) else None
    context = parse(text.encode(errors="replace"))
    return None if context is None else context.trace_id


def is_plain(text: str) -> bool:
    """It is a trace id as W3C writes it."""
    return len(text) == 32 and HEX.fullmatch(text) is not None


def otherwise(text: str) -> str:
    """A trace id that is written in another way than W3C's; empty for any other text."""
    return "" if not text or is_plain(text) or trace_id(text) is None else text


def span_id(text: str) -> bytes | None:
    """16 hexadecimal digits; None: anything else."""
    return bytes.fromhex(text) if len(text) == 16 and HEX.fullmatch(text) else None
