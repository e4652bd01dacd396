"""Jobs as they change, or what happens to them, for those who watch.

Nothing is done for them when an event comes in, but for remembering which job it was about.  Several changes of a job
within a beat are one; of very many jobs, the latest are shown, and the rest is counted.  What happens is told as it
does, each event in the words of `proxy.tracer.stories`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Final

from proxy.tracer.entry import Entry, Wanted
from proxy.tracer.happened import Happened
from proxy.tracer.stories import Stories
from proxy.tracer.views import Views

BEAT: Final = 0.25
"""Seconds."""
WATCHERS_LIMIT: Final = 32
JOBS_LIMIT: Final = 200
"""Jobs shown in one beat."""
_WAITING_LIMIT: Final = 500
"""Jobs that wait for one who reads slowly."""


class Watcher:
    """Who watches some jobs."""

    def __init__(self, wanted: Wanted, *, lifecycle: bool = False) -> None:
        """``lifecycle``: what happens to them."""
        self.wanted = wanted
        self.lifecycle = lifecycle
        self.news = asyncio.Event()
        self._waiting: dict[int, bytes] = {}
        self._told: list[bytes] = []
        self._dropped = 0

    def add(self, entry: Entry, line: bytes) -> None:
        self._waiting.pop(entry.serial, None)
        if len(self._waiting) >= _WAITING_LIMIT:
            self.miss(1)
        else:
            self._waiting[entry.serial] = line
            self.news.set()

    def tell(self, one: Happened, line: bytes) -> None:
        if len(self._told) >= _WAITING_LIMIT:
            self.miss(1)
        else:
            self._told.append(b"event: %s\ndata: %s\n\n" % (one.event.encode(), line))
            self.news.set()

    def miss(self, count: int) -> None:
        """So many jobs are not shown."""
        self._dropped += count
        self.news.set()

    def take(self) -> bytes:
        """What has come since the last time, as server-sent events."""
        lines = [b"event: job\nid: %d\ndata: %s\n\n" % (serial, line) for serial, line in self._waiting.items()]
        lines += self._told
        if self._dropped:
            lines.append(b'event: dropped\ndata: {"jobs": %d}\n\n' % self._dropped)
        self._waiting, self._told, self._dropped = {}, [], 0
        self.news.clear()
        return b"".join(lines)


class Live:
    """``listen`` makes the lifecycle say what happens, which is told to `happened` from then on."""

    def __init__(self, views: Views, stories: Stories, listen: Callable[[], None]) -> None:
        self._views = views
        self._stories = stories
        self._listen = listen
        self._watchers: set[Watcher] = set()
        self._beating: asyncio.TimerHandle | None = None

    def join(self, wanted: Wanted, *, lifecycle: bool = False) -> Watcher | None:
        """Somebody watches, until `leave`; None: there are too many already."""
        if len(self._watchers) >= WATCHERS_LIMIT:
            return None
        watcher = Watcher(wanted, lifecycle=lifecycle)
        self._watchers.add(watcher)
        if lifecycle:
            self._listen()
        elif self._beating is None:
            self._views.index.changed = {}
            self._beating = asyncio.get_running_loop().call_later(BEAT, self._beat)
        return watcher

    def leave(self, watcher: Watcher) -> None:
        self._watchers.discard(watcher)

    def happened(self, one: Happened) -> None:
        line = b""
        for watcher in self._watchers:
            if watcher.lifecycle and _wanted(watcher.wanted, one):
                line = line or self._stories.line(one)
                watcher.tell(one, line)

    def _beat(self) -> None:
        index = self._views.index
        self._beating = None
        watchers = [watcher for watcher in self._watchers if not watcher.lifecycle]
        if not watchers:
            index.changed = None
            return
        changed, index.changed = index.changed or {}, {}
        entries = sorted((one for one in changed.values() if not one.gone), key=lambda one: one.touch)
        missed, entries = entries[:-JOBS_LIMIT], entries[-JOBS_LIMIT:]
        for entry in entries:
            line = b""
            for watcher in watchers:
                if watcher.wanted.matches(entry):
                    line = line or json.dumps(self._views.job(entry)).encode()
                    watcher.add(entry, line)
        for watcher in watchers if missed else ():
            watcher.miss(sum(map(watcher.wanted.matches, missed)) if len(missed) <= JOBS_LIMIT else len(missed))
        self._beating = asyncio.get_running_loop().call_later(BEAT, self._beat)


def _wanted(wanted: Wanted, one: Happened) -> bool:
    fields = one.facts.fields
    return (
        (not wanted.id or one.job_id == wanted.id)
        and (not wanted.trace_id or one.trace_id == wanted.trace_id)
        and (not wanted.correlation_id or fields.correlation_id == wanted.correlation_id)
        and (not wanted.queue or one.facts.queue == wanted.queue)
        and (not wanted.type or fields.type == wanted.type)
        and (not wanted.framework or one.facts.framework == wanted.framework)
    )
