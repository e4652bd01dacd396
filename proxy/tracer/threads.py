"""Which job is over, where threads share their connections and do not say so.

A thread asks for a job, has it, and asks for the next one, each time by whichever connection is free.  So the
connection says nothing; but every thread that asks was waiting before (and was told that there is nothing), or had a
job, or is new.  Those that waited are counted; what is left is a thread that is done with its job:

- with one job in hand, it is that job, and it ended when the thread asked;
- with several, it is one of them.  Once as many threads have asked as had jobs, all are over.  Before that, the
  worker's heartbeat says which it still has.  Each ended between two such moments: the later one is taken, and how much
  earlier it may have been is said.

All workers on a host count as one, because nothing tells whose a connection is: several of them make it less often
certain, never wrong.  A connection's first question may be a new thread's, and ends nothing.  Moments may be late by as
much as a thread takes to ask again: threads that wait and threads that are done cannot be told apart within that.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import Final, NamedTuple

import msgspec

from proxy.tracer.jobs import Delivery, Job, JobKey

GONE: Final = 60 * 10**9
"""ns after which a worker that does not beat is gone: Sidekiq lets its keys expire then."""
SETTLING: Final = 10**9
"""ns that a job may be on its way from the socket to the list of what a worker has in hand."""
ALL_HEARD: Final = 12 * 10**9
"""ns in which every worker that there is has beaten: Sidekiq's do each 10 s, and when they start."""
_HELD: Final = 10_000
_WORKERS: Final = 1000
"""Workers of a host that are heard."""


class Over(NamedTuple):
    """A delivery that has ended, by ``at`` and at most ``uncertain`` ns before (times are ns)."""

    job: Job
    delivery: Delivery
    at: int
    uncertain: int


class _Held(msgspec.Struct):
    job: Job
    delivery: Delivery
    since: int = 0
    """When threads asked that may have been new, or done with this: the first one, ns; 0: none."""
    until: int = 0
    """The last one of these."""
    unseen: bool = False
    """Questions may have been missed."""


class Threads:
    """Those of all workers on one host."""

    def __init__(self, since: int) -> None:
        """``since``: ns, when something was heard of them first."""
        self._since = since
        self._held: dict[int, _Held] = {}
        """By the delivery's identity, oldest first."""
        self._told: set[int] = set()
        """Deliveries whose end will be told after all."""
        self._idle = 0
        """Threads that will ask next, and have no job."""
        self._asked: list[int] = []
        """When a thread that was done with one of several jobs asked, ns: since the oldest of those in hand."""
        self._done = 0
        """How many jobs in hand are over, though it is not known which. Fewer, where questions were missed."""
        self._beats: dict[str, tuple[int, frozenset[JobKey]]] = {}
        self._list: dict[str, set[JobKey]] = {}
        """Of beats that are not complete yet."""
        self._crowded = False
        """There were too many of these."""

    def takes(self, job: Job, delivery: Delivery) -> None:
        """A thread has been given a job."""
        name = id(delivery)
        self._held[name] = _Held(job, delivery)
        delivery.closed = lambda: self._closed(name)
        if len(self._held) > _HELD:
            self._held.pop(next(iter(self._held))).delivery.closed = None

    def told(self, delivery: Delivery) -> None:
        """Its end will be told: there is an acknowledgement."""
        if self._held.pop(id(delivery), None) is not None:
            self._told.add(id(delivery))

    def _closed(self, name: int) -> None:
        """Something else than silence has ended it: its thread asks next."""
        if self._held.pop(name, None) is not None or name in self._told:
            self._told.discard(name)
            self._idle += 1

    def empty(self) -> None:
        """A thread was told that there is nothing."""
        self._idle += 1

    def asks(self, at: int, *, first: bool) -> list[Over]:
        """A thread asks; ``first``: nobody has asked on its connection before."""
        # Something else has ended those that were not: then the questions were of those that are left.
        left = bool(self._held) and self._done >= len(self._held)
        over = self._end([*self._held.values()], at) if left else []
        if self._idle:
            self._idle -= 1
            return over
        if first:
            for held in self._held.values():
                held.since, held.until = held.since or at, at
        if first or not self._held:
            return over
        if len(self._held) == 1:
            # Whose questions there were before is known.
            self._asked.clear()
        if len(self._asked) >= _HELD:
            self._forget()
        self._asked.append(at)
        self._done += 1
        return self._end([*self._held.values()], at) if self._done >= len(self._held) else []

    def lists(self, worker: str, job: JobKey) -> None:
        """A heartbeat says that the worker has this job in hand."""
        listed = self._list.setdefault(worker, set())
        listed.add(job)
        if len(self._list) > _WORKERS or len(listed) > _HELD:
            self._list.clear()
            self._crowded = True

    def beats(self, worker: str, at: int) -> list[Over]:
        """The heartbeat is complete: what it did not list, and had been given out well before, is over."""
        self._beats[worker] = (at, frozenset(self._list.pop(worker, ())))
        self._beats = {name: beat for name, beat in self._beats.items() if beat[0] > at - GONE}
        if self._crowded or len(self._beats) > _WORKERS:
            # Not all that there are can be kept in mind: for now nothing follows from what they do not list.
            self._beats.clear()
            self._since, self._crowded = at, False
        if at < self._since + ALL_HEARD:
            return []
        before = min(beat for beat, _ in self._beats.values()) - SETTLING
        busy = frozenset[JobKey]().union(*(listed for _, listed in self._beats.values()))
        over = [one for one in self._held.values() if one.delivery.at < before and one.job.key not in busy]
        return self._end(over, at)

    def leaves(self, worker: str) -> None:
        """The worker has said goodbye."""
        self._beats.pop(worker, None)
        self._list.pop(worker, None)

    def doubt(self) -> None:
        """Something may have been missed: who asks next may be anybody."""
        self._idle = self._done = 0
        self._forget()

    def _forget(self) -> None:
        self._asked.clear()
        for held in self._held.values():
            held.unseen = True

    def _end(self, over: list[_Held], by: int) -> list[Over]:
        ended = []
        latest = bisect_right(self._asked, by)
        for held in over:
            delivery = held.delivery
            asked = self._asked[bisect_left(self._asked, delivery.at) : latest]
            moments = [at for at in (*asked[:1], *asked[-1:], held.since, held.until) if at]
            if held.unseen or not moments:
                moments += [delivery.at, by]
            delivery.closed = None
            del self._held[id(delivery)]
            ended.append(Over(held.job, delivery, max(moments), max(moments) - min(moments)))
        self._done = max(0, self._done - len(over)) if self._held else 0
        oldest = next(iter(self._held.values()), None)
        del self._asked[: None if oldest is None else bisect_right(self._asked, oldest.delivery.at)]
        return ended
