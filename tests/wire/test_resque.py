"""What Resque 3.0 sends, replayed."""

from __future__ import annotations

import json
from typing import Any

import pytest

from proxy.context.derive import Deriver
from proxy.events import Op
from proxy.tracer import attributes as a
from tests.frameworks import resque, rq, sidekiq
from tests.playbook import play, trace_id, traceparent
from tests.wire.lines import bulk, command, raw
from tests.wire.sidekiq_lines import JOB_ID

QUEUE, W = "resque:queue:mails", "vm:25493:mails,low"
KEY = f"resque:worker:{W}"
ONE = "queue.enqueue PRODUCER mails\n  queue.dequeue CLIENT mails\n    job.process CONSUMER mails success"
WRAPPER = "ActiveJob::QueueAdapters::ResqueAdapter::JobWrapper"


def job(number: int = 0, name: str = "Mailer", **said: Any) -> str:
    """As Ruby writes it; ``number``: with the context that the n-th injection has written."""
    context = {"traceparent": traceparent(number)} if number else {}
    return json.dumps({"class": name, "args": ["secret"], **said, **context}, separators=(",", ":"))


def active(executions: int = 0, header: str = "") -> str:
    inner = {"job_class": "Welcome", "job_id": JOB_ID, "arguments": ["secret"], "executions": executions}
    return job(0, WRAPPER, args=[inner], **({"traceparent": header} if header else {}))


def push(value: str = "", told: str = "", key: str = QUEUE) -> str:
    return f"""
    producer >> SADD resque:queues mails
    producer >> {command("RPUSH", key, value or job())}
    redis    >> {command("RPUSH", key, told or job(1))}
    producer << raw ":0\\r\\n:1\\r\\n"
    """


def pop(value: str = "", key: str = QUEUE) -> str:
    polled = "worker >> LPOP resque:queue:low\nworker << nil\n"
    return f"{polled}worker >> LPOP {key}\nworker << {raw(bulk(value or job(1)))}\n"


def start(payload: str = "", key: str = KEY) -> str:
    said = f'{{"queue":"mails","run_at":"2026-11-21T23:12:28Z","payload":{payload or job(1)}}}'
    return f"worker >> {command('SET', key, said)}\nworker << +OK\n"


def done(key: str = KEY, who: str = "worker") -> str:
    return f'{who} >> DEL {key}\n{who} >> INCRBY resque:stat:processed 1\n{who} << raw ":1\\r\\n:1\\r\\n"\n'


def failure(payload: str = "", who: str = "child", key: str = "resque:failed") -> str:
    said = {"failed_at": "2026/11/21 23:12:29 UTC", "payload": json.loads(payload or job(1)), "exception": "KeyError"}
    said |= {"error": "secret", "backtrace": ["secret"], "worker": W, "queue": "mails"}
    return f"{who} >> {command('RPUSH', key, json.dumps(said))}\n{who} << :1\n"


def test_a_job_is_one_trace_from_its_enqueue_to_its_end() -> None:
    run = play(
        push()
        + pop()
        + start()
        + done()
        + f"""
        event enqueue queue=mails number=1 carry=written
        event dequeue queue=mails
        event start   worker={W} dest={KEY}
        event ack     ref={KEY}
        """,
        resque(),
    )
    assert run.tree() == ONE
    enqueue, dequeue, process = run.spans
    assert (enqueue.trace_id, dequeue.parent_id, process.start) == (trace_id(1), enqueue.span_id, run.events[2].done)
    assert (process.facts[a.WORKER_ID], process.job.fields.type, process.job.fields.id) == (W, "Mailer", "")
    assert a.END_INFERRED not in process.facts
    assert "secret" not in str(run.spans)
    measures = run.lifecycle.measures
    assert (measures.orphans, measures.in_flight) == (0, {("resque", "mails"): 0})


@pytest.mark.parametrize("who", ["child", "worker"], ids=["its child says so", "its child was killed"])
def test_a_failure_is_told_by_the_child_and_ends_with_the_parent(who: str) -> None:
    run = play(push() + pop() + start() + failure(who=who) + done(), resque())
    assert run.tree() == ONE.replace("success", "failure !dead_letter")
    process = run.spans[-1]
    assert (process.facts[a.JOB_ERROR], process.end) == ("KeyError", run.events[-1].done)
    assert "secret" not in str(run.spans)


def test_a_worker_that_died_is_pruned_by_another() -> None:
    run = play(push() + pop() + start() + failure(who="other") + done(who="other"), resque())
    assert run.tree() == ONE.replace("success", "failure !dead_letter")


def test_one_that_died_and_is_not_missed_yet_has_no_end() -> None:
    assert "job.process" not in play(push() + pop() + start() + "worker :: closes", resque()).tree()


def test_the_workers_bytes_may_differ_from_those_that_it_was_given() -> None:
    """It decodes the job, and encodes it anew."""
    spaced = json.dumps(json.loads(job()))
    told = json.dumps(json.loads(job(1)))
    run = play(push(spaced, told) + pop(told) + start(job(1)) + done(), resque())
    assert run.tree() == ONE


def test_the_workers_own_sidecar_finds_the_context() -> None:
    run = play(pop() + start() + done(), resque())
    assert run.tree() == "queue.dequeue CLIENT mails (?)\n  job.process CONSUMER mails success"


def test_equal_jobs_are_told_apart_by_their_contexts() -> None:
    other = KEY.replace("25493", "25494")
    run = play(
        push()
        + push(told=job(2))
        + pop()
        + start()
        + pop(job(2)).replace("worker", "second")
        + start(job(2), other).replace("worker >>", "second >>").replace("worker <<", "second <<")
        + done(other)
        + failure()
        + done(),
        resque(),
    )
    assert run.tree() == ONE.replace("success", "failure !dead_letter") + "\n" + ONE


def test_a_job_of_active_job_keeps_its_trace_through_its_own_retries() -> None:
    derived = Deriver()
    trace = derived.trace_id("resque", JOB_ID.encode())
    stored = [active(at, f"00-{trace.hex()}-{derived.span_id(trace, b'', at).hex()}-01") for at in (0, 1)]
    run = play(
        push(active(), stored[0])
        + pop(stored[0])
        + start(stored[0])
        + push(active(1), stored[1]).replace("producer", "child")
        + done()
        + pop(stored[1])
        + start(stored[1])
        + done(),
        resque(),
    )
    second = ONE.replace("PRODUCER mails", "PRODUCER mails ~retry_of") + " ~retry_of"
    assert run.tree() == ONE.replace("success", "retry !retry") + "\n" + second
    assert {span.trace_id for span in run.spans} == {trace}
    assert {(span.job.fields.id, span.job.fields.type) for span in run.spans} == {(JOB_ID, "Welcome")}


def test_a_namespace_is_not_part_of_the_name() -> None:
    key = "shop:resque:queue:mails"
    worker = f"shop:{KEY}"
    run = play(
        push(key=key) + pop(key=key) + start(key=worker) + failure(key="shop:resque:failed") + done(worker), resque()
    )
    assert run.tree() == ONE.replace("success", "failure !dead_letter")


def test_a_context_that_a_tracer_has_put_there_is_kept() -> None:
    given = job(7, tracestate="a=b", baggage="c=d")
    run = play(push(given, given), resque())
    assert (run.injections, run.events[0].carry.name) == ({"kept": 1}, "FOUND")


def test_observed_without_writing() -> None:
    run = play(push(told=job()) + pop(job()) + start(job()) + done(), resque(inject=False))
    assert run.tree() == ONE
    assert run.spans[1].facts[a.PAIRING] == "digest"


def test_long_jobs_travel_without_their_arguments() -> None:
    long, told = job(args=["x" * 5000]), job(1, args=["x" * 5000])
    run = play(push(long, told) + pop(told) + start(told) + done(), resque())
    assert run.tree() == ONE
    assert all(len(event.value) < 300 for event in run.events)


def test_removed_by_hand() -> None:
    run = play(push() + f"admin >> {command('LREM', QUEUE, 0, job(1))}\nadmin << :1", resque())
    assert [event.op for event in run.events] == [Op.ENQUEUE, Op.CANCEL]


def test_a_worker_says_goodbye() -> None:
    run = play(f"worker >> DEL {KEY}\nworker << :0\nworker >> DEL {KEY}:started\nworker << :1", resque())
    assert run.records == []


UNTOUCHED = {
    "a job of Sidekiq's": ("RPUSH", QUEUE, job(jid="5ea3")),
    "a member more": ("RPUSH", QUEUE, job(id=1)),
    "no arguments": ("RPUSH", QUEUE, '{"class":"Mailer"}'),
    "arguments that are no list": ("RPUSH", QUEUE, job(args={})),
    "no JSON": ("RPUSH", QUEUE, "x" + job()),
    "one of two": ("RPUSH", QUEUE, job(), "x"),
    "Laravel's key": ("RPUSH", "queues:mails", job()),
    "no queue's key": ("RPUSH", "resque:myqueue", job()),
    "the other end": ("LPUSH", QUEUE, job()),
    "a job among the failed": ("RPUSH", "resque:failed", job()),
    "a worker's key": ("SET", KEY, job()),
    "a key of RQ's": ("RPUSH", "rq:queue:mails", "7"),
}


@pytest.mark.parametrize("sends", UNTOUCHED.values(), ids=UNTOUCHED)
def test_what_only_looks_like_it_passes_untouched(sends: tuple[str, ...]) -> None:
    run = play(f"c >> {command(*sends)}\nc << :1", resque())
    assert (run.records, run.injections) == ([], {})


def test_others_have_keys_like_these_too() -> None:
    """RQ's queues hold ids; a job of Sidekiq's, in the namespace that is Resque's by default, has one."""
    run = play(
        'c >> RPUSH rq:queue:mails 7\nc << :1\nc >> LPOP rq:queue:mails\nc << "7"\n'
        'c >> LPOP resque:queue:mails\nc << "x"\nc >> LPOP resque:queue:mails 2\nc << nil\n',
        rq(),
        sidekiq(),
        resque(),
    )
    assert {event.framework for event in run.events} == {"rq"}
