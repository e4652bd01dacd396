"""Jobs whose format the user describes, by paths into it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from proxy.frameworks.base import Fields, Identity
from proxy.frameworks.paths import at, integer, text, texts, when

if TYPE_CHECKING:
    from proxy.config import JobPaths


class Envelope:
    """Where a job has what. Every path is dotted, and empty where the job has no such thing."""

    def __init__(self, paths: JobPaths) -> None:
        self._paths = paths
        named = (getattr(paths, name) for name in Fields.__struct_fields__ if hasattr(paths, name))
        self.heads = frozenset(path.partition(".")[0] for path in (*paths.identity, *named) if path)
        """Top-level names that anything is read of."""
        self._readers = [
            (name, path, "." in path, read) for name, read in _READERS.items() if (path := getattr(paths, name))
        ]

    def identity(self, job: Mapping[str, object]) -> Identity | None:
        """Of all the parts that the configuration names; None if one is missing, or it names none."""
        parts = [text(at(job, path)).encode() for path in self._paths.identity]
        if not parts or not all(parts):
            return None
        submission = b"".join(b"%d:%s" % (len(part), part) for part in parts)
        return Identity(submission, integer(at(job, self._paths.attempt)))

    def fields(self, job: Mapping[str, object]) -> Fields:
        found = {}
        for name, path, deep, read in self._readers:
            value = at(job, path) if deep else job.get(path)
            if value is not None:
                found[name] = read(value)
        return Fields(**found)


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
}
"""How each of `Fields` is read of what its path leads to."""
