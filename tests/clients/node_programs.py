"""Node programs of the tests: the files in ``node/``, run with real packages from the registry.

modules = install(directory, "bullmq@6.7.0", "ioredis@5")
with NodeProgram("bullmq.cjs", modules, tmp_path / "worker.log", "work", url) as worker:
    worker.wait_for(lambda said: any("ready" in one for one in said))
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeAlias

from tests.redis import PATIENCE

Said: TypeAlias = list[dict[str, Any]]

_HERE = Path(__file__).resolve().parent / "node"
_INSTALL_PATIENCE = 300.0
_MOST = 90.0
"""Seconds that a program may take that ends by itself."""


def _found(name: str) -> str:
    path = shutil.which(name)
    assert path is not None, f"these tests run with Node 20 and npm, and there is no {name} on PATH"
    return path


def install(directory: Path, *packages: str) -> Path:
    """The packages in a folder of their own; fails where there is no npm."""
    directory.mkdir(parents=True)
    (directory / "package.json").write_text('{"private": true}')
    command = [_found("npm"), "install", "--no-audit", "--no-fund", "--no-save", "--loglevel=error", *packages]
    done = subprocess.run(
        command, cwd=directory, capture_output=True, text=True, timeout=_INSTALL_PATIENCE, check=False
    )
    assert done.returncode == 0, done.stderr
    return directory / "node_modules"


class NodeProgram:
    """A process, from ``with`` to its end, that says lines of JSON."""

    def __init__(self, program: str, modules: Path, log: Path, *arguments: str) -> None:
        self._command = [_found("node"), str(_HERE / program), *arguments]
        self._modules = modules
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        env = {**os.environ, "NODE_PATH": str(self._modules)}
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
