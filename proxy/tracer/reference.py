"""Jobs known by reference: what one command says of a job goes with what other commands, which only name it, do.

A description may come before (the hash is stored, then its key is pushed) or after (the key is popped, then the hash
is read).  In the second case the dequeue span is held, as for an enqueue that is not known yet.
"""

from __future__ import annotations

from typing import Final

from msgspec.structs import replace

from proxy.context.tracestate import shown
from proxy.events import Carry, Op
from proxy.frameworks.base import Fields
from proxy.tracer import attributes as a
from proxy.tracer.book import KEY_LIMIT, Book, Seen
from proxy.tracer.dequeue import too_old
from proxy.tracer.jobs import Delivery, Description, Job, JobKey
from proxy.tracer.span import Link

LIMIT: Final = 5000
"""Descriptions kept of jobs that nobody has queued or taken."""
KEEP: Final = 10 * 10**9
"""ns that such a description is kept, or what waits for one."""


def complete(book: Book, seen: Seen) -> None:
    """Add to an event what was said before of the job it names, and count the attempts of one that does not."""
    event = seen.event
    by_reference = bool(event.ref) and not event.value
    if event.op is Op.DESCRIBE or (not by_reference and seen.fields.attempt >= 0):
        return
    job = book.known(seen)
    if by_reference:
        told = book.descriptions.get(book.key(seen)) if job is None else job.description
        if told is None:
            seen.fields = Fields(id=event.ref[:KEY_LIMIT].decode(errors="backslashreplace"), attempt=-1)
        else:
            if told.queue and not event.queue:
                event.queue, event.key = told.queue, told.key
            seen.described, seen.fields = told, told.fields
            seen.context, seen.carry = told.context, told.carry
            if job is not None and told.context is not None and told.context.span_id in job.enqueues:
                seen.carry = Carry.FOUND
    if seen.fields.attempt < 0:
        seen.fields = replace(seen.fields, attempt=0 if job is None else job.retries)


def describe(book: Book, seen: Seen) -> None:
    event, context = seen.event, seen.context
    if not event.value:
        _placed(book, seen)
        return
    told = Description(seen.fields, context, seen.carry, True, event.done, event.size)
    if context is None:
        carried = book.recover(seen)
        told.context, told.carry, told.verified = carried.context, Carry.FOUND, carried.verified
    job = book.known(seen)
    if job is None:
        key = book.key(seen)
        _keep(book, key, _merged(book.descriptions.pop(key, None), told))
        return
    job.description = told = _merged(job.description, told)
    for delivery in job.deliveries:
        if delivery.dequeue is not None:
            tell(book, seen, job, delivery, told)
        elif delivery.open and not delivery.facts.fields.type:
            fields = replace(told.fields, attempt=delivery.attempt)
            delivery.facts = replace(delivery.facts, fields=fields, size=told.size)


def _placed(book: Book, seen: Seen) -> None:
    """Only where a job waits, and until when."""
    event, job, key = seen.event, book.known(seen), book.key(seen)
    told = job.description if job is not None else book.descriptions.pop(key, None)
    if told is None:
        fields = Fields(id=event.ref[:KEY_LIMIT].decode(errors="backslashreplace"), attempt=-1)
        told = Description(fields, None, Carry.NONE, True, event.done)
    told.queue, told.key, told.due = event.queue, event.key, max(0, event.number * 1_000_000)
    if job is not None:
        job.description = told
    else:
        told.at = event.done
        _keep(book, key, told)


def _keep(book: Book, key: JobKey, told: Description) -> None:
    book.descriptions[key] = told
    if len(book.descriptions) > LIMIT:
        book.descriptions.popitem(last=False)


def set_aside(book: Book, seen: Seen) -> None:
    """A job was put where it waits before anybody said what it is: RQ 1.16 stores it only then."""
    book.early[book.key(seen)] = seen
    if len(book.early) > LIMIT:
        book.early.popitem(last=False)


def early(book: Book, seen: Seen) -> Seen | None:
    """What was said of the job too early, now that whoever submits it has described it."""
    if not book.early or seen.carry not in (Carry.WRITTEN, Carry.DERIVED):
        return None
    return book.early.pop(book.key(seen), None)


def forget_descriptions(book: Book, now: int) -> None:
    descriptions, waiting = book.descriptions, book.early
    while descriptions and not now - KEEP < next(iter(descriptions.values())).at <= now + KEEP:
        descriptions.popitem(last=False)
    while waiting and not now - KEEP < next(iter(waiting.values())).event.done <= now + KEEP:
        waiting.popitem(last=False)


def _merged(old: Description | None, new: Description) -> Description:
    """What is said later, but for a context that it may not have seen."""
    if old is not None and old.context is not None and (new.context is None or not new.context.span_id):
        new.context, new.carry, new.verified = old.context, old.carry, old.verified
    if old is not None:
        new.fields = new.fields if new.fields.type else old.fields
        new.queue, new.key, new.due = old.queue, old.key, old.due
    return new


def tell(book: Book, seen: Seen, job: Job, delivery: Delivery, told: Description) -> None:
    """The dequeue span, while it waits, of a job that was not known by more than its name."""
    dequeue, context = delivery.dequeue, told.context
    if dequeue is None:
        return
    fields = told.fields if told.fields.attempt >= 0 else replace(told.fields, attempt=delivery.attempt)
    delivery.facts = dequeue.job = replace(delivery.facts, fields=fields, size=told.size)
    if delivery.paired or dequeue.parent_id:
        return
    stamped = told.due or fields.enqueued_at or (0 if fields.attempt else fields.created_at)
    if stamped and a.WAIT_MS not in dequeue.facts:
        book.wait(dequeue, stamped, "envelope")
    if context is None:
        return
    if too_old(book, Seen(seen.conn, seen.framework, seen.event, fields), None):
        dequeue.links += (
            (Link(context.trace_id, context.span_id, "previous", context.flags),) if context.span_id else ()
        )
        return
    dequeue.trace_id, dequeue.parent_id, dequeue.flags = context.trace_id, context.parent, context.flags
    dequeue.sampled, dequeue.tracestate = context.sampled, shown(context.tracestate)
    if not told.verified and context.span_id and context.span_id not in job.enqueues:
        dequeue.facts[a.PARENT_UNVERIFIED] = True
    delivery.trace_id, delivery.sampled, delivery.flags = context.trace_id, context.sampled, context.flags
    book.index.joined(job, context.trace_id)
    delivery.tracestate = dequeue.tracestate
