"""The shop's web side: puts jobs on the queue. ``producer.py COUNT SECONDS``, COUNT 0 for no end.

All it needs to know is REDIS_URL. It logs every job as it was sent.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections.abc import Iterator
from itertools import count, cycle
from uuid import uuid4

import redis

QUEUE = "jobs"

log = logging.getLogger("producer")


def orders() -> Iterator[dict[str, object]]:
    """What customers make the shop do: a card to charge, a receipt to send, a picture to shrink."""
    customers = cycle(("ada@mail.example", "grace@mail.example", "linus@greylisting.example", "barbara@mail.example"))
    for number in count(1):
        order = f"A-{number:04d}"
        image = "unfinished-upload.jpg" if number % 6 == 3 else f"{order}.jpg"
        yield {"type": "send_email", "to": next(customers), "template": "receipt"}
        yield {"type": "charge_card", "order": order, "cents": 1490 + 250 * (number % 5)}
        yield {"type": "resize_image", "image": image, "width": 640}


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    wanted, pause = int(sys.argv[1]), float(sys.argv[2])
    client = redis.Redis.from_url(os.environ["REDIS_URL"])
    for number, order in enumerate(orders(), 1):
        job = json.dumps({"id": uuid4().hex[:8], "attempt": 0, **order})
        client.lpush(QUEUE, job)
        log.info("sent %s", job)
        if number == wanted:
            return
        time.sleep(pause)


if __name__ == "__main__":
    main()
