"""A worker of the shop: takes jobs from the queue, one at a time, and loses none.

While it works on a job, the job is kept on a list of its own; from there it is removed by its exact bytes. What fails
is queued again, and after three attempts put on the dead letter list. All it needs to know is REDIS_URL.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable
from typing import Any

import redis

QUEUE = "jobs"
COMPLETED = "jobs:completed"
DEAD_LETTER = "jobs:dead"
ATTEMPTS = 3

Job = dict[str, Any]

log = logging.getLogger("worker")


class Trouble(Exception):
    """The job could not be done; perhaps another time."""


def send_email(job: Job) -> None:
    time.sleep(0.03)
    if job["to"].endswith("@greylisting.example") and job["attempt"] == 0:
        raise Trouble("450 greylisted, try again later")


def charge_card(job: Job) -> None:
    time.sleep(0.06 + job["cents"] % 100 / 1000)


def resize_image(job: Job) -> None:
    time.sleep(0.02)
    if job["image"].startswith("unfinished"):
        raise Trouble("not an image")
    time.sleep(job["width"] / 10_000)


HANDLERS: dict[str, Callable[[Job], None]] = {
    "send_email": send_email,
    "charge_card": charge_card,
    "resize_image": resize_image,
}


def work(client: redis.Redis, processing: str, raw: bytes | str) -> None:
    job: Job = json.loads(raw)
    finish = client.pipeline()
    try:
        HANDLERS[job["type"]](job)
    except Trouble as trouble:
        log.info("%s %s failed: %s", job["id"], job["type"], trouble)
        if job["attempt"] + 1 < ATTEMPTS:
            finish.lpush(QUEUE, json.dumps({**job, "attempt": job["attempt"] + 1}))
        else:
            finish.lpush(DEAD_LETTER, json.dumps({**job, "error": str(trouble)}))
    else:
        log.info("%s %s done", job["id"], job["type"])
        finish.lpush(COMPLETED, raw)
    finish.lrem(processing, 1, raw)  # type: ignore[arg-type]  # the library's types know no bytes here
    finish.execute()


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    client = redis.Redis.from_url(os.environ["REDIS_URL"])
    processing = f"{QUEUE}:processing:{os.getpid()}"
    while True:
        raw = client.brpoplpush(QUEUE, processing, timeout=1)
        if raw:
            work(client, processing, raw)


if __name__ == "__main__":
    main()
