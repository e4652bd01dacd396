"""What processes cost, from the system's own books: CPU time, memory; and who may run where."""

from __future__ import annotations

import contextlib
import os
import resource
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

PATIENCE = 60.0
_TICK = 1 / os.sysconf("SC_CLK_TCK")


class Cpu(NamedTuple):
    """Seconds on a CPU since a process began."""

    total: float
    system: float
    """Of these, in the kernel; only as fine as the system's clock ticks."""

    def __sub__(self, other: object) -> Cpu:
        assert isinstance(other, Cpu)
        return Cpu(self.total - other.total, self.system - other.system)

    def plus(self, other: Cpu) -> Cpu:
        return Cpu(self.total + other.total, self.system + other.system)


NOTHING = Cpu(0.0, 0.0)


def cpu(pid: int) -> Cpu:
    """Of a process, with all its threads and those of its children that it has seen end.

    ``utime + stime`` of /proc/PID/stat count in ticks of 10 ms; the scheduler keeps the same sum in nanoseconds, for
    each thread that lives.
    """
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    user, system, children_user, children_system = (int(field) * _TICK for field in fields[11:15])
    exact = 0
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError):  # a thread that ends just now
            exact += int((thread / "schedstat").read_text().split()[0])
    # Threads that have ended are in the ticks only.
    ended = user + system - exact / 1e9
    own = exact / 1e9 + (ended if ended > 2 * _TICK else 0.0)
    return Cpu(own + children_user + children_system, system + children_system)


def cpu_of(pids: Iterable[int]) -> Cpu:
    total = NOTHING
    for pid in pids:
        total = total.plus(cpu(pid))
    return total


def settle(pids: Iterable[int], *, pause: float = 0.1, below: float = 0.03) -> None:
    """Wait until these processes use less than a share of ``below`` of a CPU."""
    watched = list(pids)
    deadline = time.monotonic() + PATIENCE
    last, now = -1.0, cpu_of(watched).total
    while now - last > pause * below and time.monotonic() < deadline:
        time.sleep(pause)
        last, now = now, cpu_of(watched).total


class Memory(NamedTuple):
    """Bytes of RAM."""

    resident: int
    proportional: int
    """What is shared with others counts in part."""


def memory(pid: int) -> Memory:
    found = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, _, rest = line.partition(":")
        found[name] = int(rest.split()[0]) * 1024
    return Memory(found["Rss"], found["Pss"])


def raise_limit() -> int:
    """As many files as the system lets this process open; how many that are."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return most


_CPUS = sorted(os.sched_getaffinity(0))
"""The CPUs that this program may use."""


def pin_measured(pid: int) -> None:
    """Give a process the last CPU. Nothing else is to run there, as far as it depends on us."""
    _pin(pid, _CPUS[-1:])


def pin_other(pid: int) -> None:
    """Keep a process off the CPU of what is measured, if there is another."""
    _pin(pid, _CPUS[:-1] or _CPUS)


def unpin(pid: int) -> None:
    """Let a process run wherever there is room: it has inherited something else."""
    _pin(pid, _CPUS)


def _pin(pid: int, cpus: Iterable[int]) -> None:
    chosen = set(cpus)
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(ProcessLookupError):
            os.sched_setaffinity(int(thread.name), chosen)
