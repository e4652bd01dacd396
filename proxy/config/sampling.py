"""The settings of sampling: which traces are recorded, and which of their spans."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Final, TypeVar

from proxy.config.values import Conflict, Count, Duration, KeyPath, Name, Natural, Rate, Section

OPERATIONS: Final = (
    "enqueue", "dequeue", "process", "purge", "pause", "resume", "drain", "peek", "cancel", "ack", "started", "shutdown"
)  # fmt: skip


_Number = TypeVar("_Number", int, float)


class TailSampling(Section, frozen=True):
    """Wait for the end of a job before its spans are kept or left out. Of other sidecars' spans it knows nothing."""

    enabled: bool = False
    """Keep what failed, was tried again, went to the dead letters or was slow; of the rest ``baseline_rate``."""
    decision_wait: Duration = 30.0
    """Seconds that the spans of a trace are held at most: then they are judged by what has been seen."""
    max_spans: Count = 20_000
    """Spans held at most; beyond that, the oldest trace is judged early."""
    slow: Duration = 10.0
    """An attempt that takes as long is kept."""
    baseline_rate: Rate = 0.1
    """Share of the traces that are kept whatever becomes of them."""


class Sampling(Section, frozen=True):
    """How many of the traces that begin here are recorded. A job that carries a decision keeps it."""

    default_rate: Rate = 1.0
    """Share of the traces, 0 to 1."""
    queue_rates: dict[Name, Rate] = {}  # noqa: RUF012 - msgspec copies it
    """Shares for queues, by glob of their name or key; an exact one goes before a glob, a name before a key."""
    environments: dict[Name, Rate] = {}  # noqa: RUF012 - msgspec copies it
    """In place of ``default_rate``, by `Tracing.environment`."""
    operation_rates: dict[Name, Rate] = {}  # noqa: RUF012 - msgspec copies it
    """Of the traces, the share that has spans of this operation (``dequeue``, ``process`` …); others have all."""
    max_spans_per_second: Natural = 0
    """Spans of new traces beyond that are left out, whatever was decided before; 0: no limit."""
    queue_max_spans_per_second: dict[Name, Natural] = {}  # noqa: RUF012 - msgspec copies it
    """The same for each queue by itself, by glob of its name or key as in ``queue_rates``; 0: none of its own."""
    tail_sampling: TailSampling = TailSampling()
    """Decide at the end of a job."""

    def rate(self, queue: str, key: str, environment: str = "") -> float:
        """The share for a queue."""
        rate = _of_queue(self.queue_rates, queue, key)
        return self.environments.get(environment, self.default_rate) if rate is None else rate

    def queue_limit(self, queue: str, key: str) -> int:
        """Spans a second of a queue by itself; 0: no limit."""
        return _of_queue(self.queue_max_spans_per_second, queue, key) or 0

    def operation_rate(self, operation: str) -> float:
        return self.operation_rates.get(operation, 1.0)

    def conflicts(self, path: KeyPath) -> Iterator[Conflict]:
        """Rates of operations that there are not."""
        for name in self.operation_rates:
            if name not in OPERATIONS:
                at = (*path, "operation_rates", name)
                yield Conflict(at, " or ".join((", ".join(OPERATIONS[:-1]), OPERATIONS[-1])), f'"{name}"', at)


def _of_queue(table: Mapping[str, _Number], queue: str, key: str) -> _Number | None:
    """What is said of a queue: exact name, exact key, then the first glob for the name, for the key."""
    for exact in (queue, key):
        if exact in table:
            return table[exact]
    for text in (queue, key):
        for glob, number in table.items():
            if fnmatchcase(text, glob):
                return number
    return None
