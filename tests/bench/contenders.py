"""What is compared: a direct connection, the proxies one would put there, and redspan in several states.

Each proxy runs in a session of its own.  Otherwise the scheduler's autogroup counts it together with the load
generator, and the ratio measures the scheduler.  Where there are several CPUs, what relays has the last one for itself,
apart from Redis, the load and the collector; redspan's tracer goes where there is room, as it would elsewhere.
"""

from __future__ import annotations

import http.client
import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec
import yaml

from proxy.config import Frameworks
from tests.bench import accounting
from tests.bench.accounting import Cpu, Memory
from tests.redis import PATIENCE, connect, free_port
from tests.sidecar import ROOT, children_of, command_line

DIRECT: Final = "direct"
HAPROXY: Final = "HAProxy"
TWEMPROXY: Final = "twemproxy"
FORWARDER: Final = "bare uvloop"
OFF: Final = "redspan off"
UNTRACED: Final = "redspan untraced"
NOT_SAMPLED: Final = "redspan not sampled"
SAMPLED: Final = "redspan sampled"
ALL: Final = (DIRECT, HAPROXY, TWEMPROXY, FORWARDER, OFF, UNTRACED, NOT_SAMPLED, SAMPLED)
TRACED: Final = (NOT_SAMPLED, SAMPLED)

QUEUE: Final = "bench"


class Setup(msgspec.Struct, frozen=True):
    """How redspan is set up in a cell, besides what makes the contenders differ."""

    queues: int = 1
    """Configured; that of the load."""
    frameworks: bool = True
    """All of them on; else only that of the load."""
    interval: float = 5.0
    """``export.interval``, seconds."""


class Contender:
    """A way to Redis: where to connect, and which processes spend CPU on it."""

    def __init__(self, name: str, port: int, process: subprocess.Popen[bytes] | None = None, admin: int = 0) -> None:
        self.name = name
        self.port = port
        self.admin = admin
        """Port of redspan's admin pages; 0 for the others."""
        self.pushed = 0
        """Jobs that were sent through it."""
        self.commands = 0
        self._process = process

    @property
    def relays(self) -> list[int]:
        """Processes that move bytes."""
        if self._process is None:
            return []
        return [self._process.pid, *(pid for pid in children_of(self._process.pid) if pid not in self.tracers)]

    @property
    def tracers(self) -> list[int]:
        if self._process is None:
            return []
        return [pid for pid in children_of(self._process.pid) if "proxy.tracer" in command_line(pid)]

    def cpu(self) -> tuple[Cpu, Cpu]:
        """Of what relays, and of the tracer."""
        return accounting.cpu_of(self.relays), accounting.cpu_of(self.tracers)

    def settle(self) -> None:
        """Wait until redspan is through with what it does after the fact."""
        if self.admin:
            accounting.settle([*self.relays, *self.tracers])

    def memory(self) -> tuple[Memory, Memory]:
        found = [[accounting.memory(pid) for pid in pids] for pids in (self.relays, self.tracers)]
        relays, tracers = (
            Memory(sum(one.resident for one in some), sum(one.proportional for one in some)) for some in found
        )
        return relays, tracers

    def metrics(self) -> dict[str, float]:
        """redspan's, by their series; nothing for the others, and while it has no tracer."""
        if not self.admin:
            return {}
        connection = http.client.HTTPConnection("127.0.0.1", self.admin, timeout=PATIENCE)
        try:
            connection.request("GET", "/metrics")
            answer = connection.getresponse()
            lines = answer.read().decode().splitlines() if answer.status == 200 else []
        finally:
            connection.close()
        return {
            series: float(value) for series, _, value in (line.rpartition(" ") for line in lines) if series[:1] != "#"
        }

    def pin(self) -> None:
        """Give what relays a CPU of its own, if there is one."""
        for pid in self.relays:
            accounting.pin_measured(pid)
        for pid in self.tracers:
            accounting.unpin(pid)

    def check(self) -> dict[str, float]:
        """A relay that went blind looks brilliant: every job that was sent through must have been seen and written.

        Answers the metrics. Raises RuntimeError.
        """
        if not self.admin or self.name == OFF:
            return self.metrics()
        deadline = time.monotonic() + PATIENCE
        while True:
            page = self.metrics()
            written = page.get('redspan_injections_total{framework="list",result="written"}', 0.0)
            expected = self.pushed if self.name in TRACED else 0
            if written == expected and page["redspan_commands_total"] == self.commands:
                break
            if time.monotonic() > deadline:
                seen = page["redspan_commands_total"]
                raise RuntimeError(
                    f"{self.name}: {expected} jobs sent, {written:.0f} injected; "
                    f"{self.commands} commands sent, {seen:.0f} seen"
                )
            time.sleep(0.1)
        if total(page, "redspan_blind_total"):
            raise RuntimeError(f"{self.name} went blind")
        return page

    def terminate(self) -> None:
        if self._process is not None:
            self._process.terminate()

    def wait(self) -> None:
        if self._process is not None:
            try:
                self._process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()


def total(page: Mapping[str, float], name: str) -> float:
    """Of all series of that name."""
    return sum(value for series, value in page.items() if re.match(rf"{name}(\{{|$)", series))


@contextmanager
def contenders(
    names: Iterable[str], directory: Path, redis_port: int, collector_port: int, setup: Setup, *, pinned: bool = True
) -> Iterator[list[Contender]]:
    """Those of these names that there can be here, running."""
    makers = {
        DIRECT: lambda: Contender(DIRECT, redis_port),
        HAPROXY: lambda: _haproxy(directory, redis_port),
        TWEMPROXY: lambda: _twemproxy(directory, redis_port),
        FORWARDER: lambda: _forwarder(redis_port),
    }
    started: list[Contender] = []
    try:
        for name in names:
            if name in (HAPROXY, TWEMPROXY) and _program(name) is None:
                continue
            make = makers.get(name)
            started.append(make() if make else _redspan(directory, redis_port, collector_port, name, setup))
        for one in started:
            _await(one)
        if pinned:
            for one in started:
                one.pin()
        yield started
    finally:
        for one in started:
            one.terminate()
        for one in started:
            one.wait()


@contextmanager
def collector() -> Iterator[tuple[int, int]]:
    """A collector for OTLP over HTTP: its port and its process."""
    port = free_port()
    process = start([sys.executable, "-m", "tests.bench.sink", str(port)])
    try:
        listening(port)
        yield port, process.pid
    finally:
        process.kill()
        process.wait()


def collected(port: int) -> dict[str, int]:
    """Requests and bytes that the collector got so far."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.request("GET", "/")
        found: dict[str, int] = json.loads(connection.getresponse().read())
        return found
    finally:
        connection.close()


def missing() -> list[str]:
    """Contenders that are not installed."""
    return [name for name in (HAPROXY, TWEMPROXY) if _program(name) is None]


def start(command: list[str], **options: Any) -> subprocess.Popen[bytes]:
    """In a session of its own, silent."""
    return subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True, **options
    )


def listening(port: int) -> None:
    """Wait until somebody listens there."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            connect(("127.0.0.1", port)).close()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return


def _await(one: Contender) -> None:
    listening(one.port)
    deadline = time.monotonic() + PATIENCE
    # Not every page is there before the tracer is.
    while one.admin and "redspan_commands_total" not in one.metrics():
        if time.monotonic() > deadline:
            raise RuntimeError(f"{one.name} does not answer")
        time.sleep(0.05)


def _program(name: str) -> str | None:
    return shutil.which(
        {TWEMPROXY: "nutcracker"}.get(name, name.lower()), path="/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/bin"
    )


def _haproxy(directory: Path, redis_port: int) -> Contender:
    port, file = free_port(), directory / "haproxy.cfg"
    file.write_text(
        "global\n  nbthread 1\n  maxconn 6000\n"
        "defaults\n  mode tcp\n  timeout connect 5s\n  timeout client 1h\n  timeout server 1h\n"
        f"listen redis\n  bind 127.0.0.1:{port} backlog 4096\n  server redis 127.0.0.1:{redis_port}\n"
    )
    return Contender(HAPROXY, port, start([_program(HAPROXY) or "", "-db", "-f", str(file)]))


def _twemproxy(directory: Path, redis_port: int) -> Contender:
    port, file = free_port(), directory / "nutcracker.yml"
    file.write_text(
        f"redis:\n  listen: 127.0.0.1:{port}\n  redis: true\n  hash: fnv1a_64\n  distribution: modula\n"
        f"  backlog: 4096\n  servers:\n    - 127.0.0.1:{redis_port}:1\n"
    )
    command = [_program(TWEMPROXY) or "", "-c", str(file), "-s", str(free_port()), "-a", "127.0.0.1"]
    return Contender(TWEMPROXY, port, start(command))


def _forwarder(redis_port: int) -> Contender:
    port = free_port()
    return Contender(
        FORWARDER, port, start([sys.executable, "-m", "tests.bench.forwarder", str(port), str(redis_port)])
    )


def _redspan(directory: Path, redis_port: int, collector_port: int, name: str, setup: Setup) -> Contender:
    port, admin, file = free_port(), free_port(), directory / f"{name.replace(' ', '-')}.yaml"
    settings = redspan_settings(name, setup, collector_port)
    settings["listeners"] = [{"bind": f"127.0.0.1:{port}", "upstream": f"redis://127.0.0.1:{redis_port}"}]
    settings["admin"] = {"bind": f"127.0.0.1:{admin}"}
    file.write_text(yaml.safe_dump(settings))
    return Contender(name, port, start([sys.executable, "-m", "proxy", "run", "--config", str(file)]), admin)


def redspan_settings(name: str, setup: Setup, collector_port: int) -> dict[str, Any]:
    """All but where it listens."""
    queue = "some-other-queue" if name == UNTRACED else QUEUE
    queues = [queue] if setup.queues == 1 else [f"{queue}:{number:04}:*" for number in range(setup.queues)]
    lists = {"queues": queues, "processing": [f"{queue}:processing:*"]}
    others = (
        {}
        if setup.frameworks
        else {field.encode_name: {"enabled": False} for field in msgspec.structs.fields(Frameworks)}
    )
    tracing: dict[str, Any] = {
        "endpoint": f"http://127.0.0.1:{collector_port}",
        "protocol": "http/protobuf",
        "enabled": name != OFF,
        "export": {"interval": setup.interval},
    }
    if name == NOT_SAMPLED:
        tracing["sampling"] = {"default_rate": 0.0}
    return {"frameworks": {**others, "list": lists}, "tracing": tracing, "relay": {"max_connections": 6000}}
