"""Whatever threads do, every end that is concluded lies where it says."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from functools import partial
from itertools import count
from typing import Any, cast

import pytest

from proxy.tracer.jobs import Delivery, Job, Status
from proxy.tracer.threads import Over, Threads

S = 10**9
MS = 10**6
WAIT = 2 * S
"""How long a thread waits for a job before it is told that there is none."""
SOON = MS
"""A thread asks at most so much later than it is done with something."""
LOOSE = 5 * SOON
"""One that was idle may be taken for one that is done at that moment, and that one for the next."""


class Process:
    """Threads, and a pool of connections of which the last one returned is taken first."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.pool: list[int] = []
        self.busy: set[int] = set()


class Host:
    """Workers that do what Sidekiq's do, at random."""

    def __init__(self, seed: int, workers: int, threads: int) -> None:
        self.threads = Threads(0)
        self.ended: dict[int, int] = {}
        self.over: list[Over] = []
        self.told = 0
        self._random = random.Random(seed)
        self._now = 0
        self._events: list[tuple[int, int, Callable[[], None]]] = []
        self._numbers = count(1)
        self._asked: set[int] = set()
        self._queue: list[int] = []
        self._waiting: dict[int, tuple[Process, int]] = {}
        for number in range(workers):
            process = Process(f"host:{number}:0")
            for _ in range(threads):
                self._later(self._random.randrange(SOON), partial(self._ask, process))
            self._later(self._random.randrange(10 * S), partial(self._beat, process))

    def run(self, jobs: int, gap: int) -> None:
        """Until all are done, and some heartbeats more."""
        at = S
        for number in range(jobs):
            at += self._random.randrange(gap)
            self._later(at, partial(self._push, number))
        while len(self.ended) < jobs or self._now < max(self.ended.values()) + 30 * S:
            self._now, _, act = heapq.heappop(self._events)
            act()

    def _later(self, after: int, act: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self._now + after, next(self._numbers), act))

    def _ask(self, process: Process) -> None:
        conn = process.pool.pop() if process.pool else next(self._numbers)
        self.over += self.threads.asks(self._now, first=conn not in self._asked)
        self._asked.add(conn)
        if self._queue:
            self._give(process, conn, self._queue.pop(0))
            return
        turn = next(self._numbers)
        self._waiting[turn] = (process, conn)
        self._later(WAIT, partial(self._nothing, turn))

    def _nothing(self, turn: int) -> None:
        if turn in self._waiting:
            process, conn = self._waiting.pop(turn)
            self.threads.empty()
            process.pool.append(conn)
            self._later(self._random.randrange(SOON), partial(self._ask, process))

    def _push(self, number: int) -> None:
        if self._waiting:
            process, conn = self._waiting.pop(next(iter(self._waiting)))
            self._give(process, conn, number)
        else:
            self._queue.append(number)

    def _give(self, process: Process, conn: int, number: int) -> None:
        delivery = Delivery(
            framework=cast("Any", None),
            facts=cast("Any", None),
            trace_id=b"",
            dequeue_id=b"",
            process_id=b"",
            sampled=True,
            flags=0,
            tracestate="",
            at=self._now,
            conn=(0, conn),
            dest=b"",
            attempt=0,
        )
        self.threads.takes(Job(("", 0, "", b"%d" % number, 0), Status.RUNNING, self._now), delivery)
        process.pool.append(conn)
        process.busy.add(number)
        lasts = self._random.choice((MS, 20 * MS, 300 * MS, 5 * S, 20 * S))
        self._later(self._random.randrange(lasts), partial(self._done, process, number, delivery))

    def _done(self, process: Process, number: int, delivery: Delivery) -> None:
        process.busy.discard(number)
        self.ended[number] = self._now
        if self._random.random() < 0.2 and delivery.closed is not None:
            # It has failed, and that is on the wire.
            delivery.closed()
            self.told += 1
        self._later(self._random.randrange(SOON), partial(self._ask, process))

    def _beat(self, process: Process) -> None:
        for number in process.busy:
            self.threads.lists(process.name, ("", 0, "", b"%d" % number, 0))
        self.over += self.threads.beats(process.name, self._now)
        self._later(10 * S, partial(self._beat, process))


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("gap", [10 * MS, 300 * MS, 3 * S], ids=["busy", "at times", "seldom"])
def test_every_end_lies_where_it_says(workers: int, threads: int, gap: int) -> None:
    exact = 0
    for seed in range(10):
        host = Host(seed, workers, threads)
        host.run(60, gap)
        for one in host.over:
            number = int(one.job.key[3])
            assert one.at - one.uncertain - LOOSE <= host.ended[number] <= one.at, (seed, number, one.uncertain)
        found = [int(one.job.key[3]) for one in host.over]
        assert len(set(found)) == len(found)
        # None is forgotten.
        assert len(found) + host.told == len(host.ended) == 60, seed
        exact += sum(not one.uncertain for one in host.over)
    assert exact, "none is known exactly"


def test_a_worker_that_is_gone_is_not_waited_for() -> None:
    host = Host(1, 1, 2)
    host.threads.beats("host:9:0", 1)
    host.run(60, 10 * MS)
    assert len(host.over) + host.told == 60


def test_at_most_so_many_are_kept() -> None:
    host = Host(1, 0, 0)
    for number in range(10_100):
        host._give(Process("p"), 1, number)
    assert len(host.threads._held) == 10_000


def test_at_most_so_many_workers_are_kept_and_none_of_them_loses_a_job() -> None:
    """Those that die in the midst of a heartbeat are never heard of again; each has another name."""
    host = Host(1, 0, 0)
    host._give(Process("p"), 1, 1)
    job, threads = next(iter(host.threads._held.values())).job.key, host.threads
    at = 100 * S
    for number in range(5000):
        at += 10 * MS
        threads.lists(f"host:{number}:0", (*job[:3], b"%d" % number, 0))
        if number % 2:
            assert threads.beats(f"host:{number}:1", at) == []
        if number % 1000 == 0:
            threads.lists("host:p:0", job)
            assert threads.beats("host:p:0", at) == []
        assert len(threads._list) <= 1000
        assert len(threads._beats) <= 1000
    for number in range(20_000):
        threads.lists("host:p:0", (*job[:3], b"%d" % number, 0))
    assert sum(map(len, threads._list.values())) <= 10_000
    assert threads.beats("host:p:0", at) == []
