"""A producer and a worker on plain redis-py, of any version: python queue_app.py URL PROTOCOL QUEUE MANNER JOBS.

MANNER: single, pipeline or multi.  A queue named ``plain…`` is popped; from any other, jobs move to a processing list
and are removed from it by the bytes that came.  Prints what the worker got, and what its removals answered, as JSON.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import redis


def produce(client: Any, queue: str, manner: str, jobs: list[str]) -> None:
    if manner == "single":
        for job in jobs:
            client.rpush(queue, job)
        return
    with client.pipeline(transaction=manner == "multi") as pipe:
        for job in jobs:
            pipe.set(f"seen:{queue}", job)
            pipe.rpush(queue, job)
        pipe.execute()


def work_reliably(client: Any, queue: str) -> tuple[list[Any], list[Any]]:
    received, removed = [], []
    while (job := client.brpoplpush(queue, f"{queue}:processing", 1)) is not None:
        received.append(job)
        removed.append(client.lrem(f"{queue}:processing", 1, job))
    return received, removed


def work_plainly(client: Any, queue: str) -> tuple[list[Any], list[Any]]:
    received: list[Any] = []
    while (item := client.blpop([queue, f"{queue}:low"], 1)) is not None:
        received.append(item[1])
    return received, []


def main(url: str, protocol: str, queue: str, manner: str, jobs: int) -> None:
    client = redis.Redis.from_url(url, protocol=int(protocol))
    produce(client, queue, manner, [json.dumps({"id": f"{queue}-{manner}-{number}"}) for number in range(jobs)])
    received, removed = (work_plainly if queue.startswith("plain") else work_reliably)(client, queue)
    print(json.dumps({"received": [job.decode() for job in received], "removed": removed, "redis": redis.__version__}))


if __name__ == "__main__":
    url, protocol, queue, manner, jobs = sys.argv[1:]
    main(url, protocol, queue, manner, int(jobs))
