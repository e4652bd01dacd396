"""SIGHUP: the settings are read again, and what differs is said and taken over; or nothing is, if anything is wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from itertools import count
from typing import TYPE_CHECKING, TypeAlias

from proxy import log
from proxy.assembly import CannotStart
from proxy.config import Settings
from proxy.config.changes import applicable, changes

if TYPE_CHECKING:
    from proxy.config.sources import Loaded

Load: TypeAlias = "Callable[[], Loaded]"
"""Reads the settings from where they came from. Raises `proxy.config.sources.ConfigError`."""

_OLD = "the settings stay as they were"


class Reloader:
    """``current`` answers the settings in force, ``prepare`` what puts others into force (raises `CannotStart`).

    However often it is asked, there is one reload at a time, and one more after it.
    """

    def __init__(
        self,
        load: Load | None,
        current: Callable[[], Settings],
        prepare: Callable[[Settings], Callable[[], Awaitable[None]]],
    ) -> None:
        self._load = load
        self._current = current
        self._prepare = prepare
        self._again = False
        self._task: asyncio.Task[None] | None = None
        self._lines = count()

    def ask(self) -> None:
        self._again = True
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def close(self, within: float) -> bool:
        """Wait so many seconds for a reload that is under way, then break it off."""
        task = self._task
        if task is None:
            return True
        self._again = False
        try:
            done, _ = await asyncio.wait((task,), timeout=within)
        finally:
            task.cancel()
        return bool(done)

    async def _run(self) -> None:
        try:
            while self._again:
                self._again = False
                await self._reload()
        except Exception as error:  # noqa: BLE001 - whatever it is, the next one is welcome
            log.exception("reload", error)
        finally:
            self._task = None

    async def _reload(self) -> None:
        from proxy.config.sources import ConfigError

        if self._load is None:
            self._say("warning", ["SIGHUP: there is nowhere to read settings from"])
            return
        old = self._current()
        try:
            loaded = self._load()
            new = applicable(old, loaded.settings)
            # Told before, where the old level is the one that lets it through.
            commit = self._prepare(new)
        except ConfigError as error:
            self._say("error", [*map(str, error.problems), _OLD])
            return
        except CannotStart as error:
            self._say("error", [str(error), _OLD])
            return
        self._say("warning", loaded.warnings)
        self._say("warning", [f"only a restart changes {change}" for change in changes(new, loaded.settings)])
        told = changes(old, new)
        lines = [*map(str, told), f"settings read again: {f'{len(told)} changed' if told else 'nothing to change'}"]
        # With whichever level lets it through; that it is done, after it is, if the new one does.
        before, after = (one.log.level in ("debug", "info") for one in (old, new))
        early = (len(lines) - after) if before else 0
        self._say("info", lines[:early])
        await commit()
        self._say("info", lines[early:])

    def _say(self, level: log.Level, lines: Iterable[str]) -> None:
        """A line each. Whoever asked twice is answered twice, so no two have the same cause."""
        say = getattr(log, level)
        for line in lines:
            say("reload", line, subject=str(next(self._lines)))
