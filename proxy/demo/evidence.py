"""What the jobs' own bytes say, and whether the spans that arrived say the same."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import redis

from proxy.demo.app.worker import COMPLETED, DEAD_LETTER
from proxy.tracer import attributes as a
from proxy.tracer.span import Operation, Span


class Job(NamedTuple):
    """A job that is over, as it lies in Redis."""

    id: str
    type: str
    attempts: int
    dead: bool
    stored: bytes


class Added(NamedTuple):
    """What stands in Redis beyond what was sent: ``stored[start:end]``."""

    stored: str
    start: int
    end: int


def finished(client: redis.Redis) -> list[Job]:
    """The jobs on the completed and the dead letter list, oldest first."""
    return [_job(raw, dead=key == DEAD_LETTER) for key in (COMPLETED, DEAD_LETTER) for raw in _list(client, key)]


def job_id(text: str) -> str:
    """Of a job as it was sent."""
    return str(json.loads(text)["id"])


def _list(client: redis.Redis, key: str) -> list[bytes]:
    return [raw for raw in reversed(client.lrange(key, 0, -1)) if isinstance(raw, bytes)]


def _job(raw: bytes, *, dead: bool) -> Job:
    job = json.loads(raw)
    return Job(job["id"], job["type"], job["attempt"] + 1, dead, raw)


def added(sent: str, stored: bytes) -> Added | None:
    """What was added to a job in one place; None: nothing, or something else was done to it."""
    text = stored.decode()
    more = len(text) - len(sent)
    start = next((at for at, (old, new) in enumerate(zip(sent, text, strict=False)) if old != new), len(sent))
    whole = more > 0 and text[:start] + text[start + more :] == sent
    return Added(text, start, start + more) if whole else None


def traces(spans: Iterable[Span]) -> dict[str, list[Span]]:
    """Spans by the id of their job, in order of time."""
    by_job: dict[str, list[Span]] = defaultdict(list)
    for span in sorted(spans, key=lambda span: (span.start, span.end)):
        by_job[span.job.fields.id].append(span)
    return by_job


def complaints(jobs: Sequence[Job], spans: Iterable[Span]) -> list[str]:
    """What is wrong with the spans that have arrived, given what happened; none: nothing is."""
    by_job = traces(spans)
    found = [f"spans of a job that nobody sent: {name!r}" for name in by_job.keys() - {job.id for job in jobs}]
    for job in jobs:
        found += [f"{job.type} {job.id}: {wrong}" for wrong in _wrong(job, by_job.get(job.id, []))]
    return found


def _wrong(job: Job, spans: Sequence[Span]) -> Iterator[str]:
    count = Counter(span.operation for span in spans)
    for operation in (Operation.ENQUEUE, Operation.DEQUEUE, Operation.PROCESS):
        if count[operation] != job.attempts:
            yield f"{count[operation]} of {job.attempts} {operation} spans"
    trace_ids = {span.trace_id.hex() for span in spans}
    carried = json.loads(job.stored).get("traceparent", "").split("-")[1:2]
    if trace_ids != set(carried):
        yield f"its spans are in the traces {sorted(trace_ids)}, and it carries {carried}"
    known = {span.span_id for span in spans}
    roots = [str(span.operation) for span in spans if span.parent_id not in known]
    if spans and roots != [Operation.ENQUEUE]:
        yield f"its tree has the roots {roots}"
    ends = [str(span.facts.get(a.STATUS)) for span in spans if span.operation is Operation.PROCESS]
    expected = [*["retry"] * (job.attempts - 1), "failure" if job.dead else "success"]
    if len(ends) == job.attempts and ends != expected:
        yield f"its attempts ended in {ends}, expected was {expected}"
