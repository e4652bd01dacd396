"""What Sidekiq 6.4 sends, replayed: jobs, retries, schedules, heartbeats."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.context.derive import Deriver
from proxy.events import Op
from proxy.frameworks.base import Framework
from proxy.tracer import attributes as a
from tests.frameworks import celery, resque, sidekiq, taskiq
from tests.playbook import play, span_id, trace_id
from tests.wire.lines import array, command, raw
from tests.wire.sidekiq_lines import (
    AT,
    JID,
    JOB_ID,
    ONE,
    POP,
    active,
    ask,
    due,
    failed,
    given,
    job,
    nothing,
    processes,
    push,
    sent,
    waited,
)

TRIED = """queue.enqueue PRODUCER mails
  queue.dequeue CLIENT mails
    job.process CONSUMER mails {}
  queue.enqueue CLIENT mails ~{}
  queue.enqueue CLIENT mails
  queue.dequeue CLIENT mails
    job.process CONSUMER mails success ~{}"""


def test_a_job_is_one_trace_and_its_end_is_inferred_from_the_next_question() -> None:
    run = play(
        waited("a")
        + push()
        + given("a", job(1))
        + ask("a")
        + """
        event ask
        event empty
        event ask
        event enqueue queue=mails number=1 carry=written
        event dequeue queue=mails key=queue:mails
        event ask
        """,
        sidekiq(),
    )
    assert run.tree() == ONE
    enqueue, dequeue, process = run.spans
    assert (enqueue.trace_id, enqueue.span_id, dequeue.parent_id) == (trace_id(1), span_id(1), enqueue.span_id)
    assert process.facts[a.END_INFERRED] is True
    assert a.END_UNCERTAIN not in process.facts
    fields = process.job.fields
    assert (fields.id, fields.type, fields.attempt, fields.max_attempts) == (JID, "Mailer", 0, 26)
    assert fields.created_at == 1_699_999_999_250_000_000
    assert "secret" not in str(run.spans)
    assert ("sidekiq", "", "ask") not in run.context.counters.jobs


def test_a_retry_is_linked_to_the_failed_attempt() -> None:
    again = failed(enqueued_at=AT + 2)
    run = play(
        waited("a")
        + push()
        + given("a", job(1))
        + sent("ZADD", "retry", "1700000010.5", failed())
        + ask("a")
        + nothing("a")
        + ask("a")
        + due("retry", failed())
        + sent("LPUSH", "queue:mails", again, who="scheduler")
        + given("a", again)
        + ask("a"),
        sidekiq(),
    )
    assert run.tree() == TRIED.format("retry !retry", "retry_of", "retry_of")
    first, second = processes(run)
    assert (first.facts[a.JOB_ERROR], a.END_INFERRED in first.facts) == ("KeyError", False)
    assert (first.job.fields.attempt, second.job.fields.attempt) == (0, 1)
    assert len({span.trace_id for span in run.spans}) == 1
    assert run.lifecycle.measures.orphans == 0
    assert "secret" not in str(run.spans)


def test_dead() -> None:
    last = failed(0, retry=0)
    added = command("ZADD", "dead", "1700000010.5", last)
    replies = raw(b"+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n:1\r\n:0\r\n")
    run = play(
        waited("a")
        + push(retry=0)
        + given("a", job(1, retry=0))
        + f"a >> MULTI\na >> {added}\na >> ZREMRANGEBYSCORE dead -inf 1\na >> EXEC\na << {replies}\n"
        + ask("a"),
        sidekiq(),
    )
    assert run.tree() == ONE.replace("success", "failure !dead_letter")
    (process,) = processes(run)
    assert (process.facts[a.JOB_ERROR], process.job.fields.max_attempts) == ("KeyError", 1)


def test_scheduled_in_bulk() -> None:
    """As 6.4 sends them: without ``enqueued_at``, which comes with the queue."""
    first, second = job(enqueued_at=None), job(enqueued_at=None, jid="other")
    told, later = job(1, enqueued_at=None), job(2, enqueued_at=None, jid="other")
    run = play(
        waited("a")
        + f"""
        producer >> {command("ZADD", "schedule", "1700000000.25", first, "1700000100.0", second)}
        redis    >> {command("ZADD", "schedule", "1700000000.25", told, "1700000100.0", later)}
        producer << :2
        {due("schedule", told)}
        {sent("LPUSH", "queue:mails", job(1), who="scheduler")}
        {given("a", job(1))}
        {ask("a")}
        """,
        sidekiq(),
    )
    assert run.tree() == ONE.replace("\n", "\n  queue.enqueue CLIENT mails\n", 1) + "\nqueue.enqueue PRODUCER mails"
    events = [event for event in run.events if event.op is Op.SCHEDULE]
    assert [(event.number, event.queue, event.batch) for event in events] == [
        (1_700_000_000_250, "mails", 2),
        (1_700_000_100_000, "mails", 2),
    ]
    assert any(a.SCHEDULED_MS in span.facts for span in run.spans)


def test_in_bulk() -> None:
    jobs = [job(jid=f"j{number}") for number in range(3)]
    told = [job(number + 1, jid=f"j{number}") for number in range(3)]
    run = play(
        f"""
        producer >> {command("LPUSH", "queue:mails", *jobs)}
        redis    >> {command("LPUSH", "queue:mails", *told)}
        producer << :3
        """,
        sidekiq(),
    )
    assert [(event.op, event.batch) for event in run.events] == [(Op.ENQUEUE, 3)] * 3
    assert run.injections == {"written": 3}


def test_given_back_by_a_worker_that_shuts_down() -> None:
    run = play(
        waited("a")
        + push()
        + given("a", job(1))
        + sent("RPUSH", "queue:mails", job(1))
        + ask("new")
        + given("new", job(1))
        + waited("new")
        + ask("new"),
        sidekiq(),
    )
    first = processes(run)[0]
    assert (first.error, first.facts[a.STATUS]) == ("", "retry")
    assert len({span.trace_id for span in run.spans}) == 1


@pytest.mark.parametrize(
    ("key", "removes"),
    [("queue:mails", ("LREM", "queue:mails", 1)), ("schedule", ("ZREM", "schedule"))],
    ids=["from its queue", "from the schedule"],
)
def test_cancelled(key: str, removes: tuple[str | int, ...]) -> None:
    enqueue = ("LPUSH", key) if key != "schedule" else ("ZADD", key, "1700000100.5")
    run = play(
        f"p >> {command(*enqueue, job())}\nredis >> {command(*enqueue, job(1))}\np << :1\n" + sent(*removes, job(1)),
        sidekiq(),
    )
    assert run.events[-1].op is Op.CANCEL
    assert run.tree() == "queue.enqueue PRODUCER mails\n  queue.cancel CLIENT mails"


def test_the_workers_own_sidecar_finds_the_context() -> None:
    run = play(waited("a") + given("a", job(1)) + ask("a"), sidekiq())
    assert run.tree() == "queue.dequeue CLIENT mails (?)\n  job.process CONSUMER mails success"
    assert run.spans[0].facts[a.WAIT_SOURCE] == "envelope"


def test_a_namespace_is_not_part_of_the_name() -> None:
    run = play(
        "a >> BRPOP shop:queue:mails 2\na << nil\na >> BRPOP shop:queue:mails 2\n"
        + push(key="shop:queue:mails")
        + given("a", job(1), "shop:queue:mails")
        + sent("ZADD", "shop:retry", "1700000010.5", failed()),
        sidekiq(),
    )
    assert run.tree() == ONE.replace("success", "retry !retry") + "\n  queue.enqueue CLIENT mails ~retry_of"


def test_milliseconds_of_sidekiq_8() -> None:
    run = play(push(created_at=1_699_999_999_250, enqueued_at=1_699_999_999_250), sidekiq())
    assert run.spans[0].job.fields.created_at == 1_699_999_999_250_000_000


def test_a_job_of_active_job_keeps_its_trace_through_its_own_retries() -> None:
    derived = Deriver()
    trace = derived.trace_id("sidekiq", JOB_ID.encode())
    headers = [f"00-{trace.hex()}-{derived.span_id(trace, b'', attempt).hex()}-01" for attempt in (0, 1)]
    stored = [
        active(attempt, header=headers[attempt], jid=f"j{attempt}", created_at=AT + attempt) for attempt in (0, 1)
    ]
    run = play(
        waited("a")
        + f"""
        producer >> {command("LPUSH", "queue:mails", active(jid="j0"))}
        redis    >> {command("LPUSH", "queue:mails", stored[0])}
        producer << :1
        {given("a", stored[0])}
        job >> {command("LPUSH", "queue:mails", active(1, jid="j1", created_at=AT + 1))}
        redis    >> {command("LPUSH", "queue:mails", stored[1])}
        job << :1
        {ask("a")}
        {given("a", stored[1])}
        {ask("a")}
        """,
        sidekiq(),
    )
    assert run.tree() == (
        ONE.replace("success", "retry !retry")
        + "\n"
        + ONE.replace("PRODUCER mails", "PRODUCER mails ~retry_of")
        + " ~retry_of"
    )
    assert {span.trace_id for span in run.spans} == {trace}
    fields = run.spans[0].job.fields
    assert (fields.id, fields.type, fields.correlation_id) == (JOB_ID, "Welcome", "j0")
    assert "secret" not in str(run.spans)


def test_observed_without_writing() -> None:
    run = play(
        waited("a") + push(0) + given("a", job()) + ask("a"),
        sidekiq(inject=False),
    )
    assert run.tree() == ONE
    assert run.injections == {"disabled": 1}


def test_long_jobs_travel_without_their_arguments() -> None:
    long: dict[str, Any] = {"args": ["x" * 5000], "retry": 3}
    run = play(waited("a") + push(**long) + given("a", job(1, **long)) + ask("a"), sidekiq())
    assert run.tree() == ONE
    assert all(len(event.value) < 600 for event in run.events)
    assert run.spans[0].job.fields.max_attempts == 4


MISSING: dict[str, Any] = {"class": None}
UNTOUCHED = {
    "no jid": ("LPUSH", "queue:mails", job(jid=None)),
    "no class": ("LPUSH", "queue:mails", job(0, **MISSING)),
    "no arguments": ("LPUSH", "queue:mails", job(args=None)),
    "arguments that are no list": ("LPUSH", "queue:mails", job(args={"a": 1})),
    "no JSON": ("LPUSH", "queue:mails", "x" + job()),
    "one of two": ("LPUSH", "queue:mails", job(), "x"),
    "Laravel's key": ("RPUSH", "queues:mails", job()),
    "no queue's key": ("LPUSH", "myqueue:mails", job()),
    "another sorted set": ("ZADD", "schedules", "1700000000", job()),
    "options": ("ZADD", "schedule", "NX", "1700000000", job()),
    "a member that is no job": ("ZADD", "schedule", "1700000000", "x"),
}


@pytest.mark.parametrize("sends", UNTOUCHED.values(), ids=UNTOUCHED)
def test_what_only_looks_like_it_passes_untouched(sends: tuple[str, ...]) -> None:
    run = play(f"c >> {command(*sends)}\nc << :1", sidekiq(), resque())
    assert (run.records, run.injections) == ([], {})


def test_what_is_no_job_passes() -> None:
    run = play(
        f"""
        c >> BRPOP queue:mails 5
        c << {raw(array("queue:mails", job()))}
        c >> BRPOP queue:mails other 2
        c << nil
        c >> EVALSHA sha 1 schedule 1 2
        c << nil
        c >> EVALSHA sha 1 schedule 1
        c << "x"
        c >> LREM queue:mails 1 x
        c << :1
        c >> LMOVE queue:mails queue:low LEFT RIGHT
        c << "x"
        c >> HSET vm:1:0123456789ab name value
        c << :1
        c >> HSET vm:1:0123456789ab:work t x
        c << :1
        c >> HSET vm:1:0123456789ab busy 1
        c << :1
        c >> SREM processes 7
        c << :1
        """,
        sidekiq(),
    )
    assert run.records == []


def test_a_key_of_both_is_told_by_its_jobs() -> None:
    """Resque's default namespace may be Sidekiq's, too."""
    other = '{"class":"Mailer","args":["secret"]}'
    named = other[:-1] + f',"traceparent":"{job(2)[-58:-2]}"}}'
    run = play(
        push(key="resque:queue:mails")
        + f"""
        producer >> {command("RPUSH", "resque:queue:mails", other)}
        redis    >> {command("RPUSH", "resque:queue:mails", named.replace('""', '"'))}
        producer << :1
        """,
        sidekiq(),
        resque(),
    )
    assert [event.framework for event in run.events] == ["sidekiq", "resque"]


TASKIQ = '{"task_id":"0","task_name":"t","labels":{},"args":[],"kwargs":{}}'
CELERY = '{"body":"","headers":{"task":"t","id":"0"},"properties":{"delivery_tag":"0"}}'


@pytest.mark.parametrize(
    ("framework", "value", "pops"),
    [
        (taskiq(inject=False), TASKIQ, "BRPOP queue:mails 0"),
        (celery(inject=False), CELERY, "BRPOP queue:mails queue:mails\\x06\\x163 1"),
    ],
    ids=["taskiq", "celery"],
)
def test_queues_of_others_may_be_called_like_this(framework: Framework, value: str, pops: str) -> None:
    popped = raw(array("queue:mails", value))
    words = [word.encode().decode("unicode_escape") for word in pops.split()]
    run = play(
        f"p >> {command('LPUSH', 'queue:mails', value)}\np << :1\nw >> {command(*words)}\nw << {popped}",
        sidekiq(),
        resque(),
        framework,
    )
    assert [(event.op, event.framework) for event in run.events] == [
        (op, framework.name) for op in (Op.ENQUEUE, Op.DEQUEUE)
    ]


def test_the_question_is_known_in_every_spelling() -> None:
    assert play(f"a >> {POP.lower()}\na << nil\n", sidekiq()).events[0].op is Op.ASK
