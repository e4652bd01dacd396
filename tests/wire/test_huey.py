"""huey 3.5's exact commands, replayed."""

from __future__ import annotations

import gzip
import pickle
import zlib
from datetime import datetime

import pytest
from huey.registry import Message
from huey.serializer import SignedSerializer

from proxy.tracer import attributes as a
from tests.frameworks import huey
from tests.playbook import play
from tests.wire.binary import bulk, command
from tests.wire.huey_says import (
    ID,
    IDLE,
    LATER,
    ONE,
    OVER,
    QUEUE,
    RESULTS,
    SCHEDULE,
    SHA,
    STAMP,
    START,
    aside,
    context,
    due,
    error,
    pop,
    push,
    stored,
    task,
    unique,
)


def test_a_task_is_one_trace_that_follows_from_its_id() -> None:
    run = play(
        push(task())
        + pop(task())
        + START
        + OVER
        + stored(3)
        + IDLE
        + f"""
        event enqueue queue=app number=1 carry=derived
        event dequeue queue=app
        event start   ref={ID}
        event over    ref={ID} verdict=success
        event settle  ref={ID} verdict=success
        """,
        huey(),
    )
    assert run.tree() == ONE
    unique(run)
    enqueue, dequeue, process = run.spans
    assert (enqueue.trace_id.hex(), enqueue.span_id.hex()) == context()
    assert {(span.job.fields.id, span.job.fields.type) for span in run.spans} == {(ID, "shop.mail")}
    assert process.start > dequeue.end
    assert a.PARENT_UNVERIFIED not in dequeue.facts
    assert a.END_INFERRED not in process.facts


def test_the_workers_own_sidecar_computes_the_same() -> None:
    run = play(pop(task()) + START + OVER + stored(error(0)), huey())
    assert run.tree() == "queue.dequeue CLIENT app (?)\n  job.process CONSUMER app failure !KeyError"
    dequeue = run.spans[0]
    assert (dequeue.trace_id.hex(), dequeue.parent_id.hex()) == context()
    assert dequeue.facts[a.PARENT_UNVERIFIED]
    unique(run)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("eta", [None, LATER], ids=["at once", "later"])
def test_every_pickle_protocol_is_read(protocol: int, eta: datetime | None) -> None:
    value = task(3, eta, protocol)
    identity, fields = huey().identity(value), huey().fields(value)
    assert identity is not None
    assert (identity.submission, identity.attempt) == (ID.encode(), 3)
    assert (fields.id, fields.type) == (ID, "shop.mail")
    short = huey().summary(value)
    assert huey().identity(short) == identity
    assert huey().fields(short) == fields
    assert b"secret" not in short


@pytest.mark.parametrize(
    "wrap",
    [zlib.compress, gzip.compress, SignedSerializer("key")._sign, lambda value: STAMP + zlib.compress(value)],
    ids=["zlib", "gzip", "signed", "zlib, by priority"],
)
def test_compressed_and_signed_tasks_are_read_and_left_as_they_are(wrap) -> None:  # type: ignore[no-untyped-def]
    value = wrap(task())
    run = play(push(value) + pop(value) + START + OVER + stored(1), huey())
    assert run.tree() == ONE
    unique(run)


def test_priorities() -> None:
    value = STAMP + pickle.dumps(Message(ID, "shop.mail", None, 0, 0, 7, (), {}), 5)
    run = play(
        f"""
        producer >> {command("ZADD", QUEUE, "-7", value)}
        producer << :1
        worker >> HELLO 3
        worker << %["proto", :3]
        worker >> BZPOPMIN {QUEUE} 1
        worker << nil3
        worker >> BZPOPMIN {QUEUE} 1
        worker << ["{QUEUE}", {bulk(value)}, raw ",-7\\r\\n"]
        """
        + START
        + OVER
        + stored(1),
        huey(),
    )
    assert run.tree() == ONE
    unique(run)
    assert {span.job.fields.priority for span in run.spans} == {"7"}
    assert {span.job.fields.enqueued_at for span in run.spans} == {1_700_000_000 * 10**9}


def test_the_wait_between_two_hosts_follows_from_the_stamp() -> None:
    value = STAMP + task()
    run = play(f'worker >> ZPOPMIN {QUEUE} 1\nworker << [{bulk(value)}, "0"]', huey())
    assert run.spans[0].facts[a.WAIT_SOURCE] == "envelope"


def test_expiring_results() -> None:
    run = play(
        push(task())
        + pop(task())
        + f"""
        worker >> MGET huey.r.app.r:{ID} huey.r.app.rt:shop.mail
        worker << [nil, nil]
        worker >> DEL huey.r.app.r:{ID}
        worker << :0
        worker >> {command("SET", f"huey.r.app.{ID}", pickle.dumps(1), "EX", "86400")}
        worker << +OK
        worker >> {command("SET", "huey.r.app.app.lock.one", pickle.dumps("1"), "NX")}
        worker << +OK
        """,
        huey(),
    )
    assert run.tree() == ONE
    unique(run)


def test_a_task_that_stores_nothing_has_succeeded_as_far_as_can_be_told() -> None:
    run = play(push(task()) + pop(task()) + START + OVER + IDLE, huey())
    assert run.tree() == ONE
    process = run.spans[-1]
    assert process.facts[a.END_INFERRED]
    assert process.end == run.events[-1].done  # when it was over, not when nobody had said any more


def test_without_results_its_end_is_known_and_no_more() -> None:
    run = play(push(task()) + pop(task()) + START + OVER + IDLE, huey(results=False))
    assert run.tree() == ONE.removesuffix(" success")


def test_a_periodic_task_has_no_end() -> None:
    run = play(push(task()) + pop(task()) + START + IDLE, huey())
    assert run.tree() == "queue.enqueue PRODUCER app\n  queue.dequeue CLIENT app"


@pytest.mark.parametrize("revocation", [(None, True), (None, False)])
def test_a_revoked_task_has_failed(revocation: tuple[None, bool]) -> None:
    run = play(
        push(task())
        + pop(task())
        + START.replace("[nil,", f"[{bulk(pickle.dumps(revocation, 5))},")
        + OVER.replace(":0", ":1"),
        huey(),
    )
    assert run.tree() == ONE.replace("success", "failure !revoked")


def test_a_revocation_that_has_passed_is_taken_back() -> None:
    passed = pickle.dumps((datetime(2020, 1, 1), False), 5)  # noqa: DTZ001 - as huey stores it
    run = play(
        push(task())
        + pop(task())
        + START.replace("[nil,", f"[{bulk(passed)},")
        + OVER.replace(":0", ":1")
        + OVER
        + stored(1),
        huey(),
    )
    assert run.tree() == ONE


def test_what_else_is_stored_among_the_results() -> None:
    run = play(
        push(task())
        + pop(task())
        + START
        + "".join(stored(1, other) for other in (f"r:{ID}", "rt:shop.mail", "chord:1:2", "app.rl.mails.w"))
        + stored(error(0, ID), "the-next-in-the-pipeline")
        + f"""
        producer >> MULTI
        producer >> HGET {RESULTS} {ID}
        producer >> HDEL {RESULTS} {ID}
        producer >> EXEC
        producer << raw "+OK\\r\\n+QUEUED\\r\\n+QUEUED\\r\\n*2\\r\\n$-1\\r\\n:0\\r\\n"
        event enqueue
        event dequeue
        event start
        """,
        huey(),
    )
    assert run.lifecycle.measures.orphans == 0


def test_queues_that_are_emptied() -> None:
    run = play(
        push(task())
        + f"""
        producer >> DEL {QUEUE}
        producer << :1
        producer >> DEL {SCHEDULE}
        producer << :0
        producer >> DEL {RESULTS}
        producer << :1
        event enqueue
        event purge queue=app
        """,
        huey(),
    )
    assert run.tree() == "queue.enqueue PRODUCER app\nqueue.purge CLIENT app"


def test_many_tasks_in_one_transaction() -> None:
    second = task().replace(b"e5f8", b"0000")
    run = play(
        f"""
        producer >> MULTI
        producer >> {command("LPUSH", QUEUE, task())}
        producer >> {command("LPUSH", QUEUE, second)}
        producer >> EXEC
        producer << raw "+OK\\r\\n+QUEUED\\r\\n+QUEUED\\r\\n*2\\r\\n:1\\r\\n:2\\r\\n"
        event enqueue number=1
        event enqueue number=2
        """,
        huey(),
    )
    assert len({span.trace_id for span in run.spans}) == 2


class _Other:
    pass


LOOK_ALIKES = [
    b"",
    b"\x80",
    b"{}",
    b"\0" * 8,
    STAMP,
    b"\x78\x9c nothing",
    zlib.compress(b"{}"),
    task()[:60],
    pickle.dumps((ID, "shop.mail"), 5),
    pickle.dumps(_Other(), 5),
    task().replace(b"Message", b"Massage"),
    b"\x80\x05cos\nsystem\n(S'echo'\ntR.",
    b"\x80\x05\x8c\rhuey.registry\x94\x8c\x07Message\x94\x93\x94(" + b"\x8c\xff",
]


@pytest.mark.parametrize("value", LOOK_ALIKES, ids=range(len(LOOK_ALIKES)))
def test_what_only_looks_like_a_task_passes(value: bytes) -> None:
    run = play(
        push(value)
        + pop(value)
        + aside(value)
        + due(value)
        + f"""
        other >> {command("LPUSH", "huey.notify.app.1", task())}
        other << :1
        other >> {command("LPUSH", QUEUE, value, value)}
        other << :2
        other >> EVALSHA {SHA} 1 other 1
        other << [{bulk(task())}]
        """,
        huey(),
    )
    assert run.events == []
    assert run.blind == {}
