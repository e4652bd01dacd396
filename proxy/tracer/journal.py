"""Lines to standard output or a file, without ever waiting for whoever reads them.

What cannot be written at once waits, up to a limit; beyond that lines are dropped and counted.  A file that was moved
away is opened anew, so that logs can be rotated.
"""

from __future__ import annotations

import errno
import os
import select
import stat
import sys
from collections import deque
from pathlib import Path
from typing import Final

from proxy import log

STDOUT: Final = "stdout"
LIMIT: Final = 10_000
"""Lines that wait."""
_AT_ONCE: Final = select.PIPE_BUF
"""Bytes that a pipe which is ready takes without blocking."""


class Journal:
    def __init__(self, to: str) -> None:
        """``to``: ``stdout``, or the path of a file. Raises OSError if that cannot be opened."""
        self.written = 0
        self.dropped = 0
        self._to = to
        self._lines: deque[bytes] = deque()
        self._descriptor = -1
        try:
            self._open()
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            # A pipe that nobody reads yet.

    def add(self, line: bytes) -> None:
        if len(line) >= _AT_ONCE or len(self._lines) >= LIMIT:
            self.dropped += 1
        else:
            self._lines.append(line)

    def flush(self) -> None:
        """Write what there is, as far as that can be done at once."""
        if not self._lines:
            return
        try:
            if self._moved():
                self.close()
                self._open()
            while self._lines and self._ready():
                self._write()
        except OSError as error:
            log.error("journal", f"cannot write events to {self._to}: {error.strerror}; they are dropped")
            self.dropped += len(self._lines)
            self._lines.clear()

    def close(self) -> None:
        if self._descriptor >= 0 and self._to != STDOUT:
            os.close(self._descriptor)
        self._descriptor = -1

    def _open(self) -> None:
        if self._to == STDOUT:
            if sys.stdout is None:
                raise OSError(errno.EBADF, os.strerror(errno.EBADF))
            self._descriptor = sys.stdout.fileno()
        else:
            # Without O_NONBLOCK a pipe is not open before somebody reads it.
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
            self._descriptor = os.open(self._to, flags, 0o640)

    def _moved(self) -> bool:
        if self._to == STDOUT or self._descriptor < 0:
            return self._descriptor < 0
        try:
            there = Path(self._to).stat()
        except FileNotFoundError:
            return True
        mine = os.fstat(self._descriptor)
        return (there.st_dev, there.st_ino) != (mine.st_dev, mine.st_ino)

    def _ready(self) -> bool:
        if stat.S_ISREG(os.fstat(self._descriptor).st_mode):
            return True
        poll = select.poll()
        poll.register(self._descriptor, select.POLLOUT)
        return bool(poll.poll(0))

    def _write(self) -> None:
        """As many lines as go at once, whole."""
        taken, size = 0, 0
        for line in self._lines:
            if size + len(line) + 1 > _AT_ONCE:
                break
            taken, size = taken + 1, size + len(line) + 1
        os.write(self._descriptor, b"".join(self._lines[at] + b"\n" for at in range(taken)))
        for _ in range(taken):
            self._lines.popleft()
        self.written += taken
