"""What jobs have to do with each other: who submitted whom, who waits for whom, who is in one batch; and one command's.

Ids lead to jobs only where the settings say where a job has them: then links tell.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from msgspec.structs import replace

from proxy.frameworks.base import Fields
from proxy.tracer import attributes as a
from proxy.tracer.book import Batch, Book, Seen
from proxy.tracer.span import Kind, Link, Operation, Span

_KNOWN: Final = 5000
"""Jobs and batches that others may name."""
_LINKS: Final = 128
"""Of one span."""
_BATCHES: Final = 100
"""Commands whose jobs have not all been heard of."""


def relate(book: Book, seen: Seen, span: Span) -> None:
    """The job's span leads to those that the job names; and those that will name the job, to it."""
    if seen.event.framework not in book.policy.related:
        return
    for relation, name in _named(seen):
        known = book.related.get(name)
        if known is not None:
            span.links += (Link(known.trace_id, known.span_id, relation, known.flags),)
    fields = seen.fields
    mine = Link(span.trace_id, span.span_id, "", span.flags)
    if fields.id:
        book.related[_name(seen, fields.id)] = mine
    if fields.batch_id:
        book.related.setdefault(_name(seen, fields.batch_id, batch=True), mine)
    while len(book.related) > _KNOWN:
        book.related.popitem(last=False)


def begun(book: Book, seen: Seen, link: Link) -> None:
    """Somebody works on the job: from now on that is what others were submitted by."""
    if seen.event.framework in book.policy.related and seen.fields.id:
        book.related[_name(seen, seen.fields.id)] = link


def _named(seen: Seen) -> Iterator[tuple[str, tuple[str, int, str, str]]]:
    fields = seen.fields
    if fields.parent_id:
        yield "child_of", _name(seen, fields.parent_id)
    for one in fields.depends_on:
        yield "depends_on", _name(seen, one)
    if fields.batch_id:
        yield "batch", _name(seen, fields.batch_id, batch=True)


def _name(seen: Seen, text: str, *, batch: bool = False) -> tuple[str, int, str, str]:
    return (seen.upstream, seen.event.db, seen.framework.family, f"batch {text}" if batch else f"job {text}")


def in_one_command(book: Book, seen: Seen, span: Span) -> None:
    """Jobs of one command have a span together, in a trace of its own, that is linked to theirs."""
    event = seen.event
    place = (*seen.conn, event.at, event.key)
    batch = book.batches.get(place)
    if batch is None:
        whole = seen.span(Operation.ENQUEUE, Kind.CLIENT, book.begin(seen), book.ids.span_id())
        whole.job = replace(whole.job, fields=Fields(), size=0, content={})
        whole.facts = {a.BATCH_COUNT: event.batch}
        book.name_client(seen, whole)
        batch = book.batches[place] = Batch(whole, event.batch)
        if len(book.batches) > _BATCHES:
            book.spans.append(book.batches.popitem(last=False)[1].span)
    if len(batch.span.links) < _LINKS:
        batch.span.links += (Link(span.trace_id, span.span_id, "batch", span.flags),)
    batch.left -= 1
    if not batch.left:
        book.spans.append(book.batches.pop(place).span)
