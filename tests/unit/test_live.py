"""Jobs as they change, over real sockets: who takes nothing of them is cut off, who reads is not."""

from __future__ import annotations

import asyncio
import itertools
import socket
import time
from collections.abc import Callable

import pytest

from proxy.admin import app
from proxy.admin.api import api_routes
from proxy.admin.app import AdminServer, create_app
from proxy.config import Settings
from proxy.config.links import TraceLinks
from proxy.tracer.live import Live
from proxy.tracer.redaction import Redaction
from proxy.tracer.stories import Stories
from proxy.tracer.views import Views
from tests.redis import PATIENCE
from tests.unit.test_index import indexed, submit
from tests.unit.test_lifecycle import run

_ASK = b"GET /api/events HTTP/1.1\r\nHost: localhost\r\n\r\n"


def test_who_takes_nothing_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "ANSWER_TIMEOUT", 2.0)

    async def scenario() -> None:
        life = indexed(jobs=1000)
        views = Views(Settings(), life.index, life.measures, time.time_ns)
        stories = Stories(TraceLinks(), "shop", Redaction())
        routes = api_routes(views, Live(views, stories, life.listen))
        server = AdminServer(create_app(lambda _: (b"", "text/plain"), routes))
        loop = asyncio.get_running_loop()
        numbers = itertools.count(1)
        taken = bytearray()

        def watch() -> socket.socket:
            ours, theirs = socket.socketpair()
            ours.setblocking(False)
            server.serve(theirs)
            ours.send(_ASK)
            return ours

        async def read(sock: socket.socket) -> None:
            while data := await loop.sock_recv(sock, 1 << 20):
                taken[:] = data

        async def until(condition: Callable[[], bool], jobs: int) -> None:
            """Feeds so many at a time."""
            async with asyncio.timeout(PATIENCE):
                while not condition():
                    run(life, *(submit(number, number) for number in itertools.islice(numbers, jobs)))
                    await asyncio.sleep(0.01)

        with watch() as sleeper, watch() as reader:
            reading = loop.create_task(read(reader))
            await until(lambda: len(server._state.connections) == 2, 0)
            await until(lambda: len(server._state.connections) == 1, 20)
            taken.clear()
            await until(lambda: b"event: job" in taken, 1)
            assert not reading.done()
            assert await _ends(sleeper)
            reading.cancel()

    asyncio.run(scenario())


async def _ends(sock: socket.socket) -> bool:
    """What was sent can still be read, and then no more."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(PATIENCE):
        try:
            while await loop.sock_recv(sock, 1 << 20):
                pass
        except ConnectionResetError:
            pass
    return True
