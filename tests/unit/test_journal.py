"""Lines for other programs: to a file that is rotated, to a pipe that nobody reads."""

from __future__ import annotations

import json
import os
from pathlib import Path
from threading import Timer

import pytest

from proxy.config.links import TraceLinks
from proxy.events import Op, Verdict
from proxy.frameworks.base import Fields
from proxy.tracer.happened import EVENTS, Happened
from proxy.tracer.journal import LIMIT, Journal
from proxy.tracer.redaction import Redaction
from proxy.tracer.span import JobFacts
from proxy.tracer.stories import Stories
from tests.playbook import START
from tests.unit.test_lifecycle import ack, dequeue, enqueue, event, lifecycle, run

MEMBERS = (
    "time", "event", "job_id", "type", "queue", "trace_id", "correlation_id", "attempt", "max_attempts", "duration_ms",
    "error", "trace_url", "inferred",
)  # fmt: skip
STORIES = Stories(TraceLinks(backend="jaeger", url="http://jaeger:16686"), "redspan", Redaction())


def test_an_event_has_these_members_and_no_others() -> None:
    life = lifecycle(correlation_id="order")
    life.listen()
    job = b'{"id":"7","type":"charge","order":"ada@mail.example"}'
    run(life, enqueue(0, value=job), dequeue(1, value=job))
    run(life, event(Op.DEAD_LETTER, 4, key=b"dead", value=job, verdict=Verdict.FAILURE), ack(5, value=job))
    told = [json.loads(STORIES.line(one)) for one in life.happened()]
    assert [one["event"] for one in told] == ["job.enqueued", "job.started", "job.dead"]
    assert all(tuple(one) == MEMBERS for one in told)
    dead = told[-1]
    url = dead.pop("trace_url")
    assert url.startswith(f"http://jaeger:16686/trace/{dead['trace_id']}")
    assert dead | {"trace_id": ""} == {
        "time": "2023-11-14T22:13:20.006000Z",
        "event": "job.dead",
        "job_id": "7",
        "type": "charge",
        "queue": "jobs",
        "trace_id": "",
        # What is personal is masked here, too.
        "correlation_id": "[email]",
        "attempt": 1,
        "max_attempts": None,
        "duration_ms": 4.0,
        "error": "dead_letter",
        "inferred": False,
    }


def test_whatever_is_in_a_name_a_line_is_a_line() -> None:
    facts = JobFacts(framework="list", queue="a\nb\udc80\x00", key="", fields=Fields(type='"\\'))
    for name in EVENTS:
        line = STORIES.line(Happened(name, START, "\u2028" * 5000, facts, bytes(16), bytes(8), sampled=False))
        assert b"\n" not in line
        assert len(line) < 4096
        assert json.loads(line)["trace_url"] is None


def test_a_file_that_was_moved_away_is_opened_anew(tmp_path: Path) -> None:
    file = tmp_path / "events"
    journal = Journal(str(file))
    journal.add(b"1")
    journal.flush()
    file.rename(tmp_path / "events.1")
    journal.add(b"2")
    journal.flush()
    journal.close()
    assert ((tmp_path / "events.1").read_bytes(), file.read_bytes()) == (b"1\n", b"2\n")
    assert (journal.written, journal.dropped) == (2, 0)


def test_nobody_reads_a_pipe_and_nobody_waits_for_it(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    journal = Journal(str(pipe))
    line = b"x" * 1000
    for _ in range(2 * LIMIT):
        journal.add(line)
    journal.flush()
    assert 0 < journal.written < 100
    assert journal.dropped == LIMIT
    # Whole lines, however much of them there is.
    assert os.read(reader, 10_000).split(b"\n")[:2] == [line, line]
    written = journal.written
    journal.flush()
    assert journal.written > written
    os.close(reader)
    journal.flush()
    assert journal.dropped + journal.written == 2 * LIMIT
    journal.close()


def test_nobody_waits_for_who_will_read_a_pipe(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    readers: list[int] = []
    rescue = Timer(5, lambda: readers.append(os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)))
    rescue.start()
    try:
        journal = Journal(str(pipe))
        assert not readers
    finally:
        rescue.cancel()
    journal.add(b"1")
    journal.flush()
    assert (journal.written, journal.dropped) == (0, 1)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    journal.add(b"2")
    journal.flush()
    assert os.read(reader, 10) == b"2\n"
    os.close(reader)
    journal.close()


def test_where_nothing_can_be_written(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Journal(str(tmp_path / "no" / "such" / "folder"))
    journal = Journal("/dev/full")
    journal.add(b"1")
    journal.flush()
    assert (journal.written, journal.dropped) == (0, 1)
    journal.close()
