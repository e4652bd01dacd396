"""What to do with a job's slot: the rules of identity, applied at enqueue (`carry`) and read back later (`recover`).

W1  an empty slot gets a context.  W2  a valid one is kept.  W3  anything else is left, and treated as no slot.
W4  nothing else is ever written.  X1  bare ids keep their trace id; their span id becomes the one that follows from it.
X2  a context that was copied from an earlier job is replaced by a new random one.
X3  an empty slot of a job that names its trace elsewhere gets a context in that trace.
"""

from __future__ import annotations

import msgspec

from proxy.context.begun import BegunSlot
from proxy.context.derive import Deriver, Ids
from proxy.context.headers import Format, begun
from proxy.context.sampling import Sampler
from proxy.context.slot import Edit, EmptySlot, Slot, State
from proxy.context.traceparent import RANDOM, SAMPLED, SpanContext
from proxy.context.trust import UNTRUSTED, distrusted
from proxy.events import Carry


class Named(msgspec.Struct, frozen=True, gc=False):
    """A job's identity, and in which family of frameworks it is one."""

    family: str
    """Of the framework: those of one family share their identities."""
    submission: bytes
    attempt: int = 0
    hop: bytes = b""


class Carried(msgspec.Struct, frozen=True, gc=False):
    """The context that is stored with a job (or can be computed from it), and how it came there."""

    how: Carry
    context: SpanContext | None = None
    edit: Edit | None = None
    """What to write; None: nothing."""
    previous: bytes = b""
    """What was replaced: a span id, or the whole context, packed."""
    verified: bool = True
    """The parent named by ``context`` is a span that somebody exports, as far as can be known from the job alone."""
    reason: str = ""
    """Why nothing was written where there is a slot or could be one: a slot's reason, or ``disabled``."""


NOTHING = Carried(Carry.NONE)


class Carrier(msgspec.Struct, frozen=True):
    """The rules, with what they need: a source of ids, and the hash that derives them."""

    deriver: Deriver
    ids: Ids
    trusts: bool = True
    """A context that a job brings along is believed."""
    formats: tuple[Format, ...] = ()
    """Of other contexts than W3C's that are looked for beside an empty slot."""

    def distrust(self, slot: Slot, value: bytes, named: Named | None) -> Slot:
        """The slot as one whose context is to be replaced; one that follows from the job's identity is our own."""
        found = slot.context
        if found is not None and found.trace_id == self._trace_id(named):
            return slot
        return distrusted(slot, value)

    def stored(self, slot: Slot, value: bytes, named: Named | None) -> Slot:
        """The slot as it is read at a dequeue: a context that could not be replaced is no more believed than before."""
        if self.trusts or self.distrust(slot, value, named) is not UNTRUSTED:
            return slot
        return UNTRUSTED

    def carry(self, slot: Slot, named: Named | None, sampler: Sampler, *, inject: bool = True) -> Carried:
        """At enqueue. ``inject=False``: observe without writing, as if there were no slot."""
        state = slot.state
        found = slot.context
        if state is State.FOUND and found is not None:
            if slot.copied and inject:
                # Of a repeated job the identity repeats, too; of others it names one submission.
                context = self._begin(None if self.trusts else named, sampler, bare=False)
                return Carried(Carry.REPLACED, context, slot.write(context), found.pack())
            if not slot.bare:
                return Carried(Carry.FOUND, self._believed(found, sampler), reason=slot.reason)
            return self._adopt(slot, found, named, sampler, inject=inject)
        if state is State.EMPTY and self.formats and isinstance(slot, EmptySlot):
            slot = begun(slot, slot.beside(), self.formats)
        if isinstance(slot, BegunSlot):
            return self._go_on(slot, named, sampler, inject=inject)
        if state is State.EMPTY and inject:
            context = self._begin(named, sampler, bare=slot.bare)
            return Carried(Carry.WRITTEN, context, slot.write(context))
        return self._derived(named, sampler, "disabled" if state is State.EMPTY else slot.reason)

    def recover(self, slot: Slot, named: Named | None, sampler: Sampler, *, inject: bool = True) -> Carried:
        """At dequeue and after. An empty slot gives a context without span id: the reader is the trace's root."""
        if self.formats and isinstance(slot, EmptySlot):
            slot = begun(slot, slot.beside(), self.formats)
        if isinstance(slot, BegunSlot):
            if slot.context is not None and self.trusts:
                how = Carry.FOUND if slot.context.span_id else Carry.NONE
                return Carried(
                    how,
                    self._joined(slot.context, slot.context.span_id, sampler, bare=slot.bare),
                    verified=not slot.bare,
                )
            slot = slot.inner
        found = slot.context
        if slot.state is State.FOUND and found is not None:
            if not slot.bare:
                return Carried(Carry.FOUND, self._believed(found, sampler))
            own = found.span_id == self._adopted_span(found.trace_id, named)
            return Carried(Carry.FOUND, self._flagged(found.trace_id, found.span_id, sampler), verified=own)
        if slot.state is State.EMPTY and inject:
            trace_id = self._trace_id(named)
            return Carried(Carry.NONE, None if trace_id is None else self._flagged(trace_id, b"", sampler))
        return self._derived(named, sampler)

    def _believed(self, found: SpanContext, sampler: Sampler) -> SpanContext:
        """A tracestate stays where its traceparent is replaced: it counts for what redspan would have written there."""
        if self.trusts:
            return found
        return SpanContext(found.trace_id, found.span_id, found.flags, sampler(found.trace_id) or b"")

    def _go_on(self, slot: BegunSlot, named: Named | None, sampler: Sampler, *, inject: bool) -> Carried:
        found, inner = slot.context, slot.inner
        writes = inject and inner.state is State.EMPTY
        if found is None or not self.trusts:
            if not writes:
                return self._derived(named, sampler, slot.reason or inner.reason)
            context = self._begin(named, sampler, bare=False)
            return Carried(Carry.WRITTEN, context, inner.write(context), reason=slot.reason)
        if writes:
            context = self._joined(found, self.ids.span_id(), sampler, bare=slot.bare)
            how = Carry.ADOPTED if slot.bare else Carry.WRITTEN
            return Carried(how, context, inner.write(context), found.span_id, verified=not slot.bare)
        if found.span_id:
            context = self._joined(found, found.span_id, sampler, bare=slot.bare)
            return Carried(Carry.FOUND, context, verified=not slot.bare, reason=inner.reason)
        context = self._joined(found, bytes(8), sampler, bare=slot.bare)
        return Carried(Carry.NONE, context, reason=inner.reason or "disabled")

    def _joined(self, found: SpanContext, span_id: bytes, sampler: Sampler, *, bare: bool) -> SpanContext:
        """A context in the trace of ``found``; whether that is sampled, bare ids do not say."""
        if bare:
            return self._flagged(found.trace_id, span_id, sampler)
        return SpanContext(found.trace_id, span_id, found.flags, found.tracestate)

    def _adopt(self, slot: Slot, found: SpanContext, named: Named | None, sampler: Sampler, *, inject: bool) -> Carried:
        own = self._adopted_span(found.trace_id, named)
        if not inject or found.span_id == own:
            context = self._flagged(found.trace_id, found.span_id, sampler)
            return Carried(Carry.FOUND, context, verified=found.span_id == own)
        context = self._flagged(found.trace_id, own, sampler)
        previous = found.span_id if any(found.span_id) else b""
        return Carried(Carry.ADOPTED, context, slot.write(context), previous, verified=False)

    def _begin(self, named: Named | None, sampler: Sampler, *, bare: bool) -> SpanContext:
        if named is None:
            if not bare:
                trace_id, span_id = self.ids.both()
                return self._flagged(trace_id, span_id, sampler, RANDOM)
            trace_id = self.ids.trace_id()
            return self._flagged(trace_id, self._adopted_span(trace_id, named), sampler, flags=RANDOM)
        trace_id = self.deriver.trace_id(named.family, named.submission)
        if bare:
            return self._flagged(trace_id, self._adopted_span(trace_id, named), sampler)
        return self._flagged(trace_id, self.deriver.span_id(trace_id, named.hop, named.attempt), sampler)

    def _derived(self, named: Named | None, sampler: Sampler, reason: str = "") -> Carried:
        trace_id = self._trace_id(named)
        if trace_id is None or named is None:
            return Carried(Carry.NONE, reason=reason)
        span_id = self.deriver.span_id(trace_id, named.hop, named.attempt)
        return Carried(Carry.DERIVED, self._flagged(trace_id, span_id, sampler), verified=False, reason=reason)

    def _trace_id(self, named: Named | None) -> bytes | None:
        return None if named is None else self.deriver.trace_id(named.family, named.submission)

    def _adopted_span(self, trace_id: bytes, named: Named | None) -> bytes:
        return self.deriver.adopted_span_id(trace_id, b"" if named is None else named.submission)

    @staticmethod
    def _flagged(trace_id: bytes, span_id: bytes, sampler: Sampler, flags: int = 0) -> SpanContext:
        state = sampler(trace_id)
        return (
            SpanContext(trace_id, span_id, flags)
            if state is None
            else SpanContext(trace_id, span_id, flags | SAMPLED, state)
        )
