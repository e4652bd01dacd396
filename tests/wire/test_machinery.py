"""What machinery sends, replayed."""

from __future__ import annotations

import json
from typing import Any

import pytest

from proxy.tracer import attributes as a
from tests.frameworks import celery, machinery
from tests.playbook import START, play, trace_id, traceparent
from tests.wire.lines import ENDED, ONE, array, bulk, command, raw

ID = "task_3f0a4b1e-52f7-4c43-9c7f-0d1e2f3a4b5c"
DUE = START + 50 * 10**6
ETA = "2023-11-14T22:13:20.05Z"
OLD = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
QUEUED = b"+OK\r\n+QUEUED\r\n"


def signature(number: int = 0, **said: Any) -> str:
    """As Go writes it; ``number``: with a context."""
    headers: dict[str, Any] = {"note": "private"}
    if number:
        headers["traceparent"] = traceparent(number)
    whole: dict[str, Any] = {
        "UUID": ID, "Name": "send", "RoutingKey": "mails", "ETA": None, "GroupUUID": "", "GroupTaskCount": 0,
        "Args": [{"Name": "", "Type": "string", "Value": "a@x"}], "Headers": headers, "Priority": 0,
        "Immutable": False, "RetryCount": 0, "RetryTimeout": 0, "OnSuccess": None, "OnError": None,
        "ChordCallback": None, "BrokerMessageGroupId": "", "SQSReceiptHandle": "", "StopTaskDeletionOnError": False,
        "IgnoreWhenTaskNotRegistered": False,
    }  # fmt: skip
    return json.dumps({**whole, **said}, separators=(",", ":"))


def push(number: int = 1, **said: Any) -> str:
    return f"""
    producer >> {command("RPUSH", "mails", signature(**said))}
    redis    >> {command("RPUSH", "mails", signature(number, **said))}
    producer << :1
    """


def again(**said: Any) -> str:
    """A push of one that has its context."""
    return f"poller >> {command('RPUSH', 'mails', signature(1, **said))}\npoller << :1\n"


def pop(number: int = 1, **said: Any) -> str:
    reply = b"*2\r\n" + bulk("mails") + bulk(signature(number, **said))
    return f"worker >> BLPOP mails 1\nworker << {raw(reply)}\n"


def state(word: str, uuid: str = ID) -> str:
    told = json.dumps({"TaskUUID": uuid, "TaskName": "send", "State": word, "Results": None, "Error": "secret"})
    return f"told >> {command('SET', uuid, told, 'EX', 3600)}\ntold << +OK\n"


def put_aside(number: int = 1, *, key: str = "delayed_tasks", written: bool = False, **said: Any) -> str:
    """``written``: its context is written by this very command."""
    before = signature(0 if written else number, **said)
    return f"""
    producer >> {command("ZADD", key, DUE, before)}
    redis    >> {command("ZADD", key, DUE, signature(number, **said))}
    producer << :1
    """


def taken_out(number: int = 1, **said: Any) -> str:
    return f"""
    poller >> WATCH delayed_tasks
    poller << +OK
    poller >> MULTI
    poller >> {command("ZREM", "delayed_tasks", signature(number, **said))}
    poller >> EXEC
    poller << {raw(QUEUED + array(1))}
    """


RAN = state("RECEIVED") + state("STARTED")


def test_a_task_is_one_trace_from_its_enqueue_to_its_end() -> None:
    run = play(
        state("PENDING")
        + push()
        + pop()
        + RAN
        + state("SUCCESS")
        + f"""
        event enqueue queue=mails carry=written
        event dequeue queue=mails
        event start   ref={ID}
        event settle  ref={ID} verdict=success
        """,
        machinery(),
    )
    assert run.tree() == ONE
    enqueue, dequeue, process = run.spans
    assert (enqueue.trace_id, dequeue.parent_id) == (trace_id(1), enqueue.span_id)
    # It waits in its worker's memory until it begins.
    assert process.start > dequeue.end
    assert (process.job.fields.id, process.job.fields.type) == (ID, "send")
    assert "a@x" not in str(run.spans)
    assert run.lifecycle.measures.orphans == 0


def test_a_task_that_has_failed() -> None:
    run = play(push() + pop() + RAN + state("FAILURE"), machinery())
    assert run.tree() == ENDED.format("failure !failure")
    assert "secret" not in str(run.spans)


def test_a_task_for_later_is_taken_out_and_pushed_by_a_worker() -> None:
    later: dict[str, Any] = {"ETA": ETA}
    run = play(
        put_aside(written=True, **later)
        + taken_out(**later)
        + again(**later)
        + pop(**later)
        + RAN
        + state("SUCCESS")
        + f"""
        event schedule queue=mails carry=written number={DUE // 10**6}
        event move     queue=mails
        event enqueue  queue=mails carry=found
        event dequeue  queue=mails
        event start    ref={ID}
        event settle   ref={ID}
        """,
        machinery(),
    )
    aside, moved, dequeue, process = run.spans
    assert {span.trace_id for span in run.spans} == {trace_id(1)}
    assert (moved.parent_id, dequeue.parent_id, process.parent_id) == (aside.span_id, aside.span_id, dequeue.span_id)
    assert a.SCHEDULED_MS in moved.facts
    assert dequeue.job.fields.scheduled_at == DUE


def test_a_retry_is_put_aside_and_linked_to_the_failed_attempt() -> None:
    later: dict[str, Any] = {"ETA": ETA, "RetryTimeout": 1}
    run = play(
        push(RetryCount=1)
        + pop(RetryCount=1)
        + RAN
        + state("RETRY")
        + state("PENDING")
        + put_aside(**later)
        + taken_out(**later)
        + again(**later)
        + pop(**later)
        + RAN
        + state("SUCCESS"),
        machinery(),
    )
    failed, done = (span for span in run.spans if span.operation.value == "job.process")
    assert (failed.error, done.error) == ("retry", "")
    assert failed.span_id in [link.span_id for link in done.links]
    assert [span.job.fields.attempt for span in (failed, done)] == [0, 1]
    assert {span.trace_id for span in run.spans} == {trace_id(1)}


def test_a_task_of_a_chain_is_linked_to_the_one_before() -> None:
    second = {**json.loads(signature()), "UUID": ID.replace("3f", "4f")}
    last = json.dumps(second, separators=(",", ":"))
    written = last.replace('"private"', f'"private","traceparent":"{traceparent(2)}"')
    run = play(
        push(OnSuccess=[second])
        + pop(OnSuccess=[second])
        + RAN
        + state("SUCCESS")
        + f"""
        worker >> {command("RPUSH", "mails", last)}
        redis  >> {command("RPUSH", "mails", written)}
        worker << :1
        """,
        machinery(),
    )
    process, enqueue = run.spans[-2:]
    assert (enqueue.trace_id, enqueue.links[0].span_id) == (trace_id(2), process.span_id)


def test_a_context_that_is_there_is_joined() -> None:
    given = signature(1).replace(traceparent(1), OLD)
    run = play(f"producer >> {command('RPUSH', 'mails', given)}\nproducer << :1", machinery())
    assert (run.spans[0].trace_id.hex(), run.spans[0].kind.name) == (OLD.split("-")[1], "CLIENT")


def test_without_results_in_redis_there_is_no_end() -> None:
    assert play(push() + pop(), machinery()).tree() == ONE.rpartition("\n")[0]


def test_observed_without_writing() -> None:
    run = play(push(0) + pop(0) + RAN + state("SUCCESS"), machinery(inject=False))
    assert run.tree() == ONE
    assert run.injections == {"disabled": 1}


def test_an_id_of_the_users_own_has_no_end() -> None:
    own: dict[str, Any] = {"UUID": "mine"}
    run = play(push(**own) + pop(**own) + state("STARTED", "mine") + state("SUCCESS", "mine"), machinery())
    assert [event.op.name for event in run.events] == ["ENQUEUE", "DEQUEUE"]


def test_refused_or_never_answered() -> None:
    sent = push().replace("producer << :1", "producer :: closes")
    assert play(sent, machinery()).events[0].outcome.name == "UNKNOWN"
    full = put_aside(written=True).replace("producer << :1", "producer << -OOM no")
    assert play(full, machinery()).tree() == "queue.enqueue PRODUCER mails !OOM"


def test_one_that_was_taken_by_somebody_else_meanwhile() -> None:
    nil = taken_out().rsplit("poller <<", 1)[0] + f"poller << {raw(QUEUED + b'*-1' + QUEUED[-2:])}"
    run = play(put_aside(written=True) + nil, machinery())
    assert [event.op.name for event in run.events] == ["SCHEDULE"]


def test_another_key_for_delayed_tasks() -> None:
    run = play(put_aside(written=True, key="later"), machinery(delayed_tasks_key="later"))
    assert run.injections == {"written": 1}


def test_long_tasks_travel_without_their_arguments() -> None:
    run = play(pop(Args=[{"Name": "", "Type": "string", "Value": "x" * 5000}]), machinery())
    assert len(run.events[0].value) < 1000
    assert (run.spans[0].job.fields.id, run.spans[0].trace_id) == (ID, trace_id(1))


UNTOUCHED = {
    "another queue's": command("RPUSH", "letters", signature()),
    "no name": command("RPUSH", "mails", signature(Name="")),
    "no headers": command("RPUSH", "mails", signature().replace('"Headers"', '"Header"')),
    "no arguments": command("RPUSH", "mails", signature().replace('"Args"', '"Arg"')),
    "one of them is none": command("RPUSH", "mails", signature(), "{}"),
    "cut short": command("RPUSH", "mails", signature()[:-1]),
    "aside, but no task": command("ZADD", "delayed_tasks", DUE, '{"UUID": 7}'),
    "aside, with an option": command("ZADD", "delayed_tasks", "NX", DUE, signature()),
    "no state": command("SET", ID, "{}"),
    "another's state": command("SET", ID, '{"TaskUUID": "x", "State": "SUCCESS"}'),
    "no task": command("SET", "task_1", '{"TaskUUID": "task_1", "State": "SUCCESS"}'),
}


@pytest.mark.parametrize("sends", UNTOUCHED.values(), ids=UNTOUCHED)
def test_what_only_looks_like_it_passes_untouched(sends: str) -> None:
    run = play(f"c >> {sends}\nc << :1", celery(), machinery())
    assert (run.events, run.injections, run.notices) == ([], {}, [])


def test_headers_that_are_none_are_left() -> None:
    run = play(f"producer >> {command('RPUSH', 'mails', signature(Headers=None))}\nproducer << :1", machinery())
    assert (run.injections, len(run.events)) == ({"not_object": 1}, 1)
