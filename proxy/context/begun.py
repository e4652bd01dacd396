"""A slot in a job whose trace began elsewhere: the job says so at another place than the slot.

That can be ids at paths that the settings name, a ``traceparent`` of the application's own, or the headers of B3 or
Datadog (`proxy.context.headers`).  All of these are only read.  The slot, where there is one to write, gets a W3C
context in the same trace; its enqueue span is a child of the span that was named.
"""

from __future__ import annotations

import msgspec

from proxy.context.slot import Edit, Slot, State
from proxy.context.traceparent import SpanContext


class BegunSlot(msgspec.Struct, frozen=True, gc=False):
    inner: Slot
    """The slot itself, without a context."""
    context: SpanContext | None
    """What the job names; without a span id where it only names a trace. None: what is there is none."""
    bare: bool = False
    """Ids alone: they do not say whether their trace is sampled, nor whether their span was ever exported."""
    reason: str = ""
    """What is wrong with what is there, as of `proxy.context.json_slot.INVALID`."""

    @property
    def state(self) -> State:
        return State.BEGUN

    @property
    def copied(self) -> bool:
        return False

    def write(self, context: SpanContext) -> Edit:
        return self.inner.write(context)
