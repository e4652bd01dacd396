"""W3C ``tracestate`` (Level 2, section 3.3): read strictly, cut by the rules; and what stands in it.

``ot`` is OpenTelemetry's: ``th`` is the threshold that a trace was sampled by, ``rv`` a random value that stands for
the one in the trace id.  ``redspan=e:0`` says that the span named by the ``traceparent`` beside it is not recorded.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

KEY: Final = b"tracestate"
UNRECORDED: Final = b"redspan=e:0"

MEMBERS: Final = 32
LIMIT: Final = 512
"""Bytes that are passed on; of a longer one, whole members are left out."""
LONG: Final = 128
"""Members longer than this are left out first."""
READ_LIMIT: Final = 8192
"""Bytes above which nothing of it is read."""

_MEMBER: Final = re.compile(
    rb"([a-z0-9][a-z0-9_\-*/@]{0,255})=([\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e])"
)
_TH: Final = re.compile(r"(?:^|;)th:([0-9a-f]{1,14})(?:;|$)")
_RV: Final = re.compile(r"(?:^|;)rv:([0-9a-f]{14})(?:;|$)")
_BITS: Final = 1 << 56


def parse(header: bytes) -> bytes | None:
    """The members as they are passed on; None if any rule is broken. Of a key that comes twice, the first counts."""
    if len(header) > READ_LIMIT:
        return None
    members: dict[bytes, bytes] = {}
    count = 0
    for part in header.split(b","):
        text = part.strip(b" \t")
        if not text:
            continue
        # Blanks before the comma are nobody's; those after it are not part of a key either.
        member = _MEMBER.fullmatch(text)
        count += 1
        if member is None or count > MEMBERS:
            return None
        members.setdefault(member[1], text)
    return _cut(list(members.values()))


def _cut(members: list[bytes]) -> bytes:
    for too_many in ([one for one in members if len(one) > LONG], members[::-1]):
        for member in too_many:
            if sum(map(len, members)) + len(members) - 1 <= LIMIT:
                break
            members = [one for one in members if one is not member]
    return b",".join(members)


def recorded(tracestate: bytes) -> bool:
    """Whether the span that the context names is recorded, as far as its tracestate says."""
    return UNRECORDED not in tracestate.split(b",")


def shown(tracestate: bytes) -> str:
    """As a span has it: without what redspan says to itself."""
    if UNRECORDED not in tracestate:
        return tracestate.decode("ascii", "replace")
    return b",".join(one for one in tracestate.split(b",") if one != UNRECORDED).decode("ascii", "replace")


def encode_threshold(least: int) -> str:
    """``th``: 14 hexadecimal digits, without zeros at their end."""
    return f"{least:014x}".rstrip("0") or "0"


@lru_cache(4096)
def threshold(tracestate: str) -> int | None:
    """T of the member ``ot``; None: it does not say."""
    found = _TH.search(_ot(tracestate))
    return int(found[1].ljust(14, "0"), 16) if found else None


def randomness(trace_id: bytes, tracestate: str) -> int:
    """R: ``rv``, where the tracestate has one, else the low 56 bits of the trace id."""
    if "rv:" in tracestate and (found := _RV.search(_ot(tracestate))):
        return int(found[1], 16)
    return int.from_bytes(trace_id[9:])


@lru_cache(4096)
def with_threshold(tracestate: str, least: int | None) -> str:
    """The same with another ``th``, or without one. A member that changes goes to the left."""
    own = [part for part in _ot(tracestate).split(";") if part and not part.startswith("th:")]
    if least is not None:
        own.insert(0, f"th:{encode_threshold(least)}")
    rest = [member for member in tracestate.split(",") if member and not member.startswith("ot=")]
    return ",".join([f"ot={';'.join(own)}"] * bool(own) + rest)


def _ot(tracestate: str) -> str:
    return next((member[3:] for member in tracestate.split(",") if member.startswith("ot=")), "")
