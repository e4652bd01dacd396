"""Times as people read them."""

from __future__ import annotations

from datetime import UTC, datetime


def utc(at: int) -> str | None:
    """Nanoseconds as ISO 8601, to the microsecond; None for 0."""
    if not at:
        return None
    try:
        return f"{datetime.fromtimestamp(at // 10**9, UTC):%Y-%m-%dT%H:%M:%S}.{at // 1000 % 10**6:06d}Z"
    except (ValueError, OverflowError):
        return None
