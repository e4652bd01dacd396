"""Processes of the demo: started so that none of them can outlive it, however it ends."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

_LEASH: Final = Path(__file__).with_name("leash.py")
_GRACE: Final = 3.0
"""Seconds between SIGTERM and SIGKILL."""
_POLL: Final = 0.01
_TAIL: Final = 12
"""Lines of a failed process' output that are shown."""


class DemoError(Exception):
    """Its text is for the user."""


class Child:
    """A process, from ``with`` to its end. What it writes goes to ``directory/name.log``.

    It leads a process group, so that Ctrl-C reaches nobody but the demo, and what it starts ends with it.
    """

    def __init__(self, name: str, command: Sequence[str], directory: Path, env: Mapping[str, str]) -> None:
        self.name = name
        self.log = directory / f"{name}.log"
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-IS", str(_LEASH), str(os.getpid()), *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=dict(env),
                process_group=0,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pid = self._process.pid
        if self.ended() is None:
            os.kill(pid, signal.SIGTERM)
            deadline = time.monotonic() + _GRACE
            while self.ended() is None and time.monotonic() < deadline:
                time.sleep(_POLL)
        # It is not reaped yet, so its number, which is its group's as well, cannot be anybody else's.
        with contextlib.suppress(OSError):
            os.killpg(pid, signal.SIGKILL)
        self._process.wait()

    def ended(self) -> int | None:
        """Exit code, for a signal its number below zero; None: it runs. Does not reap it."""
        result = os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if result is None:
            return None
        return result.si_status if result.si_code == os.CLD_EXITED else -result.si_status

    def check(self) -> None:
        """Raises `DemoError` if it has ended."""
        code = self.ended()
        if code is not None:
            how = f"exit code {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"
            raise DemoError("\n".join((f"{self.name} has ended with {how}; its last words:", *self.tail())))

    def tail(self) -> list[str]:
        """The last lines it wrote."""
        lines = self.log.read_text(errors="backslashreplace").splitlines()[-_TAIL:]
        return [f"  {line}" for line in lines] or ["  (none)"]
