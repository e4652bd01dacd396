"""Recent jobs and their timelines, for those who ask.

Found by job id, trace id and correlation id at once, by anything else with a look at each.

Pure.  It is fed by the lifecycle: `heard` with every event of a job, `note` with every span of one.  Both only take
references; what a page shows is made when it is asked for.  What is over, or was left alone for a moment, is
packed.  The job heard of longest ago goes first when there are too many, or when they take too much memory.
"""

from __future__ import annotations

import contextlib
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator
from typing import Final

from proxy.events import JobEvent
from proxy.frameworks.base import Fields
from proxy.tracer import attributes as a
from proxy.tracer.entry import FINAL, Entry, Lookup, Wanted
from proxy.tracer.jobs import Job, Status
from proxy.tracer.span import Operation, Span
from proxy.tracer.story import Story, pack

SPANS_LIMIT: Final = 64
"""Spans kept of one job: the first, and the latest."""
QUEUES_LIMIT: Final = 1000
"""Queues that rates are known of; the rest counts as the queue ``other``."""

_ENTRY_SIZE: Final = 740
_STORY_SIZE: Final = 300
_SPAN_SIZE: Final = 860
_BYTES_SIZE: Final = 33
_TRACE_SIZE: Final = 160
_SETTLED: Final = 10**9
"""ns without news after which a job is packed: longer than a span waits for what may still change it."""
_PACKED_AT_ONCE: Final = 4
_WORDS_LIMIT: Final = 4096
_NOTHING: Final = pack(Story(Fields()))
_SECONDS: Final = 60
_SLOT: Final = 5 * 10**9
_SLOTS: Final = _SECONDS // 5 + 1

ENQUEUED, DELIVERED, SUCCEEDED, FAILED = range(4)


class Throughput:
    """What happened on a queue in the last minute."""

    __slots__ = ("_counts", "_stamps")

    def __init__(self) -> None:
        self._stamps = [0] * _SLOTS
        self._counts = [[0, 0, 0, 0] for _ in range(_SLOTS)]

    def count(self, what: int, at: int) -> None:
        stamp = at // _SLOT
        slot = stamp % _SLOTS
        if self._stamps[slot] != stamp:
            self._stamps[slot] = stamp
            self._counts[slot] = [0, 0, 0, 0]
        self._counts[slot][what] += 1

    def per_second(self, now: int) -> tuple[float, ...]:
        """Of each of the four, over the last minute; the slot that is not over yet is left out."""
        last = now // _SLOT
        sums = [0, 0, 0, 0]
        for stamp, counts in zip(self._stamps, self._counts, strict=True):
            if last - _SLOTS < stamp < last:
                sums = [total + count for total, count in zip(sums, counts, strict=True)]
        return tuple(total / _SECONDS for total in sums)


class Index:
    """At most ``jobs`` jobs, in about ``size`` bytes."""

    def __init__(self, jobs: int, size: int) -> None:
        self.limit: Final = jobs
        self.size_limit: Final = size
        self.size = 0
        self.rates: Final[dict[tuple[str, str], Throughput]] = {}
        """By framework and queue."""
        self.changed: dict[int, Entry] | None = None
        """Jobs something was heard of, by serial, since somebody put a new dict here; None: nobody watches."""
        self._entries: Final[OrderedDict[int, Entry]] = OrderedDict()
        self._loose: Final[deque[Entry]] = deque()
        """Jobs that are not packed."""
        self._by_id: Final = Lookup()
        self._by_trace: Final = Lookup()
        self._by_correlation: Final = Lookup()
        self._words: Final[dict[str, str]] = {}
        self._serial = 0
        self._touch = 0

    def __len__(self) -> int:
        return len(self._entries)

    # ---- what the lifecycle says

    def heard(self, job: Job, event: JobEvent, fields: Fields) -> None:
        """An event was about the job."""
        entry = job.entry
        if entry is None or entry.gone:
            entry = self._enter(job, event, fields)
        elif event.value:
            self._loosen(entry).fields = fields
            if fields.type != entry.type:
                entry.type = self._word(fields.type)
        if fields.correlation_id != entry.correlation_id and fields.correlation_id:
            if entry.correlation_id:
                self._by_correlation.remove(entry.correlation_id, entry)
            entry.correlation_id = fields.correlation_id
            self._by_correlation.add(fields.correlation_id, entry)
        if event.worker:
            entry.worker = event.worker
        entry.heard = max(entry.heard, event.done)
        entry.status = job.status
        self._touch = entry.touch = self._touch + 1
        self._entries.move_to_end(entry.serial)
        if self.changed is not None:
            self.changed[entry.serial] = entry
        if entry.status in FINAL and not (job.deliveries and job.deliveries[-1].dequeue):
            # While it is at hand.
            self._pack(entry)
        while len(self._entries) > self.limit or (self.size > self.size_limit and self._entries):
            self._evict()

    def note(self, job: Job, span: Span | None) -> None:
        """A span, which may still change until it is exported, is one of the job; None: only its state is new."""
        entry = job.entry
        if entry is None or entry.gone:
            if span is None:
                return
            entry = self._enter_as(job, span)
        if span is not None:
            told = entry.told
            spans = (told if isinstance(told, Story) else self._loosen(entry)).spans
            spans.append(span)
            if len(spans) > SPANS_LIMIT:
                del spans[1]
                entry.cut += 1
            else:
                self._resize(entry, _SPAN_SIZE)
            if span.job.queue and span.job.queue != entry.queue:
                entry.queue = self._word(span.job.queue)
            if span.trace_id != entry.trace_id:
                self.joined(job, span.trace_id)
            entry.heard = max(entry.heard, span.end)
            self._count(span)
            if span.operation is Operation.DEQUEUE:
                # Where the framework has no name for its workers, their connections have one.
                facts = span.facts
                worker = facts.get(a.WORKER_ID) or facts.get(a.CLIENT_NAME) or facts.get(a.CLIENT_ADDRESS)
                entry.worker = str(worker) if worker else entry.worker
            elif span.operation is Operation.PROCESS and span.error != entry.error:
                entry.error = self._word(span.error)
        entry.status = job.status
        if self.changed is not None:
            self.changed[entry.serial] = entry

    def dropped(self, job: Job, span: Span | None) -> None:
        """The span was none of the job after all."""
        entry = job.entry
        if entry is None or entry.gone or span is None:
            return
        spans = self._loosen(entry).spans
        at = next((i for i, one in enumerate(spans) if one.span_id == span.span_id), -1)
        if at >= 0:
            del spans[at]
            self._resize(entry, -_SPAN_SIZE)

    def joined(self, job: Job, trace_id: bytes) -> None:
        """The job has spans in this trace."""
        entry = job.entry
        if entry is not None and not entry.gone and trace_id and trace_id != entry.trace_id:
            known = trace_id in entry.traces
            traces = (*(one for one in entry.traces if one != trace_id), trace_id) if entry.traces else (trace_id,)
            if not known:
                self._by_trace.add(trace_id, entry)
                self._resize(entry, _TRACE_SIZE)
            if len(traces) > SPANS_LIMIT:
                # Its spans are left out, too.
                self._by_trace.remove(traces[1], entry)
                self._resize(entry, -_TRACE_SIZE)
                traces = (traces[0], *traces[2:])
            entry.traces = traces

    def expired(self, job: Job) -> None:
        """Nothing was heard of it for so long that nothing is expected any more."""
        entry = job.entry
        if entry is not None and not entry.gone and job.status is Status.RUNNING:
            entry.status = Status.UNKNOWN
            if self.changed is not None:
                self.changed[entry.serial] = entry

    # ---- what is asked

    def by_id(self, job_id: str) -> Entry | None:
        """The job with this id that was heard of last."""
        return next(iter(self._by_id.get(job_id)), None)

    def by_trace(self, trace_id: bytes) -> list[Entry]:
        """The jobs with spans in this trace."""
        wanted = Wanted(trace_id=trace_id)
        return [entry for entry in self._by_trace.get(trace_id) if wanted.matches(entry)]

    def ids_like(self, beginning: str) -> Iterator[str]:
        """Ids of jobs that begin so."""
        return (one for one in map(str, self._by_id) if one.startswith(beginning))

    def traces_like(self, beginning: str) -> Iterator[str]:
        """Ids of traces, in hex, that begin so and that a job has spans in."""
        known = (one.hex() for one in self._by_trace if isinstance(one, bytes))
        return (one for one in known if one.startswith(beginning) and self.by_trace(bytes.fromhex(one)))

    def find(self, wanted: Wanted, limit: int, cursor: int = 0) -> tuple[list[Entry], int]:
        """Jobs, those heard of last first; and the cursor for those that come after them, 0 if there are none."""
        found: list[Entry] = []
        for entry in self._candidates(wanted):
            if (cursor and entry.touch >= cursor) or not wanted.matches(entry):
                continue
            if len(found) == limit:
                return found, found[-1].touch
            found.append(entry)
        return found, 0

    def all(self) -> Iterator[Entry]:
        """All jobs, those heard of last first."""
        return reversed(self._entries.values())

    def _candidates(self, wanted: Wanted) -> Iterable[Entry]:
        if wanted.id:
            return self._by_id.get(wanted.id)
        if wanted.trace_id:
            return self._by_trace.get(wanted.trace_id)
        if wanted.correlation_id:
            return self._by_correlation.get(wanted.correlation_id)
        return self.all()

    # ---- how it is kept

    def _enter(self, job: Job, event: JobEvent, fields: Fields) -> Entry:
        # Without an id the key has the digest of its bytes.
        name = fields.id or (event.ref.decode(errors="backslashreplace") if event.ref else job.key[3].hex())
        return self._add(job, name, event.framework, event.queue, fields, event.at)

    def _enter_as(self, job: Job, span: Span) -> Entry:
        facts = span.job
        return self._add(
            job, facts.fields.id or job.key[3].hex(), facts.framework, facts.queue, facts.fields, span.start
        )

    def _add(self, job: Job, name: str, framework: str, queue: str, fields: Fields, at: int) -> Entry:
        self._serial += 1
        self._tidy(at)
        entry = Entry(
            self._serial,
            name,
            framework=self._word(framework),
            queue=self._word(queue),
            type=self._word(fields.type),
            status=job.status,
            first=at,
            heard=at,
            told=Story(fields),
            upstream=job.key[0],
            db=job.key[1],
        )
        job.entry = entry
        self._entries[entry.serial] = entry
        self._loose.append(entry)
        self._by_id.add(name, entry)
        if fields.correlation_id:
            entry.correlation_id = fields.correlation_id
            self._by_correlation.add(fields.correlation_id, entry)
        self._resize(entry, _ENTRY_SIZE + _STORY_SIZE + 2 * len(name) + len(fields.correlation_id))
        return entry

    def _loosen(self, entry: Entry) -> Story:
        """What is known of it, to be changed; it is packed again once it has been left alone."""
        if isinstance(entry.told, bytes):
            size, entry.told = len(entry.told) + _BYTES_SIZE, entry.story()
            self._loose.append(entry)
            self._resize(entry, _STORY_SIZE + len(entry.told.spans) * _SPAN_SIZE - size)
        return entry.told

    def _tidy(self, now: int) -> None:
        """Pack some that nothing was heard of for a moment; one that something was heard of comes up again."""
        for _ in range(min(_PACKED_AT_ONCE, len(self._loose))):
            entry = self._loose.popleft()
            if not entry.gone and isinstance(entry.told, Story):
                if entry.heard > now - _SETTLED:
                    self._loose.append(entry)
                    return
                self._pack(entry)

    def _pack(self, entry: Entry) -> None:
        if isinstance(entry.told, Story):
            # What bytes cannot hold stays as it is.
            with contextlib.suppress(ValueError, OverflowError):
                packed = pack(entry.told)
                self._resize(entry, len(packed) + _BYTES_SIZE - _STORY_SIZE - len(entry.told.spans) * _SPAN_SIZE)
                entry.told = packed

    def _word(self, text: str) -> str:
        """The same text, as one object for all jobs that have it."""
        if len(self._words) >= _WORDS_LIMIT:
            self._words.clear()
        return self._words.setdefault(text, text)

    def _resize(self, entry: Entry, change: int) -> None:
        entry.size += change
        self.size += change

    def _evict(self) -> None:
        _, entry = self._entries.popitem(last=False)
        entry.gone = True
        self._by_id.remove(entry.id, entry)
        if entry.correlation_id:
            self._by_correlation.remove(entry.correlation_id, entry)
        for trace_id in entry.traces:
            self._by_trace.remove(trace_id, entry)
        self.size -= entry.size
        entry.told, entry.traces = _NOTHING, ()

    def _count(self, span: Span) -> None:
        label = (span.job.framework, span.job.queue)
        rates = self.rates.get(label)
        if rates is None:
            if len(self.rates) >= QUEUES_LIMIT:
                label = (label[0], "other")
            rates = self.rates.setdefault(label, Throughput())
        if span.operation is Operation.ENQUEUE:
            rates.count(ENQUEUED, span.end)
        elif span.operation is Operation.DEQUEUE:
            rates.count(DELIVERED, span.end)
        elif span.operation is Operation.PROCESS:
            rates.count(FAILED if span.error else SUCCEEDED, span.end)
