"""The parent process: the relay on this loop or as children, the admin socket, and the tracer as a child.

Start: admin socket and listeners are opened before anything runs, so that what cannot be is said at once.  End: at
the first signal readiness turns false, but clients are served until the last one has left or the time is over; then
the tracer flushes.  Each further signal skips what is being waited for.  SIGHUP reads the settings again.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Final

import uvloop

from proxy import ENDING, __version__, assembly, log
from proxy.admin.front import Front
from proxy.admin.health import Head, Readiness, raw_response, refusal
from proxy.assembly import CannotStart
from proxy.child import TracerChild
from proxy.config import Settings
from proxy.config.changes import tracer_differs
from proxy.listen import CannotListen, bound, open_listeners
from proxy.notify import READY, STOPPING, notify
from proxy.reap import reap_orphans
from proxy.relay.upstream import Reachability
from proxy.relay.worker import Parts, Relays, RelayWorker, parts
from proxy.reload import Load, Reloader

_GC_THRESHOLD: Final = 50_000


def serve(settings: Settings, reload: Load | None = None) -> int:
    """Run until a signal. The exit code: 0 after a clean end, 1 if it could not start.

    ``reload`` reads the settings again, at SIGHUP; None: they cannot be.
    """
    log.configure(settings.log.level, settings.log.format)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            return runner.run(_run(settings, reload))
        except (CannotListen, CannotStart) as error:
            log.error("cannot_start", str(error))
            return 1


async def _run(settings: Settings, reload: Load | None) -> int:
    asyncio.get_running_loop().set_exception_handler(log.loop_exception)
    return await Supervisor(settings, reload).run()


class Supervisor:
    """Owns everything that lives in this process, in the order in which it is opened. Raises as `open` says."""

    def __init__(self, settings: Settings, reload: Load | None = None) -> None:
        self._settings = settings
        self._identity = assembly.identity_key(settings)
        self._child: TracerChild | None = None
        self._relay = self._relays(settings)
        self._child = self._tracer(settings)
        self._reloader = Reloader(reload, lambda: self._settings, self.prepare)
        self._reachability: Reachability | None = None
        self._signalled = asyncio.Event()
        self._draining = False

    async def run(self) -> int:
        """Raises `CannotListen`."""
        settings = self._settings
        admin = open_listeners(settings.admin.bind_address, "admin.bind (--admin)")
        front = Front(admin, self._readiness, self._rest)
        try:
            self._relay.open()
            self._handle_signals()
            self._watch_upstream()
            if self._child is not None:
                self._child.start()
            if os.getpid() == 1:
                self._orphans = asyncio.get_running_loop().create_task(reap_orphans(self._children))
            front.open()
            self._announce(admin)
            notify(READY)
            # What is here now stays: the collector need not look at it again, nor soon at what comes and goes.
            gc.collect()
            gc.freeze()
            gc.set_threshold(_GC_THRESHOLD)
            await self._signalled.wait()
            notify(STOPPING)
            await self._drain()
            await self._relay.close()
            await self._flush()
        finally:
            front.close()
            await self._relay.close()
            if self._child is not None:
                await self._child.stop(0.0)
        log.info("stopped", "redspan has ended")
        return 0

    def _relays(self, settings: Settings) -> Relays:
        if settings.relay.workers == 1:
            return RelayWorker(settings, more=self._restarts)
        from proxy.pool import Pool

        return Pool(
            settings, self._restarts, lambda events: self._child is not None and self._child.pass_events(events)
        )

    # ---- the end

    def _handle_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._signalled.set)
        loop.add_signal_handler(signal.SIGHUP, self._reloader.ask)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)

    async def _drain(self) -> None:
        relay = self._relay
        relay.begin_drain()
        self._draining = True
        timeout = self._settings.relay.drain_timeout
        log.info("draining", f"ending: serving clients ({relay.clients} now) until they leave, at most {timeout:g} s")
        if not await self._unless_signalled(relay.wait_closed(timeout)):
            log.warning("drain_cut", f"clients that had not left: {relay.clients}; disconnecting them")

    async def _flush(self) -> None:
        # A tracer that is being replaced comes first: the next one gets what was kept for it.
        await self._unless_signalled(self._reloader.close(self._settings.tracing.export.flush_timeout))
        child = self._child
        if child is None:
            return
        # One that hangs would not get better by waiting.
        timeout = self._settings.tracing.export.flush_timeout if child.responsive else 0.0
        deadline = time.monotonic() + timeout

        async def flush() -> bool:
            flushed = await self._relay.flush(timeout)
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

    def _tracer(self, settings: Settings) -> TracerChild | None:
        return TracerChild(settings, self._relay.attach, self._relay.detach) if settings.tracing.enabled else None

    def _children(self) -> set[int]:
        """Those that somebody waits for."""
        return self._relay.pids | ({self._child.pid} if self._child is not None else set())

    def _restarts(self) -> list[tuple[str, tuple[str, ...], int]]:
        return [] if self._child is None else [("redspan_tracer_restarts_total", (), self._child.restarts)]

    # ---- other settings

    def prepare(self, settings: Settings) -> Callable[[], Awaitable[None]]:
        """Make sure that this process can go by these; the answer does it. Raises `CannotStart`."""
        identity, made = assembly.identity_key(settings), parts(settings)
        return lambda: self._apply(settings, identity, made)

    async def _apply(self, settings: Settings, identity: bytes, made: Parts) -> None:
        old = self._settings
        renew = tracer_differs(old, settings) or identity != self._identity
        child, flush_timeout = self._child, old.tracing.export.flush_timeout
        if child is not None and renew and child.responsive:
            await self._relay.hold(flush_timeout)
        self._settings, self._identity = settings, identity
        log.configure(settings.log.level, settings.log.format)
        self._relay.apply(settings, made)
        self._watch_upstream()
        if child is None:
            self._child = self._tracer(settings)
            if self._child is not None:
                self._child.start()
        elif not settings.tracing.enabled:
            self._child = None
            await child.stop(flush_timeout)
        elif renew:
            await child.renew(settings, flush_timeout)
        else:
            child.configure_log(settings)

    def _watch_upstream(self) -> None:
        wanted = self._settings.admin.ready_requires_upstream
        if wanted and self._reachability is None:
            upstreams = tuple({one.address: one for _, one in self._relay.routes}.values())
            self._reachability = Reachability(upstreams)
        elif not wanted and self._reachability is not None:
            self._reachability.close()
            self._reachability = None

    # ---- the admin socket

    def _readiness(self) -> Readiness:
        alive = self._relay.alive
        if self._draining:
            return Readiness(False, "draining", alive)
        if not self._relay.ready:
            return Readiness(False, "starting", alive)
        if self._reachability is not None and not self._reachability.recent:
            return Readiness(False, "upstream", alive)
        return Readiness(True, alive=alive)

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
        from proxy.admin.metrics import Queues, RelayCollector, render
        from proxy.tracer.assembly import redaction

        collector = RelayCollector(self._relay.snapshots)
        collector.queues = Queues(mask=redaction(self._settings).text)
        page, content_type = render(collector, head.accept)
        return raw_response(200, content_type, page, with_body=head.method != "HEAD")

    def _announce(self, admin: list[socket.socket]) -> None:
        settings = self._settings
        routes = ", ".join(f"{here.display()} -> {there.address.display()}" for here, there in self._relay.routes)
        spans = settings.tracing.destinations()
        workers = f" by {settings.relay.workers} workers" if settings.relay.workers > 1 else ""
        traced = ", ".join(settings.frameworks.traced()) if settings.tracing.enabled else "none"
        log.info(
            "started",
            f"redspan {__version__}: {routes}{workers}; jobs of {traced or 'nobody'}; "
            f"admin {bound(admin[0]).display()}; spans {spans}",
        )
