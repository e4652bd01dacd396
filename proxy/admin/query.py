"""What a request asks for, from its query string."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final, NamedTuple

from starlette.datastructures import QueryParams

from proxy.config.values import read_duration
from proxy.tracer.entry import Wanted
from proxy.tracer.jobs import Status

LIMIT: Final = 50
LIMIT_MOST: Final = 1000

_OF_JOBS: Final = {"status", "since", "slow", "worker"}
_TRACE: Final = re.compile(r"[0-9a-f]{32}|[0-9a-f]{16}")
_STATUS: Final = [str(status) for status in Status]


class BadQuery(Exception):
    """Says what is wrong with it."""


class Asked(NamedTuple):
    wanted: Wanted
    limit: int
    cursor: int
    lifecycle: bool = False
    """What happens to jobs, rather than jobs as they change."""


def read_trace_id(text: str) -> bytes:
    """From hex, or from the form of a UUID; 64 bits are padded. Raises `BadQuery`."""
    plain = text.strip().lower().replace("-", "")
    if not _TRACE.fullmatch(plain):
        raise BadQuery("trace_id: expected 32 hex digits, or a UUID")
    return bytes.fromhex(plain.zfill(32))


def read_beginning(params: QueryParams) -> tuple[str, str]:
    """Of ids of jobs or of traces: ``job`` or ``trace``, and what they begin with. Raises `BadQuery`."""
    given = [(name, text.strip()) for name, text in params.multi_items() if text.strip()]
    if len(given) != 1 or given[0][0] not in ("job", "trace"):
        raise BadQuery("expected either job or trace, with what the id begins with")
    name, text = given[0]
    return name, text.lower().replace("-", "") if name == "trace" else text


def read_query(params: QueryParams, now: int, *, paged: bool = True) -> Asked:
    """Raises `BadQuery`. ``now``: ns."""
    wanted: dict[str, object] = {}
    limit, cursor, lifecycle = LIMIT, 0, False
    for name, text in params.multi_items():
        if not text:
            continue
        if name == "status":
            wanted["status"] = wanted.get("status", frozenset()) | _statuses(text)  # type: ignore[operator]
        elif name in _READERS:
            wanted[name] = _READERS[name](text)
        elif name == "since":
            wanted["since"] = _since(text, now)
        elif name == "limit" and paged:
            limit = _number(name, text, LIMIT_MOST)
        elif name == "cursor" and paged:
            cursor = _number(name, text, 2**63)
        elif name == "lifecycle" and not paged and text in ("true", "false"):
            lifecycle = text == "true"
        else:
            known = [*_READERS, "status", "since", *(["limit", "cursor"] if paged else ["lifecycle (true or false)"])]
            raise BadQuery(f"{name[:40]}: unknown; there are {', '.join(known)}")
    if lifecycle and (of_jobs := sorted(wanted.keys() & _OF_JOBS)):
        known = [name for name in _READERS if name not in _OF_JOBS]
        raise BadQuery(f"{of_jobs[0]}: nothing that happens has one; there are {', '.join(known)}")
    return Asked(Wanted(**wanted), limit, cursor, lifecycle)  # type: ignore[arg-type]


def _statuses(text: str) -> frozenset[str]:
    asked = frozenset(filter(None, text.split(",")))
    if not asked <= set(_STATUS):
        raise BadQuery(f"status: expected some of {', '.join(_STATUS)}")
    return asked


def _slow(text: str) -> float:
    try:
        return 1000 * read_duration(text)
    except ValueError:
        raise BadQuery("slow: expected a duration, such as 500ms or 2s") from None


def _since(text: str, now: int) -> int:
    try:
        return now - int(read_duration(text) * 1e9)
    except ValueError:
        pass
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise BadQuery("since: expected a duration, such as 5m, or a time in ISO 8601") from None
    return int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1e9)


def _number(name: str, text: str, most: int) -> int:
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 20 else 0
    if not 0 < number <= most:
        raise BadQuery(f"{name}: expected a whole number from 1 to {most}")
    return number


_READERS: Final[dict[str, Callable[[str], object]]] = {
    "id": str,
    "trace_id": read_trace_id,
    "correlation_id": str,
    "queue": str,
    "type": str,
    "framework": str,
    "worker": str,
    "slow": _slow,
}
