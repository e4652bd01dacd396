"""The parent process: one relay worker on this loop, the admin socket, and the tracer as a child.

Start: admin socket and listeners are opened before anything runs, so that what cannot be is said at once.  End: at
the first signal readiness turns false, but clients are served until the last one has left or the time is over; then
the tracer flushes.  Each further signal skips what is being waited for.
"""

from __future__ import annotations

import asyncio
import gc
import signal
import socket
import time
from collections.abc import Coroutine
from typing import Final

import uvloop

from proxy import __version__, assembly, log, usage
from proxy.admin.front import Front
from proxy.admin.health import Head, Readiness, raw_response, refusal
from proxy.assembly import CannotStart
from proxy.child import TracerChild
from proxy.config import Settings
from proxy.events import Snapshot
from proxy.frameworks.router import Router
from proxy.listen import CannotListen, bound, open_listeners
from proxy.relay.context import RelayContext
from proxy.relay.outbox import Counts, Outbox
from proxy.relay.server import RelayServer
from proxy.relay.upstream import Reachability

_WORKER: Final = 0
_GC_THRESHOLD: Final = 50_000
_BY_DESIGN: Final = frozenset({"monitor", "replication"})


def serve(settings: Settings) -> int:
    """Run until a signal. The exit code: 0 after a clean end, 1 if it could not start."""
    log.configure(settings.log.level, settings.log.format)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            return runner.run(_run(settings))
        except (CannotListen, CannotStart) as error:
            log.error("cannot_start", str(error))
            return 1


async def _run(settings: Settings) -> int:
    asyncio.get_running_loop().set_exception_handler(log.loop_exception)
    return await Supervisor(settings).run()


class Supervisor:
    """Owns everything that lives in this process, in the order in which it is opened. Raises as `open` says."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._outbox = Outbox(_WORKER, time.time_ns, self._count)
        self._context = _context(settings, self._outbox)
        self._server = RelayServer(settings, self._context)
        self._child = TracerChild(settings, self._attach, self._outbox.detach) if settings.tracing.enabled else None
        self._reachability: Reachability | None = None
        self._signalled = asyncio.Event()

    async def run(self) -> int:
        """Raises `CannotListen`."""
        settings = self._settings
        admin = open_listeners(settings.admin.bind_address, "admin.bind (--admin)")
        front = Front(admin, self._readiness, self._rest)
        try:
            self._server.open()
            self._handle_signals()
            if settings.admin.ready_requires_upstream:
                self._reachability = Reachability(self._server.upstreams)
            if self._child is not None:
                self._child.start()
            front.open()
            self._announce(admin)
            # What is here now stays: the collector need not look at it again, nor soon at what comes and goes.
            gc.collect()
            gc.freeze()
            gc.set_threshold(_GC_THRESHOLD)
            await self._signalled.wait()
            await self._drain()
            await self._server.close()
            await self._flush()
        finally:
            front.close()
            await self._server.close()
            if self._child is not None:
                await self._child.stop(0.0)
        log.info("stopped", "redspan has ended")
        return 0

    # ---- the end

    def _handle_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._signalled.set)
        loop.add_signal_handler(signal.SIGHUP, _refuse_reload)

    async def _drain(self) -> None:
        self._server.begin_drain()
        timeout = self._settings.relay.drain_timeout
        clients = self._context.counters.connections
        log.info("draining", f"ending: serving {clients} clients until they leave, for at most {timeout:g} s")
        if not await self._unless_signalled(self._server.wait_closed(timeout)):
            log.warning("drain_cut", f"{self._context.counters.connections} clients had not left; disconnecting them")

    async def _flush(self) -> None:
        child = self._child
        if child is None:
            return
        # One that hangs would not get better by waiting.
        timeout = self._settings.tracing.export.flush_timeout if child.responsive else 0.0
        deadline = time.monotonic() + timeout

        async def flush() -> bool:
            flushed = await self._outbox.flush(timeout)
            await child.stop(max(deadline - time.monotonic(), 0.0))
            return flushed

        await self._unless_signalled(flush())

    async def _unless_signalled(self, work: Coroutine[None, None, bool]) -> bool:
        """Its result, or False if a signal came first."""
        self._signalled.clear()
        task = asyncio.get_running_loop().create_task(work)
        skip = asyncio.get_running_loop().create_task(self._signalled.wait())
        await asyncio.wait((task, skip), return_when=asyncio.FIRST_COMPLETED)
        skip.cancel()
        if task.done():
            return task.result()
        task.cancel()
        return False

    # ---- the tracer

    def _attach(self, events: socket.socket) -> None:
        self._outbox.attach(events)
        self._context.epoch += 1

    def _count(self) -> Counts:
        counters, outbox = self._context.counters, self._outbox
        gauges = {
            "redspan_connections": counters.connections,
            "redspan_events_waiting": outbox.waiting,
            "redspan_process_resident_memory_bytes": usage.resident_memory(),
        }
        counts = [
            *counters.snapshot(),
            *(("redspan_upstream_failures_total", (reason,), n) for reason, n in self._server.failures.items()),
            ("redspan_events_total", (), outbox.sent),
            *(("redspan_events_dropped_total", (reason,), n) for reason, n in outbox.dropped.items()),
            ("redspan_process_cpu_seconds_total", ("relay",), usage.cpu_time()),
        ]
        if self._child is not None:
            counts.append(("redspan_tracer_restarts_total", (), self._child.restarts))
        return gauges, counts

    # ---- the admin socket

    def _readiness(self) -> Readiness:
        if self._server.draining:
            return Readiness(False, "draining")
        if not self._server.listening():
            return Readiness(False, "starting")
        if self._reachability is not None and not self._reachability.recent:
            return Readiness(False, "upstream")
        return Readiness(True)

    def _rest(self, connection: socket.socket, head: Head) -> bytes | None:
        if self._child is None:
            return self._page(head)
        if self._child.hand_over(connection):
            return None
        return refusal(503, "the tracer is starting, or not answering; clients of Redis are not affected")

    def _page(self, head: Head) -> bytes:
        """Without a tracer there is nobody else to show the counts."""
        if head.path != "/metrics":
            return refusal(404, "there are /metrics, /healthz and /readyz")
        from proxy.admin.metrics import RelayCollector, render

        snapshot = Snapshot(_WORKER, time.time_ns(), *self._count())
        page, content_type = render(RelayCollector(lambda: [snapshot]), head.accept)
        return raw_response(200, content_type, page, with_body=head.method != "HEAD")

    def _announce(self, admin: list[socket.socket]) -> None:
        settings = self._settings
        routes = ", ".join(f"{here.display()} -> {there.address.display()}" for here, there in self._server.routes)
        spans = settings.tracing.destinations()
        log.info("started", f"redspan {__version__}: {routes}; admin {bound(admin[0]).display()}; spans {spans}")


def _context(settings: Settings, outbox: Outbox) -> RelayContext:
    """Raises `CannotStart`."""
    return RelayContext(
        Router(assembly.frameworks(settings)),
        assembly.carrier(settings),
        assembly.rates(settings),
        outbox.emit,
        _went_blind,
        worker=_WORKER,
        inject=settings.tracing.inject,
        max_inspect=settings.relay.max_inspect_bytes,
    )


def _went_blind(reason: str, conn: int, detail: str) -> None:
    text = f"connection {conn} is relayed without a look from now on: {reason}" + (f" ({detail})" if detail else "")
    if reason in _BY_DESIGN:
        log.debug("blind", text, subject=reason)
    else:
        log.warning("blind", f"{text}. Its commands are not affected, its jobs are not traced", subject=reason)


def _refuse_reload() -> None:
    log.warning("reload", "SIGHUP: this release reads its settings only when it starts; restart it")
