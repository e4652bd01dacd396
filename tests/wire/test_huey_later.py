"""huey 3.5's retries and delays, replayed."""

from __future__ import annotations

import pytest

from proxy.tracer import attributes as a
from tests.frameworks import huey
from tests.playbook import play
from tests.wire.huey_says import (
    ID,
    IDLE,
    LATER,
    OVER,
    SCHEDULE,
    SHA,
    START,
    aside,
    context,
    due,
    error,
    pop,
    push,
    pushed_by_scheduler,
    stored,
    task,
    unique,
)

RETRY = """\
queue.enqueue PRODUCER app
  queue.dequeue CLIENT app
    job.process CONSUMER app retry !retry
queue.enqueue PRODUCER app ~retry_of
  queue.dequeue CLIENT app
    job.process CONSUMER app {} ~retry_of"""


@pytest.mark.parametrize("said", [stored(error(1)), ""], ids=["error stored", "not stored"])
def test_a_retry_is_linked_to_the_failed_attempt(said: str) -> None:
    run = play(
        push(task(1))
        + pop(task(1))
        + START
        + OVER
        + said
        + push(task(0)).replace("producer", "worker")
        + pop(task(0))
        + START
        + OVER
        + stored(error(0)),
        huey(),
    )
    assert run.tree() == RETRY.format("failure !KeyError")
    unique(run)
    assert [span.span_id.hex() for span in run.spans if span.operation.value == "queue.enqueue"] == [
        context(1)[1],
        context(0)[1],
    ]
    assert [span.job.fields.attempt for span in run.spans if span.operation.value == "job.process"] == [0, 1]


def test_a_retry_with_a_delay_goes_through_the_schedule() -> None:
    again = task(0, LATER)
    run = play(
        push(task(1))
        + pop(task(1))
        + START
        + OVER
        + stored(error(1))
        + aside(again)
        + IDLE
        + due(again)
        + pushed_by_scheduler(again)
        + pop(again)
        + START
        + OVER
        + stored("done"),
        huey(),
    )
    unique(run)
    assert run.tree() == (
        "queue.enqueue PRODUCER app\n"
        "  queue.dequeue CLIENT app\n"
        "    job.process CONSUMER app retry !retry\n"
        "queue.enqueue PRODUCER app ~retry_of\n"
        "  queue.enqueue CLIENT app\n"
        "  queue.dequeue CLIENT app\n"
        "    job.process CONSUMER app success ~retry_of"
    )


def test_a_retry_that_asks_for_no_delay_is_the_same_once_more() -> None:
    """RetryTask: the retries that are left are the same, and so are the bytes."""
    run = play(
        push(task())
        + pop(task())
        + START
        + OVER
        + push(task()).replace("producer", "worker")
        + pop(task())
        + START
        + OVER
        + stored(1),
        huey(),
    )
    unique(run)
    assert run.tree() == (
        "queue.enqueue PRODUCER app\n"
        "  queue.dequeue CLIENT app\n"
        "    job.process CONSUMER app retry !retry\n"
        "  queue.enqueue CLIENT app ~retry_of\n"
        "  queue.dequeue CLIENT app\n"
        "    job.process CONSUMER app success ~retry_of"
    )


def test_the_next_worker_may_be_faster_than_the_reply_to_the_retry() -> None:
    sent, answered = push(task(0)).replace("producer", "worker").strip().split("\n")
    run = play(
        push(task(1))
        + pop(task(1))
        + START
        + OVER
        + f"{sent}\n"
        + pop(task(0), "other")
        + f"{answered}\n"
        + START.replace("worker", "other")
        + OVER.replace("worker", "other")
        + stored(1).replace("worker", "other"),
        huey(),
    )
    assert run.tree() == (
        "queue.enqueue PRODUCER app\n"
        "  queue.dequeue CLIENT app\n"
        "    job.process CONSUMER app retry !retry\n"
        "queue.enqueue PRODUCER app\n"
        "  queue.dequeue CLIENT app ~retry_of\n"
        "    job.process CONSUMER app success ~retry_of"
    )
    unique(run)
    assert [span.job.fields.attempt for span in run.spans if span.operation.value == "job.process"] == [0, 1]


DELAYED = """\
queue.enqueue PRODUCER app
  queue.dequeue CLIENT app
  queue.enqueue CLIENT app
  queue.enqueue CLIENT app
  queue.dequeue CLIENT app
    job.process CONSUMER app success"""


def test_a_delayed_task_is_put_aside_by_a_worker_and_moved_by_the_scheduler() -> None:
    value = task(0, LATER)
    run = play(
        push(value)
        + pop(value)
        + aside(value)
        + IDLE
        + f"""
        scheduler >> EVALSHA {SHA} 1 {SCHEDULE} 1700000000.5
        scheduler << -NOSCRIPT No matching script. Please use EVAL.
        scheduler >> SCRIPT LOAD lua
        scheduler << "{SHA}"
        """
        + due()
        + due(value)
        + pushed_by_scheduler(value)
        + pop(value)
        + START
        + OVER
        + stored(1)
        + f"""
        event enqueue  queue=app
        event dequeue  queue=app
        event schedule queue=app
        event move     queue=app
        event enqueue  queue=app
        event dequeue  queue=app
        event start    ref={ID}
        event over     ref={ID}
        event settle   ref={ID}
        """,
        huey(),
    )
    assert run.tree() == DELAYED
    unique(run)
    moved = run.spans[3]
    assert a.SCHEDULED_MS in moved.facts
    assert [span.job.fields.attempt for span in run.spans if span.operation.value == "job.process"] == [0]


def test_the_scheduler_behind_another_sidecar_goes_by_the_same_ids() -> None:
    value = task(0, LATER)
    run = play(due(value) + pushed_by_scheduler(value), huey())
    assert run.tree() == "queue.enqueue CLIENT app (?)"
    assert (run.spans[0].trace_id.hex(), run.spans[0].parent_id.hex()) == context()
    assert a.SCHEDULED_MS not in run.spans[0].facts


def test_the_worker_behind_another_sidecar_goes_by_the_same_ids() -> None:
    value = task(0, LATER)
    run = play(pop(value) + aside(value) + pop(value) + START + OVER + stored(1), huey())
    assert {(span.trace_id.hex(), span.parent_id.hex()) for span in run.spans[:3]} == {context()}
    unique(run)
