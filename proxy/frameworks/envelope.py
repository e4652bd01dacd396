"""Jobs whose format the user describes, by paths into it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from proxy.context import bare
from proxy.context.begun import BegunSlot
from proxy.context.nested_slot import path_slot
from proxy.context.slot import Slot, State
from proxy.context.traceparent import SpanContext, parse, wrong
from proxy.frameworks.base import Fields, Identity
from proxy.frameworks.paths import at, integer, members, text, texts, when

if TYPE_CHECKING:
    from proxy.config import JobPaths


class Envelope:
    """Where a job has what. Every path is dotted, and empty where the job has no such thing."""

    def __init__(self, paths: JobPaths) -> None:
        self._paths = paths
        named = [getattr(paths, name) for name in Fields.__struct_fields__ if hasattr(paths, name)]
        named += (paths.trace_id, paths.span_id, paths.parent_span_id, paths.traceparent, paths.slot)
        self.names_trace = bool(paths.trace_id or paths.traceparent)
        """A job may say elsewhere than in its slot which trace it belongs to."""
        self._correlation = _TEMPLATE.split(paths.correlation_id) if "{" in paths.correlation_id else []
        named += self._correlation[1::2]
        self.heads = frozenset(path.partition(".")[0] for path in (*paths.identity, *named) if path)
        """Top-level names that anything is read of."""
        self._path = paths.slot.split(".")
        self._readers = [
            (name, path, "." in path, read)
            for name, read in _READERS.items()
            if (path := getattr(paths, name)) and not (self._correlation and name == "correlation_id")
        ]

    def identity(self, job: Mapping[str, object]) -> Identity | None:
        """Of all the parts that the configuration names; None if one is missing, or it names none."""
        parts = [text(at(job, path)).encode() for path in self._paths.identity]
        if not parts or not all(parts):
            return None
        submission = b"".join(b"%d:%s" % (len(part), part) for part in parts)
        return Identity(submission, integer(at(job, self._paths.attempt)))

    def slot(self, value: bytes) -> Slot:
        """Of a job that is one JSON object."""
        slot = path_slot(value, self._path)
        return self.joined(slot, members(value)) if self.names_trace else slot

    def joined(self, slot: Slot, job: Mapping[str, object]) -> Slot:
        """The slot, of a job whose trace is named by one of the paths for that."""
        if slot.state is State.FOUND:
            return slot
        paths = self._paths
        header = text(at(job, paths.traceparent))
        if header:
            context = parse(header.encode(errors="replace"))
            return BegunSlot(slot, context, reason="" if context else wrong(header.encode(errors="replace")))
        written = text(at(job, paths.trace_id))
        if not written:
            return slot
        trace_id = bare.trace_id(written)
        if trace_id is None:
            return BegunSlot(slot, None, bare=True, reason="malformed")
        # Of several, the one that is nearest to whoever has enqueued it. Others name parents by the ids of jobs.
        named = (bare.span_id(text(at(job, path))) for path in (paths.span_id, paths.parent_span_id))
        return BegunSlot(slot, SpanContext(trace_id, next(filter(None, named), b"")), bare=True)

    def fields(self, job: Mapping[str, object]) -> Fields:
        found = {}
        for name, path, deep, read in self._readers:
            value = at(job, path) if deep else job.get(path)
            if value is not None:
                found[name] = read(value)
        if self._correlation:
            found["correlation_id"] = self._correlated(job)
        return Fields(**found)

    def _correlated(self, job: Mapping[str, object]) -> str:
        """Nothing, where the job does not have all that it is made of."""
        texts, paths = self._correlation[::2], self._correlation[1::2]
        found = [text(at(job, path)) for path in paths]
        return "".join(part for pair in zip(texts, [*found, ""], strict=True) for part in pair) if all(found) else ""


_TEMPLATE: Final = re.compile(r"\{([^{}]+)\}")
_READERS: Final[Mapping[str, Callable[[object], Any]]] = {
    "id": text,
    "type": text,
    "attempt": integer,
    "max_attempts": partial(integer, default=-1),
    "created_at": when,
    "enqueued_at": when,
    "scheduled_at": when,
    "priority": text,
    "tenant": text,
    "correlation_id": text,
    "idempotency_key": text,
    "parent_id": text,
    "depends_on": texts,
    "batch_id": text,
    "error": text,
    "trace_id": lambda found: bare.otherwise(text(found)),
}
"""How each of `Fields` is read of what its path leads to."""
