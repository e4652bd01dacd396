"""``redspan top``, driven by keys, in front of a running sidecar."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import redis
from textual.pilot import Pilot
from textual.widgets import DataTable, Static

from proxy.watch.client import Client
from proxy.watch.top import Sheet, Top, read_filter
from tests.conftest import StartSidecar
from tests.redis import PATIENCE
from tests.wire.shop import SETTINGS, TRACE, busy, job


async def until(pilot: Pilot[None], condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        await pilot.pause(0.05)


def test_keys(start_sidecar: StartSidecar) -> None:
    sidecar = start_sidecar(SETTINGS)
    sidecar.page("/")
    busy(sidecar)

    async def drive() -> None:
        app = Top(Client(sidecar.admin))
        async with app.run_test(size=(140, 40)) as pilot:
            live = app.query_one("#live-table", DataTable)
            await until(pilot, lambda: live.row_count == 4)
            assert app.query_one("#failures-table", DataTable).row_count == 1
            with redis.Redis.from_url(sidecar.url) as client:
                client.lpush("mail", job("[red]late[/blue]"))
            await until(pilot, lambda: live.row_count == 5)
            assert str(live.get_row_at(0)[2]) == "[red]late[/blue]"
            await pilot.press("enter")
            await until(pilot, lambda: isinstance(app.screen, Sheet))
            await pilot.press("escape")
            await pilot.press("slash", *TRACE, "enter")
            await until(pilot, lambda: live.row_count == 1)
            chosen = app.chosen()
            assert chosen is not None
            assert chosen["id"] == "ok"
            await pilot.press("t")
            await until(pilot, lambda: isinstance(app.screen, Sheet))
            app.screen.query_one("#sheet", Static)
            await pilot.press("escape", "enter")
            await until(pilot, lambda: isinstance(app.screen, Sheet))
            await pilot.press("escape", "c")
            assert app.clipboard == TRACE
            await pilot.press("escape")
            await until(pilot, lambda: live.row_count == 5)
            await pilot.press("q")

    asyncio.run(drive())


def test_filters() -> None:
    assert read_filter("mails status=dead") == {"queue": "mails", "status": "dead"}
    assert read_filter("550e8400-e29b-41d4-a716-446655440000") == {"trace_id": "550e8400-e29b-41d4-a716-446655440000"}
