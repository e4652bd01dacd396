"""dramatiq 2.2's exact commands, replayed."""

from __future__ import annotations

import json
from typing import Any

import pytest

from proxy.context.slot import State
from proxy.tracer import attributes as a
from tests.frameworks import dramatiq, lists
from tests.playbook import START, play, traceparent

SHA = "fdacc359c79a5adc3b8eeb53ff5772d7c42144e3"
ID, NEXT = "78c5bc68-b167-422f-bde5-8c05e8cbf6e1", "842a9043-447d-4646-b405-1f2e3d4c5b6a"
PRODUCER, WORKER = "a2e26022-3a25-457e-a338-226fa0d62be8", "020846ae-a428-4532-9c95-7d715f0e6ded"
OTHER = "f3f0c5a4-9f0c-4b7e-8f2e-3e1d2c4b5a69"
RIDS = [f"0d7b4f63-7743-4fa7-8aed-74ad2c8d1a0{number}" for number in range(9)]
NOW = START // 1_000_000
ACKS = f"dramatiq:__acks__.{WORKER}.default"


def call(command: str, *rest: str, queue: str = "default", who: str = WORKER, space: str = "dramatiq") -> str:
    words = [SHA, "1", space, command, str(NOW), queue, who, "60000", "604800000", "0", "3996", *rest]
    return "EVALSHA " + " ".join(f"'{word}'" if word[:1] == "{" else word for word in words)


def message(trace: int = 0, rid: int = 0, *, queue: str = "default", ident: str = ID, **options: Any) -> str:
    fields = {
        "queue_name": queue,
        "actor_name": "add",
        "args": [1, "secret"],
        "kwargs": {},
        "options": {
            "redis_message_id": RIDS[rid],
            **options,
            **({"traceparent": traceparent(trace)} if trace else {}),
        },
        "message_id": ident,
        "message_timestamp": NOW,
    }
    return json.dumps(fields, separators=(",", ":"))


def enqueue(rid: int = 0, *, who: str = "producer", found: int = 0, written: int = 0, **more: Any) -> str:
    """A message that carries the context ``found``, or into which ``written`` goes."""
    queue, uuid = more.get("queue", "default"), PRODUCER if who == "producer" else WORKER
    lines = f"{who} >> {call('enqueue', RIDS[rid], message(found, rid, **more), queue=queue, who=uuid)}\n"
    if written:
        lines += f"redis >> {call('enqueue', RIDS[rid], message(written, rid, **more), queue=queue, who=uuid)}\n"
    return f"{lines}{who} << nil\n"


def fetch(*messages: str, who: str = "fetcher", worker: str = WORKER, queue: str = "default") -> str:
    found = ", ".join(f"'{one}'" for one in messages)
    return f"{who} >> {call('fetch', '4', who=worker, queue=queue)}\n{who} << [{found}]\n"


def ack(rid: int = 0, command: str = "ack", *, worker: str = WORKER, queue: str = "default") -> str:
    who = "thread"
    return f"{who} >> {call(command, RIDS[rid], who=worker, queue=queue)}\n{who} << nil3\n"


ONE = "queue.enqueue PRODUCER default\n  queue.dequeue CLIENT default\n    job.process CONSUMER default success"


def test_a_message_is_one_trace_from_its_enqueue_to_its_ack() -> None:
    run = play(
        enqueue(written=1)
        + fetch(message(1))
        + ack()
        + f"""
        event enqueue queue=default key=dramatiq:default carry=written number=-1
        event dequeue queue=default dest={ACKS} worker={WORKER}
        event ack     queue=default dest={ACKS} ref={RIDS[0]} number=1
        """,
        dramatiq(),
    )
    assert run.tree() == ONE
    enqueued, dequeued, processed = run.spans
    assert [span.job.fields.id for span in run.spans] == [ID, ID, ID]
    assert processed.job.fields.type == "add"
    assert dequeued.facts[a.WAIT_SOURCE] == "wire"
    assert processed.start == dequeued.end > dequeued.start >= enqueued.end
    assert run.injections == {"written": 1}
    assert run.lifecycle.measures.orphans == 0


def test_a_script_that_redis_does_not_know_yet_is_sent_twice() -> None:
    first = enqueue(written=1).replace("<< nil", "<< -NOSCRIPT No matching script. Please use EVAL.")
    run = play(
        first
        + 'producer >> SCRIPT LOAD "-- dispatch"\n'
        + f'producer << "{SHA}"\n'
        + enqueue(written=2)
        + fetch(message(2))
        + ack(),
        dramatiq(),
    )
    assert run.tree() == ONE


def test_a_script_may_be_sent_whole() -> None:
    whole = enqueue(written=1).replace(f"EVALSHA {SHA}", 'EVAL "-- dispatch(args, keys)"')
    assert play(whole + fetch(message(1)) + ack(), dramatiq()).tree() == ONE


def test_what_failed_comes_again_by_way_of_the_delay_queue() -> None:
    later: dict[str, Any] = {"retries": 1, "traceback": "ValueError: secret", "requeue_timestamp": NOW}
    run = play(
        enqueue(written=1)
        + fetch(message(1))
        + enqueue(1, who="thread", found=1, queue="default.DQ", **later, eta=NOW + 7)
        + ack()
        + fetch(message(1, 1, queue="default.DQ", **later, eta=NOW + 7), queue="default.DQ")
        + enqueue(2, who="fetcher", found=1, **later)
        + ack(1, queue="default.DQ")
        + fetch(message(1, 2, **later))
        + ack(2)
        + """
        event enqueue  carry=written
        event dequeue
        event schedule carry=found queue=default key=dramatiq:default.DQ number=1700000000007
        event ack
        event enqueue  carry=found key=dramatiq:default
        event dequeue
        event ack
        """,
        dramatiq(),
    )
    assert run.tree() == (
        "queue.enqueue PRODUCER default\n"
        "  queue.dequeue CLIENT default\n"
        "    job.process CONSUMER default retry !retry\n"
        "  queue.enqueue CLIENT default ~retry_of\n"
        "  queue.enqueue CLIENT default\n"
        "  queue.dequeue CLIENT default\n"
        "    job.process CONSUMER default success ~retry_of"
    )
    assert run.injections == {"written": 1, "kept": 2}
    assert [span.job.fields.attempt for span in run.spans if span.operation == "job.process"] == [0, 1]
    assert run.lifecycle.measures.orphans == 0
    assert "secret" not in str(run.spans)


def test_a_retry_at_once_may_be_fetched_before_the_failed_attempt_is_acknowledged() -> None:
    run = play(
        enqueue(written=1)
        + fetch(message(1))
        + enqueue(1, who="thread", found=1, queue="default.DQ", retries=1, eta=NOW)
        + enqueue(2, who="fetcher", found=1, retries=1)
        + fetch(message(1, 2, retries=1))
        + ack()
        + ack(2),
        dramatiq(),
    )
    ends = [(span.job.fields.attempt, span.error) for span in run.spans if span.operation == "job.process"]
    assert ends == [(0, "retry"), (1, "")]
    assert run.lifecycle.measures.orphans == 0


def test_a_message_that_is_given_up_is_a_dead_letter() -> None:
    run = play(enqueue(written=1) + fetch(message(1)) + ack(command="nack"), dramatiq())
    assert run.tree() == (
        "queue.enqueue PRODUCER default\n"
        "  queue.dequeue CLIENT default\n"
        "    job.process CONSUMER default failure !dead_letter"
    )
    assert [event.name for event in run.spans[-1].events] == ["job.dead_letter"]


def test_a_delayed_message_waits_twice_in_one_trace() -> None:
    run = play(
        enqueue(written=1, queue="default.DQ", eta=NOW + 2)
        + fetch(message(1, queue="default.DQ", eta=NOW + 2), queue="default.DQ")
        + enqueue(1, who="fetcher", found=1)
        + ack(queue="default.DQ")
        + fetch(message(1, 1))
        + ack(1),
        dramatiq(),
    )
    assert run.tree() == (
        "queue.enqueue PRODUCER default\n"
        "  queue.enqueue CLIENT default\n"
        "  queue.dequeue CLIENT default\n"
        "    job.process CONSUMER default success"
    )
    _, hop, dequeued, _ = run.spans
    assert hop.facts[a.SCHEDULED_MS] == dequeued.facts[a.SCHEDULED_MS] == 3.0


def test_many_messages_in_one_fetch() -> None:
    idents = [f"{number}{ID[1:]}" for number in range(3)]
    run = play(
        "".join(enqueue(number, written=number + 1, ident=ident) for number, ident in enumerate(idents))
        + fetch(*(message(number + 1, number, ident=ident) for number, ident in enumerate(idents)))
        + ack(2)
        + ack(0)
        + ack(1),
        dramatiq(),
    )
    assert run.tree() == "\n".join([ONE] * 3)
    assert [span.job.fields.id for span in run.spans[-3:]] == [idents[2], idents[0], idents[1]]
    assert {span.facts[a.BATCH_COUNT] for span in run.spans if span.operation == "queue.dequeue"} == {3}


def test_what_a_dead_worker_had_is_fetched_by_another() -> None:
    run = play(
        enqueue(written=1) + fetch(message(1)) + fetch(message(1), who="w2", worker=OTHER) + ack(worker=OTHER),
        dramatiq(),
    )
    assert run.tree() == (
        "queue.enqueue PRODUCER default\n"
        "  queue.dequeue CLIENT default\n"
        "    job.process CONSUMER default retry !redelivered\n"
        "  queue.dequeue CLIENT default ~redelivered_from\n"
        "    job.process CONSUMER default success ~redelivered_from"
    )


def test_a_worker_that_was_thought_dead_ends_nothing() -> None:
    run = play(
        enqueue(written=1) + fetch(message(1)) + fetch(message(1), who="w2", worker=OTHER) + ack() + ack(worker=OTHER),
        dramatiq(),
    )
    assert [span.error for span in run.spans if span.operation == "job.process"] == ["redelivered", ""]
    assert run.lifecycle.measures.orphans == 1


def test_what_a_worker_gives_back_when_it_is_told_to_stop() -> None:
    run = play(
        enqueue(written=1)
        + fetch(message(1))
        + f"thread >> {call('requeue', RIDS[0])}\nthread << nil\n"
        + fetch(message(1), who="w2", worker=OTHER)
        + ack(worker=OTHER),
        dramatiq(),
    )
    assert run.tree() == (
        "queue.enqueue PRODUCER default\n"
        "  queue.dequeue CLIENT default\n"
        "    job.process CONSUMER default retry !reclaimed\n"
        "  queue.dequeue CLIENT default ~reclaimed_from\n"
        "    job.process CONSUMER default success ~reclaimed_from"
    )


def test_the_next_of_a_pipeline_is_linked_to_the_one_before() -> None:
    target = {"queue_name": "default", "actor_name": "add", "args": [2], "options": {}, "message_id": NEXT}
    first: dict[str, Any] = {"pipe_target": {**target, "kwargs": {}, "message_timestamp": NOW}}
    run = play(
        enqueue(written=1, **first)
        + fetch(message(1, **first))
        + enqueue(1, who="thread", written=2, ident=NEXT)
        + ack()
        + fetch(message(2, 1, ident=NEXT))
        + ack(1),
        dramatiq(),
    )
    assert run.tree() == ONE + "\n" + ONE.replace("PRODUCER default", "PRODUCER default ~follows", 1) + " ~follows"
    process = next(span for span in run.spans if span.operation == "job.process")
    assert {link.span_id for span in run.spans for link in span.links} == {process.span_id}


def test_the_workers_own_sidecar_finds_the_context_in_the_message() -> None:
    run = play(fetch(message(7)) + ack(), dramatiq())
    assert run.tree() == "queue.dequeue CLIENT default (?)\n  job.process CONSUMER default success"
    assert run.spans[0].facts[a.WAIT_SOURCE] == "envelope"


def test_a_context_that_the_producer_wrote_itself_is_kept() -> None:
    run = play(enqueue(found=7) + fetch(message(7)) + ack(), dramatiq())
    assert run.tree() == (
        "queue.enqueue CLIENT default (?)\nqueue.dequeue CLIENT default (?)\n  job.process CONSUMER default success"
    )
    assert run.injections == {"kept": 1}


def test_a_namespace_may_have_any_name() -> None:
    spaced = (enqueue(written=1) + fetch(message(1)) + ack()).replace("1 dramatiq ", "1 app:jobs ")
    run = play(spaced, dramatiq(), lists(queues=("jobs",)))
    assert run.tree() == ONE
    assert {span.job.key for span in run.spans} == {"app:jobs:default"}


def test_purged() -> None:
    run = play(
        f"""
        c >> {call("purge")}
        c << nil
        c >> {call("purge", queue="default.DQ")}
        c << nil
        event purge queue=default key=dramatiq:default verdict=unknown
        event purge queue=default key=dramatiq:default.DQ verdict=unknown
        """,
        dramatiq(),
    )
    assert run.tree() == "queue.purge CLIENT default\nqueue.purge CLIENT default"


def test_an_enqueue_whose_answer_is_an_error_or_never_comes() -> None:
    run = play(
        enqueue(written=1).replace("<< nil", "<< -OOM command not allowed")
        + enqueue(1, written=2, queue="default.DQ", eta=NOW + 9).replace("producer << nil", "producer :: closes")
        + """
        event enqueue  outcome=error error=OOM
        event schedule outcome=unknown
        """,
        dramatiq(),
    )
    assert [span.error for span in run.spans] == ["OOM", ""]


def test_observed_without_writing() -> None:
    run = play(enqueue() + fetch(message()) + ack(), dramatiq(inject=False))
    assert run.tree() == ONE
    assert run.injections == {"disabled": 1}


@pytest.mark.parametrize(
    "command",
    [
        call("fetch", "4"),
        call("qsize"),
        call("ack", RIDS[0], queue="default.DQ"),
        call("ack"),
        call("fetch", "4", "5"),
        call("frob", RIDS[0]),
        call("enqueue", RIDS[1], message(rid=0)),
        call("enqueue", RIDS[0], '{"queue_name":"default"}'),
        call("enqueue", RIDS[0], message()[:-1]),
        call("enqueue", RIDS[0], '"\x80\x04"'),
        call("enqueue", RIDS[0], message()).replace(WORKER, "me"),
        call("enqueue", RIDS[0], message()).replace("60000", "soon"),
        call("enqueue", RIDS[0], message()).replace(f"{SHA} 1", f"{SHA} 2"),
        call("enqueue", RIDS[0], message()) + " more",
        f"EVALSHA {SHA} 1 dramatiq enqueue",
        f"EVALSHA {SHA} 0",
        "EVALSHA",
        f"LPUSH 5d03691074d486ef3beead1276a5e680 '{message()}'",
        f"XADD events * data '{message()}'",
    ],
)
def test_what_is_no_message_passes(command: str) -> None:
    run = play(f"c >> {command}\nc << []", dramatiq())
    assert run.events == []
    assert run.blind == {}
    assert run.injections == {}


def test_an_answer_that_nobody_knows_is_nobodys_loss() -> None:
    odd = fetch().replace("<< []", "<< ['{\"queue_name\": 1}', nil, :1]") + fetch().replace("<< []", "<< +OK")
    run = play(odd + ack().replace("<< nil3", "<< :1"), dramatiq())
    assert run.blind == {}
    assert run.spans == []


def test_a_summary_has_what_is_read_and_no_arguments() -> None:
    shape = dramatiq()
    target = {"message_id": NEXT, "args": ["secret"]}
    job = message(1, retries=2, traceback="secret", pipe_target=target, group_completion_uuid="g").encode()
    summary = shape.summary(job)
    assert b"secret" not in summary
    assert shape.fields(summary) == shape.fields(job)
    assert shape.fields(job).next_id == NEXT
    assert shape.slot(summary).context == shape.slot(job).context is not None
    assert shape.summary(b"{}") == b""
    assert shape.slot(b"\x80\x04").state is State.REFUSED
