"""dramatiq as anybody would use it. REDIS_URL is all it is told; DRAMATIQ_OPTIONS are the broker's, as JSON.

As a producer: ``main(ROUNDS)`` sends that many rounds of messages and says what became of them, as JSON.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import dramatiq
import redis
from dramatiq.brokers.redis import RedisBroker
from dramatiq.middleware import CurrentMessage
from dramatiq.results import ResultFailure, Results
from dramatiq.results.backends import RedisBackend

URL = os.environ["REDIS_URL"]
broker = RedisBroker(url=URL, **json.loads(os.environ.get("DRAMATIQ_OPTIONS", "{}")))  # type: ignore[no-untyped-call]
backend = RedisBackend(url=URL)
broker.add_middleware(Results(backend=backend, store_results=True))  # type: ignore[no-untyped-call]
broker.add_middleware(CurrentMessage())
dramatiq.set_broker(broker)
client = redis.Redis.from_url(URL)
WAIT = 60_000


def options() -> dict[str, Any]:
    message = CurrentMessage.get_current_message()
    assert message is not None
    found: dict[str, Any] = message.options
    return found


@dramatiq.actor
def add(left: int, right: int) -> int:
    client.rpush("ran", f"{left}+{right}")
    return left + right


@dramatiq.actor
def noted(number: int) -> None:
    client.rpush("ran", number)


@dramatiq.actor(min_backoff=1, max_backoff=10, max_retries=3)
def flaky() -> str:
    if options().get("retries", 0) < 2:
        raise ValueError("not to be told")
    return str(options().get("traceparent", ""))


@dramatiq.actor(throws=KeyError)
def broken() -> None:
    raise KeyError("not to be told")


@dramatiq.actor(min_backoff=1, max_backoff=10, max_retries=1)
def doomed() -> None:
    raise ValueError("not to be told")


@dramatiq.actor
def context() -> str:
    return str(options().get("traceparent", ""))


@dramatiq.actor
def nesting() -> str:
    return str(add.send(7, 7).message_id)


@dramatiq.actor(queue_name="timed")
def timed(seconds: float) -> tuple[int, int]:
    begun = time.time_ns()
    time.sleep(seconds)
    return begun, time.time_ns()


@dramatiq.actor
def slow(mark: str, seconds: float) -> str:
    """Leaves a line in the file each time it runs."""
    with Path(mark).open("a") as file:
        file.write("ran\n")
    time.sleep(seconds)
    return "slept"


@dramatiq.actor
def gated(mark: str, gate: str) -> None:
    """Leaves a line in the file each time it runs, and goes on when there is the other one."""
    with Path(mark).open("a") as file:
        file.write("ran\n")
    while not Path(gate).exists():
        time.sleep(0.02)


def outcome(message: dramatiq.Message[Any]) -> object:
    try:
        return message.get_result(block=True, timeout=WAIT)
    except ResultFailure as error:
        return f"{error.orig_exc_type}: {error.orig_exc_msg}"


def main(rounds: int) -> None:
    asked: list[tuple[str, dramatiq.Message[Any]]] = []
    for number in range(rounds):
        many = dramatiq.group([add.message(number, right) for right in range(5)]).run()  # type: ignore[no-untyped-call]
        pipe = (add.message(number, 10) | add.message(100)).run()  # type: ignore[no-untyped-call, call-arg]
        asked += [("add", message) for message in many.children]
        asked += [
            ("pipe", pipe.messages[0]),
            ("pipe", pipe.messages[1]),
            ("flaky", flaky.send()),
            ("broken", broken.send()),
            ("doomed", doomed.send()),
            ("context", context.send()),
            ("later", context.send_with_options(delay=300)),
            ("nesting", nesting.send()),
        ]
    print(json.dumps([[name, message.message_id, outcome(message)] for name, message in asked]))


def measure(count: int) -> None:
    """When the actor itself ran, by id; one after the other."""
    found = {}
    for _ in range(count):
        message = timed.send(0.01)
        found[message.message_id] = outcome(message)
    print(json.dumps(found))


def many(count: int) -> None:
    for number in range(count):
        noted.send(number)
    print("[]")


def two(mark: str, gate: str) -> None:
    for _ in range(2):
        gated.send(mark, gate)
