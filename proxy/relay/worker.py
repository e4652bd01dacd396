"""One relay worker: its server, what its sessions share, and its outbox; in whichever process it runs."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import Final, NamedTuple, Protocol

from proxy import assembly, log, usage
from proxy.address import Address
from proxy.config import Settings
from proxy.context.carry import Carrier
from proxy.context.sampling import Rates
from proxy.events import Snapshot
from proxy.frameworks.router import Router
from proxy.relay.context import RelayContext
from proxy.relay.counters import UNKNOWN_SHAPE
from proxy.relay.outbox import Counts, Outbox
from proxy.relay.server import RelayServer, Sockets, open_sockets
from proxy.relay.upstream import Upstream

_BY_DESIGN: Final = frozenset({"monitor", "replication"})

More = Callable[[], list[tuple[str, tuple[str, ...], int]]]
"""Counters, as in `proxy.events.Snapshot`."""


class Parts(NamedTuple):
    """What of the settings needs work before sessions can go by it."""

    router: Router
    carrier: Carrier
    rates: Rates


class Relays(Protocol):
    """All that relays, as its parent sees it: one `RelayWorker`, or a pool of them in other processes."""

    @property
    def routes(self) -> list[tuple[Address, Upstream]]:
        """Where it listens, and what is behind."""

    @property
    def ready(self) -> bool:
        """Whether all of it listens."""

    @property
    def alive(self) -> bool:
        """Whether all of it turns."""

    @property
    def pids(self) -> set[int]:
        """Processes other than this one; 0 for one that does not run."""

    @property
    def clients(self) -> int:
        """Connections, as far as is known."""

    def open(self) -> None:
        """Raises `proxy.listen.CannotListen`."""

    def attach(self, events: socket.socket) -> None:
        """A tracer is there; ``events`` becomes ours."""

    def detach(self) -> None:
        """There is none any more."""

    async def hold(self, within: float) -> None:
        """The tracer is about to be replaced: give it all there is, and keep what comes for the next one."""

    def apply(self, settings: Settings, made: Parts) -> None:
        """Go by other settings, made by `parts`; listeners stay as they are."""

    def begin_drain(self) -> None:
        """From now on the last client to leave ends `wait_closed`."""

    async def wait_closed(self, within: float) -> bool:
        """Wait until no client is left; False: some still are after so many seconds."""

    async def close(self) -> None:
        """Stop listening, cut who is left, and hand what is known to the tracer."""

    async def flush(self, within: float) -> bool:
        """Wait until the tracer has all there is; False: it had not within so many seconds."""

    def snapshots(self) -> list[Snapshot]:
        """The counts, as they are now."""


def parts(settings: Settings) -> Parts:
    """Raises `proxy.assembly.CannotStart`."""
    return Parts(Router(assembly.frameworks(settings)), assembly.carrier(settings), assembly.rates(settings))


class RelayWorker:
    """``more`` answers counters that this process has besides those of its relay. Raises `CannotStart`.

    ``sockets`` opens listeners, ``counted`` is told of every snapshot that goes to the tracer.
    """

    def __init__(
        self,
        settings: Settings,
        number: int = 0,
        more: More = list,
        sockets: Sockets = open_sockets,
        counted: Callable[[Snapshot], None] | None = None,
    ) -> None:
        self._more = more
        self._number = number
        self._counted = counted
        self.outbox = Outbox(number, time.time_ns, self.counts)
        made = parts(settings)
        self.context = RelayContext(
            *made,
            self.outbox.emit,
            _notice,
            worker=number,
            inject=settings.tracing.inject,
            max_inspect=settings.relay.max_inspect_bytes,
        )
        self.server = RelayServer(settings, self.context, sockets)

    def open(self) -> None:
        """Start to serve. Raises `proxy.listen.CannotListen`."""
        self.server.open()

    @property
    def routes(self) -> list[tuple[Address, Upstream]]:
        return self.server.routes

    @property
    def ready(self) -> bool:
        return self.server.listening()

    @property
    def alive(self) -> bool:
        """Who can ask has the answer."""
        return True

    @property
    def pids(self) -> set[int]:
        return set()

    def begin_drain(self) -> None:
        self.server.begin_drain()

    async def wait_closed(self, within: float) -> bool:
        return await self.server.wait_closed(within)

    async def close(self) -> None:
        await self.server.close()

    def detach(self) -> None:
        """There is no tracer any more."""
        self.outbox.detach()

    async def flush(self, within: float) -> bool:
        return await self.outbox.flush(within)

    def snapshots(self) -> list[Snapshot]:
        return [Snapshot(self._number, time.time_ns(), *self.counts())]

    @property
    def clients(self) -> int:
        return self.context.counters.connections

    def attach(self, events: socket.socket) -> None:
        """A tracer is there; ``events`` becomes ours."""
        self.outbox.attach(events)
        self.context.epoch += 1

    async def hold(self, within: float) -> None:
        """The tracer is about to be replaced: give it all there is, and keep what comes after that for the next one."""
        await self.outbox.flush(within)
        self.outbox.hold()
        self.context.epoch += 1

    def apply(self, settings: Settings, made: Parts) -> None:
        """Go by other settings, made by `parts`; new clients and those that are here. Listeners stay as they are."""
        self.context.adopt(*made, inject=settings.tracing.inject, max_inspect=settings.relay.max_inspect_bytes)
        self.server.apply(settings)

    def counts(self) -> Counts:
        counters, outbox = self.context.counters, self.outbox
        gauges = {
            "redspan_connections": counters.connections,
            "redspan_events_waiting": outbox.waiting,
            "redspan_process_resident_memory_bytes": usage.resident_memory(),
        }
        counts = [
            *counters.snapshot(),
            *(("redspan_upstream_failures_total", (reason,), n) for reason, n in self.server.failures.items()),
            ("redspan_events_total", (), outbox.sent),
            *(("redspan_events_dropped_total", (reason,), n) for reason, n in outbox.dropped.items()),
            ("redspan_process_cpu_seconds_total", ("relay",), usage.cpu_time()),
            *self._more(),
        ]
        if self._counted is not None:
            self._counted(Snapshot(self._number, time.time_ns(), gauges, counts))
        return gauges, counts


def _notice(reason: str, conn: int, detail: str) -> None:
    if reason == UNKNOWN_SHAPE:
        text = f"connection {conn} runs a script of {detail} in a form that is not known here: of a newer version?"
        log.warning("unrecognised", f"{text} It is not affected, its jobs are not traced", subject=detail)
        return
    text = f"connection {conn} is relayed without a look from now on: {reason}" + (f" ({detail})" if detail else "")
    if reason in _BY_DESIGN:
        log.debug("blind", text, subject=reason)
    else:
        log.warning("blind", f"{text}. Its commands are not affected, its jobs are not traced", subject=reason)
