"""RQ 3.0's exact commands, and where 1.16 has others, its: replayed."""

from __future__ import annotations

import pytest

from proxy.context.derive import Deriver
from proxy.tracer.attributes import WORKER_ID
from tests.frameworks import rq
from tests.playbook import play

ID = "e5a83d4a-e106-4680-a9a1-9b6174b456e0"
CREATED = "2023-11-14T22:13:20.100000Z"
KEY = f"rq:job:{ID}"
OK2 = 'raw "+OK\\r\\n+QUEUED\\r\\n+QUEUED\\r\\n*2\\r\\n:1\\r\\n:1\\r\\n"'
OK3 = 'raw "+OK\\r\\n+QUEUED\\r\\n+QUEUED\\r\\n+QUEUED\\r\\n*3\\r\\n:1\\r\\n:15\\r\\n:1\\r\\n"'


def context(hop: bytes = b"") -> str:
    """What follows from the job's id and time."""
    submission = f"{len(ID)}:{ID}{CREATED}".encode()
    deriver = Deriver()
    trace_id = deriver.trace_id("rq", submission)
    span = deriver.span_id(trace_id, hop, 0)
    return f"00-{trace_id.hex()}-{span.hex()}-01"


def fields(*, started: str = "", enqueued: str = CREATED, more: str = "") -> str:
    return (
        f'created_at {CREATED} data "x\x9c secret" started_at "{started}" ended_at "" worker_name "" group_id "" '
        f'origin mails description "tasks.good(1, 2)" enqueued_at "{enqueued}" timeout 180{more}'
    )


ENQUEUE = f"""
    producer >> HELLO 3
    producer << %["proto", :3]
    producer >> MULTI
    producer >> HSET {KEY} status queued
    producer >> HSET {KEY} {fields()}
    redis    >> HSET {KEY} {fields()} traceparent {context()}
    producer >> RPUSH rq:queue:mails {ID}
    producer >> EXEC
    producer << {OK3}
"""
HASH = (
    f'%["created_at", "{CREATED}", "description", "tasks.good(1, 2)", '
    f'"enqueued_at", "{CREATED}", "traceparent", "{{}}"]'
)
OK4 = OK3.replace("*3", "+QUEUED\\r\\n*4")[:-1] + ':1\\r\\n"'
POP = f"""
    parent >> BLMOVE rq:queue:mails rq:queue:mails:intermediate LEFT RIGHT 405
    parent << "{ID}"
"""
READ = f"""
    parent >> HGETALL {KEY}
    parent << {HASH.format(context())}
"""
START = f"""
    horse >> MULTI
    horse >> HSET {KEY} last_heartbeat x status started started_at x worker_name w1
    horse >> LREM rq:queue:mails:intermediate 1 {ID}
    horse >> EXEC
    horse << {OK2}
"""


def ended(status: str) -> str:
    return f"""
    horse >> MULTI
    horse >> HSET {KEY} status {status}
    horse >> HSET {KEY} {fields(started=CREATED)}
    horse >> EXEC
    horse << {OK2}
    """


ONE = "queue.enqueue PRODUCER mails\n  queue.dequeue CLIENT mails\n    job.process CONSUMER mails success"


def test_a_job_is_one_trace_from_its_hash_to_its_end() -> None:
    run = play(
        ENQUEUE
        + POP
        + READ
        + START
        + ended("finished")
        + f"""
        event describe ref={ID} carry=written
        event enqueue  ref={ID} queue=mails number=1
        event dequeue  ref={ID} queue=mails
        event describe ref={ID}
        event start    ref={ID} worker=w1
        event settle   ref={ID} verdict=success
        """,
        rq(),
    )
    assert run.tree() == ONE
    enqueue, dequeue, process = run.spans
    assert {span.job.fields.type for span in run.spans} == {"tasks.good"}
    assert process.start > dequeue.end
    assert process.facts[WORKER_ID] == "w1"
    assert enqueue.trace_id.hex() == context().split("-")[1]
    assert "secret" not in str(run.spans)


def test_the_workers_own_sidecar_finds_the_context_in_the_hash() -> None:
    run = play(POP + READ + START + ended("failed"), rq())
    assert run.tree() == ("queue.dequeue CLIENT mails (?)\n  job.process CONSUMER mails failure !failure")
    dequeue = run.spans[0]
    assert f"00-{dequeue.trace_id.hex()}-{dequeue.parent_id.hex()}-01" == context()
    assert dequeue.job.fields.type == "tasks.good"
    assert run.lifecycle.measures.orphans == 0


def test_a_job_whose_hash_nobody_reads_is_traced_by_its_id() -> None:
    run = play(POP + START + ended("finished"), rq())
    assert run.tree() == "queue.dequeue CLIENT mails\n  job.process CONSUMER mails success"
    assert run.spans[0].job.fields.id == ID


def test_a_retry_is_linked_to_the_failed_attempt() -> None:
    run = play(
        ENQUEUE
        + POP
        + READ
        + START
        + f"""
        horse >> MULTI
        horse >> HSET {KEY} status queued
        horse >> HSET {KEY} {fields(started=CREATED, more=" retries_left 2")}
        horse >> RPUSH rq:queue:mails {ID}
        horse >> EXEC
        horse << {OK3}
        """
        + POP
        + READ
        + START
        + ended("finished"),
        rq(),
    )
    assert run.tree() == (
        "queue.enqueue PRODUCER mails\n"
        "  queue.dequeue CLIENT mails\n"
        "    job.process CONSUMER mails retry !retry\n"
        "  queue.enqueue CLIENT mails ~retry_of\n"
        "  queue.dequeue CLIENT mails\n"
        "    job.process CONSUMER mails success ~retry_of"
    )
    assert [span.job.fields.attempt for span in run.spans if span.operation == "job.process"] == [0, 1]
    assert run.injections == {"written": 1}


def test_a_retry_for_later_is_linked_too() -> None:
    again = f"HSET {KEY} {fields(started=CREATED, more=' retries_left 2')}"
    run = play(
        ENQUEUE
        + POP
        + READ
        + START
        + f"""
        horse >> MULTI
        horse >> {again}
        horse >> ZADD rq:scheduled:mails 1700000000 {ID}
        horse >> EXEC
        horse << {OK2}
        scheduler >> MULTI
        scheduler >> {again}
        scheduler >> RPUSH rq:queue:mails {ID}
        scheduler >> EXEC
        scheduler << {OK2}
        """
        + POP
        + READ
        + START
        + ended("finished"),
        rq(),
    )
    assert run.tree() == (
        "queue.enqueue PRODUCER mails\n"
        "  queue.dequeue CLIENT mails\n"
        "    job.process CONSUMER mails retry !retry\n"
        "  queue.enqueue CLIENT mails ~retry_of\n"
        "  queue.enqueue CLIENT mails\n"
        "  queue.dequeue CLIENT mails\n"
        "    job.process CONSUMER mails success ~retry_of"
    )


PUT_ASIDE = {
    "3.0": f"""
        producer >> HELLO 3
        producer << %["proto", :3]
        producer >> MULTI
        producer >> HSET {KEY} status scheduled
        producer >> HSET {KEY} {fields(enqueued="")}
        redis    >> HSET {KEY} {fields(enqueued="")} traceparent {context(b"z")}
        producer >> ZADD rq:scheduled:mails 1700000000 {ID}
        producer >> EXEC
        producer << {OK3}
    """,
    "1.16": f"""
        producer >> ZADD rq:scheduled:mails 1700000000 {ID}
        producer << :1
        producer >> MULTI
        producer >> SADD rq:queues rq:queue:mails
        producer >> HSET {KEY} {fields(enqueued="", more=" status scheduled")}
        redis    >> HSET {KEY} {fields(enqueued="", more=" status scheduled")} traceparent {context(b"z")}
        producer >> EXEC
        producer << {OK2}
    """,
}
"""1.16 stores a job only after it has put it aside: it does so outside of its transaction."""
DUE = f"""
    scheduler >> HGETALL {KEY}
    scheduler << {HASH.format(context(b"z"))}
    scheduler >> MULTI
    scheduler >> HSET {KEY} status queued
    scheduler >> HSET {KEY} {fields()}
    redis     >> HSET {KEY} {fields()} traceparent {context()}
    scheduler >> RPUSH rq:queue:mails {ID}
    scheduler >> ZREM rq:scheduled:mails {ID}
    scheduler >> EXEC
"""
MOVED = f"scheduler << {OK4}"
WAITED_TWICE = (
    "queue.enqueue PRODUCER mails\n"
    "  queue.enqueue PRODUCER mails\n"
    "    queue.dequeue CLIENT mails\n"
    "      job.process CONSUMER mails success"
)


@pytest.mark.parametrize("version", PUT_ASIDE)
def test_a_job_for_later_waits_twice_in_one_trace(version: str) -> None:
    run = play(PUT_ASIDE[version] + DUE + MOVED + POP + READ + START + ended("finished"), rq())
    assert run.tree() == WAITED_TWICE


@pytest.mark.parametrize("version", PUT_ASIDE)
def test_a_worker_can_have_a_job_for_later_before_the_scheduler_has_its_reply(version: str) -> None:
    run = play(PUT_ASIDE[version] + DUE + POP + READ + MOVED + START + ended("finished"), rq())
    assert run.tree() == WAITED_TWICE
    run = play(PUT_ASIDE[version] + DUE + POP + MOVED + READ + START + ended("finished"), rq())
    assert run.tree() == WAITED_TWICE


def test_a_scheduler_with_a_sidecar_of_its_own_can_be_slower_than_the_worker() -> None:
    """Who put the job aside is not seen here; whoever it was exports the first span."""
    run = play(DUE + POP + READ + MOVED + START + ended("finished"), rq())
    assert run.tree() == (
        "queue.enqueue PRODUCER mails\n  queue.dequeue CLIENT mails\n    job.process CONSUMER mails success"
    )


def test_a_job_that_its_worker_lost_is_given_to_another() -> None:
    run = play(ENQUEUE + POP + READ + START + POP + READ + START + ended("finished"), rq())
    assert run.tree() == (
        "queue.enqueue PRODUCER mails\n"
        "  queue.dequeue CLIENT mails\n"
        "    job.process CONSUMER mails retry !redelivered\n"
        "  queue.dequeue CLIENT mails ~redelivered_from\n"
        "    job.process CONSUMER mails success ~redelivered_from"
    )


def test_deleted_when_done_or_while_it_waits() -> None:
    gone = f"""
    horse >> DEL {KEY}
    horse << :1
    """
    assert play(ENQUEUE + POP + READ + START + gone, rq()).tree() == ONE
    assert play(ENQUEUE + gone, rq()).tree() == "queue.enqueue PRODUCER mails\n  queue.cancel CLIENT mails"


def test_observed_without_writing() -> None:
    plain = ENQUEUE.replace(f"    redis    >> HSET {KEY} {fields()} traceparent {context()}\n", "")
    bare = READ.replace(f', "traceparent", "{context()}"', "")
    run = play(plain + POP + bare + START + ended("finished"), rq(inject=False))
    assert run.tree() == ONE
    assert play(POP + bare + START + ended("finished"), rq(inject=False)).spans[0].trace_id == run.spans[0].trace_id


def test_what_is_no_job_passes() -> None:
    run = play(
        f"""
        c >> HSET rq:worker:x last_heartbeat 1
        c << :0
        c >> HSET {KEY} last_heartbeat 1
        c << :0
        c >> HGETALL {KEY}
        c << []
        c >> ZADD rq:wip:mails 17 {ID}:1
        c << :1
        c >> SADD rq:queues rq:queue:mails
        c << :1
        c >> BLPOP rq:queue:mails 1
        c << nil
        """,
        rq(),
    )
    assert run.events == []


def test_suspended_workers_are_seen_to_be_so_and_go_on() -> None:
    asks = """
        worker >> MULTI
        worker << +OK
        worker >> EXISTS rq:suspended
        worker << +QUEUED
        worker >> EXEC
        worker << [:{}]
        """
    resume = "admin >> DEL rq:suspended\nadmin << :1\n"
    run = play(asks.format(0) + asks.format(1) * 2 + resume + asks.format(0), rq())
    assert run.tree() == "queue.pause CLIENT rq:suspended\nqueue.resume CLIENT rq:suspended"
