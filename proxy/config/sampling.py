"""The settings of sampling: which traces are recorded, and which of their spans."""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Final

from proxy.config.values import Conflict, Count, Duration, KeyPath, Name, Natural, Rate, Section

OPERATIONS: Final = (
    "enqueue", "dequeue", "process", "purge", "pause", "resume", "drain", "peek", "cancel", "ack", "started", "shutdown"
)  # fmt: skip


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
    tail_sampling: TailSampling = TailSampling()
    """Decide at the end of a job."""

    def rate(self, queue: str, key: str, environment: str = "") -> float:
        """The share for a queue: exact name, exact key, then the first glob for the name, for the key."""
        for exact in (queue, key):
            if exact in self.queue_rates:
                return self.queue_rates[exact]
        for text in (queue, key):
            for glob, rate in self.queue_rates.items():
                if fnmatchcase(text, glob):
                    return rate
        return self.environments.get(environment, self.default_rate)

    def operation_rate(self, operation: str) -> float:
        return self.operation_rates.get(operation, 1.0)

    def conflicts(self, path: KeyPath) -> Iterator[Conflict]:
        """Rates of operations that there are not."""
        for name in self.operation_rates:
            if name not in OPERATIONS:
                at = (*path, "operation_rates", name)
                yield Conflict(at, " or ".join((", ".join(OPERATIONS[:-1]), OPERATIONS[-1])), f'"{name}"', at)
