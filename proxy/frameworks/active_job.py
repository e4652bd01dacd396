"""Jobs of Rails' ActiveJob inside those of Sidekiq and Resque: their one argument is the job (run: 6.1)."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from proxy.frameworks import paths

_WRAPPERS: Final = frozenset(
    (
        "ActiveJob::QueueAdapters::SidekiqAdapter::JobWrapper",
        "Sidekiq::ActiveJob::Wrapper",
        "ActiveJob::QueueAdapters::ResqueAdapter::JobWrapper",
    )
)


class Wrapped(msgspec.Struct):
    job_id: str
    job_class: Any = None
    executions: Any = 0
    """Attempts that it has behind it, when it was put on the queue."""


_wrapped: Final = msgspec.json.Decoder(list[Wrapped])


def read(wrapper: str, args: msgspec.Raw) -> Wrapped | None:
    """The job that a job of this class holds; None for one of the framework's own."""
    if wrapper not in _WRAPPERS:
        return None
    try:
        wrapped = _wrapped.decode(args)
    except paths.UNREADABLE:
        return None
    return wrapped[0] if len(wrapped) == 1 and wrapped[0].job_id else None


def reduce(args: msgspec.Raw | None) -> list[Wrapped]:
    """Arguments without their content: what `read` reads of them."""
    try:
        return _wrapped.decode(b"[]" if args is None else args)[:1]
    except paths.UNREADABLE:
        return []
