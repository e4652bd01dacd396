"""When a job of Sidekiq's plain fetch is over, which nobody says: its threads' questions and heartbeats, replayed."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.events import Op
from proxy.tracer import attributes as a
from tests.frameworks import sidekiq
from tests.playbook import Line, Play, _perform, play
from tests.wire.sidekiq_lines import (
    JID,
    LOST,
    ONE,
    WORKER,
    ask,
    beat,
    failed,
    given,
    job,
    nothing,
    processes,
    push,
    sent,
    waited,
)


@pytest.mark.parametrize("nil", ["nil", "nil3", 'raw "*-1\\r\\n"'], ids=["RESP2", "RESP3", "as an array"])
def test_a_thread_that_waited_ends_nothing(nil: str) -> None:
    """Another thread waits, is told that there is nothing, and asks again, also by the connection of the first."""
    replied = nothing("b").replace("nil", nil)
    run = play(
        waited("a", "b") + push() + given("a", job(1)) + replied + ask("a") + replied.replace("b", "a"), sidekiq()
    )
    assert run.tree() == LOST


def test_it_is_the_process_that_counts_not_the_connection() -> None:
    run = play(waited("a", "b") + push() + given("a", job(1)) + nothing("b") + ask("a") + ask("b"), sidekiq())
    assert run.tree() == ONE
    (process,) = processes(run)
    # The first question was of the thread that had waited; the second one is that of the job's.
    assert process.end == run.events[-1].at


def test_of_two_jobs_one_is_over_and_the_other_one_fails() -> None:
    run = play(TWO + ask("b") + sent("ZADD", "retry", "1700000010.5", failed(), who="a") + ask("a"), sidekiq())
    by_id = {process.job.fields.id: process for process in processes(run)}
    assert (by_id["other"].end, by_id["other"].facts[a.STATUS]) == (run.events[-4].at, "success")
    assert a.END_UNCERTAIN not in by_id["other"].facts
    assert by_id[JID].error == "retry"


def test_a_new_thread_ends_nothing() -> None:
    run = play(waited("a") + push() + given("a", job(1)) + ask("new") + nothing("new") + ask("new"), sidekiq())
    assert run.tree() == LOST
    sure = play(waited("a") + push() + given("a", job(1)) + ask("new") + ask("a"), sidekiq())
    (process,) = processes(sure)
    # Unless it was no new thread, but a new connection.
    assert process.facts[a.END_UNCERTAIN] == (sure.events[-1].at - sure.events[-2].at) / 1e6


TWO = waited("a", "b") + push() + push(2, jid="other") + given("a", job(1)) + given("b", job(2, jid="other"))


def test_of_two_jobs_in_hand_it_is_not_said_which_is_over() -> None:
    first = play(TWO + ask("b"), sidekiq())
    assert first.tree() == LOST + "\n" + LOST
    run = play(TWO + ask("b") + sent("PING", reply="+PONG") + ask("a"), sidekiq())
    assert run.tree() == ONE + "\n" + ONE
    asked = [event.at for event in run.events if event.op is Op.ASK][-2:]
    for process in processes(run):
        assert process.end == asked[1]
        assert process.facts[a.END_UNCERTAIN] == (asked[1] - asked[0]) / 1e6
    # Bounds are no measurements.
    assert run.lifecycle.measures.process == {}
    assert run.lifecycle.measures.in_flight == {("sidekiq", "mails"): 0}


SECONDS = "x >> PING\nx << +PONG\n" * 6100
"""A line lasts a millisecond: 12 s."""


@pytest.mark.parametrize("key", ["workers", "work"], ids=["6.4", "7"])
def test_the_heartbeat_says_which_is_not_over(key: str) -> None:
    run = perform(TWO + ask("b") + SECONDS + beat(job(1), key=key))
    assert run.tree() == LOST + "\n" + ONE
    (process,) = processes(run)
    assert process.job.fields.id == "other"
    asked = [event.at for event in run.events if event.op is Op.ASK]
    assert process.end == asked[-1]
    assert process.facts[a.END_INFERRED] is True
    assert a.END_UNCERTAIN not in process.facts
    assert {event.worker for event in run.events if event.op is Op.HEARTBEAT} == {WORKER}


def test_every_worker_of_the_host_has_to_say_so() -> None:
    other = WORKER.replace("21783", "21784")
    run = perform(beat(worker=other) + TWO + ask("b") + SECONDS + beat(job(1)))
    assert run.tree() == LOST + "\n" + LOST
    said = perform(beat(worker=other) + TWO + ask("b") + SECONDS + beat(job(1)) + beat(worker=other))
    assert said.tree() == LOST + "\n" + ONE
    left = perform(
        beat(worker=other) + TWO + ask("b") + SECONDS + sent("SREM", "processes", other, who="beats") + beat(job(1))
    )
    assert left.tree() == LOST + "\n" + ONE


def test_a_job_that_was_given_out_just_now_may_not_be_on_the_list_yet() -> None:
    assert play(TWO + ask("b") + beat(job(1)), sidekiq()).tree() == LOST + "\n" + LOST


def perform(transcript: str) -> Play:
    """Played as it stands: what takes thousands of lines is not cut everywhere."""
    lines = [Line(text.strip(), at) for at, text in enumerate(transcript.split("\n")) if text.strip()]
    return _perform(lines, (sidekiq(),), {}, lambda data: [data])


def test_after_a_gap_who_asks_may_be_anybody() -> None:
    run = play(waited("a", "b") + push() + given("a", job(1)) + nothing("b") + ask("b") + ask("a"), sidekiq())
    lifecycle, spans = run.lifecycle, []
    for at, record in enumerate(run.records):
        if at == len(run.records) - 2:
            lifecycle.gap(0, 1)
        spans += lifecycle.feed(0, record)
    assert [span.operation.value for span in spans + lifecycle.flush()] == ["queue.enqueue", "queue.dequeue"]


@pytest.mark.parametrize("said", [{"retry": False}, {"retry": None}, {"retry": 0, "dead": False}])
def test_where_a_failure_would_be_silent_nothing_is_said_of_success(said: dict[str, Any]) -> None:
    run = play(waited("a") + push(**said) + given("a", job(1, **said)) + ask("a"), sidekiq())
    assert run.tree() == ONE.removesuffix(" success")


def test_one_that_has_failed_does_not_end_the_other() -> None:
    """Its thread asks next, and is known not to be the other's."""
    run = play(TWO + sent("ZADD", "retry", "1700000010.5", failed()) + ask("a"), sidekiq())
    assert [span.error for span in processes(run)] == ["retry"]
    both = play(TWO + sent("ZADD", "retry", "1700000010.5", failed()) + ask("a") + ask("b"), sidekiq())
    assert [(span.error, a.END_UNCERTAIN in span.facts) for span in processes(both)] == [("retry", False), ("", False)]
