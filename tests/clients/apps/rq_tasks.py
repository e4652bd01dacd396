"""What RQ's workers run."""

from __future__ import annotations

import time
from pathlib import Path

from rq import Queue, get_current_job


def add(left: int, right: int) -> int:
    return left + right


def flaky() -> str:
    job = get_current_job()
    assert job is not None
    if job.connection.incr(f"flaky:{job.id}") < 3:
        raise ValueError("not to be told")
    return "done"


def broken() -> None:
    raise KeyError("not to be told")


def nesting(number: int) -> str:
    job = get_current_job()
    assert job is not None
    return Queue("mails", connection=job.connection).enqueue(add, number, 1).id


def timed(seconds: float) -> list[int]:
    begun = time.time_ns()
    time.sleep(seconds)
    return [begun, time.time_ns()]


def noted(number: int) -> None:
    job = get_current_job()
    assert job is not None
    job.connection.rpush("ran", number)


def slow(mark: str, seconds: float) -> str:
    """Leaves a line in the file each time it runs."""
    with Path(mark).open("a") as file:
        file.write("ran\n")
    time.sleep(seconds)
    return "slept"
