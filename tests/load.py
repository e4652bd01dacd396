"""Work for a Redis, with books kept of every job: what was sent, done, lost and done twice; and every error.

Real redis-py clients in threads, without retries of their own.  A consumer keeps what it works on in a list of its own
(BRPOPLPUSH, then LREM), so nothing can be lost by an error of a client; `Load.settle` does what errors left there.
"""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import NamedTuple, Self

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

QUEUE = "load"
PROCESSING = "load:processing"
LISTS = {"queues": [QUEUE], "processing": [f"{PROCESSING}:*"]}
"""``frameworks.list`` for these jobs."""
TIMEOUT = 30.0


class Failed(NamedTuple):
    """An error that a client saw."""

    at: float
    """`time.monotonic`."""
    port: int
    """Its own, on the connection that failed; 0: it could not connect."""
    error: str


class Totals(NamedTuple):
    sent: int
    """Jobs whose push was answered."""
    unsure: int
    """Jobs whose push failed: Redis may have them or not."""
    processed: int
    lost: int
    """Sent, and neither processed nor anywhere in Redis."""
    duplicated: int
    """Processed more than once."""
    commands: int
    errors: int
    longest: float
    """Seconds between two answers to one client, at most; blocking pops do not count."""


def client(url: str, timeout: float = TIMEOUT) -> redis.Redis:
    return redis.Redis.from_url(
        url, retry=Retry(NoBackoff(), 0), socket_timeout=timeout, socket_connect_timeout=timeout
    )


class Load:
    """Runs from ``with`` to its end. ``pause``: seconds between two jobs of one producer."""

    def __init__(
        self, url: str, *, producers: int = 3, consumers: int = 3, bystanders: int = 2, pause: float = 0.002
    ) -> None:
        self.url = url
        self.failures: list[Failed] = []
        self.commands = 0
        self.longest = 0.0
        self.wrong: list[str] = []
        """Answers that were not what was stored."""
        self._pause = pause
        self._sent: set[str] = set()
        self._unsure: set[str] = set()
        self._done: Counter[str] = Counter()
        self._stopping = threading.Event()
        self._pushing = threading.Event()
        self._pushing.set()
        loops = [self._produce] * producers + [self._consume] * consumers + [self._stand_by] * bystanders
        self._threads = [
            threading.Thread(target=self._forever, args=(loop, number), daemon=True)
            for number, loop in enumerate(loops)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def stop(self) -> None:
        self._pushing.clear()
        self._stopping.set()
        for thread in self._threads:
            thread.join(2 * TIMEOUT)

    def settle(self, url: str) -> Totals:
        """After the end: what is left in Redis (at ``url``) is done now; then the books are closed."""
        self.stop()
        with client(url) as last:
            for key in list(last.scan_iter(f"{PROCESSING}:*")):
                while (held := last.rpop(key)) is not None:
                    assert isinstance(held, bytes)
                    if json.loads(held)["id"] not in self._done:
                        self._finished(held)
            while (job := last.rpop(QUEUE)) is not None:
                assert isinstance(job, bytes)
                self._finished(job)
        done = set(self._done)
        return Totals(
            sent=len(self._sent),
            unsure=len(self._unsure),
            processed=len(done & self._sent),
            lost=len(self._sent - done),
            duplicated=sum(count > 1 for count in self._done.values()),
            commands=self.commands,
            errors=len(self.failures),
            longest=self.longest,
        )

    def _forever(self, loop: Callable[[redis.Redis, int], Iterator[None]], number: int) -> None:
        """One client at a time, and after an error the next one."""
        while not self._stopping.is_set():
            with client(self.url) as one:
                port = 0
                try:
                    connection = one.connection_pool.get_connection()
                    port = connection._sock.getsockname()[1]
                    one.connection_pool.release(connection)
                    for _ in loop(one, number):
                        self.commands += 1
                        if self._stopping.is_set():
                            return
                except (redis.RedisError, OSError) as error:
                    if not self._stopping.is_set():
                        self.failures.append(Failed(time.monotonic(), port, f"{type(error).__name__}: {error}"))
                        time.sleep(0.02)

    def _timed(self, since: float) -> None:
        self.longest = max(self.longest, time.monotonic() - since)

    def _produce(self, one: redis.Redis, number: int) -> Iterator[None]:
        for count in itertools.count():
            name = f"{number}-{count}-{time.monotonic_ns()}"
            job = json.dumps({"id": name, "type": "load", "text": "x" * (count % 400)})
            began = time.monotonic()
            try:
                one.lpush(QUEUE, job)
            except (redis.RedisError, OSError):
                self._unsure.add(name)
                raise
            self._timed(began)
            self._sent.add(name)
            yield
            time.sleep(self._pause)

    def _consume(self, one: redis.Redis, number: int) -> Iterator[None]:
        mine = f"{PROCESSING}:{number}"
        while (left := one.lindex(mine, -1)) is not None:
            assert isinstance(left, bytes)
            # An error came between: before it was done, or before the answer that it was removed.
            if json.loads(left)["id"] not in self._done:
                self._finished(left)
            one.lrem(mine, 1, left)  # type: ignore[arg-type]  # the library's types know no bytes here
        while True:
            job = one.brpoplpush(QUEUE, mine, 1)
            yield
            if job is not None:
                assert isinstance(job, bytes)
                self._finished(job)
                began = time.monotonic()
                removed = one.lrem(mine, 1, job)  # type: ignore[arg-type]  # the library's types know no bytes here
                self._timed(began)
                if removed != 1:
                    self.wrong.append(f"LREM answered {removed}")
                yield

    def _stand_by(self, one: redis.Redis, number: int) -> Iterator[None]:
        """Somebody who has nothing to do with jobs: gets back what was stored, in pipelines and transactions."""
        for count in itertools.count():
            value = b"%d " % count * (1 + count % 500)
            with one.pipeline(transaction=bool(count % 2)) as pipe:
                pipe.set(f"bystander:{number}", value)
                pipe.get(f"bystander:{number}")
                pipe.incr(f"counter:{number}")
                began = time.monotonic()
                answers = pipe.execute()
                self._timed(began)
            if answers[1] != value:
                self.wrong.append("GET answered something else than was SET")
            yield
            time.sleep(self._pause)

    def _finished(self, job: bytes) -> None:
        self._done[json.loads(job)["id"]] += 1
