"""What asynq 0.24 to 0.26 sends, replayed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from proxy.frameworks.asynq import SCRIPTS
from proxy.tracer import attributes as a
from tests.frameworks import asynq
from tests.playbook import play, traceparent
from tests.wire.asynq_lines import (
    BASE,
    COUNTS,
    DAY,
    DONE,
    ID,
    LEASE_EXPIRED,
    NOW,
    OLD,
    TASK,
    add,
    archive,
    derived,
    keys,
    ran,
    retry,
    sent,
    take,
    task,
)
from tests.wire.lines import ENDED, ONE, TRIED, array, command, raw, script


def test_a_task_is_one_trace_from_its_enqueue_to_its_end() -> None:
    run = play(
        add()
        + take()
        + DONE
        + f"""
        event enqueue ref={BASE}{TASK} queue=mails carry=written
        event dequeue ref={BASE}{TASK} queue=mails
        event settle  ref={BASE}{TASK} verdict=success
        """,
        asynq(),
    )
    assert run.tree() == ONE
    enqueue, dequeue, process = run.spans
    assert (enqueue.trace_id.hex(), enqueue.span_id.hex()) == tuple(derived().split("-")[1:3])
    assert (dequeue.parent_id, process.start) == (enqueue.span_id, dequeue.end)
    fields = process.job.fields
    assert (fields.id, fields.type, fields.attempt, fields.max_attempts) == (ID, "mail:send", 0, 4)
    assert "a@x" not in str(run.spans)
    assert run.lifecycle.measures.orphans == 0


@pytest.mark.parametrize(
    ("words", "args"),
    [
        (f"active lease {TASK} processed:{DAY} processed unique:mail:1", (ID, NOW, 1)),
        (f"active lease completed {TASK} processed:{DAY} processed", (ID, NOW, NOW, task(derived()), 1)),
        (f"active lease completed {TASK} processed:{DAY} processed unique:mail:1", (ID, NOW, NOW, task(derived()), 1)),
    ],
    ids=["unique", "kept", "unique and kept"],
)
def test_success_in_its_other_forms(words: str, args: tuple[Any, ...]) -> None:
    run = play(add() + take() + ran(words, *args), asynq())
    assert run.tree() == ONE


ADDED: dict[str, tuple[str, Callable[[bytes], tuple[Any, ...]]]] = {
    "unique": ("unique:mail:1 {} pending", lambda job: (ID, 60, job, NOW)),
    "later": ("{} scheduled", lambda job: (job, NOW + 7, ID)),
    "unique, later": ("unique:mail:1 {} scheduled", lambda job: (ID, 60, NOW + 7, job)),
    "grouped": ("{} g:letters groups", lambda job: (job, ID, NOW, "letters")),
    "unique, grouped": ("{} g:letters groups unique:mail:1", lambda job: (job, ID, NOW, "letters", 60)),
}


@pytest.mark.parametrize("how", ADDED)
@pytest.mark.parametrize("reply", [1, 0, -1])
def test_all_ways_of_adding_a_task(how: str, reply: int) -> None:
    """Answered with 0 or -1, where there is such a task already."""
    words, args = ADDED[how]
    run = play(
        f"""
        producer >> {script(keys(words.format(TASK)), *args(task()))}
        redis    >> {script(keys(words.format(TASK)), *args(task(derived())))}
        producer << :{reply}
        """,
        asynq(),
    )
    op, due = ("SCHEDULE", (NOW + 7) * 1000) if "later" in how else ("ENQUEUE", -1)
    assert [(event.op.name, event.number) for event in run.events] == [(op, due)] * (reply == 1)
    assert run.injections == {"written": 1}


def test_a_task_for_later_waits_from_when_it_is_due() -> None:
    due = NOW - 1
    run = play(
        f"""
        producer >> {script(keys(f"{TASK} scheduled"), task(), due, ID)}
        redis    >> {script(keys(f"{TASK} scheduled"), task(derived()), due, ID)}
        producer << :1
        server >> {script(keys("scheduled pending"), NOW, BASE + "t:", NOW * 10**9, BASE + "g:")}
        server << :1
        """
        + take()
        + DONE,
        asynq(),
    )
    assert run.tree() == ONE
    assert run.spans[1].facts[a.WAIT_SOURCE] == "wire"


def test_a_retry_keeps_the_context_and_is_linked_to_the_failed_attempt() -> None:
    run = play(add() + take() + retry() + take(retried=1, error_msg="secret") + DONE, asynq())
    assert run.tree() == TRIED.format("retry !retry", "retry_of", "retry_of")
    assert [span.job.fields.attempt for span in run.spans] == [0, 0, 0, 1, 1, 1]
    assert "secret" not in str(run.spans)


def test_before_0_26_a_retry_drops_the_context_and_stays_in_the_trace() -> None:
    run = play(
        add() + take() + retry(carried="", written=derived(1)) + take(derived(1), retried=1) + DONE,
        asynq(),
    )
    assert len({span.trace_id for span in run.spans}) == 1
    assert run.tree() == (
        ENDED.format("retry !retry")
        + "\nqueue.enqueue PRODUCER mails ~retry_of\n  queue.dequeue CLIENT mails\n"
        + "    job.process CONSUMER mails success ~retry_of"
    )


def test_a_task_whose_lease_has_expired_was_taken_back() -> None:
    run = play(add() + take() + retry(error_msg=LEASE_EXPIRED) + take(retried=1) + DONE, asynq())
    assert run.tree() == TRIED.format("retry !reclaimed", "reclaimed_from", "reclaimed_from")


def test_an_error_that_is_no_failure_does_not_count() -> None:
    run = play(add() + take() + retry(failed=0) + take() + DONE, asynq())
    assert run.tree() == TRIED.format("retry", "previous", "previous")


@pytest.mark.parametrize("words", ["t:", ""], ids=["since 0.25", "0.24"])
def test_a_dead_task_that_is_run_again_by_hand(words: str) -> None:
    again = ran(f"{TASK} pending groups", ID, BASE, BASE + "g:", reply=":1")
    run = play(add() + take() + archive(words) + again + take(error_msg="secret") + DONE, asynq())
    assert run.tree() == TRIED.format("failure !dead_letter", "requeued_from", "requeued_from")


def test_a_server_that_shuts_down_gives_back_what_it_has() -> None:
    run = play(add() + take() + ran(f"active lease pending {TASK}", ID) + take() + DONE, asynq())
    assert run.tree() == TRIED.format("retry", "previous", "previous")


def test_an_id_of_the_users_own_may_be_used_again_and_gets_a_new_trace() -> None:
    own: dict[str, Any] = {"id": "daily"}
    done = ran(f"active lease t:daily processed:{DAY} processed", "daily", NOW, 1)
    run = play(
        add(traceparent(1), **own) + take(traceparent(1), **own) + done + add(traceparent(2), **own),
        asynq(),
    )
    assert run.tree() == ONE + "\nqueue.enqueue PRODUCER mails ~previous"


def test_a_context_that_is_there_is_joined() -> None:
    run = play(sent(OLD) + take(OLD) + DONE, asynq())
    assert {span.trace_id.hex() for span in run.spans} == {OLD.split("-")[1]}
    assert [span.kind.name for span in run.spans] == ["CLIENT", "CLIENT", "CONSUMER"]
    assert {span.parent_id.hex() for span in run.spans[:2]} == {OLD.split("-")[2]}


def test_observed_without_writing() -> None:
    run = play(sent("") + take("") + DONE, asynq(inject=False))
    assert run.tree() == ONE
    assert (run.injections, len({span.trace_id for span in run.spans})) == ({"derived": 1}, 1)


def test_the_workers_own_sidecar_finds_the_context() -> None:
    run = play(take() + DONE, asynq())
    assert run.tree() == "queue.dequeue CLIENT mails (?)\n  job.process CONSUMER mails success"
    assert run.spans[0].trace_id.hex() == derived().split("-")[1]


def test_grouped_tasks_are_read_to_be_made_into_one() -> None:
    words, args = ADDED["grouped"]
    grouped = {"group_key": "letters"}
    run = play(
        f"""
        producer >> {script(keys(words.format(TASK)), *args(task(**grouped)))}
        redis    >> {script(keys(words.format(TASK)), *args(task(derived(), **grouped)))}
        producer << :1
        server >> {script(keys("g:letters g:letters:7 aggregation_sets groups"), 0, 0, 2, NOW, NOW, "letters")}
        server << :1
        server >> {script(keys("g:letters:7"), BASE + "t:")}
        server << {raw(array(task(derived(), **grouped)))}
        server >> {script(keys("g:letters:7 aggregation_sets"), BASE + "t:")}
        server << +OK
        """,
        asynq(),
    )
    assert run.tree() == "queue.enqueue PRODUCER mails\n  queue.dequeue CLIENT mails"
    assert run.spans[0].job.fields.batch_id == "letters"


def test_a_lease_that_is_extended_is_a_sign_of_life() -> None:
    run = play(
        f"""
        worker >> ZADD {BASE}lease xx 7 {ID} 7 x
        worker << :0
        worker >> ZADD {BASE}lease 7 {ID}
        worker << :0
        worker >> ZADD {BASE}scheduled xx 7 {ID}
        worker << :0
        """,
        asynq(),
    )
    assert [(event.op.name, event.ref) for event in run.events] == [
        ("HEARTBEAT", f"{BASE}{TASK}".encode()),
        ("HEARTBEAT", f"{BASE}t:x".encode()),
    ]


@pytest.mark.parametrize(
    ("words", "reply", "op"),
    [
        (f"{TASK} groups", 1, "CANCEL"),
        (f"{TASK} archived groups", 1, "CANCEL"),
        (f"{TASK} pending groups", 1, "MOVE"),
        (f"{TASK} groups", -1, ""),
        (f"{TASK} archived groups", 0, ""),
        (f"{TASK} pending groups", -2, ""),
        ("pending", 3, "PURGE"),
        ("pending active scheduled retry archived lease", 1, "PURGE"),
        ("pending active scheduled retry archived lease", -1, ""),
        ("archived pending", 4, ""),
    ],
)
def test_by_hand(words: str, reply: int, op: str) -> None:
    run = play(ran(words, ID, BASE, reply=f":{reply}"), asynq())
    assert [event.op.name for event in run.events] == [op] * bool(op)


def test_never_answered_and_refused() -> None:
    sent = add().replace("producer << :1", "producer :: closes")
    assert play(sent, asynq()).events[0].outcome.name == "UNKNOWN"
    assert play(add().replace(":1", "-OOM no"), asynq()).tree() == "queue.enqueue PRODUCER mails !OOM"


def test_a_script_that_is_not_loaded_yet_is_sent_again() -> None:
    sha = add().replace("producer << :1", "producer << -NOSCRIPT no")
    run = play(sha + add(), asynq())
    assert run.tree() == "queue.enqueue PRODUCER mails"


def test_long_tasks_travel_without_their_payload() -> None:
    run = play(take(payload=b"x" * 5000, headers={"big": "y" * 5000}) + DONE, asynq())
    assert len(run.events[0].value) < 300
    assert (run.spans[0].job.fields.id, run.spans[0].trace_id.hex()) == (ID, derived().split("-")[1])


PENDING = keys(f"{TASK} pending")
UNTOUCHED = {
    "another library": script([f"other:{{mails}}:{TASK}", "other:{mails}:pending"], task(), ID, NOW),
    "no hash tag": script([f"asynq:mails:{TASK}", "asynq:mails:pending"], task(), ID, NOW),
    "another id": script(PENDING, task(id="x"), ID, NOW),
    "an id of its own": script(PENDING, task(), "x", NOW),
    "another queue": script(PENDING, task(queue="x"), ID, NOW),
    "no type": script(PENDING, task(type=""), ID, NOW),
    "JSON": script(PENDING, '{"id": 7}', ID, NOW),
    "cut short": script(PENDING, task()[:-1], ID, NOW),
    "a field of another type": script(PENDING, task() + b"\x08\x01", ID, NOW),
    "no arguments": script(PENDING),
    "another task's end": script(keys(f"active lease t:x processed:{DAY} processed"), ID, NOW),
    "a retry of another": script(keys(f"t:x active lease retry {COUNTS}"), ID, task(), NOW, NOW, 1, 1),
    "a group of no task": script(keys("g:letters:7"), BASE),
    "a key alone": script(keys(TASK), BASE + "t:"),
}


@pytest.mark.parametrize("sends", UNTOUCHED.values(), ids=UNTOUCHED)
def test_what_only_looks_like_it_passes_untouched(sends: str) -> None:
    run = play(f"c >> {sends}\nc << :1", asynq())
    assert (run.events, run.injections, run.notices) == ([], {}, [])


def test_an_empty_queue_is_nothing() -> None:
    run = play(ran("pending paused active lease", NOW, BASE + "t:", reply="nil") * 2, asynq())
    assert run.records == []


FUTURE = 'local function x() end\nredis.call("HSET", KEYS[1],\n  "msg", ARGV[1],\n  "state", "pending")\nreturn 1'


def test_a_script_of_a_version_to_come_passes_is_counted_and_told_once() -> None:
    run = play(
        f"""
        c >> {script(keys(f"{TASK} waiting"), task(), ID, text=FUTURE)}
        c << :1
        c >> {script(keys(f"{TASK} waiting"), task(), ID, text=FUTURE)}
        c << :1
        """,
        asynq(),
    )
    assert (run.events, run.injections, run.notices) == ([], {"shape": 2}, ["asynq"])


@pytest.mark.parametrize("digest", sorted(SCRIPTS.digests))
def test_its_digests_without_its_keys_are_counted(digest: bytes) -> None:
    run = play(f"c >> {command('EVALSHA', digest.upper(), 1, BASE + 'x', task(), ID)}\nc << :1", asynq())
    assert (run.events, run.injections, run.notices) == ([], {"shape": 1}, ["asynq"])
