"""Workers: those that commands name, what they have in hand, and when all their connections have gone.

A worker is a process (`proxy.tracer.home`); its threads may go by names of their own.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

import msgspec

from proxy.tracer.home import Home, home
from proxy.tracer.jobs import Delivery, Job

LIMIT: Final = 5000
"""Workers that are known; of more, the one heard of longest ago is forgotten."""
GRACE: Final = 2 * 10**9
"""ns without a connection after which a worker counts as gone: it may have opened another one."""
_CONNECTIONS: Final = 1000
_THREADS: Final = 1000

Name = tuple[str, str, str]
"""Upstream, framework and name."""


class Worker(msgspec.Struct, gc=False):
    home: Home
    since: int
    """When it was first heard of, ns."""
    connections: dict[tuple[int, int], None] = {}
    threads: dict[str, int] = {}
    """Jobs in hand, by the full names that it goes by."""
    held: dict[int, tuple[Job, Delivery]] = {}
    left: int = 0
    """When its last connection closed, ns; 0: there is one."""


class Crew:
    def __init__(self) -> None:
        self.workers: Final[OrderedDict[Name, Worker]] = OrderedDict()
        self._by_connection: Final[dict[tuple[int, int], dict[Name, None]]] = {}
        self._leaving: Final[OrderedDict[Name, int]] = OrderedDict()

    def heard(self, name: Name, worker: str, conn: tuple[int, int], at: int) -> Worker | None:
        """A command named the worker; the worker if this was the first time."""
        known = self.workers.get(name)
        new = known is None
        if known is None:
            known = self.workers[name] = Worker(home(worker), at)
            if len(self.workers) > LIMIT:
                self._forget(next(iter(self.workers)))
        else:
            self.workers.move_to_end(name)
        _count(known, worker, 0)
        if conn not in known.connections and len(known.connections) < _CONNECTIONS:
            known.connections[conn] = None
            self._by_connection.setdefault(conn, {})[name] = None
        if known.left:
            known.left = 0
            self._leaving.pop(name, None)
        return known if new else None

    def takes(self, name: Name, job: Job, delivery: Delivery) -> None:
        worker = self.workers.get(name)
        if worker is not None and id(delivery) not in worker.held:
            worker.held[id(delivery)] = (job, delivery)
            _count(worker, delivery.worker, 1)

    def done(self, name: Name, delivery: Delivery) -> None:
        worker = self.workers.get(name)
        if worker is not None and worker.held.pop(id(delivery), None) is not None:
            _count(worker, delivery.worker, -1)

    def closed(self, conn: tuple[int, int], at: int) -> None:
        for name in self._by_connection.pop(conn, ()):
            worker = self.workers[name]
            worker.connections.pop(conn, None)
            if not worker.connections:
                worker.left = self._leaving[name] = at

    def gone(self, now: int) -> list[tuple[Name, Worker]]:
        """Workers whose connections have all been closed for a while, taken out."""
        found = []
        while self._leaving:
            name, at = next(iter(self._leaving.items()))
            # One that left in the future did so before the clock was set back.
            if at <= now < at + GRACE:
                break
            found.append((name, self.workers[name]))
            self._forget(name)
        return found

    def count(self) -> dict[tuple[str, bool], int]:
        """Workers, each of their threads one, by framework and whether they have a job in hand."""
        counts: dict[tuple[str, bool], int] = {}
        for (_, framework, _), worker in self.workers.items():
            for held in worker.threads.values():
                counts[framework, held > 0] = counts.get((framework, held > 0), 0) + 1
        return counts

    def _forget(self, name: Name) -> None:
        self._leaving.pop(name, None)
        for conn in self.workers.pop(name).connections:
            names = self._by_connection.get(conn, {})
            names.pop(name, None)
            if not names:
                self._by_connection.pop(conn, None)


def _count(worker: Worker, thread: str, change: int) -> None:
    """Jobs that a thread has in hand; of too many threads the rest is not known."""
    if thread in worker.threads or len(worker.threads) < _THREADS:
        worker.threads[thread] = max(0, worker.threads.get(thread, 0) + change)
