"""What an exporter is, and how it reports."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Protocol

import msgspec

from proxy.tracer.span import Span


class Status(StrEnum):
    OK = "ok"
    """Taken, apart from what was rejected."""
    RETRYABLE = "retryable"
    """Not taken; later it may be."""
    FATAL = "fatal"
    """Not taken, and the same spans never will be."""


class Result(msgspec.Struct, frozen=True):
    """How one export ended."""

    status: Status
    accepted: int = 0
    rejected: int = 0
    """Spans the receiver refused (OTLP ``partial_success``) out of a request that it took."""
    reason: str = ""
    """Of few different values, and free of addresses' credentials: logs are limited per reason."""
    retry_after: float = 0.0
    """Seconds the receiver asked to be left alone; 0 if it did not say."""


class Exporter(Protocol):
    """Where spans go. Both methods may block: they are called in the tracer's one worker thread."""

    def export(self, spans: Sequence[Span]) -> Result:
        """Send them. Failures are results; an exception is a bug and counts as FATAL."""

    def close(self) -> None:
        """Let go of connections. No `export` follows."""


def taken(spans: Sequence[Span], rejected: int = 0, reason: str = "") -> Result:
    """The result of a request that was accepted, all but ``rejected`` spans of it."""
    rejected = min(max(rejected, 0), len(spans))
    return Result(Status.OK, len(spans) - rejected, rejected, reason)
