"""What is compared: a direct connection, the C proxies one would put there, and redspan in several states.

Each proxy runs in a session of its own.  Otherwise the scheduler's autogroup counts it together with the load
generator, and the ratio measures the scheduler.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from tests.redis import connect, free_port
from tests.sidecar import ROOT, children_of

QUEUE = "bench"


class Contender:
    """A way to Redis: where to connect, and which processes spend CPU on it."""

    def __init__(self, name: str, port: int, process: subprocess.Popen[bytes] | None, admin: int = 0) -> None:
        self.name = name
        self.port = port
        self.admin = admin
        """Port of redspan's admin pages; 0 for the others."""
        self._process = process

    @property
    def pids(self) -> list[int]:
        """The relaying process first, then its children."""
        return [self._process.pid, *children_of(self._process.pid)] if self._process is not None else []


@contextmanager
def contenders(directory: Path, redis_port: int) -> Iterator[list[Contender]]:
    """All of them, running. Raises FileNotFoundError with the name of what is not installed."""
    started: list[Contender] = [Contender("direct", redis_port, None)]
    try:
        started += [_haproxy(directory, redis_port), _twemproxy(directory, redis_port)]
        started += [_redspan(directory, redis_port, name, settings) for name, settings in REDSPAN.items()]
        yield started
    finally:
        for contender in started:
            if contender._process is not None:
                contender._process.terminate()
        for contender in started:
            if contender._process is not None:
                contender._process.wait(30)


REDSPAN: dict[str, dict[str, Any]] = {
    "redspan off": {"tracing": {"enabled": False}},
    "redspan untraced": {"frameworks": {"list": {"queues": ["some-other-queue"]}}},
    "redspan not sampled": {
        "frameworks": {"list": {"queues": [QUEUE]}},
        "tracing": {"sampling": {"default_rate": 0.0}},
    },
    "redspan sampled": {"frameworks": {"list": {"queues": [QUEUE]}}},
}


def _start(command: list[str], port: int) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    for _ in range(500):
        try:
            connect(("127.0.0.1", port)).close()
        except OSError:
            time.sleep(0.02)
        else:
            return process
    raise RuntimeError(f"{command[0]} does not listen")


def _program(name: str, package: str) -> str:
    found = shutil.which(name, path="/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/bin")
    if found is None:
        raise FileNotFoundError(f"{name} (Debian package {package})")
    return found


def _haproxy(directory: Path, redis_port: int) -> Contender:
    port, file = free_port(), directory / "haproxy.cfg"
    file.write_text(
        "global\n  nbthread 1\n  maxconn 20000\n"
        "defaults\n  mode tcp\n  timeout connect 5s\n  timeout client 1h\n  timeout server 1h\n"
        f"listen redis\n  bind 127.0.0.1:{port}\n  server redis 127.0.0.1:{redis_port}\n"
    )
    return Contender("HAProxy", port, _start([_program("haproxy", "haproxy"), "-db", "-f", str(file)], port))


def _twemproxy(directory: Path, redis_port: int) -> Contender:
    port, file = free_port(), directory / "nutcracker.yml"
    file.write_text(
        f"redis:\n  listen: 127.0.0.1:{port}\n  redis: true\n  hash: fnv1a_64\n  distribution: modula\n"
        f"  servers:\n    - 127.0.0.1:{redis_port}:1\n"
    )
    command = [_program("nutcracker", "nutcracker"), "-c", str(file), "-s", str(free_port()), "-a", "127.0.0.1"]
    return Contender("twemproxy", port, _start(command, port))


def _redspan(directory: Path, redis_port: int, name: str, settings: dict[str, Any]) -> Contender:
    port, admin, file = free_port(), free_port(), directory / f"{name.replace(' ', '-')}.yaml"
    tracing = {"protocol": "none", **settings.get("tracing", {})}
    listeners = [{"bind": f"127.0.0.1:{port}", "upstream": f"redis://127.0.0.1:{redis_port}"}]
    whole = {**settings, "tracing": tracing, "listeners": listeners, "admin": {"bind": f"127.0.0.1:{admin}"}}
    file.write_text(yaml.safe_dump(whole))
    process = _start([sys.executable, "-m", "proxy", "run", "--config", str(file)], port)
    return Contender(name, port, process, admin)
