"""A Celery application as anybody would write it. REDIS_URL is all it is told; CELERY_OPTIONS are settings, as JSON.

As a producer: ``main(COUNT)`` sends that many rounds of tasks and says what became of them, as JSON.
"""

from __future__ import annotations

import json
import os

from celery import Celery, Task, chain, group  # type: ignore[import-untyped]

options = json.loads(os.environ.get("CELERY_OPTIONS", "{}"))
app = Celery("shop", broker=os.environ["REDIS_URL"], backend=os.environ["REDIS_URL"])
app.conf.update(worker_hijack_root_logger=False, broker_connection_retry_on_startup=True, **options)


@app.task  # type: ignore[untyped-decorator]
def add(left: int, right: int) -> int:
    return left + right


@app.task(bind=True, max_retries=3)  # type: ignore[untyped-decorator]
def flaky(self: Task) -> str:
    if self.request.retries < 2:
        raise self.retry(countdown=0)
    return str(getattr(self.request, "traceparent", None) or "")


@app.task  # type: ignore[untyped-decorator]
def broken() -> None:
    raise KeyError("not to be told")


@app.task(bind=True)  # type: ignore[untyped-decorator]
def context(self: Task) -> str:
    return str(getattr(self.request, "traceparent", None) or "")


def main(rounds: int) -> None:
    asked = []
    for number in range(rounds):
        asked += [
            ("add", add.delay(number, 1)),
            ("flaky", flaky.delay()),
            ("broken", broken.delay()),
            ("context", context.apply_async(priority=3)),
            ("later", context.apply_async(countdown=1)),
            ("chain", chain(add.s(number, 1), add.s(2))()),
            ("group", group(add.s(number, one) for one in range(2))()),
        ]
    said = []
    for name, result in asked:
        try:
            said.append([name, result.get(timeout=60)])
        except KeyError as error:
            said.append([name, type(error).__name__])
    print(json.dumps(said))
