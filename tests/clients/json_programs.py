"""Programs in other languages, that are told a URL and nothing of redspan, and say lines of JSON.

with JsonProgram(["node", "bullmq.cjs", "work", url], tmp_path / "worker.log") as worker:
    worker.wait_for(lambda said: any("ready" in one for one in said))
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeAlias

from tests.redis import PATIENCE

Said: TypeAlias = list[dict[str, Any]]

_MOST = 90.0
"""Seconds that a program may take that ends by itself."""


class JsonProgram:
    """A process, from ``with`` to its end; its errors are beside ``log``."""

    def __init__(self, command: Sequence[str], log: Path, **env: str) -> None:
        self._command = command
        self._log = log
        self._env = env
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        env = {**os.environ, **self._env}
        with self._log.open("wb") as out, self._log.with_suffix(".err").open("wb") as err:
            self._process = subprocess.Popen(self._command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=env)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.kill()

    @property
    def said(self) -> Said:
        lines = self._log.read_text().split("\n")[:-1]
        return [json.loads(line) for line in lines]

    @property
    def errors(self) -> str:
        return self._log.with_suffix(".err").read_text()

    def wait_for(self, condition: Callable[[Said], bool], within: float = PATIENCE) -> Said:
        deadline = time.monotonic() + within
        while not condition(self.said):
            assert self._process is not None
            assert self._process.poll() is None, f"it ended with status {self._process.returncode}: {self.errors}"
            assert time.monotonic() < deadline, f"it said {self.said[-20:]} {self.errors}"
            time.sleep(0.02)
        return self.said

    def wait(self, within: float = _MOST) -> Said:
        """Until it ends by itself; what it said."""
        assert self._process is not None
        assert self._process.wait(within) == 0, self.errors
        return self.said

    def stop(self) -> None:
        """As a supervisor would."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        assert self._process.wait(PATIENCE) == 0, self.errors

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
