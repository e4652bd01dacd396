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
        # Ids that are members of the job itself are a slot of their own.
        ids = (options.trace_id.encode(), options.span_id.encode())
        self._bare = ids if all(ids) and b"." not in b"".join(ids) else ()
        self._key = b"" if self._bare or self._envelope.names_trace or "." in options.slot else options.slot.encode()
        self._identified = bool(options.identity)
        self._names = sorted({*self._envelope.heads, "tracestate"})

    def slot(self, value: bytes) -> Slot:
        if self._key:
            return json_slot(value, self._key)
        return adopted_slot(value, *self._bare) if self._bare else self._envelope.slot(value)

    def identity(self, value: bytes) -> Identity | None:
        return self._envelope.identity(paths.members(value)) if self._identified else None

    def fields(self, value: bytes) -> Fields:
        job = paths.members(value)
        return self._envelope.fields(job) if job else Fields()

    def summary(self, value: bytes) -> bytes:
        return paths.reduce(value, self._names)
