"""Ids: derived from a job's identity, so that both sides of a queue compute the same ones, or random.

DESIGN.md section 5.  ``H`` is BLAKE2b over length-prefixed parts, so that no two lists of parts hash alike, keyed with
the contents of ``tracing.identity_key_file`` where one is given: then nobody who merely chooses a job's id can aim at
another job's trace.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Protocol

_KEY_SIZE = 64


class Deriver:
    """``H`` with its key (at most 64 bytes count; a longer key is hashed down to that)."""

    __slots__ = ("_key",)

    def __init__(self, key: bytes = b"") -> None:
        self._key = blake2b(key).digest() if len(key) > _KEY_SIZE else key

    def _hash(self, *parts: bytes) -> bytes:
        digest = blake2b(key=self._key, digest_size=16)
        for part in parts:
            digest.update(b"%d:%s" % (len(part), part))
        return digest.digest()

    def trace_id(self, framework: str, submission: bytes) -> bytes:
        """T, 16 bytes."""
        return self._hash(b"t", framework.encode(), submission)

    def span_id(self, trace_id: bytes, hop: bytes = b"", attempt: int = 0) -> bytes:
        """E, the enqueue span's id, 8 bytes."""
        return self._hash(b"e", trace_id, hop, b"%d" % attempt)[:8]

    def adopted_span_id(self, trace_id: bytes, job_id: bytes) -> bytes:
        """The span id that goes into a slot of bare ids, 8 bytes."""
        return self._hash(b"e", trace_id, job_id)[:8]


class Ids(Protocol):
    """Where random ids come from."""

    def trace_id(self) -> bytes: ...

    def span_id(self) -> bytes: ...

    def both(self) -> tuple[bytes, bytes]:
        """A trace id and a span id."""


class PooledIds:
    """Random ids, cut from a pool that ``source`` (bytes wanted -> bytes) refills.

    The pool is small so that no refill holds up a command for long.
    """

    __slots__ = ("_at", "_pool", "_source")
    _SIZE = 64 * 24

    def __init__(self, source: Source) -> None:
        self._source = source
        self._pool = b""
        self._at = 0

    def _take(self, size: int) -> bytes:
        end = self._at + size
        if end > len(self._pool):
            self._pool, self._at, end = self._source(self._SIZE), 0, size
        taken = self._pool[self._at : end]
        self._at = end
        return taken if any(taken) else self._take(size)

    def trace_id(self) -> bytes:
        return self._take(16)

    def span_id(self) -> bytes:
        return self._take(8)

    def both(self) -> tuple[bytes, bytes]:
        middle = self._at + 16
        end = middle + 8
        trace_id, span_id = self._pool[self._at : middle], self._pool[middle:end]
        self._at = end
        if len(span_id) == 8 and any(trace_id) and any(span_id):
            return trace_id, span_id
        return self._take(16), self._take(8)


class Source(Protocol):
    def __call__(self, size: int, /) -> bytes: ...
