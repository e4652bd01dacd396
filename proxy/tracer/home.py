"""What the name of a worker says of where it runs.

A worker is a process.  Where its name has a part for each of its threads (go-redis-work-queue), they are one worker.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final, NamedTuple

_THREAD: Final = re.compile(r"(?P<host>.+)-(?P<pid>\d{1,10})-\d{16,20}-[0-9a-f]{4}-\d+")
"""go-redis-work-queue's: ``<hostname>-<pid>-<unix ns>-<4 hex>-<goroutine>``."""
_AT: Final = re.compile(r"(?:gen(?P<pid>\d{1,10})|[^@]+)@(?P<host>[^@]+)")
"""Celery's: ``celery@host``, ``gen<pid>@host``."""


class Home(NamedTuple):
    """Where a worker runs, as its name says."""

    name: str
    """Of the process."""
    host: str = ""
    pid: int = 0


@lru_cache(4096)
def home(worker: str) -> Home:
    match = _THREAD.fullmatch(worker)
    if match is not None:
        return Home(worker.rsplit("-", 2)[0], match["host"], int(match["pid"]))
    match = _AT.fullmatch(worker)
    return Home(worker) if match is None else Home(worker, match["host"], int(match["pid"] or 0))
