"""Several relay workers, each a process of its own, as their parent sees them.

All listen on the same addresses, and the kernel spreads clients over them: TCP sockets share their port
(``SO_REUSEPORT``), a unix socket is opened here and handed to all.  Each has a channel of events to the one tracer of
its own.  A worker that dies takes its own clients with it and is started again; what it had counted is kept here.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Callable
from typing import Final

import msgspec
from msgspec.structs import replace

from proxy import usage
from proxy.address import Address
from proxy.admin import handoff
from proxy.child import Child
from proxy.config import Settings
from proxy.events import Snapshot
from proxy.listen import bound, close_listener, open_listeners, reserve
from proxy.relay import process as told
from proxy.relay.outbox import Counts, Outbox
from proxy.relay.process import Place, Start
from proxy.relay.server import bind_setting, upstream_of
from proxy.relay.upstream import Upstream
from proxy.relay.worker import More, Parts

ALIVE_FOR: Final = 5.0
"""Seconds after its last beat, or its start, that a worker counts as alive."""

_PARENT: Final = 0
_POLL: Final = 0.02

Labelled = tuple[str, tuple[str, ...]]


class WorkerChild(Child):
    """``came`` and ``went`` are told of each new process, and of its end."""

    what = "relay"
    module = "proxy.relay.process"
    cost = "Its clients were disconnected; those of other workers are not affected"
    loss = "its clients were disconnected"

    def __init__(
        self,
        start: Start,
        kept: list[int],
        came: Callable[[WorkerChild], None],
        went: Callable[[WorkerChild], None],
    ) -> None:
        super().__init__(msgspec.json.encode(start))
        self.number = start.number
        self.latest: Snapshot | None = None
        """What it said last; None: it does not listen yet."""
        self.heard = time.monotonic()
        """When it beat last, or was started first."""
        self.held = False
        self._descriptors = kept
        self._start = start
        self._on_came = came
        self._on_went = went

    @property
    def clients(self) -> int:
        return 0 if self.latest is None else self.latest.gauges.get("redspan_connections", 0)

    def tell(self, message: bytes, *descriptors: int) -> bool:
        """False: there is none who could be told."""
        return self._control is not None and self._control.tell(message, *descriptors)

    def apply(self, settings: Settings) -> None:
        self._start = replace(self._start, settings=settings)
        self._settings = msgspec.json.encode(self._start)
        descriptor = os.memfd_create("redspan-settings")
        with os.fdopen(descriptor, "wb") as file:
            file.write(msgspec.json.encode(settings))
            file.seek(0)
            self.tell(told.SETTINGS, descriptor)

    def _kept(self) -> list[int]:
        return self._descriptors

    def _came(self) -> None:
        self._on_came(self)

    def _went(self) -> None:
        self._on_went(self)

    def _said(self, message: bytes) -> None:
        self.heard = time.monotonic()
        if message[:1] == told.BEAT:
            self.latest = msgspec.msgpack.decode(message[1:], type=Snapshot)
        elif message[:1] == told.HOLD:
            self.held = True


class Pool:
    """A `proxy.relay.worker.Relays`. ``pass_events`` gives the tracer a channel; False: there is no tracer."""

    def __init__(self, settings: Settings, more: More, pass_events: Callable[[socket.socket], bool]) -> None:
        self._settings = settings
        self._more = more
        self._pass_events = pass_events
        self._outbox = Outbox(_PARENT, time.time_ns, self._counts)
        self._workers: list[WorkerChild] = []
        self._sockets: list[list[socket.socket]] = []
        """Of each listener: what keeps its address, or is handed to all."""
        self._retired: dict[Labelled, int] = {}
        """What workers had counted that have died."""
        self._attached = False
        self._draining = False

    # ---- listening

    def open(self) -> None:
        """Reserve all addresses, and start workers there. Raises `proxy.listen.CannotListen`."""
        try:
            for number, listener in enumerate(self._settings.listeners):
                address, setting = listener.bind_address, bind_setting(number)
                self._sockets.append(open_listeners(address, setting) if address.path else reserve(address, setting))
        except BaseException:
            self._close_sockets()
            raise
        kept = [sock.fileno() for sockets in self._sockets for sock in sockets if sock.family == socket.AF_UNIX]
        places = [[_place(sock) for sock in sockets] for sockets in self._sockets]
        for number in range(1, self._settings.relay.workers + 1):
            start = Start(number, self._share(self._settings), places)
            self._workers.append(WorkerChild(start, kept, self._introduce, self._retire))
        for worker in self._workers:
            worker.start()

    @property
    def routes(self) -> list[tuple[Address, Upstream]]:
        return [
            (bound(sock), upstream_of(listener))
            for listener, sockets in zip(self._settings.listeners, self._sockets, strict=True)
            for sock in sockets
        ]

    @property
    def pids(self) -> set[int]:
        return {worker.pid for worker in self._workers}

    @property
    def ready(self) -> bool:
        return all(worker.latest is not None for worker in self._workers) and self.alive

    @property
    def alive(self) -> bool:
        now = time.monotonic()
        return all(now - worker.heard < ALIVE_FOR for worker in self._workers)

    @property
    def clients(self) -> int:
        return sum(worker.clients for worker in self._workers)

    def apply(self, settings: Settings, made: Parts) -> None:
        self._settings = settings
        for worker in self._workers:
            worker.apply(self._share(settings))

    def _share(self, settings: Settings) -> Settings:
        """With a worker's part of the limit."""
        relay = settings.relay
        return replace(settings, relay=replace(relay, max_connections=-(-relay.max_connections // relay.workers)))

    # ---- events

    def attach(self, events: socket.socket) -> None:
        self._outbox.attach(events)
        self._attached = True
        for worker in self._workers:
            self._connect(worker)

    def detach(self) -> None:
        self._attached = False
        self._outbox.detach()
        for worker in self._workers:
            worker.tell(told.GONE)

    async def hold(self, within: float) -> None:
        # A worker that is started meanwhile has nothing to keep, and is connected with the others.
        self._attached = False
        for worker in self._workers:
            worker.held = not worker.tell(told.HOLD + f"{within:g}".encode())
        deadline = time.monotonic() + within
        while time.monotonic() < deadline:
            if all(worker.held for worker in self._workers):
                break
            await asyncio.sleep(_POLL)
        await self._outbox.flush(within)
        self._outbox.hold()

    async def flush(self, within: float) -> bool:
        return await self._outbox.flush(within)

    def _connect(self, worker: WorkerChild) -> None:
        """A channel from a worker to the tracer."""
        ours, theirs = handoff.channel()
        with ours, theirs:
            if self._pass_events(theirs):
                worker.tell(told.EVENTS, ours.fileno())

    def _introduce(self, worker: WorkerChild) -> None:
        if self._attached:
            self._connect(worker)
        if self._draining:
            worker.tell(told.DRAIN)

    def _retire(self, worker: WorkerChild) -> None:
        latest, worker.latest = worker.latest, None
        worker.held = True
        if latest is None:
            return
        for name, labels, count in latest.counters:
            self._retired[name, labels] = self._retired.get((name, labels), 0) + count
        # In one batch, so that nobody counts them twice, or not at all.
        self._outbox.emit_snapshot()
        self._outbox.emit(Snapshot(worker.number, time.time_ns(), {}, []))

    def _counts(self) -> Counts:
        own: list[tuple[str, tuple[str, ...], int]] = [
            ("redspan_process_cpu_seconds_total", ("relay",), usage.cpu_time()),
            ("redspan_worker_restarts_total", (), sum(worker.restarts for worker in self._workers)),
            *self._more(),
        ]
        gauges = {"redspan_process_resident_memory_bytes": usage.resident_memory()}
        return gauges, [*own, *((name, labels, count) for (name, labels), count in self._retired.items())]

    def snapshots(self) -> list[Snapshot]:
        own = Snapshot(_PARENT, time.time_ns(), *self._counts())
        return [own, *(worker.latest for worker in self._workers if worker.latest is not None)]

    # ---- the end

    def begin_drain(self) -> None:
        self._draining = True
        for worker in self._workers:
            worker.tell(told.DRAIN)

    async def wait_closed(self, within: float) -> bool:
        began = time.monotonic()
        while not all(one.pid == 0 or (one.heard > began and not one.clients) for one in self._workers):
            if time.monotonic() - began > within:
                return False
            await asyncio.sleep(_POLL)
        return True

    async def close(self) -> None:
        within = self._settings.tracing.export.flush_timeout
        await asyncio.gather(*(worker.stop(within) for worker in self._workers))
        self._workers.clear()
        self._close_sockets()

    def _close_sockets(self) -> None:
        for sockets in self._sockets:
            for sock in sockets:
                close_listener(sock)
        self._sockets.clear()


def _place(sock: socket.socket) -> Place:
    if sock.family == socket.AF_UNIX:
        return Place(sock.family, descriptor=sock.fileno())
    return Place(sock.family, sock.getsockname())
