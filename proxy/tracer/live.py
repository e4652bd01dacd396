"""Jobs as they change, for those who watch.

Nothing is done for them when an event comes in, but for remembering which job it was about.  Several changes of a job
within a beat are one; of very many jobs, the latest are shown, and the rest is counted.
"""

from __future__ import annotations

import asyncio
import json
from typing import Final

from proxy.tracer.entry import Entry, Wanted
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

    def __init__(self, wanted: Wanted) -> None:
        self.wanted = wanted
        self.news = asyncio.Event()
        self._waiting: dict[int, bytes] = {}
        self._dropped = 0

    def add(self, entry: Entry, line: bytes) -> None:
        self._waiting.pop(entry.serial, None)
        if len(self._waiting) >= _WAITING_LIMIT:
            self.miss(1)
        else:
            self._waiting[entry.serial] = line
            self.news.set()

    def miss(self, count: int) -> None:
        """So many jobs are not shown."""
        self._dropped += count
        self.news.set()

    def take(self) -> bytes:
        """What has come since the last time, as server-sent events."""
        lines = [b"event: job\nid: %d\ndata: %s\n\n" % (serial, line) for serial, line in self._waiting.items()]
        if self._dropped:
            lines.append(b'event: dropped\ndata: {"jobs": %d}\n\n' % self._dropped)
        self._waiting, self._dropped = {}, 0
        self.news.clear()
        return b"".join(lines)


class Live:
    def __init__(self, views: Views) -> None:
        self._views = views
        self._watchers: set[Watcher] = set()
        self._beating: asyncio.TimerHandle | None = None

    def join(self, wanted: Wanted) -> Watcher | None:
        """Somebody watches, until `leave`; None: there are too many already."""
        if len(self._watchers) >= WATCHERS_LIMIT:
            return None
        watcher = Watcher(wanted)
        self._watchers.add(watcher)
        if self._beating is None:
            self._views.index.changed = {}
            self._beating = asyncio.get_running_loop().call_later(BEAT, self._beat)
        return watcher

    def leave(self, watcher: Watcher) -> None:
        self._watchers.discard(watcher)

    def _beat(self) -> None:
        index = self._views.index
        self._beating = None
        if not self._watchers:
            index.changed = None
            return
        changed, index.changed = index.changed or {}, {}
        entries = sorted((one for one in changed.values() if not one.gone), key=lambda one: one.touch)
        missed, entries = entries[:-JOBS_LIMIT], entries[-JOBS_LIMIT:]
        for entry in entries:
            line = b""
            for watcher in self._watchers:
                if watcher.wanted.matches(entry):
                    line = line or json.dumps(self._views.job(entry)).encode()
                    watcher.add(entry, line)
        for watcher in self._watchers if missed else ():
            watcher.miss(sum(map(watcher.wanted.matches, missed)) if len(missed) <= JOBS_LIMIT else len(missed))
        self._beating = asyncio.get_running_loop().call_later(BEAT, self._beat)
