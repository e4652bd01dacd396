"""Processes of the replay of go-redis-work-queue, as its users run that system: roles, settings, metrics."""

from __future__ import annotations

import http.client
import json
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.clients.go_programs import GoProgram
from tests.redis import PATIENCE, free_port

HELD = "jobqueue:worker:*:processing"
HEARTBEATS = "jobqueue:processing:worker:*"
HEARTBEAT_TTL = 5
"""Seconds: the least that the system accepts."""
_JOB_PATIENCE = 45.0


class Process(GoProgram):
    """A producer or worker, with its metrics."""

    def __init__(self, command: list[str | Path], log: Path, port: int) -> None:
        super().__init__(command, log)
        self._port = port

    @property
    def ready(self) -> bool:
        assert not self.ended, self.log
        return self._get("/readyz") is not None

    def metric(self, name: str) -> int:
        for line in (self._get("/metrics") or "").splitlines():
            if line.startswith(f"{name} "):
                return int(float(line.split()[1]))
        raise AssertionError(f"no metric {name}")

    def _get(self, path: str) -> str | None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=PATIENCE)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            text = answer.read().decode()
        except OSError:
            return None
        finally:
            connection.close()
        return text if answer.status == 200 else None


class Replay:
    """Starts its processes, all against one Redis."""

    def __init__(self, program: Path, directory: Path, redis: str, collector: str = "") -> None:
        """``redis`` and ``collector``: host and port. With a collector, its own tracing is on."""
        self._program = program
        self._directory = directory
        self._redis = redis
        self._collector = collector
        self._started = 0
        self._running = ExitStack()

    @contextmanager
    def until_the_end(self) -> Iterator[Replay]:
        with self._running:
            yield self

    def produce(self, *files: str, rate_limit: int = 0) -> None:
        """A job for each of ``files``, in the order of their names. A producer ends when it has enqueued them."""
        scanned = self._directory / f"scanned-{self._started}"
        scanned.mkdir()
        for name in files:
            (scanned / name).write_text("a job")
        producer = self._start("producer", {"scan_dir": str(scanned), "rate_limit_per_sec": rate_limit})
        assert producer.wait() == 0, producer.log

    def worker(self, *, count: int, max_retries: int, backoff: str) -> Process:
        """A worker process that answers; it has a reaper, too."""
        worker = self._start(
            "worker",
            {
                "count": count,
                "max_retries": max_retries,
                "backoff": {"base": backoff, "max": backoff},
                "heartbeat_ttl": f"{HEARTBEAT_TTL}s",
            },
        )
        wait_until(lambda: worker.ready, "no worker")
        return worker

    def admin(self, command: str, *arguments: str) -> str:
        """What the admin command printed."""
        settings = self._settings({})
        done = subprocess.run(
            [self._program, "-role", "admin", "-config", settings, "-admin-cmd", command, *arguments],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def _start(self, role: str, own: Mapping[str, object]) -> Process:
        port = free_port()
        settings = self._settings({role: own}, port)
        command: list[str | Path] = [self._program, "-role", role, "-config", settings]
        return self._running.enter_context(Process(command, settings.with_suffix(".log"), port))

    def _settings(self, own: Mapping[str, object], port: int = 0) -> Path:
        self._started += 1
        path = self._directory / f"settings-{self._started}.json"
        tracing = {"enabled": bool(self._collector), "endpoint": self._collector}
        settings = {"redis": {"addr": self._redis}, "observability": {"metrics_port": port, "tracing": tracing}}
        path.write_text(json.dumps({**settings, **own}))
        return path


def wait_until(condition: Callable[[], bool], what: str, within: float = _JOB_PATIENCE) -> None:
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)
