"""What is done to a whole queue: emptied, paused, looked at; and producers who are told to wait."""

from __future__ import annotations

from proxy.events import Op, Verdict
from proxy.tracer import attributes as a
from proxy.tracer.book import Book, Seen, label
from proxy.tracer.measures import place_of
from proxy.tracer.span import Kind, Operation, Span, SpanEvent

_THROTTLED = 1000
"""Producers that are waiting."""
_LATER = 5000
"""ms after which it was not for that that an enqueue came so late."""
_PAUSED = 1000
"""Queues that are."""


def purge(book: Book, seen: Seen) -> None:
    operation = Operation.DRAIN if seen.event.op is Op.DRAIN else Operation.PURGE
    span = _span(book, seen, operation)
    place = place_of(span.job)
    depth = book.measures.depth_at(place)
    if depth is not None:
        span.facts[a.PURGED] = depth
        book.measures.depth_is(place, 0)
    if seen.event.verdict is Verdict.UNKNOWN:
        span.facts[a.OUTCOME] = "unknown"


def pause(book: Book, seen: Seen) -> None:
    """Once: it may be seen again and again that it is."""
    place = _place(seen)
    if place not in book.paused:
        book.paused[place] = None
        if len(book.paused) > _PAUSED:
            book.paused.popitem(last=False)
        _span(book, seen, Operation.PAUSE)


def resume(book: Book, seen: Seen) -> None:
    book.paused.pop(_place(seen), None)
    _span(book, seen, Operation.RESUME)


def peek(book: Book, seen: Seen) -> None:
    """Looked at: how long it is (``number``), or what is in it."""
    if seen.event.number >= 0:
        book.measures.depth_is(place_of(seen.facts()), seen.event.number, asked=True)
    else:
        _span(book, seen, Operation.PEEK)


def throttle(book: Book, seen: Seen) -> None:
    """It waits before its next enqueue. One who never enqueues anything only wanted to know."""
    book.throttled[seen.conn] = (seen.event.done, seen.event.number)
    if len(book.throttled) > _THROTTLED:
        book.throttled.popitem(last=False)


def waited(book: Book, seen: Seen, span: Span) -> None:
    """Who enqueues now may have had to wait until then."""
    at, asked = book.throttled.pop(seen.conn, (0, 0))
    took = max(0, seen.event.at - at) / 1e6
    if took < asked + _LATER:
        facts: a.Facts = {a.THROTTLED_MS: took}
        if asked > 0:
            facts[a.RETRY_AFTER_MS] = asked
        span.events += (SpanEvent("queue.throttled", at, facts),)
        book.measures.trouble(label(span.job), "throttled")


def _place(seen: Seen) -> tuple[str, int, str, bytes]:
    return (seen.upstream, seen.event.db, seen.event.framework, seen.event.key)


def _span(book: Book, seen: Seen, operation: Operation) -> Span:
    span = seen.span(operation, Kind.CLIENT, book.begin(seen), book.ids.span_id())
    book.name_client(seen, span)
    book.spans.append(span)
    return span
