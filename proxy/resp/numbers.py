"""The decimal numbers of RESP headers.

`int` accepts what Redis does not (``b"1_0"``, ``b" 5"``, ``b"+5"``, ``b"05"``), and a length read otherwise than Redis
reads it puts every later boundary in the wrong place.
"""

from __future__ import annotations

from typing import Final

_SMALL: Final = {b"%d" % number: number for number in range(-1, 4096)}
_DIGITS: Final = 19


class Malformed(Exception):
    """Bytes that no Redis would accept, or a type this proxy does not know: nothing can be said of what follows."""


def number(digits: bytes) -> int:
    """A canonical decimal number of at most 19 digits; raises `Malformed` for anything else."""
    known = _SMALL.get(digits)
    if known is not None:
        return known
    unsigned = digits[1:] if digits[:1] == b"-" else digits
    if not unsigned.isdigit() or len(unsigned) > _DIGITS or (unsigned[0] == 0x30 and digits != b"0"):
        raise Malformed(f"not a length: {digits[:24]!r}")
    return int(digits)
