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
from proxy.frameworks.envelope import Envelope
from proxy.frameworks.list_shape import ListShape

if TYPE_CHECKING:
    from proxy.config import ListSettings


class Lists(ListShape):
    name = "list"
    family = "list"

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
        self._envelope = Envelope(options)
        self._slot = options.slot.encode()
        self._bare = (options.trace_id.encode(), options.span_id.encode())
        self._identified = bool(options.identity)
        self._names = sorted({*self._envelope.heads, options.slot, options.trace_id, options.span_id} - {""})

    def slot(self, value: bytes) -> Slot:
        trace_id, span_id = self._bare
        return adopted_slot(value, trace_id, span_id) if trace_id and span_id else json_slot(value, self._slot)

    def identity(self, value: bytes) -> Identity | None:
        return self._envelope.identity(paths.members(value)) if self._identified else None

    def fields(self, value: bytes) -> Fields:
        job = paths.members(value)
        return self._envelope.fields(job) if job else Fields()

    def summary(self, value: bytes) -> bytes:
        return paths.reduce(value, self._names)
