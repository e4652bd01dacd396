"""streaq as anybody would use it. REDIS_URL is all it is told.

As a producer: ``main(COUNT)`` enqueues that many rounds of tasks and says what became of them, as JSON;
``measure(COUNT)`` says when tasks ran; ``begin()`` enqueues one that is slow at first, ``many(COUNT)`` some that say in
which order they run.  The worker: ``streaq run streaq_app:worker``.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from typing import Any

from streaq import StreaqRetry, Worker

CONCURRENCY = int(os.environ.get("STREAQ_CONCURRENCY", "4"))
worker: Worker[None] = Worker(redis_url=os.environ["REDIS_URL"], concurrency=CONCURRENCY, idle_timeout=2)


@worker.task
async def add(left: int, right: int) -> int:
    return left + right


@worker.task
async def flaky() -> str:
    if flaky.context.tries < 3:
        raise StreaqRetry("not to be told", delay=0)
    return "done"


@worker.task
async def patient() -> str:
    if patient.context.tries < 2:
        raise StreaqRetry("not to be told", delay=1)
    return "done"


@worker.task
async def broken() -> None:
    raise KeyError("not to be told")


@worker.task(max_tries=2)
async def hopeless() -> None:
    raise StreaqRetry("not to be told", delay=0)


@worker.task(ttl=0)
async def silent() -> None:
    pass


@worker.task
async def nested(number: int) -> str:
    task = await add.enqueue(number, 1)
    return task.id


@worker.task
async def timed(seconds: float) -> list[int]:
    begun = time.time_ns()
    await asyncio.sleep(seconds)
    return [begun, time.time_ns()]


@worker.task
async def slow() -> int:
    """Only the first who tries it takes long."""
    if await worker.redis.incr("slow") == 1:
        await asyncio.sleep(600)
    return slow.context.tries


@worker.task
async def noted(number: int) -> None:
    await worker.redis.rpush("ran", [number])


async def outcome(task_id: str) -> Any:
    result = await worker.result_by_id(task_id, timeout=30)
    return result.result if result.success else repr(result.exception)


async def rounds(count: int) -> list[Any]:
    async with worker:
        asked: list[tuple[str, Any]] = []
        for number in range(count):
            many = [add.enqueue(number, one) for one in range(3)]
            await worker.enqueue_many(many)
            first = await timed.enqueue(0.5)
            asked += [
                ("first", first),
                ("after", await add.enqueue(number, 9).start(after=first.id)),
                ("chain", await add.enqueue(0, 0).then(timed)),
                ("flaky", await flaky.enqueue()),
                ("patient", await patient.enqueue()),
                ("broken", await broken.enqueue()),
                ("hopeless", await hopeless.enqueue()),
                ("nested", await nested.enqueue(number)),
                ("later", await add.enqueue(number, 5).start(delay=1)),
                ("silent", await silent.enqueue()),
                *(("many", task) for task in many),
            ]
        said: list[Any] = []
        for name, task in asked:
            if name == "silent":
                said.append([name, None])
                continue
            found = await outcome(task.id)
            if name == "nested":
                found = await outcome(found)
            said.append([name, len(found) if name in ("first", "chain") else found])
        return said


async def timings(count: int) -> list[Any]:
    async with worker:
        asked = [await timed.enqueue(0.01 * (number % 5)) for number in range(count)]
        return [[task.id, await outcome(task.id)] for task in asked]


async def started() -> None:
    async with worker:
        await slow.enqueue()


async def ordered(count: int) -> None:
    async with worker:
        for number in range(count):
            await noted.enqueue(number)


def main(count: int) -> None:
    print(json.dumps(asyncio.run(rounds(count))))


def measure(count: int) -> None:
    print(json.dumps(asyncio.run(timings(count))))


def begin() -> None:
    asyncio.run(started())
    print("[]")


def many(count: int) -> None:
    asyncio.run(ordered(count))
    print("[]")
