"""What bee-queue 2 sends, replayed."""

from __future__ import annotations

import json
from typing import Any

import pytest

from proxy.frameworks.bee_queue import SCRIPTS
from proxy.tracer import attributes as a
from tests.frameworks import bee_queue
from tests.playbook import play, trace_id, traceparent
from tests.wire.lines import ONE, TRIED, array, bulk, command, raw, script

BASE = "bq:mails:"
AT = 1_699_999_999_000
"""ms: a second before the play begins."""
ADD, DELAY = "id jobs waiting", "id jobs delayed earlierDelayed"


def keys(words: str) -> list[str]:
    return [BASE + word for word in words.split()]


def job(status: str = "created", number: int = 0, failed: int = 0, **options: Any) -> str:
    """As JavaScript writes it; ``number``: with a context."""
    said: dict[str, Any] = {"timestamp": AT, "stacktraces": ["TypeError: secret\n at x"] * failed, **options}
    if number:
        said["traceparent"] = traceparent(number)
    whole = {"data": {"to": "a@x"}, "options": said, "status": status, "progress": 0}
    return json.dumps(whole, separators=(",", ":"))


def add(number: int = 1, *, reply: str = '"1"', **options: Any) -> str:
    return f"""
    producer >> {script(keys(ADD), "", job(**options))}
    redis    >> {script(keys(ADD), "", job(number=number, **options))}
    producer << {reply}
    """


POP = """
    blocked >> BRPOPLPUSH bq:mails:waiting bq:mails:active 0
    blocked << "1"
    """


def read(number: int = 1, **said: Any) -> str:
    return f"""
    worker >> HGET bq:mails:jobs 1
    worker << {raw(bulk(job(number=number, **said)))}
    worker >> SREM bq:mails:stalling 1
    worker << :0
    """


def transaction(*commands: str) -> str:
    count = len(commands) + 2
    replies = b"+OK\r\n" + count * b"+QUEUED\r\n" + array(*[1] * count)
    sends = "".join(f"    worker >> {one}\n" for one in commands)
    return f"""
    worker >> MULTI
    worker >> LREM bq:mails:active 0 1
    worker >> SREM bq:mails:stalling 1
{sends}
    worker >> EXEC
    worker << {raw(replies)}
    """


def said(event: str) -> str:
    return command("PUBLISH", BASE + "events", f'{{"id":"1","event":"{event}","data":"secret"}}')


def ended(status: str) -> str:
    stored = command("HSET", BASE + "jobs", "1", job(status, 1, failed=status == "failed"))
    return transaction(stored, f"SADD bq:mails:{status} 1", said(status))


def retried(*commands: str, failed: int = 1) -> str:
    stored = command("HSET", BASE + "jobs", "1", job("retrying", 1, failed, retries=1))
    return transaction(stored, *commands, said("retrying"))


AT_ONCE = retried("LPUSH bq:mails:waiting 1")
LATER = retried(f"ZADD bq:mails:delayed {AT + 1500} 1", f"PUBLISH bq:mails:earlierDelayed {AT + 1500}")


def test_a_job_is_one_trace_from_its_enqueue_to_its_end() -> None:
    run = play(
        add()
        + POP
        + read()
        + ended("succeeded")
        + """
        event enqueue   ref=bq:mails:1 queue=mails carry=written
        event dequeue   ref=bq:mails:1 queue=mails
        event describe  ref=bq:mails:1
        event heartbeat ref=bq:mails:1
        event heartbeat ref=bq:mails:1
        event settle    ref=bq:mails:1 verdict=success
        event settle    ref=bq:mails:1 verdict=success
        """,
        bee_queue(),
    )
    assert run.tree() == ONE
    enqueue, dequeue, process = run.spans
    assert (enqueue.trace_id, dequeue.parent_id, process.start) == (trace_id(1), enqueue.span_id, dequeue.end)
    assert {span.job.fields.id for span in run.spans} == {"1"}
    assert "a@x" not in str(run.spans)
    assert run.lifecycle.measures.orphans == 0


def test_the_workers_own_sidecar_finds_the_context() -> None:
    run = play(POP + read() + ended("succeeded"), bee_queue())
    assert run.tree() == "queue.dequeue CLIENT mails (?)\n  job.process CONSUMER mails success"
    dequeue = run.spans[0]
    assert dequeue.trace_id == trace_id(1)
    assert (dequeue.job.fields.id, dequeue.facts[a.WAIT_SOURCE]) == ("1", "envelope")


@pytest.mark.parametrize("told", ["", read()], ids=["only by its id", "with its hash"])
def test_a_worker_may_have_the_job_before_its_producer_has_an_answer(told: str) -> None:
    run = play(
        f"""
        producer >> {script(keys(ADD), "", job())}
        redis    >> {script(keys(ADD), "", job(number=1))}
        {POP}
        {told}
        producer << "1"
        {read() if not told else ""}
        {ended("succeeded")}
        """,
        bee_queue(),
    )
    assert run.tree() == ONE
    assert {span.trace_id for span in run.spans} == {trace_id(1)}
    assert {span.job.fields.id for span in run.spans} == {"1"}


@pytest.mark.parametrize("retry", [AT_ONCE, LATER], ids=["at once", "later"])
def test_a_retry_is_linked_to_the_failed_attempt(retry: str) -> None:
    run = play(add(retries=1) + POP + read() + retry + POP + read(failed=1) + ended("succeeded"), bee_queue())
    assert run.tree() == TRIED.format("retry !retry", "retry_of", "retry_of")
    assert [span.job.fields.attempt for span in run.spans] == [0, 0, 0, 1, 1, 1]
    assert run.spans[2].facts[a.JOB_ERROR] == "TypeError"
    assert run.spans[0].job.fields.max_attempts == 2
    assert "secret" not in str(run.spans)


def test_another_worker_may_have_it_before_the_one_that_gave_it_back_has_an_answer() -> None:
    before, executed = AT_ONCE.rsplit("worker <<", 1)
    run = play(
        f"{add()}{POP}{read()}{before}\n{POP.replace('blocked', 'other')}worker <<{executed}{ended('succeeded')}",
        bee_queue(),
    )
    processes = [span for span in run.spans if span.operation.value == "job.process"]
    assert [(span.error, span.facts[a.STATUS]) for span in processes] == [("redelivered", "retry"), ("", "success")]
    assert processes[0].span_id in [link.span_id for link in processes[1].links]
    assert len({span.trace_id for span in run.spans}) == 1
    assert run.lifecycle.measures.orphans == 0


def test_a_job_that_has_failed_for_good_and_is_tried_again_by_hand() -> None:
    run = play(
        add()
        + POP
        + read()
        + ended("failed")
        + """
        admin >> MULTI
        admin >> SREM bq:mails:failed 1
        admin >> LPUSH bq:mails:waiting 1
        admin >> EXEC
        admin << raw "+OK\\r\\n+QUEUED\\r\\n+QUEUED\\r\\n*2\\r\\n:1\\r\\n:1\\r\\n"
        """
        + POP
        + read(failed=1)
        + ended("succeeded"),
        bee_queue(),
    )
    assert run.tree() == TRIED.format("failure !dead_letter", "requeued_from", "requeued_from")


@pytest.mark.parametrize(("event", "status"), [("succeeded", "success"), ("failed", "failure !failure")])
def test_a_job_that_is_removed_has_ended_as_is_published(event: str, status: str) -> None:
    run = play(add() + POP + read() + transaction("HDEL bq:mails:jobs 1", said(event)), bee_queue())
    assert run.tree() == ONE.replace("success", status)


def test_a_delayed_job_waits_from_when_it_is_due() -> None:
    due = AT + 1004
    run = play(
        f"""
        producer >> {script(keys(DELAY), "", job(delay=due), due)}
        redis    >> {script(keys(DELAY), "", job(number=1, delay=due), due)}
        producer << "1"
        {POP}
        {read(delay=due)}
        {ended("succeeded")}
        """,
        bee_queue(),
    )
    assert run.tree() == ONE
    assert (run.events[0].op.name, run.events[0].number) == ("SCHEDULE", due)


def test_a_stalled_job_is_given_to_another_worker() -> None:
    run = play(
        f"""
        {add()}
        {POP}
        {read()}
        checker >> {script(keys("stallBlock stalling waiting active"), 500)}
        checker << ["1"]
        {POP}
        {read()}
        {ended("succeeded")}
        """,
        bee_queue(),
    )
    assert run.tree() == TRIED.format("retry !reclaimed", "reclaimed_from", "reclaimed_from")


def test_an_id_that_is_there_already_is_no_enqueue() -> None:
    run = play(add(reply="nil"), bee_queue())
    assert (run.events, run.injections) == ([], {"written": 1})


def test_removed_by_hand() -> None:
    words = "succeeded failed waiting active stalling jobs delayed"
    run = play(f"{add()}\nadmin >> {script(keys(words), '1')}\nadmin << nil", bee_queue())
    assert [event.op.name for event in run.events] == ["ENQUEUE", "CANCEL"]


def test_never_answered() -> None:
    run = play(add(reply="") + "producer :: closes", bee_queue())
    assert run.tree() == "queue.enqueue PRODUCER mails"
    assert run.events[0].outcome.name == "UNKNOWN"


def test_long_jobs_travel_without_their_data() -> None:
    stored = {**json.loads(job(number=1, failed=300)), "data": "x" * 5000}
    run = play(
        f"""
        {POP}
        worker >> HGET bq:mails:jobs 1
        worker << {raw(bulk(json.dumps(stored)))}
        """,
        bee_queue(),
    )
    assert len(run.events[1].value) < 2000
    assert (run.spans[0].job.fields.id, run.spans[0].job.fields.attempt) == ("1", 300)
    assert run.spans[0].trace_id == trace_id(1)


def test_observed_without_writing() -> None:
    plain = f"producer >> {script(keys(ADD), '', job())}\nproducer << '1'\n"
    run = play(plain + POP + read(0) + AT_ONCE + POP + read(0, failed=1) + ended("succeeded"), bee_queue(inject=False))
    assert len({span.trace_id for span in run.spans}) == 1
    assert [span.operation.value for span in run.spans].count("job.process") == 2


UNTOUCHED = {
    "another prefix": script(["x:mails:id", "x:mails:jobs", "x:mails:waiting"], "", job()),
    "no options": script(keys(ADD), "", '{"data":{},"status":"created","progress":0}'),
    "no JSON": script(keys(ADD), "", "x" + job()),
    "an argument more": script(keys(ADD), "", job(), "1"),
    "other keys": script(keys("id jobs active"), "", job()),
}


@pytest.mark.parametrize("sends", UNTOUCHED.values(), ids=UNTOUCHED)
def test_what_only_looks_like_it_passes_untouched(sends: str) -> None:
    run = play(f"c >> {sends}\nc << '1'", bee_queue())
    assert (run.events, run.injections) == ([], {})


def test_what_is_no_job_passes() -> None:
    run = play(
        f"""
        c >> HSET bq:mails:jobs 1 x
        c << :1
        c >> HGET bq:mails:jobs 1
        c << nil
        c >> HGET bq:mails:jobs 1
        c << "x"
        c >> HSET bq:mails:jobs 1 {job()} 2 {job()}
        c << :2
        c >> PUBLISH bq:mails:events x
        c << :0
        c >> {said("progress")}
        c << :0
        c >> ZADD bq:mails:delayed NX 1 1
        c << :1
        c >> BRPOPLPUSH bq:mails:waiting bq:mails:active 1
        c << nil
        c >> {script(keys("delayed waiting"), AT, 1000)}
        c << [:0, :-1]
        """.replace(f"jobs 1 {job()} 2 {job()}", "jobs 1 x 2 y"),
        bee_queue(),
    )
    assert run.records == []


@pytest.mark.parametrize("digest", sorted(SCRIPTS.digests))
def test_its_digests_without_its_keys_are_counted(digest: bytes) -> None:
    run = play(f"c >> {command('EVALSHA', digest.upper(), 1, BASE + 'id', '', job())}\nc << '1'", bee_queue())
    assert (run.events, run.injections, run.notices) == ([], {"shape": 1}, ["bee-queue"])
