"""Errors as ``application/problem+json``."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.responses import JSONResponse, Response


def problem(status: int, title: str, detail: str = "", headers: Mapping[str, str] | None = None) -> Response:
    body = {"title": title, "status": status, **({"detail": detail} if detail else {})}
    return JSONResponse(body, status, {"Cache-Control": "no-store", **(headers or {})}, "application/problem+json")
