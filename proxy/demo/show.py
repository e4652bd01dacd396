"""The demo's course of events: start all, run the jobs, wait for their spans, look at idle workers, tell."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from proxy.demo import evidence, stage
from proxy.demo.app.worker import COMPLETED, DEAD_LETTER, QUEUE
from proxy.demo.evidence import Added, Job
from proxy.demo.processes import Child, DemoError
from proxy.demo.receiver import Received, Receiver
from proxy.demo.report import Report, excerpt
from proxy.tracer.span import Operation, Span

JOBS: Final = 36
PAUSE: Final = 0.04
"""Seconds between two jobs."""
WORKERS: Final = 2
IDLE: Final = 2.0
"""Seconds for which the workers are watched with nothing to do: more than spans need to get here."""

_JOBS_LIMIT: Final = 30.0
_SPANS_LIMIT: Final = 10.0
"""Seconds after which the demo has failed."""
_POLL: Final = 0.02
_KEEP_PAUSE: Final = 1.0
_QUIET: Final = 1.0
"""Seconds without another span after which a trace with an end is shown, while nobody knows what to expect."""
_SENT: Final = "sent "
"""What the producer's log begins with where it quotes a job."""
_SHOWN: Final = 5
"""Complaints that are printed; the rest is counted."""


class Show:
    """``stack`` ends what is started, ``directory`` is for its files. Raises `DemoError`, and what redis-py raises."""

    def __init__(self, stack: ExitStack, directory: Path, report: Report) -> None:
        self._stack = stack
        self._directory = directory
        self._report = report
        self._processes: list[Child] = []
        self._receiver = stack.enter_context(Receiver())
        server, self._redis = stack.enter_context(stage.redis_server(directory))
        self._sidecar = stack.enter_context(stage.sidecar(directory, self._receiver.url))
        self._processes += [server, self._sidecar.process]

    def run(self) -> None:
        sidecar, report = self._sidecar, self._report
        report.started(sidecar, self._redis, self._receiver.url)
        begun = time.monotonic()
        producer = self._start(stage.producer(self._directory, sidecar.url, JOBS, PAUSE))
        waiting = self._first_waiting(producer)
        for number in range(1, WORKERS + 1):
            self._processes.append(self._start(stage.worker(self._directory, sidecar.url, number)))
        self._work_off(producer)
        took = time.monotonic() - begun
        sent = [line.removeprefix(_SENT) for line in producer.log.read_text().splitlines() if line.startswith(_SENT)]
        jobs = evidence.finished(self._redis)
        received = self._spans_of(jobs)
        report.ran(jobs, took)
        self._compare(sent, waiting, jobs)
        report.trees(received, _examples(jobs, received.spans))
        self._idle(received)
        self._metrics()

    def keep_on(self) -> None:
        """Until a signal comes: a job now and then, and each trace that is complete."""
        self._report.keeps(self._sidecar)
        directory, url = self._directory, self._sidecar.url
        self._processes.append(self._start(stage.producer(directory, url, 0, _KEEP_PAUSE, "producer-2")))
        self._receiver.forget({span.trace_id for span in self._receiver.received().spans})
        while True:
            self._pause(_QUIET / 4)
            now = time.time_ns()
            traces: dict[bytes, list[Span]] = {}
            for span in self._receiver.received().spans:
                traces.setdefault(span.trace_id, []).append(span)
            done = {trace_id: spans for trace_id, spans in traces.items() if _is_over(spans, now)}
            for spans in done.values():
                self._report.tree(spans)
            self._receiver.forget(set(done))

    def _start(self, process: Child) -> Child:
        return self._stack.enter_context(process)

    def _pause(self, seconds: float = _POLL) -> None:
        time.sleep(seconds)
        for process in self._processes:
            process.check()

    def _until(self, done: Callable[[], bool], limit: float, failed: Callable[[], str]) -> None:
        deadline = time.monotonic() + limit
        while not done():
            if time.monotonic() > deadline:
                raise DemoError(failed())
            self._pause()

    def _first_waiting(self, producer: Child) -> bytes:
        """The oldest job on the queue, with no worker there yet: as Redis holds it."""
        found: list[bytes] = []

        def look() -> bool:
            raw = self._redis.lindex(QUEUE, -1)
            found.extend([raw] if isinstance(raw, bytes) else [])
            return bool(found) or bool(producer.ended())

        self._until(look, stage.READY_IN, lambda: "the producer has put nothing on the queue")
        if not found:
            producer.check()
        return found[0]

    def _work_off(self, producer: Child) -> None:
        """Wait until every job is over, showing how far things are."""
        with self._report.progress(JOBS) as advance:

            def over() -> bool:
                if producer.ended():
                    producer.check()
                count = self._redis.llen(COMPLETED) + self._redis.llen(DEAD_LETTER)
                advance(count)
                return count >= JOBS

            self._until(over, _JOBS_LIMIT, lambda: f"{JOBS} jobs were not done within {_JOBS_LIMIT:.0f} s")

    def _spans_of(self, jobs: Sequence[Job]) -> Received:
        """Wait for the spans of these jobs."""
        wrong: list[str] = []

        def arrived() -> bool:
            wrong[:] = evidence.complaints(jobs, self._receiver.received().spans)
            return not wrong

        def failed() -> str:
            more = [f"and {len(wrong) - _SHOWN} more"] if len(wrong) > _SHOWN else []
            log = ["what redspan says:", *self._sidecar.process.tail()]
            return "\n".join(["the traces are not what they should be:", *wrong[:_SHOWN], *more, *log])

        self._until(arrived, _SPANS_LIMIT, failed)
        return self._receiver.received()

    def _compare(self, sent: Sequence[str], waiting: bytes, jobs: Sequence[Job]) -> None:
        """Each job that was done at once, as it was sent and as its worker received it."""
        if not waiting.startswith(sent[0].encode()[:-1]):
            raise DemoError(f"the first job in Redis is not the first that was sent: {waiting!r}")
        by_id = {evidence.job_id(text): text for text in sent}
        if by_id.keys() != {job.id for job in jobs}:
            raise DemoError("the jobs that are over are not those that were sent")
        first: Added | None = None
        at_once = [job for job in jobs if job.attempts == 1]
        for job in at_once:
            difference = evidence.added(by_id[job.id], job.stored)
            if difference is None:
                raise DemoError(f"sent was {by_id[job.id]}, received was {job.stored!r}")
            if job.stored == waiting:
                first = difference
        if first is None:
            raise DemoError(f"what was received is not what Redis held: {waiting!r}")
        left = sum(self._redis.llen(key) for key in self._redis.keys(f"{QUEUE}:processing:*"))
        if left:
            raise DemoError(f"{left} jobs are still on the lists of their workers: their bytes did not match")
        self._report.bytes(sent[0], first, len(at_once))

    def _idle(self, before: Received) -> None:
        asked = self._polls()
        deadline = time.monotonic() + IDLE
        while time.monotonic() < deadline:
            self._pause()
        more = len(self._receiver.received().spans) - len(before.spans)
        if more:
            raise DemoError(f"{more} spans came while the workers had nothing to do")
        self._report.idle(WORKERS, IDLE, self._polls() - asked)

    def _polls(self) -> int:
        """How often Redis was asked for a job."""
        stats = self._redis.info("commandstats")
        return int(stats["cmdstat_brpoplpush"]["calls"])

    def _metrics(self) -> None:
        status, page = stage.get(self._sidecar.admin, "/metrics")
        lines = excerpt(page)
        if status != 200 or not lines:
            raise DemoError(
                f"http://{self._sidecar.admin}/metrics answered {status or 'nothing'}, without a metric of use"
            )
        self._report.metrics(self._sidecar.admin, lines)


def _examples(jobs: Sequence[Job], spans: Sequence[Span]) -> dict[str, Sequence[Span]]:
    """A trace of each kind, by what to say of it."""
    wanted: dict[str, Callable[[Job], bool]] = {
        "A job that succeeded": lambda job: not job.dead and job.attempts == 1,
        "A job that failed, was queued again and succeeded: both attempts in one trace": (
            lambda job: not job.dead and job.attempts > 1
        ),
        "A job that was given up": lambda job: job.dead,
    }
    by_job = evidence.traces(spans)
    found = {name: next(filter(matches, jobs), None) for name, matches in wanted.items()}
    for name, job in found.items():
        if job is None:
            raise DemoError(f"there was none of these: {name}")
    return {name: by_job[job.id] for name, job in found.items() if job is not None}


def _is_over(spans: Sequence[Span], now: int) -> bool:
    ended = any(span.operation is Operation.PROCESS for span in spans)
    return ended and now - max(span.end for span in spans) > (_QUIET + stage.EXPORT_EVERY) * 1e9
