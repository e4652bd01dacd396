"""One relay worker: its server, what its sessions share, and its outbox; in whichever process it runs."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import Final, NamedTuple

from proxy import assembly, log, usage
from proxy.config import Settings
from proxy.context.carry import Carrier
from proxy.context.sampling import Rates
from proxy.frameworks.router import Router
from proxy.relay.context import RelayContext
from proxy.relay.outbox import Counts, Outbox
from proxy.relay.server import RelayServer

_BY_DESIGN: Final = frozenset({"monitor", "replication"})

More = Callable[[], list[tuple[str, tuple[str, ...], int]]]
"""Counters, as in `proxy.events.Snapshot`."""


class Parts(NamedTuple):
    """What of the settings needs work before sessions can go by it."""

    router: Router
    carrier: Carrier
    rates: Rates


def parts(settings: Settings) -> Parts:
    """Raises `proxy.assembly.CannotStart`."""
    return Parts(Router(assembly.frameworks(settings)), assembly.carrier(settings), assembly.rates(settings))


class RelayWorker:
    """``more`` answers counters that this process has besides those of its relay. Raises `CannotStart`."""

    def __init__(self, settings: Settings, number: int = 0, more: More = list) -> None:
        self._more = more
        self.outbox = Outbox(number, time.time_ns, self.counts)
        made = parts(settings)
        self.context = RelayContext(
            *made,
            self.outbox.emit,
            _went_blind,
            worker=number,
            inject=settings.tracing.inject,
            max_inspect=settings.relay.max_inspect_bytes,
        )
        self.server = RelayServer(settings, self.context)

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
        return gauges, counts


def _went_blind(reason: str, conn: int) -> None:
    text = f"connection {conn} is relayed without a look from now on: {reason}"
    if reason in _BY_DESIGN:
        log.debug("blind", text, subject=reason)
    else:
        log.warning("blind", f"{text}. Its commands are not affected, its jobs are not traced", subject=reason)
