"""What RQ's worker runs."""

from __future__ import annotations


def measure(text: str, number: int) -> int:
    return len(text) + number
