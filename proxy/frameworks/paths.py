"""Dotted paths into a job's JSON, and the readings of what is found there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Final, TypeVar

import msgspec

from proxy.events import VALUE_LIMIT

_decoder: Final = msgspec.json.Decoder()
_raw_members: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_TEXT_LIMIT: Final = 1024


UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What msgspec raises for a value that it cannot decode."""

_Read = TypeVar("_Read")


def read(decoder: msgspec.json.Decoder[_Read], value: bytes) -> _Read | None:
    """What ``decoder`` makes of a job; None for anything but a JSON object of its kind. The first byte decides."""
    if value[:1] != b"{":
        return None
    try:
        return decoder.decode(value)
    except UNREADABLE:
        return None


def members(value: bytes) -> Mapping[str, object]:
    """The job as a mapping; empty for anything but a JSON object."""
    if value[:1] not in (b"{", b" ", b"\n", b"\t", b"\r"):
        return {}
    try:
        decoded = _decoder.decode(value)
    except UNREADABLE:
        return {}
    return decoded if isinstance(decoded, dict) else {}


def at(job: object, path: str) -> object:
    """What stands at ``a.b.c``, or None. An empty path finds nothing."""
    if not path:
        return None
    for name in path.split("."):
        if not isinstance(job, dict):
            return None
        job = job.get(name)
    return job


def is_array(raw: msgspec.Raw) -> bool:
    return bytes(memoryview(raw)[:1]) == b"["


def text(found: object) -> str:
    """A scalar as text, at most 1,024 characters; empty for null, objects and arrays."""
    if isinstance(found, str):
        return found[:_TEXT_LIMIT]
    if isinstance(found, bool):
        return "true" if found else "false"
    return str(found)[:_TEXT_LIMIT] if isinstance(found, int | float) else ""


def texts(found: object) -> tuple[str, ...]:
    """A scalar or a list of them as texts, at most 64."""
    if isinstance(found, list):
        return tuple(item for item in map(text, found[:64]) if item)
    one = text(found)
    return (one,) if one else ()


def integer(found: object, default: int = 0) -> int:
    """A whole number below 2**31, also one written as text; ``default`` for anything else."""
    if isinstance(found, str) and found.isascii() and found.isdigit() and len(found) < 10:
        found = int(found)
    if isinstance(found, int) and not isinstance(found, bool) and 0 <= found < 2**31:
        return found
    return default


def when(found: object) -> int:
    """A time as nanoseconds since the epoch, 0 if it is none.

    Text is RFC 3339 with any number of fractional digits.  A number is seconds, milliseconds, microseconds or
    nanoseconds, told apart by its size: each covers the years 2001 to 2286.
    """
    if isinstance(found, str):
        return _rfc3339(found)
    if isinstance(found, bool) or not isinstance(found, int | float):
        return 0
    for digits, scale in ((10, 10**9), (13, 10**6), (16, 10**3), (19, 1)):
        if 10 ** (digits - 1) <= found < 10**digits:
            whole = int(found)
            return whole * scale + int((found - whole) * scale)
    return 0


def due(score: bytes) -> int:
    """When a member of a sorted set is due, ms; -1 for a score that is no time."""
    try:
        # As a float, one of nanoseconds would lose some.
        nanoseconds = when(int(score) if score.isdigit() and len(score) < 20 else float(score))
    except ValueError:
        return -1
    return nanoseconds // 1_000_000 if nanoseconds else -1


def _rfc3339(stamp: str) -> int:
    if len(stamp) > 40:
        return 0
    whole, dot, rest = stamp.partition(".")
    digits = rest[: len(rest) - len(rest.lstrip("0123456789"))] if dot else ""
    zone = rest[len(digits) :] if dot else ""
    try:
        moment = datetime.fromisoformat(whole + zone)
    except ValueError:
        return 0
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    seconds = int(moment.timestamp())
    return seconds * 10**9 + int((digits + "0" * 9)[:9]) if seconds > 0 else 0


def reduce(value: bytes, names: Iterable[str]) -> bytes:
    """A JSON object with only the top-level members ``names`` of ``value``, if that fits an event; else nothing."""
    try:
        job = _raw_members.decode(value)
    except UNREADABLE:
        return b""
    return fitting({name: job[name] for name in names if name in job})


def fitting(job: Mapping[str, object]) -> bytes:
    """It as JSON, if that fits an event; else nothing."""
    kept = msgspec.json.encode(job)
    return kept if len(kept) <= VALUE_LIMIT else b""
