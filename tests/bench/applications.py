"""Real applications to measure: a producer and a worker, and how to see that a worker is through."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

import redis

from tests.bench import accounting
from tests.bench.accounting import Cpu
from tests.redis import PATIENCE
from tests.sidecar import ROOT, children_of

_APPS: Final = Path(__file__).with_name("apps")


class Kind(NamedTuple):
    name: str
    producer: tuple[str, ...]
    worker: tuple[str, ...]
    ended: str
    """A script that counts the jobs that are over."""
    succeeded: str
    """A script that counts those that went well."""
    folder: Path


_RESULTS: Final = "celery-task-meta-*"
_FINISHED: Final = "return redis.call('ZCARD', 'rq:finished:mails')"
CELERY: Final = Kind(
    "Celery",
    ("-c", "import sys, celery_app; celery_app.main(int(sys.argv[1]))"),
    ("-m", "celery", "-A", "celery_app", "worker", "--pool", "solo", "--without-gossip", "--without-mingle"),
    f"return #redis.call('KEYS', '{_RESULTS}')",
    f"local n = 0; for _, key in ipairs(redis.call('KEYS', '{_RESULTS}')) do "
    "if redis.call('GET', key):find('SUCCESS', 1, true) then n = n + 1 end end; return n",
    _APPS,
)
RQ: Final = Kind(
    "RQ",
    ("-m", "tests.bench.apps.rq_app"),
    ("-m", "rq.cli", "worker", "--quiet", "--worker-class", "rq.SimpleWorker", "mails"),
    _FINISHED,
    _FINISHED,
    ROOT,
)


class Application:
    """``books`` is a connection of our own to its database, past whatever is measured."""

    def __init__(
        self,
        kind: Kind,
        producer: subprocess.Popen[bytes],
        worker: subprocess.Popen[bytes],
        books: redis.Redis,
        jobs: int,
    ) -> None:
        self._kind = kind
        self._producer = producer
        self._worker = worker
        self._books = books
        self._jobs = jobs

    def cpu(self) -> Cpu:
        """Of producer and worker, with all their processes."""
        pids = [self._producer.pid, self._worker.pid]
        return accounting.cpu_of([*pids, *(child for pid in pids for child in children_of(pid))])

    def settle(self) -> None:
        accounting.settle([self._producer.pid, self._worker.pid])

    def run(self) -> float:
        """Have all jobs sent and done; the seconds that it took."""
        assert self._producer.stdin is not None
        assert self._producer.stdout is not None
        done = self._counted(self._kind.ended) + self._jobs
        began = time.monotonic()
        self._producer.stdin.write(b"go\n")
        self._producer.stdin.flush()
        if self._producer.stdout.readline() != b"sent\n":
            raise RuntimeError(f"the producer of {self._kind.name} failed")
        while (ended := self._counted(self._kind.ended)) < done:
            if self._worker.poll() is not None or time.monotonic() - began > PATIENCE:
                raise RuntimeError(f"the worker of {self._kind.name} is not through: {done - ended} jobs to go")
            time.sleep(0.01)
        seconds = time.monotonic() - began
        # A job that fails costs something else.
        failed = done - self._counted(self._kind.succeeded)
        if failed:
            raise RuntimeError(f"{failed} jobs of {self._kind.name} have failed")
        return seconds

    def _counted(self, script: str) -> int:
        counted = self._books.eval(script, 0)
        assert isinstance(counted, int)
        return counted


@contextmanager
def application(
    kind: Kind, port: int, redis_port: int, database: int, jobs: int, variables: dict[str, str]
) -> Iterator[Application]:
    """Producer and worker, running. ``port``: where they find Redis."""
    url = f"redis://127.0.0.1:{port}/{database}"
    options = {
        **os.environ,
        "REDIS_URL": url,
        "RQ_REDIS_URL": url,
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(_APPS)]),
    }
    options |= variables

    def start(words: tuple[str, ...], stdout: int) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, *words],
            env=options,
            cwd=kind.folder,
            stdin=subprocess.PIPE,
            stdout=stdout,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    with (
        redis.Redis(port=redis_port, db=database) as books,
        start(kind.worker, subprocess.DEVNULL) as worker,
        start((*kind.producer, str(jobs)), subprocess.PIPE) as producer,
    ):
        try:
            assert producer.stdout is not None
            if producer.stdout.readline() != b"ready\n":
                raise RuntimeError(f"the producer of {kind.name} failed")
            yield Application(kind, producer, worker, books, jobs)
        finally:
            for process in (producer, worker):
                process.kill()
