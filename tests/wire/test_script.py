"""``frameworks.script`` on the wire: scripts known by their keys, jobs in arguments and replies, look-alikes."""

from __future__ import annotations

from hashlib import sha1
from pathlib import Path
from typing import Any

import pytest
import yaml

from proxy.config.sources import ConfigError, load
from proxy.frameworks.registry import build
from proxy.frameworks.router import Router
from tests.frameworks import bullmq, dramatiq, lists, rq, script
from tests.playbook import play, traceparent

TP1, TP2 = traceparent(1), traceparent(2)
SHA = "a" * 40
ENQUEUE = {"keys": 2, "key": "jobs:*", "does": "enqueue", "job": "argument 2"}
DEQUEUE = {"keys": 2, "key": "jobs:*", "does": "dequeue", "job": "reply", "first_argument": "take"}
SUCCESS = {"keys": 1, "key": "jobs:*", "does": "success", "first_argument": "done", "id": "argument 2"}
FAILURE = {**SUCCESS, "first_argument": "failed", "does": "failure"}
RETRY = {**SUCCESS, "first_argument": "retry", "does": "retry"}
DEAD = {**SUCCESS, "first_argument": "dead", "does": "dead_letter"}
ACK = {**SUCCESS, "first_argument": "ack", "does": "ack"}
ALL = (DEQUEUE, SUCCESS, FAILURE, RETRY, DEAD, ACK, ENQUEUE)

ADD = f"""
producer >> EVALSHA {SHA} 2 jobs:a jobs:log add '{{"id": "7", "type": "mail"}}'
redis    >> EVALSHA {SHA} 2 jobs:a jobs:log add '{{"id": "7", "type": "mail", "traceparent": "{TP1}"}}'
redis    << :1
"""
TAKE = f"""
worker >> EVALSHA {SHA} 2 jobs:a jobs:log take
redis  << '{{"id": "7", "type": "mail", "traceparent": "{TP1}"}}'
"""


def tell(how: str) -> str:
    return f"worker >> EVALSHA {SHA} 1 jobs:a {how} 7\nredis << +OK\n"


@pytest.mark.parametrize(
    ("how", "status"),
    [
        ("done", "success"),
        ("ack", "success"),
        ("failed", "failure !failure"),
        ("dead", "failure !dead_letter"),
        ("retry", "retry !retry"),
    ],
)
def test_one_job_is_one_trace(how: str, status: str) -> None:
    run = play(ADD + TAKE + tell(how), script(*ALL, inject=True))
    assert run.tree() == (
        "queue.enqueue PRODUCER jobs:a\n"
        "  queue.dequeue CLIENT jobs:a\n"
        f"    job.process CONSUMER jobs:a {status}"
    )  # fmt: skip
    assert run.injections == {"written": 1}
    assert {(span.job.fields.id, span.job.fields.type) for span in run.spans} == {("7", "mail")}


def test_a_retry_stays_in_the_trace_and_is_linked() -> None:
    run = play(ADD + TAKE + tell("retry") + TAKE + tell("done"), script(*ALL, inject=True))
    assert run.tree() == (
        "queue.enqueue PRODUCER jobs:a\n"
        "  queue.dequeue CLIENT jobs:a\n"
        "    job.process CONSUMER jobs:a retry !retry\n"
        "  queue.dequeue CLIENT jobs:a ~retry_of\n"
        "    job.process CONSUMER jobs:a success ~retry_of"
    )
    assert [span.error for span in run.spans if span.operation == "job.process"] == ["retry", ""]


def test_nothing_is_written_unless_that_is_asked_for() -> None:
    run = play(
        f"""
        producer >> EVALSHA {SHA} 2 jobs:a jobs:log add '{{"id": "7"}}'
        redis    << :1
        worker   >> EVALSHA {SHA} 2 jobs:a jobs:log take
        redis    << '{{"id": "7"}}'
        """
        + tell("done"),
        script(*ALL),
    )
    assert len({span.trace_id for span in run.spans}) == 1
    assert [span.operation for span in run.spans] == ["queue.enqueue", "queue.dequeue", "job.process"]
    assert "written" not in run.injections


@pytest.mark.parametrize("job", ["[1]", "7", "plain", '{"id": 1', '{"id": 1, "Traceparent": "x"}', r"\x92\xc4\x00"])
def test_only_an_object_of_json_is_written_into(job: str) -> None:
    run = play(f"producer >> EVALSHA {SHA} 2 jobs:a jobs:log add '{job}'\nredis << :1", script(ENQUEUE, inject=True))
    assert [event.op.name for event in run.events] == ["ENQUEUE"]
    assert "written" not in run.injections


def test_a_context_that_a_job_brings_is_kept() -> None:
    own = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    job = f'{{"id":1,"traceparent":"{own}"}}'
    run = play(f"p >> EVALSHA {SHA} 2 jobs:a x add '{job}'\nredis << :1", script(ENQUEUE, inject=True))
    assert [(span.kind.name, span.trace_id.hex(), span.parent_id.hex()) for span in run.spans] == [
        ("CLIENT", own[3:35], own[36:52])
    ]


def test_several_jobs_in_one_command_and_in_one_reply() -> None:
    run = play(
        f"""
        producer >> EVAL "return 1" 1 jobs:a '{{"id":1}}' '{{"id":2}}'
        redis    >> EVAL "return 1" 1 jobs:a '{{"id":1,"traceparent":"{TP1}"}}' '{{"id":2,"traceparent":"{TP2}"}}'
        redis    << :2
        worker   >> FCALL take 1 jobs:a
        redis    << [:2, ['{{"id":1,"traceparent":"{TP1}"}}', '{{"id":2,"traceparent":"{TP2}"}}']]
        event enqueue batch=2 carry=written
        event enqueue batch=2 carry=written
        event dequeue batch=2
        event dequeue batch=2
        """,
        script(
            {"key": "jobs:*", "does": "dequeue", "job": "reply 2.*", "name": "take"},
            {"key": "jobs:*", "does": "enqueue", "job": "arguments 1"},
            inject=True,
        ),
    )
    assert len({span.trace_id for span in run.spans}) == 2


def test_ids_beside_the_jobs() -> None:
    """The queue has ids, and the jobs are elsewhere: what the enqueue said of one is remembered."""
    run = play(
        f"""
        producer >> FCALL add 2 q:a q:hash 41 '{{"type":"mail"}}'
        redis    >> FCALL add 2 q:a q:hash 41 '{{"type":"mail","traceparent":"{TP1}"}}'
        redis    << nil
        worker   >> FCALL take 1 q:a
        redis    << :41
        worker   >> FCALL done 1 q:a 41
        redis    << nil
        event describe ref=41
        event enqueue ref=41
        event dequeue ref=41
        event settle ref=41 verdict=success
        """,
        script(
            {"keys": 2, "key": "q:*", "name": "add", "does": "enqueue", "id": "argument 1", "job": "argument 2"},
            {"key": "q:*", "name": "take", "does": "dequeue", "id": "reply"},
            {"key": "q:*", "name": "done", "does": "success", "id": "argument 1"},
            inject=True,
        ),
    )
    assert run.tree() == (
        "queue.enqueue PRODUCER q:a\n"
        "  queue.dequeue CLIENT q:a\n"
        "    job.process CONSUMER q:a success"
    )  # fmt: skip
    assert {(span.job.fields.id, span.job.fields.type) for span in run.spans} == {("41", "mail")}


@pytest.mark.parametrize("reply", ["['41', '{\"type\":\"mail\"}']", "%['41', '{\"type\":\"mail\"}']"])
def test_an_id_and_a_job_in_one_reply(reply: str) -> None:
    entry = {"key": "q:*", "does": "dequeue", "id": "reply 1", "job": "reply 2"}
    run = play(f"worker >> EVALSHA {SHA} 1 q:a\nredis << {reply}", script(entry))
    assert [(span.job.fields.id, span.job.fields.type) for span in run.spans] == [("41", "mail")]


def test_an_id_that_only_the_reply_tells() -> None:
    entry = {"key": "q:*", "does": "enqueue", "id": "reply", "job": "argument 1"}
    run = play(f"p >> EVALSHA {SHA} 1 q:a '{{\"type\":\"mail\"}}'\nredis << '41'", script(entry))
    assert [(span.job.fields.id, span.job.fields.type) for span in run.spans] == [("41", "mail")]


def test_an_id_is_enough_where_the_time_of_creation_is_known() -> None:
    run = play(ADD + TAKE + tell("done"), script(*ALL, inject=True, created_at="type"))
    assert len({span.trace_id for span in run.spans}) == 1
    job = '{"id":"7","at":1700000000}'
    run = play(f"w >> EVALSHA {SHA} 2 jobs:a x take\nredis << '{job}'\n" + tell("done"), script(*ALL, created_at="at"))
    assert [span.operation for span in run.spans] == ["queue.dequeue", "job.process"]


def test_what_a_script_takes_a_plain_lrem_may_acknowledge() -> None:
    held = {"keys": 2, "key": "jobs:*", "does": "dequeue", "job": "reply", "held": 2}
    run = play(
        f"""
        producer >> LPUSH jobs:a '{{"id":1}}'
        redis    >> LPUSH jobs:a '{{"id":1,"traceparent":"{TP1}"}}'
        redis    << :1
        worker   >> EVALSHA {SHA} 2 jobs:a work:1
        redis    << '{{"id":1,"traceparent":"{TP1}"}}'
        worker   >> LREM work:1 1 '{{"id":1,"traceparent":"{TP1}"}}'
        redis    << :1
        """,
        script(held, inject=True),
        lists(),
    )
    assert run.tree().splitlines()[2].split() == ["job.process", "CONSUMER", "jobs:a", "success"]


@pytest.mark.parametrize(("does", "status"), [("retry", "retry"), ("dead_letter", "failure"), ("ack", "success")])
def test_what_ends_an_attempt_lets_go_of_it(does: str, status: str) -> None:
    held = {"keys": 2, "key": "jobs:*", "held": 2}
    frameworks = script(
        {**held, "does": "dequeue", "job": "reply", "first_argument": "take"},
        {**held, "does": does, "id": "argument 1"},
    )
    run = play(
        f'w >> EVALSHA {SHA} 2 jobs:a work:1 take\nredis << \'{{"id":"7"}}\'\nw >> EVALSHA {SHA} 2 jobs:a work:1 7'
        "\nredis << :1",
        frameworks,
    )
    assert [span.facts.get("job.status") for span in run.spans if span.operation == "job.process"] == [status]


@pytest.mark.parametrize("reply", ["nil", "nil3", "[]", ":0", "['x']", "%[]", r'raw "#f\r\n"', r'raw "*-1\r\n"'])
def test_a_reply_without_a_job_is_an_empty_poll(reply: str) -> None:
    entry = {"key": "q:*", "does": "dequeue", "job": "reply 2", "if_reply": True}
    run = play(f"worker >> EVALSHA {SHA} 1 q:a\nredis << {reply}", script(entry))
    assert run.events == []
    assert run.blind == {}


@pytest.mark.parametrize(("place", "jobs"), [("job", 0), ("id", 1)])
def test_a_number_can_be_an_id_and_never_a_job(place: str, jobs: int) -> None:
    entry = {"key": "q:*", "does": "dequeue", place: "reply"}
    assert len(play(f"worker >> EVALSHA {SHA} 1 q:a\nredis << :41", script(entry)).events) == jobs


@pytest.mark.parametrize(("if_reply", "reply", "jobs"), [(True, ":0", 0), (True, "nil", 0), (False, "nil", 1)])
def test_whether_the_reply_says_that_nothing_was_done(if_reply: bool, reply: str, jobs: int) -> None:
    entry = {"key": "q:*", "does": "enqueue", "job": "argument 1", "if_reply": if_reply}
    run = play(f"p >> EVALSHA {SHA} 1 q:a x\nredis << {reply}", script(entry))
    assert len(run.events) == jobs


def test_a_script_that_is_not_there_yet_makes_no_job() -> None:
    run = play(
        f"""
        producer >> EVALSHA {SHA} 1 q:a '{{"id":1}}'
        redis    >> EVALSHA {SHA} 1 q:a '{{"id":1,"traceparent":"{TP1}"}}'
        redis    << -NOSCRIPT No matching script.
        producer >> EVAL "return 1" 1 q:a '{{"id":1}}'
        redis    >> EVAL "return 1" 1 q:a '{{"id":1,"traceparent":"{TP2}"}}'
        redis    << :1
        event enqueue carry=written
        """,
        script({"key": "q:*", "does": "enqueue", "job": "argument 1"}, inject=True),
    )
    assert run.blind == {}


def test_an_error_is_an_enqueue_that_failed() -> None:
    entry = {"key": "q:*", "does": "enqueue", "job": "argument 1"}
    run = play(f"p >> EVALSHA {SHA} 1 q:a x\nredis << -OOM no", script(entry))
    assert [span.error for span in run.spans] == ["OOM"]


def test_in_a_transaction() -> None:
    run = play(
        f"""
        producer >> MULTI
        redis    << +OK
        producer >> EVALSHA {SHA} 1 q:a '{{"id":1}}'
        redis    >> EVALSHA {SHA} 1 q:a '{{"id":1,"traceparent":"{TP1}"}}'
        redis    << +QUEUED
        producer >> EXEC
        redis    << [:1]
        event enqueue carry=written
        """,
        script({"key": "q:*", "does": "enqueue", "job": "argument 1"}, inject=True),
    )
    assert run.blind == {}


@pytest.mark.parametrize("text", ["return 1", "return 2"])
def test_a_digest_is_asked_for_besides_the_keys(text: str) -> None:
    digest = sha1(b"return 1").hexdigest()
    entry = {"key": "q:*", "does": "enqueue", "job": "argument 1", "name": digest}
    jobs = 1 if text == "return 1" else 0
    for command in (f'EVAL "{text}"', f"EVALSHA {sha1(text.encode()).hexdigest().upper()}"):
        assert len(play(f"p >> {command} 1 q:a x\nredis << :1", script(entry)).events) == jobs
        assert play(f"p >> {command} 1 other x\nredis << :1", script(entry)).events == []


JOB = "'{\"id\":1}'"


@pytest.mark.parametrize(
    "command",
    [
        f"EVALSHA {SHA} 1 other {JOB}",
        f"EVALSHA {SHA} 1 jobs:a {JOB}",
        f"EVALSHA {SHA} 3 jobs:a b c {JOB}",
        f"EVALSHA {SHA} 2 b jobs:a x {JOB}",
        f"EVALSHA {SHA} 2 jobs:a b x",
        f"EVALSHA {SHA} 0 jobs:a b x {JOB}",
        f"EVALSHA {SHA} -2 jobs:a b x {JOB}",
        f"EVALSHA {SHA} two jobs:a b x {JOB}",
        f"EVALSHA {SHA} 9 jobs:a b x {JOB}",
        f"EVALSHA {SHA} 99999999999999999999 jobs:a b x {JOB}",
        f"EVALSHA_RO {SHA} 2 jobs:a b x {JOB}",
        "EVALSHA",
        f"EVALSHA {SHA}",
        f"LPUSH jobs:a {JOB}",
        f"SET jobs:a {JOB}",
    ],
)
def test_other_scripts_and_commands_pass_untouched(command: str) -> None:
    run = play(f"client >> {command}\nredis << :1", script(ENQUEUE, inject=True), rq(), bullmq(), dramatiq())
    assert run.events == []
    assert run.injections == {}


def test_without_entries_scripts_are_not_even_looked_at(tmp_path: Path) -> None:

    file = tmp_path / "redspan.yaml"
    file.write_text("frameworks: {script: {inject: true}}")
    assert "script" not in [one.name for one in build(load(file, {}, {}).settings.frameworks)]
    file.write_text('frameworks: {script: {entries: [{key: "q:*", does: dequeue, job: reply}]}}')
    frameworks = build(load(file, {}, {}).settings.frameworks)
    assert frameworks[0].name == "script"
    assert b"FCALL" not in Router(frameworks).rewritable


@pytest.mark.parametrize(
    ("entry", "wrong"),
    [
        ({"does": "ack", "id": "reply"}, "frameworks.script.entries[0].key"),
        ({"key": "q", "id": "reply"}, "frameworks.script.entries[0].does"),
        ({"key": "q", "does": "ack"}, "frameworks.script.entries[0].job"),
        ({"key": "q", "does": "ack", "id": "reply", "queue": 2}, "frameworks.script.entries[0].queue"),
        ({"key": "q", "does": "ack", "id": "reply", "held": 2}, "frameworks.script.entries[0].held"),
        ({"key": "q", "does": "ack", "id": "answer"}, "argument 2, arguments 2 (and all that follow)"),
        ({"key": "q", "does": "ack", "id": "argument 0"}, "argument 2, arguments 2 (and all that follow)"),
        ({"key": "q", "does": "ack", "id": "reply 1..2"}, "argument 2, arguments 2 (and all that follow)"),
        ({"key": "q", "does": "nothing", "id": "reply"}, "enqueue, dequeue"),
    ],
)
def test_an_entry_that_cannot_work_is_refused(entry: dict[str, Any], wrong: str, tmp_path: Path) -> None:

    file = tmp_path / "redspan.yaml"
    file.write_text(yaml.safe_dump({"frameworks": {"script": {"entries": [entry]}}}))
    with pytest.raises(ConfigError) as error:
        load(file, {}, {})
    assert any(wrong in str(problem) for problem in error.value.problems)


def test_a_long_job_is_cut_down_to_what_is_read_of_it() -> None:
    framework = script(ENQUEUE)
    job = b'{"id": "7", "type": "mail", "args": "%s"}' % (b"x" * 5000)
    assert framework.fields(framework.summary(job)).type == "mail"
    assert len(framework.summary(job)) < 100
