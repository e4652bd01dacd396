"""Real OpenTelemetry Collectors, and the shop of the demo, whose jobs' spans go through them."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import redis
import yaml

from proxy.demo import stage
from proxy.demo.app.worker import COMPLETED, DEAD_LETTER
from tests.clients.go_programs import GoProgram, build
from tests.redis import PATIENCE
from tests.sidecar import Sidecar

JOBS: Final = 12
"""Of the shop: a picture of them fails for good, and a mail is greylisted once."""
FAIL: Final = 2
"""So many of them have an attempt that fails."""
SHOP: Final = {"list": stage.LISTS}
"""``frameworks`` of a sidecar for it."""


@contextmanager
def collector(
    folder: Path,
    settings: Mapping[str, Any],
    files: Sequence[Path] = (),
    env: Mapping[str, str] | None = None,
    program: Path | None = None,
) -> Iterator[GoProgram]:
    """One that goes by the files and, where they say otherwise, by ``settings``, whose ports are free ones."""
    folder.mkdir(exist_ok=True)
    last = folder / "collector.yaml"
    last.write_text(yaml.safe_dump(settings))
    options = [part for file in (*files, last) for part in ("--config", file)]
    with GoProgram([program or build("collector"), *options], folder / "collector.log", env) as started:
        for port in _ports(settings):
            _wait_for(port, started)
        yield started
        assert started.stop() == 0, started.log


def receiver(grpc: int, http: int) -> dict[str, Any]:
    """``receivers.otlp`` on loopback."""
    protocols = {"grpc": {"endpoint": f"127.0.0.1:{grpc}"}, "http": {"endpoint": f"127.0.0.1:{http}"}}
    return {"otlp": {"protocols": protocols}}


def _ports(settings: Any, receiving: bool = False) -> Iterator[int]:
    """Those that its receivers are told to open."""
    for name, value in settings.items():
        if isinstance(value, dict):
            yield from _ports(value, receiving or name == "receivers")
        elif receiving and name == "endpoint":
            yield int(value.rpartition(":")[2])


def _wait_for(port: int, program: GoProgram) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        assert not program.ended, program.log
        assert time.monotonic() < deadline, program.log
        time.sleep(0.05)


def work_off(sidecar: Sidecar, directory: Path) -> int:
    """The shop's producer and workers do their jobs through ``sidecar``. How many attempts that took."""

    def over() -> bool:
        return int(client.llen(COMPLETED)) + int(client.llen(DEAD_LETTER)) == JOBS

    def counted(event: str) -> int:
        return int(sidecar.metric("redspan_jobs_total", event=event))

    with ExitStack() as stack:
        client = stack.enter_context(redis.Redis.from_url(sidecar.url))
        for number in (1, 2):
            stack.enter_context(stage.worker(directory, sidecar.url, number))
        stack.enter_context(stage.producer(directory, sidecar.url, JOBS, 0.02))
        sidecar.wait_for(over, "not every job is done")
    # What is tried again is enqueued again. What is counted is told once a second.
    sidecar.wait_for(lambda: JOBS < counted("enqueue") == counted("ack"), "not every attempt is counted")
    return counted("enqueue")
