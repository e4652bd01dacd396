"""An RQ producer. REDIS_URL is where; ``rq_app.py COUNT`` sends that many jobs for each line that it reads."""

from __future__ import annotations

import os
import random
import string
import sys

import redis
from rq import Queue

from tests.bench.apps import rq_tasks

POOL = "".join(random.choices(string.ascii_letters, k=1 << 16))


def main(count: int) -> None:
    queue = Queue("mails", connection=redis.Redis.from_url(os.environ["REDIS_URL"]))
    print("ready", flush=True)
    for _ in sys.stdin:
        for number in range(count):
            at = random.randrange(len(POOL) - 200)
            queue.enqueue(rq_tasks.measure, POOL[at : at + 200], number)
        print("sent", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]))
