"""redspan as its users run it, for tests: a real process with a settings file, on free ports.

with Sidecar(tmp_path, {"listeners": [{"upstream": server.url}]}) as sidecar:
    client = redis.Redis.from_url(sidecar.url)
    ...
    assert sidecar.stop() == 0
"""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import yaml

from proxy.address import parse_bind
from tests.redis import PATIENCE, connect, free_port

ROOT = Path(__file__).resolve().parent.parent


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    """Names in lower case."""
    body: str


class Sidecar:
    """``settings`` are completed with free ports where they name none, and with a collector that is not there."""

    def __init__(
        self,
        directory: Path,
        settings: Mapping[str, Any],
        env: Mapping[str, str] | None = None,
        log_to: Path | None = None,
    ) -> None:
        """``log_to``: something that its log goes to instead of a file, and that cannot be read."""
        self._directory = directory
        self._log = directory / "redspan.log"
        self._log.touch()
        self._log_to = log_to or self._log
        self._process: subprocess.Popen[bytes] | None = None
        self._env = {name: value for name, value in os.environ.items() if not name.startswith(("REDSPAN_", "OTEL_"))}
        self._env |= env or {}
        self.settings = _completed(settings)
        self.bind: str = self.settings["listeners"][0]["bind"]
        self.admin: str = self.settings["admin"]["bind"]

    @property
    def url(self) -> str:
        """Of its first listener, for clients."""
        return self.bind if self.bind.startswith("unix:") else f"redis://{self.bind}"

    @property
    def port(self) -> int:
        return parse_bind(self.bind).port

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def tracer_pid(self) -> int:
        """0 while there is none."""
        return next(iter(self._running("proxy.tracer.process")), 0)

    @property
    def worker_pids(self) -> list[int]:
        """Relay workers in processes of their own: none with ``relay.workers: 1``."""
        return self._running("proxy.relay.process")

    def _running(self, module: str) -> list[int]:
        return [pid for pid in children_of(self.pid) if alive(pid) and module in command_line(pid)]

    @property
    def peak_memory(self) -> int:
        """Bytes of RAM that the relay had at most, so far."""
        return peak_memory(self.pid)

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.kill()

    def start(self, *, ready: bool = True) -> None:
        """Start it; returns when /readyz says so, or at once."""
        file = self.write()
        with self._log_to.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "proxy", "run", "--config", str(file)],
                cwd=ROOT,
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        if ready:
            self.wait_for(lambda: self.get("/readyz").status == 200, "not ready")

    def write(self) -> Path:
        """The settings into their file: they may have changed since the start."""
        file = self._directory / "redspan.yaml"
        file.write_text(yaml.safe_dump(self.settings))
        return file

    def stop(self, within: float = PATIENCE) -> int:
        """SIGTERM, and its exit code."""
        assert self._process is not None
        self._process.terminate()
        return self.wait(within)

    def wait(self, within: float = PATIENCE) -> int:
        assert self._process is not None
        return self._process.wait(within)

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """End it and whatever it has started."""
        if self._process is None:
            return
        started = children_of(self._process.pid)
        self._process.kill()
        self._process.wait()
        for pid in started:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process = None

    def connect(self) -> socket.socket:
        """A bare connection to its first listener."""
        address = parse_bind(self.bind)
        return connect(address.path or (address.host, address.port))

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> Answer:
        """Ask the admin port. Status 0: nobody answered."""
        address = parse_bind(self.admin)
        connection = http.client.HTTPConnection(address.host, address.port, timeout=PATIENCE)
        try:
            connection.request("GET", path, headers=dict(headers or {}))
            answer = connection.getresponse()
            names = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(answer.status, names, answer.read().decode())
        except (OSError, http.client.HTTPException):
            return Answer(0, {}, "")
        finally:
            connection.close()

    def page(self, path: str, headers: Mapping[str, str] | None = None) -> Answer:
        """The same of a page that the tracer serves: waits until there is one."""
        self.wait_for(lambda: self.get("/").status == 200, "no tracer")
        return self.get(path, headers)

    def metric(self, name: str, **labels: str) -> float:
        """The sum of all series of that name with these labels; -1: there is none, or nobody answered."""
        total, found = 0.0, False
        for line in self.get("/metrics").body.split("\n"):
            series, _, value = line.rpartition(" ")
            if series.partition("{")[0] == name and all(f'{key}="{text}"' in series for key, text in labels.items()):
                total, found = total + float(value), True
        return total if found else -1.0

    def wait_for(self, condition: Callable[[], bool], what: str, within: float = PATIENCE) -> None:
        """Until it holds; else fails with what was logged."""
        deadline = time.monotonic() + within
        while not condition():
            if self._process is not None and self._process.poll() is not None:
                raise AssertionError(f"redspan ended with status {self._process.returncode}: {self.log}")
            if time.monotonic() > deadline:
                raise AssertionError(f"{what}; its log: {self.log}")
            time.sleep(0.02)


def children_of(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return ""


def alive(pid: int) -> bool:
    """Whether there is such a process, other than one that only waits to be reaped."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def resident_memory(pid: int) -> int:
    """Bytes of RAM that a process has."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def peak_memory(pid: int) -> int:
    """Bytes of RAM that a process had at most."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def _completed(settings: Mapping[str, Any]) -> dict[str, Any]:
    completed = {**settings}
    completed["listeners"] = [
        {"bind": f"127.0.0.1:{free_port()}", **listener} for listener in settings.get("listeners", [{}])
    ]
    completed["admin"] = {"bind": f"127.0.0.1:{free_port()}", **settings.get("admin", {})}
    completed["tracing"] = {"protocol": "none", **settings.get("tracing", {})}
    return completed
