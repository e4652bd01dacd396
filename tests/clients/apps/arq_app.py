"""arq as anybody would use it. REDIS_URL is all it is told.

As a producer: ``main(COUNT)`` enqueues that many rounds of jobs and says what became of them, as JSON;
``measure(COUNT)`` says when jobs ran, ``many(COUNT)`` sends some that say in which order they do.  The worker: ``python
-m arq arq_app.WorkerSettings``.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from typing import Any

from arq import Retry, cron, func
from arq.connections import RedisSettings, create_pool

REDIS = RedisSettings.from_dsn(os.environ["REDIS_URL"])


async def add(context: dict[str, Any], left: int, right: int) -> int:
    return left + right


async def flaky(context: dict[str, Any]) -> str:
    if context["job_try"] < 3:
        raise Retry
    return "done"


async def patient(context: dict[str, Any]) -> str:
    if context["job_try"] < 2:
        raise Retry(defer=0.5)
    return "done"


async def broken(context: dict[str, Any]) -> None:
    raise KeyError("not to be told")


async def hopeless(context: dict[str, Any]) -> None:
    raise Retry


async def silent(context: dict[str, Any]) -> None:
    pass


async def nested(context: dict[str, Any], number: int) -> str:
    job = await context["redis"].enqueue_job("add", number, 1)
    return str(job.job_id)


async def timed(context: dict[str, Any], seconds: float) -> list[int]:
    begun = time.time_ns()
    await asyncio.sleep(seconds)
    return [begun, time.time_ns()]


async def slow(context: dict[str, Any]) -> int:
    """Only the first who tries it takes long."""
    if await context["redis"].incr("slow") == 1:
        await asyncio.sleep(600)
    return int(context["job_try"])


async def noted(context: dict[str, Any], number: int) -> None:
    await context["redis"].rpush("ran", number)


async def tick(context: dict[str, Any]) -> None:
    pass


class WorkerSettings:
    functions = (
        add,
        flaky,
        patient,
        broken,
        func(hopeless, max_tries=2),
        nested,
        timed,
        slow,
        noted,
        func(silent, keep_result=0),
    )
    cron_jobs = [cron(tick, hour=0, minute=0, run_at_startup=False)]  # noqa: RUF012
    redis_settings = REDIS
    poll_delay = 0.05
    max_jobs = int(os.environ.get("ARQ_MAX_JOBS", "4"))
    job_timeout = 1


async def outcome(job: Any) -> Any:
    try:
        return await job.result(timeout=30, poll_delay=0.05)
    except Exception as error:  # noqa: BLE001 - it is what became of it
        return repr(error)


async def rounds(count: int) -> list[Any]:
    redis = await create_pool(REDIS)
    asked = []
    for number in range(count):
        for name, function, arguments, options in (
            ("add", "add", (number, 1), {}),
            ("flaky", "flaky", (), {}),
            ("patient", "patient", (), {}),
            ("broken", "broken", (), {}),
            ("hopeless", "hopeless", (), {}),
            ("nested", "nested", (number,), {}),
            ("silent", "silent", (), {}),
            ("later", "add", (number, 5), {"_defer_by": 0.5}),
            ("named", "add", (number, 7), {"_job_id": f"named-{number}"}),
            ("twice", "add", (number, 7), {"_job_id": f"named-{number}"}),
        ):
            asked.append((name, await redis.enqueue_job(function, *arguments, **options)))
    said: list[Any] = []
    for name, job in asked:
        if job is None or name == "silent":
            said.append([name, None])
        elif name == "nested":
            child = type(job)(await outcome(job), redis)
            said.append([name, await outcome(child)])
        else:
            said.append([name, await outcome(job)])
    await redis.aclose()
    return said


async def timings(count: int) -> list[Any]:
    redis = await create_pool(REDIS)
    asked = [await redis.enqueue_job("timed", 0.01 * (number % 5)) for number in range(count)]
    said = [[job.job_id, await outcome(job)] for job in asked if job is not None]
    await redis.aclose()
    return said


async def begin(function: str) -> None:
    redis = await create_pool(REDIS)
    await redis.enqueue_job(function)
    await redis.aclose()


async def ordered(count: int) -> None:
    redis = await create_pool(REDIS)
    # Of the same millisecond the least id goes first.
    started = time.time_ns()
    for number in range(count):
        await redis.enqueue_job("noted", number, _job_id=f"{started}-{number:04}")
    await redis.aclose()


def main(count: int) -> None:
    print(json.dumps(asyncio.run(rounds(count))))


def measure(count: int) -> None:
    print(json.dumps(asyncio.run(timings(count))))


def many(count: int) -> None:
    asyncio.run(ordered(count))
    print("[]")
