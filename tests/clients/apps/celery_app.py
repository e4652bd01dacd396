"""A Celery application as anybody would write it. REDIS_URL is all it is told; CELERY_OPTIONS are settings, as JSON.

As a producer: ``main(COUNT)`` sends that many rounds of tasks and says what became of them, as JSON;
``measure(COUNT)`` says when tasks ran, ``many(COUNT)`` sends some that say in which order they do.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

from celery import Celery, Task, chain, group  # type: ignore[import-untyped]

options = json.loads(os.environ.get("CELERY_OPTIONS", "{}"))
app = Celery("shop", broker=os.environ["REDIS_URL"], backend=os.environ["REDIS_URL"])
app.conf.update(worker_hijack_root_logger=False, broker_connection_retry_on_startup=True, **options)


@app.task  # type: ignore[untyped-decorator]
def add(left: int, right: int) -> int:
    return left + right


@app.task(bind=True, max_retries=3)  # type: ignore[untyped-decorator]
def flaky(self: Task) -> str:
    if self.request.retries < 2:
        raise self.retry(countdown=0)
    return str(getattr(self.request, "traceparent", None) or "")


@app.task  # type: ignore[untyped-decorator]
def broken() -> None:
    raise KeyError("not to be told")


@app.task(bind=True)  # type: ignore[untyped-decorator]
def context(self: Task) -> str:
    return str(getattr(self.request, "traceparent", None) or "")


@app.task  # type: ignore[untyped-decorator]
def nesting(number: int) -> str:
    return str(add.delay(number, 1).id)


@app.task  # type: ignore[untyped-decorator]
def timed(seconds: float) -> list[int]:
    begun = time.time_ns()
    time.sleep(seconds)
    return [begun, time.time_ns()]


@app.task  # type: ignore[untyped-decorator]
def slow(mark: str, seconds: float) -> str:
    """Leaves a line in the file each time it runs."""
    with Path(mark).open("a") as file:
        file.write("ran\n")
    time.sleep(seconds)
    return "slept"


@app.task  # type: ignore[untyped-decorator]
def noted(number: int) -> None:
    app.backend.client.rpush("ran", number)


def main(rounds: int) -> None:
    asked = []
    for number in range(rounds):
        asked += [
            ("add", add.delay(number, 1)),
            ("flaky", flaky.delay()),
            ("broken", broken.delay()),
            ("context", context.apply_async(priority=3)),
            ("later", context.apply_async(countdown=1)),
            ("chain", chain(add.s(number, 1), add.s(2))()),
            ("group", group(add.s(number, one) for one in range(2))()),
            ("nesting", nesting.delay(number)),
        ]
    said = []
    for name, result in asked:
        try:
            found = result.get(timeout=60)
        except KeyError as error:
            found = type(error).__name__
        said.append([name, app.AsyncResult(found).get(timeout=60) if name == "nesting" else found])
    print(json.dumps(said))


def measure(count: int) -> None:
    """One after the other."""
    said = []
    for number in range(count):
        result = timed.delay(0.01 * (number % 5))
        said.append([result.id, result.get(timeout=60)])
    print(json.dumps(said))


def delayed(seconds: float) -> None:
    """When a task ran that a worker had long before."""
    add.delay(1, 1).get(timeout=60)
    result = timed.apply_async((0.1,), countdown=seconds)
    print(json.dumps([[result.id, result.get(timeout=60)]]))


def many(count: int) -> None:
    for number in range(count):
        noted.delay(number)
    print("[]")


def begin(mark: str) -> None:
    slow.delay(mark, 1)
    print("[]")
