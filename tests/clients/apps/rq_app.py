"""RQ as anybody would use it: ``rq_app.py produce|scheduled URL ROUNDS`` sends jobs and says what became of them."""

from __future__ import annotations

import json
import sys
import time
from datetime import timedelta

import redis
from rq import Queue, Retry

from tests.clients.apps import rq_tasks


def produce(queue: Queue, rounds: int, *, scheduled: bool) -> None:
    jobs = []
    for number in range(rounds):
        jobs += [
            ("add", queue.enqueue(rq_tasks.add, number, 1)),
            ("flaky", queue.enqueue(rq_tasks.flaky, retry=Retry(max=3))),
            ("broken", queue.enqueue(rq_tasks.broken)),
            ("forgotten", queue.enqueue(rq_tasks.add, 1, 1, result_ttl=0)),
        ]
        many = [Queue.prepare_data(rq_tasks.add, (number, two)) for two in range(2)]
        jobs += [("many", job) for job in queue.enqueue_many(many)]
    if scheduled:
        jobs.append(("later", queue.enqueue_in(timedelta(seconds=1), rq_tasks.add, 5, 5)))
        jobs.append(("again", queue.enqueue(rq_tasks.flaky, retry=Retry(max=3, interval=1))))
    said = []
    for name, job in jobs:
        deadline = time.monotonic() + 60
        while job.connection.exists(job.key):
            status = str(job.get_status(refresh=True)).rpartition(".")[2].lower()
            if status in ("finished", "failed") or time.monotonic() > deadline:
                said.append([name, status, job.return_value(refresh=True) if status == "finished" else None])
                break
            time.sleep(0.02)
        else:
            said.append([name, "gone", None])
    print(json.dumps(said))


if __name__ == "__main__":
    produce(
        Queue("mails", connection=redis.Redis.from_url(sys.argv[2])),
        int(sys.argv[3]),
        scheduled=sys.argv[1] == "scheduled",
    )
