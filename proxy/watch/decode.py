"""The trace context in a job's payload, or in a traceparent, that somebody has at hand."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Final

_TRACEPARENT: Final = re.compile(
    r"(?<![0-9A-Za-z])([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(?![0-9A-Za-z])"
)
_DEPTH: Final = 20


def decode(text: str) -> list[dict[str, Any]]:
    """Every context that is found, with where it was."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        document = text
    return list({json.dumps(one): one for one in _found(document, "", 0)}.values())


def _found(value: object, path: str, depth: int) -> Iterator[dict[str, Any]]:
    if depth > _DEPTH:
        return
    if isinstance(value, str):
        for match in _TRACEPARENT.finditer(value):
            version, trace_id, span_id, flags = match.groups()
            if version != "ff" and trace_id.strip("0") and span_id.strip("0"):
                yield _context(trace_id, span_id, int(flags, 16), path)
    elif isinstance(value, dict):
        yield from _bare(value, path)
        for name, inner in value.items():
            yield from _found(inner, f"{path}.{name}" if path else str(name), depth + 1)
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _found(inner, f"{path}[{number}]", depth + 1)


def _bare(value: dict[str, Any], path: str) -> Iterator[dict[str, Any]]:
    """Ids without a header around them: go-redis-work-queue's."""
    trace_id, span_id = value.get("trace_id"), value.get("span_id")
    if not isinstance(trace_id, str) or not isinstance(span_id, str):
        return
    if re.fullmatch("[0-9a-f]{32}", trace_id) and re.fullmatch("[0-9a-f]{16}", span_id):
        yield _context(trace_id, span_id, None, path)


def _context(trace_id: str, span_id: str, flags: int | None, path: str) -> dict[str, Any]:
    context: dict[str, Any] = {
        "trace_id": trace_id,
        "span_id": span_id,
        "trace_id_uuid": "-".join((trace_id[:8], trace_id[8:12], trace_id[12:16], trace_id[16:20], trace_id[20:])),
    }
    if flags is not None:
        context |= {"sampled": bool(flags & 1), "random": bool(flags & 2), "flags": f"{flags:02x}"}
    return {**context, "path": path}
