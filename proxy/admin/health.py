"""What the parent process answers itself: reading the head of an HTTP request, and the two probes.

Pure: bytes in, bytes out.  Every answer closes its connection, so that the next request comes to the parent again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Final, NamedTuple

HEAD_LIMIT: Final = 8 * 1024
"""Bytes of a request line with all its headers; nginx' and Apache's default."""

_HEALTH: Final = frozenset({"/healthz", "/livez"})
_READY: Final = "/readyz"
_REASONS: Final = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    408: "Request Timeout",
    431: "Request Header Fields Too Large",
    503: "Service Unavailable",
    505: "HTTP Version Not Supported",
}
_LINE: Final = re.compile(rb"([A-Z]{1,16}) (/[^\s?#]*|\*)(?:\?[^\s#]*)? HTTP/(\d)\.\d")

_ACCEPT: Final = re.compile(rb"\r\n[Aa]ccept:[ \t]*([^\r\n]*)")


class BadRequest(Exception):
    """Not worth handing on; ``status`` is the answer."""

    def __init__(self, status: int) -> None:
        super().__init__(f"{status} {_REASONS[status]}")
        self.status = status


class Head(NamedTuple):
    method: str
    path: str
    """Without the query, and still percent-encoded."""
    size: int
    """Bytes up to the end of the empty line."""
    accept: str = ""
    """The Accept header."""


class Readiness(NamedTuple):
    ready: bool
    reason: str = ""
    """Why not: ``starting``, ``draining``, ``upstream``."""
    alive: bool = True
    """False: a process of the relay hangs, or does not come up."""


def read_head(data: bytes) -> Head | None:
    """The head at the beginning of ``data``; None: it is not complete. Raises `BadRequest`."""
    line, newline, _ = data.partition(b"\r\n")
    if newline:
        match = _LINE.fullmatch(line)
        if match is None:
            raise BadRequest(400)
        if match[3] != b"1":
            raise BadRequest(505)
    elif not line[:1].isupper() and line:
        # TLS, or a Redis client at the wrong port: it will never send a request line.
        raise BadRequest(400)
    end = data.find(b"\r\n\r\n")
    if end < 0 or end + 4 > HEAD_LIMIT:
        if len(data) >= HEAD_LIMIT:
            raise BadRequest(431)
        return None
    match = _LINE.fullmatch(line)
    assert match is not None
    accept = ",".join(found.decode("latin-1") for found in _ACCEPT.findall(data, 0, end))
    return Head(match[1].decode("ascii"), match[2].decode("latin-1"), end + 4, accept)


def is_probe(head: Head) -> bool:
    """Whether this is answered by `probe`; all else is for others."""
    return head.path in _HEALTH or head.path == _READY


def probe(head: Head, readiness: Readiness) -> bytes:
    """The answer to a probe. That there is one is most of what /healthz says."""
    if head.method not in ("GET", "HEAD"):
        return response(405, {"error": "only GET"}, {"Allow": "GET, HEAD"})
    if head.path in _HEALTH and readiness.alive:
        status, body = 200, {"status": "ok"}
    elif head.path in _HEALTH:
        status, body = 503, {"status": "not ok", "reason": "workers"}
    elif readiness.ready:
        status, body = 200, {"status": "ready"}
    else:
        status, body = 503, {"status": "not ready", "reason": readiness.reason}
    return response(status, body, with_body=head.method == "GET")


def refusal(status: int, why: str) -> bytes:
    """An error of the parent's own: 4xx, or 503 while there is nobody to hand a connection to."""
    headers = {"Retry-After": "1"} if status == 503 else {}
    return response(status, {"title": _REASONS[status], "status": status, "detail": why}, headers, problem=True)


def response(
    status: int,
    body: Mapping[str, object],
    headers: Mapping[str, str] | None = None,
    *,
    with_body: bool = True,
    problem: bool = False,
) -> bytes:
    """A whole HTTP response with JSON in it."""
    content = json.dumps(body).encode() + b"\n"
    kind = "application/problem+json" if problem else "application/json"
    return raw_response(status, kind, content, headers, with_body=with_body)


def raw_response(
    status: int, kind: str, content: bytes, headers: Mapping[str, str] | None = None, *, with_body: bool = True
) -> bytes:
    lines = [
        f"HTTP/1.1 {status} {_REASONS[status]}",
        f"Content-Type: {kind}",
        f"Content-Length: {len(content)}",
        "Cache-Control: no-store",
        "Connection: close",
        *(f"{name}: {value}" for name, value in (headers or {}).items()),
    ]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + (content if with_body else b"")
