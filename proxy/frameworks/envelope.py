"""Jobs whose format the user describes, by paths into it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

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

    def identity(self, job: Mapping[str, object]) -> Identity | None:
        """Of all the parts that the configuration names; None if one is missing, or it names none."""
        parts = [text(at(job, path)).encode() for path in self._paths.identity]
        if not parts or not all(parts):
            return None
        submission = b"".join(b"%d:%s" % (len(part), part) for part in parts)
        return Identity(submission, integer(at(job, self._paths.attempt)))

    def fields(self, job: Mapping[str, object]) -> Fields:
        want = self._paths
        return Fields(
            id=text(at(job, want.id)),
            type=text(at(job, want.type)),
            attempt=integer(at(job, want.attempt)),
            max_attempts=integer(at(job, want.max_attempts), -1),
            created_at=when(at(job, want.created_at)),
            enqueued_at=when(at(job, want.enqueued_at)),
            scheduled_at=when(at(job, want.scheduled_at)),
            priority=text(at(job, want.priority)),
            tenant=text(at(job, want.tenant)),
            correlation_id=text(at(job, want.correlation_id)),
            idempotency_key=text(at(job, want.idempotency_key)),
            parent_id=text(at(job, want.parent_id)),
            depends_on=texts(at(job, want.depends_on)),
            batch_id=text(at(job, want.batch_id)),
            error=text(at(job, want.error)),
        )
