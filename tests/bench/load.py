"""The load: a small program in C, because what measures must cost less than what is measured.

``with Loading(generator, load, port) as run: …; report = run.go()``: connected on entering, and until the end.
"""

from __future__ import annotations

import random
import shutil
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import msgspec

from tests.bench import accounting

_SOURCE = Path(__file__).with_name("generator.c")


class Load(msgspec.Struct, frozen=True, omit_defaults=True):
    """What clients do. See `generator.c`."""

    commands: int
    limit: int = 0
    connections: int = 50
    depth: int = 1
    size: int = 300
    vary: bool = False
    work: Literal["push", "job"] = "push"
    queues: int = 1
    window: int = 0
    rate: int = 0


class Report(msgspec.Struct, frozen=True):
    """What the load saw. Latencies are in microseconds, only of an open loop."""

    commands: int
    """Measured."""
    pushed: int
    """Jobs sent in all, also before the measurement."""
    total: int
    """Commands in all."""
    seconds: float
    p50: float = 0.0
    p99: float = 0.0
    p999: float = 0.0
    max: float = 0.0


def compile_generator(directory: Path) -> Path:
    """Raises FileNotFoundError without a C compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise FileNotFoundError("a C compiler, cc (Debian package gcc)")
    made = directory / "generator"
    subprocess.run([compiler, "-O2", "-o", str(made), str(_SOURCE), "-lm"], check=True)
    return made


class Loading:
    """A generator at work. It is pinned apart from what relays, like Redis."""

    def __init__(self, generator: Path, load: Load, port: int, key: str, *, pinned: bool = True) -> None:
        settings = {**msgspec.structs.asdict(load), "port": port, "key": key, "seed": random.getrandbits(24)}
        words = [f"{name}={int(value) if isinstance(value, bool) else value}" for name, value in settings.items()]
        self._command = [str(generator), *words]
        self._pinned = pinned

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        if self._pinned:
            accounting.pin_other(self._process.pid)
        self._line()
        return self

    def go(self) -> Report:
        """Run it. Raises RuntimeError with what went wrong."""
        assert self._process.stdin is not None
        self._process.stdin.write(b"\n")
        self._process.stdin.flush()
        return msgspec.json.decode(self._line(), type=Report)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if kind is not None:
            self._process.kill()
        self._process.communicate()

    def _line(self) -> bytes:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            _, complaint = self._process.communicate()
            raise RuntimeError(f"the load generator failed: {complaint.decode(errors='replace').strip()}")
        return line
