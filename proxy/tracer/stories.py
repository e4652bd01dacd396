"""What happened to jobs, as the event stream and ``/api/events?lifecycle=true`` show it: the same words in both."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from proxy.config.links import TraceLinks
from proxy.tracer import attributes as a
from proxy.tracer.happened import Happened
from proxy.tracer.when import utc

_encode: Final = msgspec.json.Encoder().encode
_TEXT_LIMIT: Final = 256
"""Characters of a text: a line stays within what a pipe takes at once."""


class Stories:
    """``rule`` says what may be shown of an attribute; ``service`` is that of spans without one of their own."""

    def __init__(self, links: TraceLinks, service: str, rule: a.Rule) -> None:
        self._links = links
        self._service = service
        self._rule = rule

    def shown(self, one: Happened) -> dict[str, Any]:
        """The members of an event; those of which nothing is known are null."""
        fields = one.facts.fields
        at = one.at // 10**6
        url = one.sampled and self._links.link(
            trace_id=one.trace_id.hex(),
            span_id=one.span_id.hex(),
            service=one.service or self._service,
            start_ms=at - max(0, one.duration) // 10**6,
            end_ms=at,
        )
        return {
            "time": utc(one.at),
            "event": one.event,
            "job_id": self._kept(a.MESSAGE_ID, one.job_id),
            "type": self._kept(a.JOB_TYPE, fields.type),
            "queue": self._kept(a.QUEUE_NAME, one.facts.queue),
            "trace_id": one.trace_id.hex(),
            "correlation_id": self._kept(a.CONVERSATION_ID, fields.correlation_id),
            "attempt": max(0, fields.attempt) + 1,
            "max_attempts": fields.max_attempts if fields.max_attempts >= 0 else None,
            "duration_ms": round(one.duration / 1e6, 3) if one.duration >= 0 else None,
            "error": self._kept(a.JOB_ERROR, one.error),
            "trace_url": url or None,
            "inferred": one.inferred,
        }

    def line(self, one: Happened) -> bytes:
        """An object in JSON, without line break."""
        return _encode(self.shown(one))

    def _kept(self, name: str, text: str) -> str | None:
        kept = self._rule(name, text[:_TEXT_LIMIT]) if text else None
        # What bytes somebody chose for a name need not be text.
        return None if kept is None else str(kept).encode(errors="backslashreplace").decode()
