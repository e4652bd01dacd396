"""Go programs of the tests: built from the folders beside this file, and run as processes of their own.

with GoProgram([build("go_redis_work_queue_replay"), "-role", "worker"], tmp_path / "worker.log") as worker:
    ...
    assert worker.stop() == 0
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.redis import PATIENCE

_HERE = Path(__file__).resolve().parent
_BUILT = _HERE.parents[1] / ".venv" / "go"
_BUILD_PATIENCE = 1800.0
"""Seconds: the first time, Go may have to fetch a toolchain and modules; Jaeger is large."""


@cache
def build(name: str, folder: Path | None = None, package: str = ".", modfile: str = "go.mod") -> Path:
    """The program in the folder ``name`` beside this file, or a package of those that ``folder`` requires.

    ``modfile``: where that is said.  Fails where there is no Go. What is up to date, Go has in its cache.
    """
    go = shutil.which("go")
    assert go is not None, f"{name} is built with Go 1.21 or later, and there is no go on PATH"
    _BUILT.mkdir(parents=True, exist_ok=True)
    # Not in place: another run may be using the one that is there.
    fresh = _BUILT / f"{name}.{os.getpid()}"
    options = ["-trimpath", "-buildvcs=false", "-mod=readonly", f"-modfile={modfile}"]
    done = subprocess.run(
        [go, "build", *options, "-o", str(fresh), package],
        cwd=folder or _HERE / name,
        # A Go that is older than go.mod asks for fetches the right one by itself.
        env={**os.environ, "GOTOOLCHAIN": "auto", "GOWORK": "off", "CGO_ENABLED": "0"},
        capture_output=True,
        text=True,
        timeout=_BUILD_PATIENCE,
        check=False,
    )
    assert done.returncode == 0, f"{name} could not be built: {done.stderr}"
    return fresh.replace(_BUILT / name)


class GoProgram:
    """A process, from ``with`` to its end; what it writes goes to ``log``."""

    def __init__(self, command: Sequence[str | Path], log: Path, env: Mapping[str, str] | None = None) -> None:
        """``env``: more of it than this process has."""
        self._command = [str(part) for part in command]
        self._env = {**os.environ, **(env or {})}
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                self._command, env=self._env, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.kill()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def ended(self) -> bool:
        assert self._process is not None
        return self._process.poll() is not None

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def wait(self, within: float = PATIENCE) -> int:
        assert self._process is not None
        return self._process.wait(within)

    def stop(self, within: float = PATIENCE) -> int:
        """SIGTERM, and its exit code."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return self.wait(within)

    def kill(self) -> None:
        """SIGKILL, if it still runs."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()
