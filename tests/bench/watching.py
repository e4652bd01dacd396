"""What those who watch cost the relay: latency of enqueues while ten clients read ``/api/events``, and without them.

``python -m tests.bench.watching PORT COUNT`` are the clients: one process that reads, and looks at nothing.
"""

from __future__ import annotations

import random
import selectors
import socket
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from rich.console import Console

from tests.bench import accounting
from tests.bench.contenders import QUEUE, SAMPLED, Contender, Setup, collector, contenders
from tests.bench.load import Load, Loading, Report, compile_generator
from tests.bench.spread import Spread, spread
from tests.redis import RedisServer, connect
from tests.sidecar import ROOT

WATCHERS: Final = 10
_RATE: Final = 5_000
"""Enqueues in a second."""
_SECONDS: Final = 3
_LOAD: Final = Load(_RATE * _SECONDS, rate=_RATE)


def main(directory: Path, rounds: int, console: Console) -> None:
    generator = compile_generator(directory)
    with (
        RedisServer() as redis,
        collector() as (port, collecting),
        contenders([SAMPLED], directory, redis.port, port, Setup()) as (redspan,),
    ):
        for pid in (redis.pid, collecting):
            accounting.pin_other(pid)
        _enqueue(generator, redis, redspan)
        taken: dict[bool, list[Report]] = {True: [], False: []}
        for _ in range(rounds):
            for watched in random.sample((True, False), 2):
                with _watching(redspan.admin, WATCHERS if watched else 0):
                    taken[watched].append(_enqueue(generator, redis, redspan))
    console.print(f"{_RATE:,} enqueues a second, {WATCHERS} who watch against none, {rounds} rounds:")
    for name in ("p50", "p99"):
        alone, beside = ([getattr(one, name) for one in taken[which]] for which in (False, True))
        change = _of(more - less for less, more in zip(alone, beside, strict=True))
        told = f"{_of(alone).text('.0f')} µs, watched {_of(beside).text('.0f')} µs"
        console.print(f"{name}: {told}; in a round {change.text('+.0f')} µs")


def _of(values: Iterable[float]) -> Spread:
    found = spread(values)
    assert found is not None
    return found


def _enqueue(generator: Path, redis: RedisServer, redspan: Contender) -> Report:
    with redis.connect() as control:
        control.sendall(b"FLUSHALL SYNC\r\n")
        control.recv(64)
    with Loading(generator, _LOAD, redspan.port, QUEUE) as loading:
        redspan.settle()
        return loading.go()


@contextmanager
def _watching(port: int, count: int) -> Iterator[None]:
    command = [sys.executable, "-m", "tests.bench.watching", str(port), str(count)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, start_new_session=True) as process:
        accounting.pin_other(process.pid)
        try:
            assert process.stdout is not None
            if process.stdout.readline() != b"watching\n":
                raise RuntimeError("those who watch were not let in")
            yield
        finally:
            process.kill()


def _watch(port: int, count: int) -> None:
    found = selectors.DefaultSelector()
    for _ in range(count):
        sock = connect(("127.0.0.1", port))
        sock.sendall(b"GET /api/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        if not sock.recv(1 << 16).startswith(b"HTTP/1.1 200"):
            sys.exit("one of them was not let in")
        found.register(sock, selectors.EVENT_READ)
    print("watching", flush=True)
    while True:
        for key, _ in found.select():
            assert isinstance(key.fileobj, socket.socket)
            if not key.fileobj.recv(1 << 20):
                sys.exit("one of them was sent away")


if __name__ == "__main__":
    _watch(int(sys.argv[1]), int(sys.argv[2]))
