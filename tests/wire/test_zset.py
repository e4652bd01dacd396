"""``frameworks.zset`` on the wire: delays, priorities, the hop to a list; and never a byte written."""

from __future__ import annotations

import pytest

from proxy.context.derive import Deriver
from proxy.tracer.attributes import LATE_MS, SCHEDULED_MS, WAIT_MS
from tests.frameworks import lists, zsets
from tests.playbook import START, play, traceparent

JOB = '{"id":"7"}'
NOW = START / 1e9
ADD = f"producer >> ZADD delayed {NOW} '{JOB}'\nredis << :1\n"
SUBMISSION = b"1:7"
TRACE = Deriver().trace_id("list", SUBMISSION)
WRITTEN = f'{{"id":"7","traceparent":"00-{TRACE.hex()}-{Deriver().span_id(TRACE).hex()}-01"}}'
MOVE = f"""
    mover >> ZREM delayed '{JOB}'
    redis << :1
    mover >> LPUSH jobs '{JOB}'
    redis >> LPUSH jobs '{WRITTEN}'
    redis << :1
    """
WORK = f"""
    worker >> BRPOPLPUSH jobs work 5
    redis  << '{WRITTEN}'
    worker >> LREM work 1 '{WRITTEN}'
    redis  << :1
    """
HOP = (
    "queue.enqueue PRODUCER delayed\n"
    "  queue.enqueue PRODUCER jobs\n"
    "    queue.dequeue CLIENT jobs\n"
    "      job.process CONSUMER jobs success"
)  # fmt: skip


def test_a_delayed_job_hops_to_a_list_in_one_trace_with_both_waits() -> None:
    run = play(ADD + MOVE + WORK, zsets(identity=("id",)), lists(identity=("id",)))
    assert run.tree() == HOP
    scheduled, pushed, dequeued, _ = run.spans
    assert scheduled.trace_id == TRACE
    assert scheduled.span_id == Deriver().span_id(TRACE, b"z")
    # Each line of the transcript is a millisecond.
    assert (pushed.facts[SCHEDULED_MS], pushed.facts[LATE_MS]) == (4.0, 5.0)
    assert (dequeued.facts[SCHEDULED_MS], dequeued.facts[WAIT_MS]) == (4.0, 3.0)
    assert run.injections == {"derived": 1, "written": 1}


def test_the_push_may_come_before_the_removal_or_with_it_in_a_transaction() -> None:
    push = f"mover >> LPUSH jobs '{JOB}'\nredis >> LPUSH jobs '{WRITTEN}'\n"
    first = f"{push}mover << :1\nmover >> ZREM delayed '{JOB}'\nmover << :1\n"
    together = (
        f"mover >> MULTI\nmover >> ZREM delayed '{JOB}'\n{push}mover >> EXEC\nmover << +OK +QUEUED +QUEUED [:1, :1]\n"
    )
    for hop in (first, together):
        assert play(ADD + hop + WORK, zsets(identity=("id",)), lists(identity=("id",))).tree() == HOP


def test_without_identity_the_two_legs_are_two_traces_with_a_link() -> None:
    written = f'{{"id":"7","traceparent":"{traceparent(1)}"}}'
    run = play(ADD + MOVE.replace(WRITTEN, written) + WORK.replace(WRITTEN, written), zsets(), lists())
    assert run.tree() == (
        "queue.enqueue PRODUCER delayed\n"
        "queue.enqueue PRODUCER jobs ~scheduled\n"
        "  queue.dequeue CLIENT jobs\n"
        "    job.process CONSUMER jobs success ~scheduled"
    )


def test_a_context_that_the_job_brought_is_kept_through_both() -> None:
    job = f'{{"id":"7","traceparent":"{traceparent(9)}"}}'
    run = play(
        f"""
        producer >> ZADD delayed {NOW} '{job}'
        redis << :1
        mover >> ZREM delayed '{job}'
        redis << :1
        mover >> LPUSH jobs '{job}'
        redis << :1
        """,
        zsets(),
        lists(),
    )
    assert {span.trace_id.hex() in traceparent(9) for span in run.spans} == {True}
    assert [span.operation for span in run.spans] == ["queue.enqueue", "queue.enqueue"]


def test_a_worker_that_claims_from_the_set_has_dequeued() -> None:
    look = f"worker >> ZRANGEBYSCORE delayed -inf {NOW + 1}\nredis << ['{JOB}']\n"
    run = play(ADD + look + f"worker >> ZREM delayed '{JOB}'\nredis << :1", zsets())
    assert run.tree() == "queue.enqueue PRODUCER delayed\n  queue.dequeue CLIENT delayed"


def test_removed_before_it_is_due_is_cancelled() -> None:
    run = play(
        f"producer >> ZADD delayed {NOW + 3600} '{JOB}'\nredis << :1\nproducer >> ZREM delayed '{JOB}'\nredis << :1",
        zsets(),
    )
    assert run.tree() == "queue.enqueue PRODUCER delayed\n  queue.cancel CLIENT delayed"


def test_a_claim_that_was_lost_is_nothing() -> None:
    run = play(ADD + f"worker >> ZREM delayed '{JOB}'\nredis << :0", zsets())
    assert [event.op.name for event in run.events] == ["SCHEDULE"]


@pytest.mark.parametrize("options", ["", "NX", "GT CH", "nx ch"])
def test_members_are_never_written_whatever_the_options(options: str) -> None:
    run = play(f"producer >> ZADD delayed {options} {NOW} '{JOB}' {NOW} '[2]'\nredis << :2", zsets())
    assert [event.op.name for event in run.events] == ["SCHEDULE", "SCHEDULE"]


@pytest.mark.parametrize(
    ("command", "reply"),
    [(f"ZADD delayed NX {NOW} x", ":0"), (f"ZADD delayed XX {NOW} x", ":0"), ("ZADD delayed INCR 5 x", '"5"'),
     ("ZADD delayed INCR 5 x", "nil"), ("ZADD delayed 5", "-ERR syntax error"), (f"ZADD other {NOW} x", ":1")],
)  # fmt: skip
def test_what_adds_nothing_is_nothing(command: str, reply: str) -> None:
    run = play(f"producer >> {command}\nredis << {reply}", zsets())
    assert (run.events, run.blind) == ([], {})


def test_added_again_only_the_time_has_changed() -> None:
    run = play(ADD + f"producer >> ZADD delayed CH {NOW + 60} '{JOB}'\nredis << :1", zsets())
    assert len(run.spans) == 1


@pytest.mark.parametrize(
    ("command", "reply", "count"),
    [
        ("ZPOPMIN delayed", f"['{JOB}', \"5\"]", 1),
        ("ZPOPMIN delayed 2", f"['{JOB}', \"5\", \"b\", \"6\"]", 2),
        ("ZPOPMAX delayed 2", f"[['{JOB}', raw \",5\\r\\n\"], [\"b\", raw \",6\\r\\n\"]]", 2),
        ("BZPOPMIN other delayed 0", f"[\"delayed\", '{JOB}', \"5\"]", 1),
        ("ZMPOP 1 delayed MIN COUNT 2", f"[\"delayed\", [['{JOB}', \"5\"], [\"b\", \"6\"]]]", 2),
        ("BZMPOP 1 2 other delayed MIN", f"[\"delayed\", [['{JOB}', \"5\"]]]", 1),
        ("BZPOPMIN delayed 1", "nil", 0),
        ("ZPOPMIN delayed", "[]", 0),
        ("ZMPOP 1 delayed MIN", "nil3", 0),
    ],
)  # fmt: skip
def test_every_way_to_pop(command: str, reply: str, count: int) -> None:
    run = play(f"worker >> {command}\nredis << {reply}", zsets())
    assert [event.op.name for event in run.events] == ["DEQUEUE"] * count
    assert run.blind == {}


def test_the_next_pop_can_end_a_job() -> None:
    pop = f'worker >> BZPOPMIN delayed 5\nredis << ["delayed", \'{JOB}\', "5"]\n'
    run = play(pop + "worker >> BZPOPMIN delayed 5", zsets(end="next_pop"))
    assert [span.operation for span in run.spans] == ["queue.dequeue", "job.process"]
