"""What is read from files that somebody replaces while redspan runs: certificates, a password, a token.

Looked at when a connection is made, at most once a second.  What cannot be read, or is wrong, changes nothing: the
last that was right goes on, and that is logged.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from typing import Final, Generic, TypeVar

from proxy import log

_EVERY: Final = 1.0

Made = TypeVar("Made")
Stamp = tuple[tuple[int, int, int], ...]


class FromFiles(Generic[Made]):
    """``make`` reads the files and raises ValueError or OSError; ``what`` is for the log."""

    def __init__(self, make: Callable[[], Made], files: Sequence[str], what: str) -> None:
        self._make = make
        self._files = tuple(files)
        self._what = what
        self._stamp = self._look()
        self._looked = time.monotonic()
        self._made = make()

    def get(self) -> Made:
        now = time.monotonic()
        if now - self._looked < _EVERY or not self._files:
            return self._made
        self._looked = now
        try:
            stamp = self._look()
            if stamp != self._stamp:
                self._made = self._make()
                self._stamp = stamp
                log.info("files", f"{self._what} read again", subject=self._what)
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else str(error)
            log.error("files", f"{self._what} stays as it was: {why}", subject=self._what)
        return self._made

    def _look(self) -> Stamp:
        found = map(os.stat, self._files)
        return tuple((one.st_mtime_ns, one.st_ino, one.st_size) for one in found)
