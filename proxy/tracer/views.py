"""What the index has, as the API shows it: plain values, ready for JSON. Never a job's payload.

Times are UTC, in ISO 8601; spans have them in microseconds since the epoch besides, which JavaScript's numbers hold.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, TypeAlias

from proxy.config import Settings
from proxy.config.values import dotted, leaves, shown
from proxy.tracer import attributes as a
from proxy.tracer.entry import FINAL, Entry
from proxy.tracer.index import Index
from proxy.tracer.measures import Histogram, Measures
from proxy.tracer.span import Operation, Span
from proxy.tracer.story import Story
from proxy.tracer.when import utc

Shown: TypeAlias = dict[str, Any]

SPANS_LIMIT: Final = 2000
"""Spans of one trace that are shown."""
_DEPTH_LIMIT: Final = 50
_ENDS: Final = {"success": "succeeded", "failure": "failed", "retry": "put back"}
_WORDS: Final = {Operation.ENQUEUE: "enqueued", Operation.DEQUEUE: "delivered"}


class Views:
    """``rule`` says what may be shown of an attribute; ``service`` is that of spans without one of their own."""

    def __init__(
        self,
        settings: Settings,
        index: Index,
        measures: Measures,
        clock: Callable[[], int],
        *,
        service: str = "redspan",
        rule: a.Rule | None = None,
    ) -> None:
        self._settings = settings
        self._measures = measures
        self._clock = clock
        self._service = service
        self._rule = rule
        self.index: Final = index

    # ---- jobs

    def job(self, entry: Entry) -> Shown:
        """A job as lists have it."""
        return self._job(entry, entry.story())

    def _job(self, entry: Entry, story: Story) -> Shown:
        return {
            "id": self._kept(a.MESSAGE_ID, entry.id),
            "type": self._kept(a.JOB_TYPE, entry.type),
            "queue": self._kept(a.QUEUE_NAME, entry.queue),
            "framework": entry.framework,
            "status": str(entry.status),
            "trace_id": entry.trace_id.hex(),
            "correlation_id": self._kept(a.CONVERSATION_ID, entry.correlation_id),
            "attempt": story.attempt,
            "enqueued_at": utc(story.enqueued_at),
            "heard_at": utc(entry.heard),
            "wait_ms": _rounded(story.wait_ms),
            "process_ms": _rounded(story.process_ms),
            "worker": self._worker(entry, story),
            "error": self._kept(a.ERROR_TYPE, entry.error),
            "trace_url": self._link(entry.trace_id, story.spans),
        }

    def details(self, entry: Entry) -> Shown:
        """A job with all that is known of it."""
        story = entry.story()
        fields = story.fields
        known = {
            "priority": self._kept(a.PRIORITY, fields.priority),
            "tenant": self._kept(a.TENANT, fields.tenant),
            "idempotency_key": self._kept(a.IDEMPOTENCY_KEY, fields.idempotency_key),
            "max_attempts": fields.max_attempts if fields.max_attempts >= 0 else None,
            "created_at": utc(fields.created_at),
            "scheduled_at": utc(fields.scheduled_at),
        }
        spans = sorted(story.spans, key=lambda span: (span.start, span.end))
        return {
            **self._job(entry, story),
            **{name: value for name, value in known.items() if value not in ("", None)},
            "server": entry.upstream,
            "db": entry.db,
            "first_heard_at": utc(entry.first),
            "final": entry.status in FINAL,
            "traces": [trace_id.hex() for trace_id in reversed(entry.traces)],
            "timeline": [self._step(step) for step in _timeline(spans)],
            "spans": [self.span(span) for span in spans],
            "spans_left_out": entry.cut,
        }

    def trace(self, trace_id: bytes) -> Shown | None:
        """A trace as a tree, as far as it is known here."""
        entries = self.index.by_trace(trace_id)
        spans = [(span, entry) for entry in entries for span in entry.story().spans if span.trace_id == trace_id]
        if not spans:
            return None
        spans.sort(key=lambda pair: (pair[0].start, pair[0].end))
        left_out = max(0, len(spans) - SPANS_LIMIT)
        del spans[SPANS_LIMIT:]
        start, end = min(span.start for span, _ in spans), max(span.end for span, _ in spans)
        return {
            "trace_id": trace_id.hex(),
            "trace_url": self._link(trace_id, [span for span, _ in spans]),
            "start": utc(start),
            "start_us": start // 1000,
            "duration_ms": _rounded((end - start) / 1e6),
            "jobs": [self.job(entry) for entry in entries[:SPANS_LIMIT]],
            "spans": self._tree(spans),
            "spans_left_out": left_out + sum(entry.cut for entry in entries),
        }

    def span(self, span: Span) -> Shown:
        return {
            "name": a.span_name(span, self._settings.tracing.spans.naming, self._rule),
            "operation": str(span.operation),
            "kind": span.kind.name,
            "trace_id": span.trace_id.hex(),
            "span_id": span.span_id.hex(),
            "parent_id": span.parent_id.hex(),
            "service": span.service or self._service,
            "start": utc(span.start),
            "start_us": span.start // 1000,
            "duration_us": max(0, span.end - span.start) // 1000,
            "duration_ms": _rounded(max(0, span.end - span.start) / 1e6),
            "error": self._kept(a.ERROR_TYPE, span.error),
            "sampled": span.sampled,
            "attributes": _finite(a.attributes(span, self._rule)),
            "events": [
                {"name": one.name, "at": utc(one.at), "attributes": _finite(a.apply(self._rule, one.attributes))}
                for one in span.events
            ],
            "links": [
                {"trace_id": link.trace_id.hex(), "span_id": link.span_id.hex(), "relation": link.relation}
                for link in span.links
            ],
        }

    def _tree(self, spans: Sequence[tuple[Span, Entry]]) -> list[Shown]:
        """Spans with their children in them. One whose parent is not known, or is its own child, is a root."""
        nodes: list[Shown] = []
        known: dict[bytes, Shown] = {}
        depth: dict[bytes, int] = {}
        for span, entry in spans:
            node = {**self.span(span), "job_id": self._kept(a.MESSAGE_ID, entry.id), "children": []}
            nodes.append(node)
            known.setdefault(span.span_id, node)
        parents = {span.span_id: span.parent_id for span, _ in spans}
        roots = []
        for (span, _), node in zip(spans, nodes, strict=True):
            parent = known.get(span.parent_id)
            fits = parent is not None and known[span.span_id] is node
            if parent is not None and fits and 0 < _depth(span.span_id, parents, depth) <= _DEPTH_LIMIT:
                parent["children"].append(node)
            else:
                roots.append(node)
        return roots

    # ---- queues, workers, settings

    def queues(self) -> list[Shown]:
        """What is known of each queue."""
        measures, now = self._measures, self._clock()
        depth = measures.depth
        labels = {**self.index.rates, **measures.wait, **measures.process, **measures.in_flight, **depth}
        found: dict[tuple[str, str], dict[str, int]] = {}
        for entry in self.index.all():
            states = found.setdefault((entry.framework, entry.queue), {})
            states[str(entry.status)] = states.get(str(entry.status), 0) + 1
        shown = []
        for label in sorted({*labels, *found}):
            rates = self.index.rates.get(label)
            rate = (0.0,) * 4 if rates is None else rates.per_second(now)
            shown.append(
                {
                    "queue": self._kept(a.QUEUE_NAME, label[1]),
                    "framework": label[0],
                    "depth": depth.get(label),
                    "in_flight": measures.in_flight.get(label, 0),
                    "per_second": {
                        name: round(one, 3)
                        for name, one in zip(("enqueued", "delivered", "succeeded", "failed"), rate, strict=True)
                    },
                    "wait_ms": _spread(measures.wait.get(label)),
                    "process_ms": _spread(measures.process.get(label)),
                    "jobs": found.get(label, {}),
                }
            )
        return shown

    def workers(self) -> list[Shown]:
        """Who had jobs, by the jobs that are kept; who was heard of last comes first."""
        known: dict[str, Shown] = {}
        for entry in self.index.all():
            if not entry.worker:
                continue
            one = known.get(entry.worker)
            if one is None:
                one = known[entry.worker] = {
                    "worker": self._worker(entry, entry.story()),
                    "frameworks": [],
                    "queues": [],
                    "running": [],
                    "jobs": 0,
                    "failed": 0,
                    "heard_at": utc(entry.heard),
                }
            queue = self._kept(a.QUEUE_NAME, entry.queue)
            for name, value in (("frameworks", entry.framework), ("queues", queue)):
                if value not in one[name] and len(one[name]) < 50:
                    one[name].append(value)
            if entry.status == "running" and len(one["running"]) < 50:
                one["running"].append(self._kept(a.MESSAGE_ID, entry.id))
            one["jobs"] += 1
            one["failed"] += bool(entry.error)
        return list(known.values())

    def config(self) -> dict[str, str]:
        """Every setting and its value, secrets masked."""
        return {
            dotted(path): shown(annotation, value) for path, value, annotation in leaves(self._settings, Settings, ())
        }

    # ----

    def _link(self, trace_id: bytes, spans: Sequence[Span]) -> str | None:
        mine = [span for span in spans if span.trace_id == trace_id and span.sampled]
        if not mine:
            return None
        first = min(mine, key=lambda span: span.start)
        link = self._settings.admin.trace_links.link(
            trace_id=trace_id.hex(),
            span_id=first.span_id.hex(),
            service=first.service or self._service,
            start_ms=first.start // 10**6,
            end_ms=max(span.end for span in mine) // 10**6,
        )
        return link or None

    def _worker(self, entry: Entry, story: Story) -> str:
        """By its name; one without a name goes by its address, which is that of a machine."""
        nameless = any(span.facts.get(a.CLIENT_ADDRESS) == entry.worker for span in story.spans)
        return self._kept(a.CLIENT_ADDRESS if nameless else a.WORKER_ID, entry.worker)

    def _step(self, step: Shown) -> Shown:
        """Of a timeline, as far as its error may be shown."""
        return {**step, "error": self._kept(a.ERROR_TYPE, step["error"])} if "error" in step else step

    def _kept(self, name: str, text: str) -> str:
        """``text`` as far as the rule lets it out as the attribute ``name``."""
        if self._rule is None or not text:
            return text
        kept = self._rule(name, text)
        return "" if kept is None else str(kept)


def _timeline(spans: Iterable[Span]) -> Iterable[Shown]:
    """What happened to a job, in its order."""
    happened = []
    for span in spans:
        if span.operation is Operation.PROCESS:
            happened.append((span.start, "started", ""))
            status = str(span.facts.get(a.STATUS, ""))
            word = _ENDS.get(status, "ended") if not (status == "retry" and span.error) else "failed"
            happened.append((span.end, word, span.error))
        else:
            word = _WORDS.get(span.operation, str(span.operation))
            happened.append((span.end, word, span.error))
        happened += [(event.at, event.name.removeprefix("job."), "") for event in span.events]
    for at, word, error in sorted(happened, key=lambda one: one[0]):
        yield {"at": utc(at), "event": word, **({"error": error} if error else {})}


def _depth(span_id: bytes, parents: Mapping[bytes, bytes], known: dict[bytes, int]) -> int:
    """How far a span is from its root, which is at 0; -1 where parents go in a circle."""
    path: list[bytes] = []
    at = span_id
    while at in parents and at not in known:
        if at in path:
            known.update(dict.fromkeys(path, -1))
            return -1
        path.append(at)
        at = parents[at]
    depth = known.get(at, -1 if at not in parents else 0)
    circle = at in known and known[at] < 0
    for one in reversed(path):
        depth = -1 if circle else depth + 1
        known[one] = depth
    return known[span_id]


def _spread(histogram: Histogram | None) -> dict[str, float] | None:
    """Median and more of the latest."""
    recent = sorted(histogram.recent) if histogram is not None else []
    if not recent:
        return None
    return {
        f"p{percent}": round(1000 * recent[min(len(recent) - 1, len(recent) * percent // 100)], 3)
        for percent in (50, 95, 99)
    }


def _rounded(ms: float | None) -> float | None:
    return None if ms is None or not math.isfinite(ms) else round(ms, 3)


def _finite(rendered: Mapping[str, Any]) -> Shown:
    """JSON has no infinity and no NaN: as text."""
    return {
        name: str(value) if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in rendered.items()
    }
