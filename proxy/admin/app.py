"""The pages that the tracer serves. Connections come from the parent, one request each."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence
from typing import Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route
from uvicorn import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from proxy.admin.problem import problem

INDEX: Final = """redspan

/metrics   for Prometheus
/healthz   200 while the relay runs
/readyz    200 while it takes clients
/ui        recent jobs and their traces
/api/jobs  the same as JSON; also /api/jobs/ID, /api/traces/ID, /api/queues, /api/workers, /api/config, /api/events
"""

CONNECTIONS_LIMIT: Final = 64
ANSWER_TIMEOUT: Final = 30.0
"""Seconds for one request, from its being handed over to the last byte of the answer."""

Metrics = Callable[[str], tuple[bytes, str]]
"""From an Accept header to a page and its content type."""


def create_app(metrics: Metrics, routes: Sequence[BaseRoute] = (), middleware: Sequence[Middleware] = ()) -> Starlette:
    """``routes`` come besides ``/metrics``; ``middleware`` stands in front of all."""

    async def show_metrics(request: Request) -> Response:
        page, content_type = metrics(request.headers.get("accept", ""))
        return Response(page, headers={"Content-Type": content_type})

    async def show_index(_: Request) -> Response:
        return PlainTextResponse(INDEX)

    return Starlette(
        routes=[Route("/metrics", show_metrics), Route("/", show_index), *routes],
        middleware=middleware,
        exception_handlers={HTTPException: _problem, Exception: _bug},
    )


async def _problem(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return problem(error.status_code, error.detail, headers=error.headers)


async def _bug(_: Request, _error: Exception) -> Response:
    return problem(500, "Internal Server Error")


class Deadline:
    """When a connection is cut off, unless whoever serves it puts that off."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None

    def of(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self.put_off()

    def put_off(self) -> None:
        """By the whole time, from now on."""
        if self._timer is not None:
            self._timer.cancel()
        if self._transport is not None and not self._transport.is_closing():
            self._timer = asyncio.get_running_loop().call_later(self._seconds, self._transport.abort)


class AdminServer:
    """An ASGI app for connections that somebody else has accepted."""

    def __init__(self, app: Starlette) -> None:
        self._config = Config(
            app,
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
        )
        self._config.load()
        self._state = ServerState()
        # The next request of a connection could be a probe, and those are for the parent.
        self._state.default_headers = [(b"connection", b"close")]
        self._tasks: set[asyncio.Task[None]] = set()

    def serve(self, sock: socket.socket) -> None:
        """Answer the one request on this connection, which becomes ours."""
        if len(self._state.connections) >= CONNECTIONS_LIMIT:
            sock.close()
            return
        task = asyncio.get_running_loop().create_task(self._serve(sock))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, sock: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        deadline = Deadline(ANSWER_TIMEOUT)

        def protocol() -> asyncio.Protocol:
            return H11Protocol(config=self._config, server_state=self._state, app_state={"deadline": deadline})

        try:
            transport, _ = await loop.connect_accepted_socket(protocol, sock)
        except OSError:
            sock.close()
            return
        deadline.of(transport)
