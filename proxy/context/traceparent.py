"""W3C Trace Context Level 2: the ``traceparent`` value, read strictly and written as version 00."""

from __future__ import annotations

import re
from binascii import hexlify
from typing import Final

import msgspec

from proxy.context import tracestate

SAMPLED: Final = 0x01
RANDOM: Final = 0x02
"""Level 2, section 3.2.2.5: the right-most 7 bytes of the trace id are uniformly random."""

LENGTH: Final = 55
_NO_SPAN: Final = bytes(8)

_TRACEPARENT = re.compile(
    rb"(?!ff)([0-9a-f]{2})-((?!0{32})[0-9a-f]{32})-((?!0{16})[0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.DOTALL
)


class SpanContext(msgspec.Struct, frozen=True, gc=False):
    """A trace id (16 bytes), a span id (8 bytes) and the flags that travel with them; and what stands beside them."""

    trace_id: bytes
    span_id: bytes
    flags: int = 0
    tracestate: bytes = b""
    """As `proxy.context.tracestate.parse` answers it."""

    @property
    def sampled(self) -> bool:
        return bool(self.flags & SAMPLED)

    @property
    def parent(self) -> bytes:
        """The span id, for children of it; empty where it is known that nobody records that span."""
        return self.span_id if not self.tracestate or tracestate.recorded(self.tracestate) else b""

    def pack(self) -> bytes:
        """What an event carries: 25 bytes, and the tracestate."""
        return self.trace_id + self.span_id + bytes((self.flags,)) + self.tracestate

    def header(self) -> bytes:
        """The 55 bytes of a version 00 ``traceparent``."""
        return b"00-%s-%s-%02x" % (hexlify(self.trace_id), hexlify(self.span_id), self.flags)


def unpack(packed: bytes) -> SpanContext:
    """The reverse of `SpanContext.pack`; a span id of zeros names none."""
    span_id = packed[16:24]
    return SpanContext(packed[:16], b"" if span_id == _NO_SPAN else span_id, packed[24], packed[25:])


def wrong(header: bytes) -> str:
    """Why `parse` does not take it, in a word."""
    version, _, rest = header.partition(b"-")
    ids = rest.split(b"-")
    if version == b"ff" or (version == b"00" and len(header) > LENGTH and header[LENGTH:][:1] == b"-"):
        return "version"
    zero = any(len(text) == size and not text.strip(b"0") for text, size in zip(ids, (32, 16), strict=False))
    return "zero_id" if zero else "malformed"


def parse(header: bytes) -> SpanContext | None:
    """Read a ``traceparent`` (section 3.2.2); None if any rule is broken.

    Upper case hex, zero ids, version ``ff`` and anything after the flags of version 00 are invalid.  A higher version
    is read as far as version 00 goes.  Flags other than sampled and random are dropped, as section 3.2.2.5 asks.
    """
    match = _TRACEPARENT.fullmatch(header)
    if match is None:
        return None
    version, trace_id, span_id, flags, rest = match.groups()
    if rest is not None and version == b"00":
        return None
    return SpanContext(
        bytes.fromhex(trace_id.decode()), bytes.fromhex(span_id.decode()), int(flags, 16) & (SAMPLED | RANDOM)
    )
