"""A job of Sidekiq's: a JSON object that has a class, arguments and a ``jid``."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from proxy.frameworks import active_job, paths
from proxy.frameworks.base import Fields, Identity

_RETRIES: Final = 25
"""Where a job does not say: Sidekiq's default."""
_KEPT: Final = (
    "class", "wrapped", "jid", "queue", "retry", "dead", "created_at", "enqueued_at", "retry_count", "error_class",
    "bid", "interrupted_count", "traceparent", "tracestate",
)  # fmt: skip


class Job(msgspec.Struct):
    """Of what is not needed to know a job, any type will do."""

    class_: str = msgspec.field(name="class")
    jid: str
    args: msgspec.Raw
    wrapped: Any = None
    queue: Any = None
    retry: Any = None
    dead: Any = None
    created_at: Any = None
    enqueued_at: Any = None
    retry_count: Any = None
    error_class: Any = None
    bid: Any = None
    interrupted_count: Any = None


class _Work(msgspec.Struct):
    """What a heartbeat says of a thread."""

    payload: str


_job: Final = msgspec.json.Decoder(Job)
_work: Final = msgspec.json.Decoder(_Work)
_members: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])


def read(value: bytes) -> Job | None:
    job = paths.read(_job, value)
    return job if job is not None and job.jid and paths.is_array(job.args) else None


def queue(value: bytes) -> str:
    """The queue that it says it is for; empty for what is no job."""
    job = read(value)
    return "" if job is None else paths.text(job.queue)


def interrupted(value: bytes) -> bool:
    """It was begun before, and its worker did not get to its end."""
    job = read(value)
    return job is not None and bool(job.interrupted_count)


def in_hand(work: bytes) -> bytes | None:
    """The job in what a heartbeat says of a thread."""
    try:
        payload = _work.decode(work).payload.encode()
    except (*paths.UNREADABLE, UnicodeEncodeError):
        return None
    return payload if read(payload) is not None else None


def identity(value: bytes) -> Identity | None:
    """Of one of ActiveJob's, whose own retries are new jobs to Sidekiq."""
    job = read(value)
    wrapped = None if job is None else active_job.read(job.class_, job.args)
    if job is None or wrapped is None:
        return None
    return Identity(wrapped.job_id.encode(errors="replace"), _attempt(job, wrapped))


def fields(value: bytes) -> Fields:
    job = read(value)
    if job is None:
        return Fields()
    wrapped = active_job.read(job.class_, job.args)
    attempt, most = _attempt(job, wrapped), _most(job)
    retried = job.retry is not None and job.retry is not False
    return Fields(
        id=paths.text(job.jid if wrapped is None else wrapped.job_id),
        type=paths.text(job.wrapped) or (job.class_[:1024] if wrapped is None else paths.text(wrapped.job_class)),
        attempt=attempt,
        max_attempts=most,
        created_at=paths.when(job.created_at) if wrapped is None else 0,
        enqueued_at=paths.when(job.enqueued_at),
        correlation_id="" if wrapped is None else paths.text(job.jid),
        batch_id=paths.text(job.bid),
        error=paths.text(job.error_class),
        fails_silently=not retried or (job.dead is False and attempt + 1 >= most),
    )


def summary(value: bytes) -> bytes:
    """Without its arguments, but for what they say of a job of ActiveJob's."""
    try:
        job = _members.decode(value)
    except paths.UNREADABLE:
        return b""
    args = active_job.reduce(job.get("args"))
    return paths.fitting({**{name: job[name] for name in _KEPT if name in job}, "args": args})


def _attempt(job: Job, wrapped: active_job.Wrapped | None) -> int:
    """Retries by Sidekiq, whose count begins with 0 after the first failure, and those by ActiveJob."""
    tried = 0 if wrapped is None else paths.integer(wrapped.executions)
    return tried + paths.integer(job.retry_count, -1) + 1


def _most(job: Job) -> int:
    if job.retry is True or job.retry is None:
        return _RETRIES + 1
    return 1 + paths.integer(job.retry)
