"""RQ as anybody would use it: ``rq_app.py MANNER URL COUNT``.

``produce`` and ``scheduled`` send that many rounds of jobs and say what became of them, ``measure`` says when jobs ran,
``many`` sends some that say in which order they do.
"""

from __future__ import annotations

import json
import sys
import time
from datetime import timedelta
from typing import Any

import redis
from rq import Queue, Retry
from rq.job import Job

from tests.clients.apps import rq_tasks


def outcome(job: Job) -> tuple[str, Any]:
    """State and result, once there are some."""
    deadline = time.monotonic() + 60
    while job.connection.exists(job.key):
        status = str(job.get_status(refresh=True)).rpartition(".")[2].lower()
        if status in ("finished", "failed") or time.monotonic() > deadline:
            return status, job.return_value(refresh=True) if status == "finished" else None
        time.sleep(0.02)
    return "gone", None


def produce(queue: Queue, rounds: int, *, scheduled: bool) -> list[list[Any]]:
    jobs = []
    for number in range(rounds):
        jobs += [
            ("add", queue.enqueue(rq_tasks.add, number, 1)),
            ("flaky", queue.enqueue(rq_tasks.flaky, retry=Retry(max=3))),
            ("broken", queue.enqueue(rq_tasks.broken)),
            ("forgotten", queue.enqueue(rq_tasks.add, 1, 1, result_ttl=0)),
            ("nesting", queue.enqueue(rq_tasks.nesting, number)),
        ]
        many = [Queue.prepare_data(rq_tasks.add, (number, two)) for two in range(2)]
        jobs += [("many", job) for job in queue.enqueue_many(many)]
    if scheduled:
        jobs.append(("later", queue.enqueue_in(timedelta(seconds=1), rq_tasks.add, 5, 5)))
        jobs.append(("again", queue.enqueue(rq_tasks.flaky, retry=Retry(max=3, interval=1))))
    said = []
    for name, job in jobs:
        status, result = outcome(job)
        if name == "nesting":
            status, result = outcome(Job.fetch(result, connection=job.connection))
        said.append([name, status, result])
    return said


def measure(queue: Queue, count: int) -> list[list[Any]]:
    jobs = [queue.enqueue(rq_tasks.timed, 0.01 * (number % 5)) for number in range(count)]
    return [[job.id, outcome(job)[1]] for job in jobs]


def many(queue: Queue, count: int) -> list[list[Any]]:
    for number in range(count):
        queue.enqueue(rq_tasks.noted, number)
    return []


def main(manner: str, url: str, count: int) -> None:
    queue = Queue("mails", connection=redis.Redis.from_url(url))
    others = {"measure": measure, "many": many}
    done = others[manner](queue, count) if manner in others else produce(queue, count, scheduled=manner == "scheduled")
    print(json.dumps(done))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
