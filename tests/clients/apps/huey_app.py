"""huey as anybody would use it. REDIS_URL is all it is told, and HUEY_CLASS which of its storages to use.

As a producer: ``main(COUNT)`` enqueues that many rounds of tasks and says what became of them, as JSON;
``measure(COUNT)`` says when tasks ran, ``many(COUNT)`` sends some that say in which order they do.
"""

from __future__ import annotations

import json
import os
import time
from typing import Any

import huey as library
from huey.api import Task
from huey.exceptions import RetryTask, TaskException

CLASS = os.environ.get("HUEY_CLASS", "RedisHuey")
huey = getattr(library, CLASS)("shop", url=os.environ["REDIS_URL"])


@huey.task()  # type: ignore[untyped-decorator]
def add(left: int, right: int) -> int:
    return left + right


@huey.task(retries=3, context=True)  # type: ignore[untyped-decorator]
def flaky(task: Task) -> str:
    if task.retries > 1:
        raise ValueError("not to be told")
    return "done"


@huey.task(retries=1, retry_delay=1, context=True)  # type: ignore[untyped-decorator]
def patient(task: Task) -> str:
    if task.retries:
        raise ValueError("not to be told")
    return "done"


@huey.task(context=True)  # type: ignore[untyped-decorator]
def insistent(task: Task) -> str:
    if huey.storage.conn.incr(f"insistent:{task.id}") < 3:
        raise RetryTask
    return "done"


@huey.task()  # type: ignore[untyped-decorator]
def broken() -> None:
    raise KeyError("not to be told")


@huey.task()  # type: ignore[untyped-decorator]
def silent() -> None:
    pass


@huey.task()  # type: ignore[untyped-decorator]
def nested(number: int) -> str:
    return str(add(number, 1).id)


@huey.task()  # type: ignore[untyped-decorator]
def timed(seconds: float) -> list[int]:
    begun = time.time_ns()
    time.sleep(seconds)
    return [begun, time.time_ns()]


@huey.task()  # type: ignore[untyped-decorator]
def endless(key: str) -> None:
    huey.storage.conn.incr(key)
    time.sleep(600)


@huey.task()  # type: ignore[untyped-decorator]
def noted(number: int) -> None:
    huey.storage.conn.rpush("ran", number)


def rounds(count: int) -> list[tuple[str, Any]]:
    asked: list[tuple[str, Any]] = []
    for number in range(count):
        asked += [
            ("add", add(number, 1)),
            ("flaky", flaky()),
            ("insistent", insistent()),
            ("broken", broken()),
            ("silent", silent()),
            ("nested", nested(number)),
            ("later", add.schedule((number, 5), delay=1)),
            ("patient", patient()),
            ("pipeline", list(huey.enqueue(add.s(number, 1).then(add, 10)))[-1]),
            *(("map", one) for one in add.map([(number, one) for one in range(3)])),
        ]
        if huey.storage.priority:
            asked.append(("priority", add(number, 2, priority=5)))
    return asked


def outcome(result: Any) -> Any:
    try:
        return result.get(blocking=True, timeout=30)
    except TaskException as error:
        return error.metadata["error"]


def main(count: int) -> None:
    said = []
    for name, result in rounds(count):
        if name == "silent":
            said.append([name, None])
        elif name in ("flaky", "insistent", "patient"):
            # The errors of its first attempts are stored where its result will be.
            found = outcome(result)
            while found != "done":
                result.reset()
                time.sleep(0.02)
                found = outcome(result)
            said.append([name, found])
        elif name == "nested":
            said.append([name, huey.result(outcome(result), blocking=True, timeout=30)])
        else:
            said.append([name, outcome(result)])
    print(json.dumps(said))


def measure(count: int) -> None:
    asked = [timed(0.01 * (number % 5)) for number in range(count)]
    print(json.dumps([[result.id, outcome(result)] for result in asked]))


def many(count: int) -> None:
    for number in range(count):
        noted(number)
    print("[]")
