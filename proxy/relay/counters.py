"""What the relay counts: plain integers, sent to the tracer as cumulative snapshots, so nothing is lost on the way."""

from __future__ import annotations

from typing import Final

from proxy.context import adopted, json_slot, msgpack_slot, nested_slot, protobuf_slot
from proxy.context.carry import Carried
from proxy.events import Carry, JobEvent, Op, Outcome

UNKNOWN_SHAPE: Final = "shape"
"""A script of a framework's, but in a form that is not known: of a newer version, perhaps."""
RESULTS: Final = (
    "written",
    "adopted",
    "replaced",
    "kept",
    "derived",
    "none",
    "disabled",
    "oversize",
    "split",
    *json_slot.REFUSALS,
    *adopted.REFUSALS,
    *msgpack_slot.REFUSALS,
    *protobuf_slot.REFUSALS,
    *nested_slot.REFUSALS,
    UNKNOWN_SHAPE,
)
"""``redspan_injections_total{result}``: what was done with an enqueued job, or why nothing was."""

BLIND: Final = ("unknown_type", "reply_mismatch", "bug", "overflow", "monitor", "replication")
"""``redspan_blind_total{reason}``; the last two are by design."""

INVALID: Final = json_slot.INVALID
"""``redspan_invalid_contexts_total{reason}``."""

_RESULT: Final = {
    Carry.WRITTEN: "written",
    Carry.ADOPTED: "adopted",
    Carry.REPLACED: "replaced",
    Carry.FOUND: "kept",
    Carry.DERIVED: "derived",
    Carry.NONE: "none",
}
_WORDS: Final = {op: op.name.lower() for op in Op if op not in (Op.ASK, Op.EMPTY, Op.BEAT)}
"""What happens to jobs; not that somebody waits for one, or lives."""
_QUEUES: Final = 200
"""Label values of ``queue`` before the rest is counted as ``other``."""


class Counters:
    """One relay worker's counts since its start."""

    def __init__(self) -> None:
        self.connections = 0
        """Open now."""
        self.accepted = 0
        self.refused = 0
        self.commands = 0
        self.blind = dict.fromkeys(BLIND, 0)
        self.injections: dict[tuple[str, str], int] = {}
        self.invalid = dict.fromkeys(INVALID, 0)
        self.jobs: dict[tuple[str, str, str], int] = {}
        self._queues: set[str] = set()

    def injection(self, framework: str, result: str, count: int = 1) -> None:
        label = (framework, result)
        self.injections[label] = self.injections.get(label, 0) + count

    def carried(self, framework: str, carried: Carried) -> None:
        """Count what became of a job's context: that there is none, by the reason."""
        invalid = carried.reason in self.invalid
        if invalid:
            self.invalid[carried.reason] += 1
        told = carried.how is Carry.NONE and carried.reason and not invalid
        self.injection(framework, carried.reason if told else _RESULT[carried.how])

    def job(self, event: JobEvent) -> None:
        """Count an operation that took effect, by framework, queue and kind."""
        if event.outcome is Outcome.ERROR or event.op not in _WORDS:
            return
        queue = event.queue
        if queue not in self._queues:
            if len(self._queues) >= _QUEUES:
                queue = "other"
            else:
                self._queues.add(queue)
        label = (event.framework, queue, _WORDS[event.op])
        self.jobs[label] = self.jobs.get(label, 0) + 1

    def snapshot(self) -> list[tuple[str, tuple[str, ...], int]]:
        """(metric, label values, count), names as in `proxy.admin.catalogue`."""
        return [
            ("redspan_connections_accepted_total", (), self.accepted),
            ("redspan_connections_refused_total", (), self.refused),
            ("redspan_commands_total", (), self.commands),
            *(("redspan_blind_total", (reason,), count) for reason, count in self.blind.items()),
            *(("redspan_injections_total", label, count) for label, count in self.injections.items()),
            *(("redspan_invalid_contexts_total", (reason,), count) for reason, count in self.invalid.items()),
            *(("redspan_jobs_total", label, count) for label, count in self.jobs.items()),
        ]
