"""``frameworks.list``: the user's own queues on lists, with JSON jobs, as the configuration describes them.

Acts only on keys that the user names.  The end of a job is its removal from the processing list (``end: ack``), or
the connection's next pop (``end: next_pop``, for queues without one; marked as inferred), or is not seen at all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.context.adopted import adopted_slot
from proxy.context.json_slot import json_slot
from proxy.context.slot import Slot
from proxy.frameworks import paths
from proxy.frameworks.base import End, Fields, Identity, Role
from proxy.frameworks.list_shape import ListShape

if TYPE_CHECKING:
    from proxy.config import ListSettings


class Lists(ListShape):
    name = "list"

    def __init__(self, options: ListSettings) -> None:
        super().__init__(
            {
                Role.DEAD_LETTER: options.dead_letter,
                Role.COMPLETED: options.completed,
                Role.PROCESSING: options.processing,
                Role.QUEUE: options.queues,
            }
        )
        self.inject = options.inject
        self.end = End[options.end.upper()]
        self._options = options
        self._slot = options.slot.encode()
        self._bare = (options.trace_id.encode(), options.span_id.encode())
        every = (
            *options.identity,
            *(getattr(options, name) for name in Fields.__struct_fields__ if hasattr(options, name)),
            *(options.trace_id, options.span_id, options.slot),
        )
        self._names = sorted({path.partition(".")[0] for path in every if path})

    def slot(self, value: bytes) -> Slot:
        trace_id, span_id = self._bare
        return adopted_slot(value, trace_id, span_id) if trace_id and span_id else json_slot(value, self._slot)

    def identity(self, value: bytes) -> Identity | None:
        names = self._options.identity
        if not names:
            return None
        job = paths.members(value)
        parts = [paths.text(paths.at(job, path)).encode() for path in names]
        if not all(parts):
            return None
        submission = b"".join(b"%d:%s" % (len(part), part) for part in parts)
        return Identity(submission, paths.integer(paths.at(job, self._options.attempt)))

    def fields(self, value: bytes) -> Fields:
        job = paths.members(value)
        if not job:
            return Fields()
        want = self._options
        return Fields(
            id=paths.text(paths.at(job, want.id)),
            type=paths.text(paths.at(job, want.type)),
            attempt=paths.integer(paths.at(job, want.attempt)),
            max_attempts=paths.integer(paths.at(job, want.max_attempts), -1),
            created_at=paths.when(paths.at(job, want.created_at)),
            enqueued_at=paths.when(paths.at(job, want.enqueued_at)),
            scheduled_at=paths.when(paths.at(job, want.scheduled_at)),
            priority=paths.text(paths.at(job, want.priority)),
            tenant=paths.text(paths.at(job, want.tenant)),
            correlation_id=paths.text(paths.at(job, want.correlation_id)),
            idempotency_key=paths.text(paths.at(job, want.idempotency_key)),
            parent_id=paths.text(paths.at(job, want.parent_id)),
            depends_on=paths.texts(paths.at(job, want.depends_on)),
            batch_id=paths.text(paths.at(job, want.batch_id)),
            error=paths.text(paths.at(job, want.error)),
        )

    def summary(self, value: bytes) -> bytes:
        return paths.reduce(value, self._names)
