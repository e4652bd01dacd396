"""taskiq as anybody would use it. REDIS_URL is all it is told; TASKIQ_OPTIONS say which broker it is, as JSON.

As a producer: ``run(main(ROUNDS))`` sends that many rounds of tasks and says what became of them.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import redis.asyncio
from taskiq import AsyncBroker, AsyncTaskiqTask, Context, SmartRetryMiddleware, TaskiqDepends, TaskiqScheduler
from taskiq.middlewares import SimpleRetryMiddleware
from taskiq_redis import ListQueueBroker, ListRedisScheduleSource, RedisAsyncResultBackend, RedisStreamBroker

URL = os.environ["REDIS_URL"]
OPTIONS = json.loads(os.environ.get("TASKIQ_OPTIONS", "{}"))
source = ListRedisScheduleSource(URL)


def made() -> AsyncBroker:
    made: AsyncBroker = (
        RedisStreamBroker(URL, idle_timeout=OPTIONS.get("idle_timeout", 600_000))
        if OPTIONS.get("stream")
        else ListQueueBroker(URL)
    )
    if OPTIONS.get("results", True):
        made = made.with_result_backend(RedisAsyncResultBackend(URL))
    retries = (
        SmartRetryMiddleware(default_delay=1, schedule_source=source)
        if OPTIONS.get("scheduled")
        else SimpleRetryMiddleware()
    )
    return made.with_middlewares(retries)


broker = made()
scheduler = TaskiqScheduler(broker, [source])
TOLD: Any = TaskiqDepends()


@broker.task
async def add(left: int, right: int) -> int:
    async with redis.asyncio.Redis.from_url(URL) as client:
        await client.rpush("ran", f"{left}+{right}")
    return left + right


@broker.task
async def noted(number: int) -> None:
    async with redis.asyncio.Redis.from_url(URL) as client:
        await client.rpush("ran", number)


@broker.task(retry_on_error=True, max_retries=4)
async def flaky(context: Context = TOLD) -> str:
    if int(context.message.labels.get("_retries", 0)) < 2:
        raise ValueError("not to be told")
    return str(context.message.labels.get("traceparent", ""))


@broker.task
def broken() -> None:
    raise KeyError("not to be told")


@broker.task(retry_on_error=True, max_retries=2)
async def doomed() -> None:
    raise ValueError("not to be told")


@broker.task
async def context(context: Context = TOLD) -> str:
    return str(context.message.labels.get("traceparent", ""))


@broker.task
async def nesting() -> str:
    return (await add.kiq(7, 7)).task_id


@broker.task
async def again(context: Context = TOLD) -> str:
    if "X-Taskiq-requeue" not in context.message.labels:
        await context.requeue()
    return "done"


@broker.task
async def timed(seconds: float) -> tuple[int, int]:
    begun = time.time_ns()
    await asyncio.sleep(seconds)
    return begun, time.time_ns()


@broker.task
async def slow(mark: str, seconds: float) -> str:
    """Leaves a line in the file each time it runs."""
    with Path(mark).open("a") as file:  # noqa: ASYNC230
        file.write("ran\n")
    await asyncio.sleep(seconds)
    return "slept"


async def outcome(task: AsyncTaskiqTask[Any]) -> object:
    result = await task.wait_result(check_interval=0.02, timeout=60)
    return result.return_value if not result.is_err else repr(result.error)


async def main(rounds: int) -> list[list[object]]:
    asked: list[tuple[str, AsyncTaskiqTask[Any]]] = []
    for number in range(rounds):
        asked += [("add", await add.kiq(number, right)) for right in range(5)]
        asked += [
            ("flaky", await flaky.kiq()),
            ("broken", await broken.kiq()),
            ("doomed", await doomed.kiq()),
            ("context", await context.kiq()),
            ("nesting", await nesting.kiq()),
            ("again", await again.kiq()),
        ]
    return [[name, task.task_id, await outcome(task)] for name, task in asked]


async def measure(count: int) -> dict[str, object]:
    """How long the task itself ran, by id; one after the other."""
    found: dict[str, object] = {}
    for _ in range(count):
        task = await timed.kiq(0.01)
        found[task.task_id] = await outcome(task)
    return found


async def many(count: int) -> None:
    for number in range(count):
        await noted.kiq(number)


async def marked(mark: str, seconds: float) -> None:
    await slow.kiq(mark, seconds)


async def scheduled() -> list[object]:
    later = (
        await add.kicker()
        .with_task_id("0" * 32)
        .schedule_by_time(source, datetime.now(UTC) + timedelta(seconds=1), 5, 5)
    )
    failing = await flaky.kiq()
    return [later.schedule_id, await outcome(failing)]


def run(what: Coroutine[Any, Any, object]) -> None:
    async def started() -> object:
        await broker.startup()
        try:
            return await what
        finally:
            await broker.shutdown()

    print(json.dumps(asyncio.run(started())))
