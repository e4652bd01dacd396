"""Jobs that end without a word: what `proxy.tracer.threads` concludes becomes process spans, marked as inferred."""

from __future__ import annotations

from typing import Final

from proxy.events import JobEvent, Op, Verdict
from proxy.frameworks.base import Framework
from proxy.tracer.book import Book, Seen
from proxy.tracer.end import end
from proxy.tracer.jobs import Delivery, Job
from proxy.tracer.threads import Over, Threads

_HOSTS: Final = 1000


def heard(book: Book, conn: tuple[int, int], event: JobEvent, framework: Framework) -> None:
    """ASK, EMPTY, BEAT."""
    threads = book.asking.get(conn)
    if event.op is Op.BEAT:
        _beaten(book, _threads(book, conn, event, framework), event)
    elif event.op is Op.EMPTY:
        if threads is not None:
            threads.empty()
    elif threads is not None:
        _end(book, threads.asks(event.at, first=False))
    else:
        threads = book.asking[conn] = _threads(book, conn, event, framework)
        _end(book, threads.asks(event.at, first=True))


def taken(book: Book, seen: Seen, job: Job, delivery: Delivery) -> None:
    """A thread was given a job."""
    _threads(book, seen.conn, seen.event, seen.framework).takes(job, delivery)


def kept(book: Book, seen: Seen) -> None:
    """START: its thread has put the job where it will be acknowledged."""
    threads = _threads(book, seen.conn, seen.event, seen.framework)
    for delivery in seen.job.deliveries if seen.job is not None else ():
        if delivery.open and delivery.dest:
            threads.told(delivery)


def listed(book: Book, seen: Seen) -> None:
    """HEARTBEAT: of a job in hand."""
    _threads(book, seen.conn, seen.event, seen.framework).lists(seen.event.worker, book.key(seen))


def _beaten(book: Book, threads: Threads, event: JobEvent) -> None:
    if event.number == 0:
        threads.leaves(event.worker)
    else:
        _end(book, threads.beats(event.worker, event.at))


def gap(book: Book) -> None:
    """Events were lost."""
    book.asking.clear()
    for threads in book.threads.values():
        threads.doubt()


def _threads(book: Book, conn: tuple[int, int], event: JobEvent, framework: Framework) -> Threads:
    connection = book.connections.get(conn)
    upstream, host = ("", "") if connection is None else (connection.upstream, connection.client.rpartition(":")[0])
    place = (upstream, event.db, framework.family, host)
    threads = book.threads.get(place)
    if threads is None:
        threads = book.threads[place] = Threads(event.at)
        if len(book.threads) > _HOSTS:
            book.threads.popitem(last=False)
    return threads


def _end(book: Book, over: list[Over]) -> None:
    for job, delivery, at, uncertain in over:
        silent = delivery.facts.fields.fails_silently
        delivery.verdict = Verdict.UNKNOWN if silent else Verdict.SUCCESS
        end(book, job, delivery, at, inferred=True, uncertain=uncertain)
