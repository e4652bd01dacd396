"""``/api``: jobs, traces, queues, workers, settings, and jobs as they change. It can only be read."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from itertools import islice
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from proxy.admin.problem import problem
from proxy.admin.query import BadQuery, read_beginning, read_query, read_trace_id
from proxy.tracer.live import Live, Watcher
from proxy.tracer.views import Views

IDS_LIMIT: Final = 20
SILENCE: Final = 10.0
"""Seconds after which a stream says that it is still there."""
_HEADERS: Final = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


def api_routes(views: Views, live: Live) -> list[Route]:
    """The pages under ``/api``."""
    api = _Api(views, live)
    return [
        Route("/api/jobs", api.jobs),
        Route("/api/jobs/{id:path}", api.job),
        Route("/api/traces/{trace_id}", api.trace),
        Route("/api/ids", api.ids),
        Route("/api/queues", api.queues),
        Route("/api/workers", api.workers),
        Route("/api/config", api.config),
        Route("/api/events", api.events),
    ]


class _Api:
    def __init__(self, views: Views, live: Live) -> None:
        self._views = views
        self._live = live

    async def jobs(self, request: Request) -> Response:
        try:
            asked = read_query(request.query_params, time.time_ns())
        except BadQuery as error:
            return _bad(error)
        found, cursor = self._views.index.find(asked.wanted, asked.limit, asked.cursor)
        return _json({"jobs": [self._views.job(entry) for entry in found], "next": str(cursor) if cursor else None})

    async def job(self, request: Request) -> Response:
        entry = self._views.index.by_id(request.path_params["id"])
        if entry is None:
            return problem(404, "Not Found", "no such job among the recent ones")
        return _json(self._views.details(entry))

    async def trace(self, request: Request) -> Response:
        try:
            trace_id = read_trace_id(request.path_params["trace_id"])
        except BadQuery as error:
            return _bad(error)
        shown = self._views.trace(trace_id)
        return problem(404, "Not Found", "no recent job has spans in this trace") if shown is None else _json(shown)

    async def ids(self, request: Request) -> Response:
        """Ids that begin with what somebody knows of one."""
        try:
            name, beginning = read_beginning(request.query_params)
        except BadQuery as error:
            return _bad(error)
        index = self._views.index
        found = index.ids_like(beginning) if name == "job" else index.traces_like(beginning)
        return _json({"ids": list(islice(found, IDS_LIMIT))})

    async def queues(self, _: Request) -> Response:
        return _json({"queues": self._views.queues()})

    async def workers(self, _: Request) -> Response:
        return _json({"workers": self._views.workers()})

    async def config(self, _: Request) -> Response:
        return _json({"settings": self._views.config()})

    async def events(self, request: Request) -> Response:
        try:
            asked = read_query(request.query_params, time.time_ns(), paged=False)
        except BadQuery as error:
            return _bad(error)
        watcher = self._live.join(asked.wanted, lifecycle=asked.lifecycle)
        if watcher is None:
            return problem(503, "Service Unavailable", "too many are watching", {"Retry-After": "5"})
        return StreamingResponse(self._stream(request, watcher), headers=_HEADERS, media_type="text/event-stream")

    async def _stream(self, request: Request, watcher: Watcher) -> AsyncIterator[bytes]:
        # Who takes nothing for too long is cut off: each piece that was taken puts that off.
        put_off = request.state.deadline.put_off
        try:
            yield b"retry: 2000\n\n"
            while True:
                put_off()
                try:
                    await asyncio.wait_for(watcher.news.wait(), SILENCE)
                except TimeoutError:
                    yield b":\n\n"
                else:
                    yield watcher.take()
        finally:
            self._live.leave(watcher)


def _json(body: Any) -> Response:
    return JSONResponse(body, headers=_HEADERS)


def _bad(error: BadQuery) -> Response:
    return problem(400, "Bad Request", str(error))
