"""The tracer alone: its real process, fed by the relay's own outbox with jobs that never were."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec
import yaml

from proxy.child import TracerChild
from proxy.config import Settings
from proxy.config.sources import load
from proxy.relay.outbox import Outbox
from tests.bench import accounting, jobs
from tests.bench.accounting import Cpu, Memory
from tests.bench.contenders import QUEUE, total
from tests.redis import PATIENCE

_TICK = 0.002


def settings(directory: Path, collector_port: int, **export: Any) -> Settings:
    """As a user would have them who traces `QUEUE`."""
    file = directory / "tracer.yaml"
    tracing = {"endpoint": f"http://127.0.0.1:{collector_port}", "protocol": "http/protobuf", "export": export}
    lists = {"queues": [QUEUE], "processing": [f"{QUEUE}:processing:*"]}
    whole = {"frameworks": {"list": lists}, "tracing": tracing, "log": {"level": "error"}}
    file.write_text(yaml.safe_dump(whole))
    return load(file, {}, {}).settings


class Fed(msgspec.Struct, frozen=True):
    """What a tracer made of a stretch of load."""

    seconds: float
    jobs: int
    cpu: float
    """Seconds, until it was through with all of it."""
    exported: int
    dropped: int
    """Records and spans."""
    waiting: int
    """Records that were not with the tracer yet when the load ended."""

    @property
    def spans(self) -> int:
        return self.jobs * jobs.SPANS

    @property
    def rate(self) -> float:
        return self.spans / self.seconds

    @property
    def sustained(self) -> bool:
        """Nothing lost, and not more than a quarter of a second behind."""
        return not self.dropped and self.waiting <= self.spans / self.seconds / 4


class Feeder:
    """``async with`` starts a tracer, and ends it."""

    def __init__(self, settings: Settings, *, pinned: bool = True) -> None:
        self._pinned = pinned
        self._outbox = Outbox(0, time.time_ns, lambda: ({}, []))
        self._child = TracerChild(settings, self._outbox.attach, self._outbox.detach)
        self._jobs = jobs.Jobs()

    async def __aenter__(self) -> Self:
        self._child.start()
        await self._until(lambda: self._child.live)
        if self._pinned:
            accounting.pin_measured(self._child.pid)
        for record in jobs.connections(time.time_ns()):
            self._outbox.emit(record)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self._child.stop(1.0)

    @property
    def memory(self) -> Memory:
        return accounting.memory(self._child.pid)

    @property
    def cpu(self) -> Cpu:
        return accounting.cpu(self._child.pid)

    async def metrics(self) -> dict[str, float]:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        with ours, theirs:
            await self._until(lambda: self._child.live)
            await asyncio.get_running_loop().sock_sendall(
                ours, b"GET /metrics HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n"
            )
            assert self._child.hand_over(theirs)
            theirs.close()
            page = b""
            while data := await asyncio.get_running_loop().sock_recv(ours, 65536):
                page += data
        lines = page.partition(b"\r\n\r\n")[2].decode().splitlines()
        series = (line.rpartition(" ") for line in lines if line[:1] not in ("#", "") and " " in line)
        return {name: float(value) for name, _, value in series}

    async def feed(self, rate: float, seconds: float) -> Fed:
        """So many spans a second, evenly."""
        lost, before, cpu = self._lost(), await self.metrics(), self.cpu
        began, made = time.monotonic(), 0
        while (passed := time.monotonic() - began) < seconds:
            now = time.time_ns()
            for _ in range(int(passed * rate / jobs.SPANS) - made):
                self._emit(now)
                made += 1
            await asyncio.sleep(_TICK)
        waiting = self._outbox.waiting
        await self.settle()
        spent, after = (self.cpu - cpu).total, await self.metrics()
        exported, dropped = (
            int(total(after, name) - total(before, name))
            for name in ("redspan_spans_exported_total", "redspan_spans_dropped_total")
        )
        return Fed(passed, made, spent, exported, dropped + self._lost() - lost, waiting)

    async def hand(self, count: int, *, delivered: bool = True, acknowledged: bool = True) -> None:
        """So many jobs, as fast as the tracer takes them, and no faster."""
        for number in range(count):
            self._emit(time.time_ns(), delivered=delivered, acknowledged=acknowledged)
            if number % 100 == 99:
                await self._until(lambda: self._outbox.waiting < 1000)
        await self.settle()

    async def settle(self) -> None:
        """Wait until the tracer has all there is, and has nothing to do."""
        await self._until(lambda: not self._outbox.waiting)
        last = -1.0
        while (now := self.cpu.total) - last > 0.005:
            last = now
            await asyncio.sleep(0.2)

    def _emit(self, now: int, *, delivered: bool = True, acknowledged: bool = True) -> None:
        for event in self._jobs.events(now, delivered=delivered, acknowledged=acknowledged):
            self._outbox.emit(event)

    def _lost(self) -> int:
        return sum(self._outbox.dropped.values())

    async def _until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition():
            if time.monotonic() > deadline:
                raise RuntimeError("the tracer does not answer")
            await asyncio.sleep(_TICK)
