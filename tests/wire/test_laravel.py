"""Laravel's jobs from beginning to end, replayed: 8.83 as recorded, and what later versions are known to send."""

from __future__ import annotations

import json
from typing import Any

import pytest

from proxy.context.slot import State
from proxy.frameworks.base import Fields
from proxy.frameworks.laravel import SCRIPTS
from proxy.tracer import attributes as a
from tests.frameworks import bee_queue, bull, bullmq, dramatiq, huey, laravel
from tests.playbook import play, span_id, trace_id, traceparent
from tests.wire.laravel_lines import (
    AT,
    CLEAR,
    LATER,
    MIGRATE,
    ONE,
    POP,
    PUSH,
    QUEUE,
    RELEASE,
    SIZE,
    TRACED,
    TRIED,
    UNSAID,
    UUID,
    delete,
    keys,
    migrate,
    payload,
    pop,
    push,
    release,
    reserved,
)
from tests.wire.lines import array, command, raw, script


def test_a_job_is_one_trace_from_its_enqueue_to_its_end() -> None:
    run = play(push() + pop() + delete() + TRACED, laravel())
    assert run.tree() == ONE
    enqueue, dequeue, process = run.spans
    assert {(span.job.fields.id, span.job.fields.type) for span in run.spans} == {(UUID, "OkJ")}
    assert (enqueue.trace_id, dequeue.parent_id) == (trace_id(1), enqueue.span_id)
    assert process.start == dequeue.end
    assert process.facts[a.END_INFERRED] is True
    assert process.job.fields.max_attempts == 3
    assert dequeue.facts[a.PROCESSING_LIST] == f"{QUEUE}:reserved"
    assert "secret" not in str(run.spans)
    assert "a@x" not in str(run.spans)


def test_what_is_added_can_be_taken_out_again() -> None:
    written = play(push(), laravel()).sent["producer"]
    header = f',"traceparent":"{traceparent(1)}"'.encode()
    assert written.count(header) == 1
    assert payload().encode() in written.replace(header, b"")


@pytest.mark.parametrize(
    ("queue", "name"),
    [
        ("queues:default", "default"),
        ("app-database-queues:mails:high", "mails:high"),
        ("queues:{mails}", "mails"),
    ],
)
def test_a_queue_has_any_name_and_prefix(queue: str, name: str) -> None:
    run = play(push(queue=queue) + pop(queue=queue) + delete(queue=queue), laravel())
    assert run.tree() == ONE.replace("default", name)


def test_a_worker_that_finds_nothing_makes_no_spans() -> None:
    run = play(
        migrate("delayed")
        + migrate("reserved", batch=(-1,))
        + f"""
        worker >> {script(keys("", "reserved", "notify"), AT, text=POP)}
        worker << [nil, nil]
        worker >> BLPOP {QUEUE}:notify 3
        worker << ["{QUEUE}:notify", "1"]
        worker >> {script(keys("", "delayed", "reserved"), text=SIZE)}
        worker << :7
        """,
        laravel(),
    )
    assert run.records == []
    assert run.notices == []


def test_bulk_is_a_transaction() -> None:
    def one(number: int, uuid: str) -> str:
        to = keys("", "notify")
        return f"""
        producer >> {script(to, payload(uuid=uuid), text=PUSH)}
        redis    >> {script(to, payload(carried=number, uuid=uuid), text=PUSH)}
        """

    executed = b"+OK\r\n" + 2 * b"+QUEUED\r\n" + array(None, None)
    run = play(
        "producer >> MULTI\n"
        + one(1, "a")
        + one(2, "b")
        + f"""
        producer >> EXEC
        producer << {raw(executed)}
        event enqueue ref=a carry=written
        event enqueue ref=b carry=written
        """,
        laravel(),
    )
    assert len({span.trace_id for span in run.spans}) == 2


def _zadd(job: str) -> str:
    return command("ZADD", f"{QUEUE}:delayed", AT, job)


def _later(job: str) -> str:
    return script(keys("delayed"), AT, job, text=LATER)


@pytest.mark.parametrize(("send", "reply"), [(_zadd, ":1"), (_later, "nil")], ids=["8.83", "12.45"])
def test_a_delayed_job_waits_from_when_it_is_due(send: Any, reply: str) -> None:
    run = play(
        f"""
        producer >> {send(payload())}
        redis    >> {send(payload(carried=1))}
        producer << {reply}
        """
        + migrate("delayed", payload(carried=1))
        + pop()
        + delete()
        + f"""
        event schedule ref={UUID} number={AT * 1000} carry=written
        event move     ref={UUID}
        event dequeue  ref={UUID}
        event over     ref={UUID}
        """,
        laravel(),
    )
    assert run.tree() == ONE
    dequeue = run.spans[1]
    # ms: the lines of the transcript between the three replies.
    assert (dequeue.facts[a.SCHEDULED_MS], dequeue.facts[a.WAIT_MS]) == (3.0, 3.0)


def test_a_member_that_is_there_already_is_not_added() -> None:
    run = play(
        f"""
        producer >> {_zadd(payload())}
        redis    >> {_zadd(payload(carried=1))}
        producer << :0
        """,
        laravel(),
    )
    assert run.events == []


def test_a_retry_is_linked_to_the_failed_attempt() -> None:
    run = play(
        push() + pop() + release() + migrate("delayed", reserved(1)) + pop(1) + delete(2) + migrate("reserved"),
        laravel(),
    )
    assert run.tree() == TRIED.format("retry", "retry_of", "retry_of")
    assert [(span.operation.value, span.job.fields.attempt) for span in run.spans] == [
        ("queue.enqueue", 0), ("queue.dequeue", 0), ("job.process", 0),
        ("queue.enqueue", 1), ("queue.dequeue", 1), ("job.process", 1),
    ]  # fmt: skip
    assert run.injections == {"written": 1}


def test_a_worker_that_died_loses_its_job_when_another_looks_for_one() -> None:
    run = play(
        push()
        + pop()
        + "worker :: closes\n"
        + migrate("reserved", reserved(1), who="other")
        + pop(1, who="other")
        + delete(2, who="other"),
        laravel(),
    )
    assert run.tree() == TRIED.format("reclaimed", "reclaimed_from", "reclaimed_from")


def test_a_job_that_was_taken_away_meanwhile_has_failed() -> None:
    """What ``retry_after`` did to it, nobody has seen."""
    run = play(push() + pop() + delete(reply=":0"), laravel())
    assert run.tree() == ONE.replace("success", "failure !ack_lost")


@pytest.mark.parametrize(
    ("tries", "said"),
    [
        (1, {"maxTries": 1}),
        (1, {"maxTries": None}),
        (3, {"maxTries": 1}),
        (3, {"retryUntil": AT}),
        (3, {"timeoutAt": AT}),
    ],
)
def test_how_the_last_attempt_ended_is_not_said(tries: int, said: dict[str, Any]) -> None:
    run = play(push(**said) + pop(**said) + delete(**said), laravel(tries=tries))
    assert run.tree() == UNSAID
    assert a.END_INFERRED not in run.spans[2].facts


@pytest.mark.parametrize(("tries", "said"), [(2, {"maxTries": None}), (0, {"maxTries": None}), (1, {"maxTries": 0})])
def test_with_tries_left_a_job_that_is_removed_has_succeeded(tries: int, said: dict[str, Any]) -> None:
    run = play(push(**said) + pop(**said) + delete(**said), laravel(tries=tries))
    assert run.tree() == ONE


@pytest.mark.parametrize("status", ["failed", "completed"])
def test_horizon_says_what_has_failed(status: str) -> None:
    said = ("status", status, "exception", "App\\Broken: secret in /app/x.php:7\nStack trace:")
    last: dict[str, Any] = {"maxTries": 1, "pushedAt": "1699999999.5", "id": UUID}
    run = play(
        push(**last)
        + pop(**last)
        + delete(**last)
        + f"""
        horizon >> {command("HMSET", f"laravel_horizon:{UUID}", *said)}
        horizon << +OK
        """,
        laravel(),
    )
    assert run.tree() == (UNSAID if status == "completed" else ONE.replace("success", "failure !App\\Broken"))
    assert run.spans[0].job.fields.enqueued_at == 1_699_999_999_500_000_000
    assert "secret" not in str(run.spans)


def test_a_worker_alone_joins_what_the_payload_carries() -> None:
    """``createdAt`` and ``delay`` are newer than 8."""
    more: dict[str, Any] = {"createdAt": 1_699_999_990, "delay": 5}
    run = play(pop(**more) + delete(**more), laravel())
    dequeue = run.spans[0]
    assert (dequeue.trace_id, dequeue.parent_id) == (trace_id(1), span_id(1))
    assert (dequeue.facts[a.WAIT_SOURCE], dequeue.facts[a.WAIT_MS]) == ("envelope", 5001.0)


def test_a_payload_that_carries_a_context_keeps_it() -> None:
    """That of opentelemetry-auto-laravel, or of a job that ``queue:retry`` has pushed again."""
    run = play(
        f"""
        producer >> {script(keys("", "notify"), payload(carried=7), text=PUSH)}
        producer << nil
        """
        + pop(carried=7)
        + delete(carried=7),
        laravel(),
    )
    assert {span.trace_id for span in run.spans} == {trace_id(7)}
    assert run.injections == {"kept": 1}


def test_nothing_is_written_into_what_is_only_observed() -> None:
    transcript = f"""
        producer >> {script(keys("", "notify"), payload(), text=PUSH)}
        producer << nil
        """
    run = play(transcript + pop(carried=0) + delete(carried=0), laravel(inject=False))
    assert run.tree() == ONE


def test_clearing_a_queue() -> None:
    run = play(
        push()
        + f"""
        admin >> {script(keys("", "delayed", "reserved", "notify"), text=CLEAR)}
        admin << :1
        """,
        laravel(),
    )
    assert run.tree().splitlines()[-1] == "queue.purge CLIENT default"


FOREIGN = {
    "no payload": "7",
    "serialized": f's:5:"{payload()}";',
    "a list": f"[{payload()}]",
    **{f"without {name}": json.dumps({k: v for k, v in json.loads(payload()).items() if k != name})
       for name in ("displayName", "job", "data", "id", "attempts")},
    "an empty id": payload(id=""),
    "other attempts": json.dumps({**json.loads(payload()), "attempts": "none"}),
}  # fmt: skip


@pytest.mark.parametrize("value", [value.encode() for value in FOREIGN.values()], ids=FOREIGN)
def test_what_is_no_payload_has_no_slot(value: bytes) -> None:
    framework = laravel()
    assert framework.slot(value).state is State.REFUSED
    assert framework.fields(value) == Fields()
    key = f"{QUEUE}:delayed".encode()
    assert framework.read(b"ZADD", [b"ZADD", key, b"1700000010", value]) is None
    assert framework.read(b"EVAL", [b"EVAL", b"", b"1", key, b"1700000010", value]) is None


def test_a_foreign_payload_passes_as_it_is() -> None:
    value = FOREIGN["serialized"]
    run = play(
        f"""
        producer >> {script(keys("", "notify"), value, text=PUSH)}
        producer << nil
        producer >> {_zadd(value)}
        producer << :1
        worker >> {script(keys("", "reserved", "notify"), AT, text=POP)}
        worker << {raw(array(value, value))}
        worker >> {script(keys("delayed", "reserved"), value, AT, text=RELEASE)}
        worker << :1
        worker >> {script(keys("reserved", "", "notify"), AT, text=MIGRATE)}
        worker << {raw(array(value))}
        worker >> {command("ZREM", f"{QUEUE}:reserved", value)}
        worker << :1
        """,
        laravel(),
    )
    assert run.events == []
    assert run.blind == {}


STRANGERS = [
    script(["queue:default", "queue:default:notify"], payload(), text="return 1"),
    script(["queues:a", "queues:b:notify"], payload(), text="return 1"),
    script(["queues", "queues:notify"], payload(), text="return 1"),
    command("ZADD", "queues:delayed", AT, payload()),
    script(["bull:mails", "bull:mails:notify"], payload(), text="return 1"),
    script(keys("", "notify"), payload(), 1, text="return 1"),
    script(keys("delayed"), "soon", payload(), text="return 1"),
    command("ZADD", f"{QUEUE}:delayed", AT, payload(), AT, payload(uuid="b")),
    command("ZADD", f"{QUEUE}:delayed", "NX", AT, payload()),
    command("ZADD", "jobs:delayed", AT, payload()),
    command("RPUSH", QUEUE, payload()),
]


def test_strangers_are_left_alone() -> None:
    run = play(
        "\n".join(f"app >> {line}\napp << :1" for line in STRANGERS),
        laravel(), bullmq(), bull(), bee_queue(), dramatiq(), huey(),
    )  # fmt: skip
    assert run.events == []
    assert run.notices == []


def test_a_script_that_has_changed_passes_and_is_counted() -> None:
    run = play(f"producer >> {script(keys('', 'new'), payload(), text=PUSH)}\nproducer << nil", laravel())
    assert run.events == []
    assert run.injections == {"shape": 1}
    assert run.notices == ["laravel"]


def test_its_texts_are_told_from_those_of_others() -> None:
    assert all(SCRIPTS.wrote(text.encode()) for text in (PUSH, LATER, POP, RELEASE, MIGRATE))
    assert not SCRIPTS.wrote(b"-- Push the job onto the stack...\n")
    assert not SCRIPTS.wrote(b"return 1\n" + PUSH.encode())


def test_a_payload_that_is_too_long_for_an_event_is_reduced() -> None:
    framework = laravel()
    long = payload(carried=1, data={"command": "x" * 5000, "batchId": "7"}, pushedAt="1699999999.5").encode()
    reduced = framework.summary(long)
    assert len(reduced) < 700
    assert framework.fields(reduced) == framework.fields(long)
    assert framework.fields(long).batch_id == "7"
    assert framework.slot(reduced).context == framework.slot(long).context
    assert framework.summary(b"{}") == framework.summary(b"7") == b""
