"""BullMQ's jobs from beginning to end, replayed."""

from __future__ import annotations

import json

import pytest

from proxy.context.msgpack_slot import splice
from proxy.tracer import attributes as a
from tests.frameworks import bullmq
from tests.playbook import play, trace_id, traceparent
from tests.wire.bullmq_lines import (
    ADD,
    AT,
    BASE,
    DELAYED,
    FAILED,
    FINISH,
    ONE,
    OPTIONS,
    PARENT,
    PRIORITIZED,
    RETRY,
    TAKE,
    TOKEN,
    TRACED,
    TRIED,
    add,
    again,
    carrying,
    delivery,
    finish,
    hash_of,
    keys,
    later,
    pack,
    sent,
    stored,
    take,
    wide,
    worker,
)
from tests.wire.lines import array, raw, script


@pytest.mark.parametrize("words", ADD.values(), ids=ADD)
def test_a_job_is_one_trace_from_its_enqueue_to_its_end(words: str) -> None:
    run = play(add(words) + take() + finish() + TRACED, bullmq())
    assert run.tree() == ONE
    enqueue, dequeue, process = run.spans
    assert {(span.job.fields.id, span.job.fields.type) for span in run.spans} == {("1", "ok")}
    assert (enqueue.trace_id, dequeue.parent_id) == (trace_id(1), enqueue.span_id)
    assert process.job.fields.max_attempts == 3
    assert process.start == dequeue.end
    assert "secret" not in str(run.spans)
    assert "a@x" not in str(run.spans)


@pytest.mark.parametrize("options", [wide(OPTIONS), pack(OPTIONS), pack({}), wide({"delay": float("nan")})])
def test_what_is_added_can_be_taken_out_again(options: bytes) -> None:
    written = play(add(options=options), bullmq()).sent["producer"]
    added = carrying(options).removeprefix(b"\xde")[-(len(carrying(b"\x80")) - 1) :]
    assert written.count(added) == 1
    assert options[3 if options[0] == 0xDE else 1 :] + added in written


def test_4_18_counts_attempts_from_their_beginning_and_waits_by_a_list() -> None:
    run = play(
        add(ADD["4.18"])
        + """
        blocked >> BRPOPLPUSH bull:mails:wait bull:mails:active 2
        blocked << "1"
        """
        + take(array(hash_of(stored(), attemptsMade=1), "1", 0, 0), TAKE, "1")
        + f"""
        worker >> {
            script(
                keys(FINISH.format("completed", "1").removesuffix(" marker")),
                *("1", AT, "returnvalue", "1", "completed", '{"jobId":"1"}', 1, BASE, worker(keepJobs={"count": -1})),
            )
        }
        worker << :0
        """
        + TRACED,
        bullmq(),
    )
    assert run.tree() == ONE
    assert [span.job.fields.attempt for span in run.spans] == [0, 0, 0]


def test_the_end_of_one_job_brings_the_next() -> None:
    run = play(
        add() + add(reply='"2"', number=2) + take() + finish(reply=delivery(2, "2")) + finish(job_id="2"), bullmq()
    )
    assert run.tree() == f"{ONE}\n{ONE}"
    assert [event.op.name for event in run.events] == ["ENQUEUE", "ENQUEUE", "DEQUEUE", "SETTLE", "DEQUEUE", "SETTLE"]


def test_bulk_is_many_scripts_and_a_flow_is_one_transaction() -> None:
    def one(words: str, number: int, job_id: str, parent: str | None = None) -> str:
        parts = (sent(job_id=job_id, parent=parent), "{}")
        return f"""
        producer >> {script(keys(words), *parts, wide(OPTIONS))}
        redis    >> {script(keys(words), *parts, carrying(wide(OPTIONS), number))}
        """

    executed = b"+OK\r\n" + 3 * b"+QUEUED\r\n" + array("p", "c", None)
    run = play(
        "producer >> MULTI\n"
        + one(PARENT, 1, "p")
        + one(ADD["6.7"], 2, "c", "bull:mails:p")
        + f"""
        producer >> {script([BASE + "p", BASE + "p:dependencies"], "bull:mails", "p", AT)}
        producer >> EXEC
        producer << {raw(executed)}
        event enqueue ref=bull:mails:p
        event enqueue ref=bull:mails:c
        """,
        bullmq(),
    )
    assert [span.job.fields.parent_id for span in run.spans] == ["", "p"]


def test_one_with_a_priority() -> None:
    run = play(add(PRIORITIZED, wide({"priority": 5})) + take(delivery(priority=5)) + finish(), bullmq())
    assert run.tree() == ONE
    assert run.spans[0].job.fields.priority == "5"


def test_a_delayed_job_waits_from_when_it_is_due() -> None:
    options = wide({"delay": 1004})
    run = play(
        add(DELAYED, options)
        + take(array(hash_of(stored(options={"delay": 1004})), "1", 0, 0))
        + finish()
        + TRACED.replace("enqueue queue=mails", f"schedule number={AT + 1004} queue=mails"),
        bullmq(),
    )
    assert run.tree() == ONE
    dequeue = run.spans[1]
    assert (dequeue.facts[a.SCHEDULED_MS], dequeue.facts[a.WAIT_MS]) == (2.0, 1.0)


@pytest.mark.parametrize("retry", [again(), later()], ids=["at once", "later"])
def test_a_retry_is_linked_to_the_failed_attempt(retry: str) -> None:
    run = play(add() + take() + retry + take(delivery(atm=1)) + finish(), bullmq())
    assert run.tree() == TRIED.format("success")
    attempts = [(span.operation.value, span.job.fields.attempt) for span in run.spans]
    assert attempts == [
        ("queue.enqueue", 0), ("queue.dequeue", 0), ("job.process", 0),
        ("queue.enqueue", 1), ("queue.dequeue", 1), ("job.process", 1),
    ]  # fmt: skip
    assert run.spans[2].facts[a.JOB_ERROR] == "TypeError"
    assert "secret" not in str(run.spans)
    assert run.injections == {"written": 1}


def test_a_retry_for_later_brings_the_next_job_too() -> None:
    run = play(add() + add(reply='"2"', number=2) + take() + later(delivery(2, "2")) + finish(job_id="2"), bullmq())
    assert [event.op.name for event in run.events][2:] == ["DEQUEUE", "RETRY", "SCHEDULE", "DEQUEUE", "SETTLE"]
    assert run.events[4].number == AT + 1500


def test_a_worker_may_be_faster_than_what_is_told_of_the_one_before() -> None:
    """The retry's own reply comes after somebody else has the job already."""
    other = take(delivery(atm=1)).replace("worker", "other")
    run = play(
        f"""
        {add()}
        {take()}
        worker >> {script(keys(RETRY), BASE, AT, "LPUSH", "1", TOKEN, FAILED)}
        {other}
        worker << :0
        {finish().replace("worker", "other")}
        """,
        bullmq(),
    )
    assert run.tree() == TRIED.format("success")


@pytest.mark.parametrize(("keep", "error"), [(-1, "dead_letter"), (0, "TypeError")])
def test_a_job_that_is_given_up(keep: int, error: str) -> None:
    run = play(add() + take() + finish("failed", fields=FAILED, keep=keep), bullmq())
    assert run.tree() == ONE.replace("success", f"failure !{error}")
    again = run.events[-1]
    assert again.op.name == ("SETTLE" if keep == 0 else "DEAD_LETTER")


def test_a_dead_job_that_is_tried_again_by_hand() -> None:
    words = "1 events failed wait meta active marker prioritized pc"
    run = play(
        add()
        + take()
        + finish("failed", fields=FAILED)
        + f"""
        admin >> {script(keys(words), "1", "LPUSH", "failedReason", "failed", 0, 0)}
        admin << :1
        """
        + take(delivery(atm=1))
        + finish(),
        bullmq(),
    )
    assert run.tree() == TRIED.format("success").replace("retry !retry", "failure !dead_letter").replace(
        "~retry_of", "~requeued_from"
    )


STALLED = {
    "4.18": ("stalled wait active failed stalled-check meta paused events", array([], [b"1"])),
    "6.7": ("stalled wait active stalled-check meta paused marker events repeat", array("1")),
}


@pytest.mark.parametrize(("words", "reply"), STALLED.values(), ids=STALLED)
def test_a_stalled_job_is_given_to_another_worker(words: str, reply: bytes) -> None:
    run = play(
        add()
        + take()
        + f"""
        checker >> {script(keys(words), 1, BASE, AT, 3000)}
        checker << {raw(reply)}
        """
        + take(delivery(ats=2)).replace("worker", "other")
        + finish().replace("worker", "other")
        # The first one was only slow; it has lost its lock.
        + finish(reply=b":-6\r\n"),
        bullmq(),
    )
    assert run.tree() == TRIED.format("success").replace("!retry", "!reclaimed").replace("retry_of", "reclaimed_from")
    assert run.lifecycle.measures.orphans == 0


def test_one_that_stalled_too_often() -> None:
    run = play(
        add()
        + take()
        + f"""
        checker >> {script(keys(STALLED["4.18"][0]), 1, BASE, AT, 3000)}
        checker << {raw(array([b"1"], []))}
        """,
        bullmq(),
    )
    assert run.tree() == ONE.replace("success", "failure !dead_letter")


CHILDREN = "active waiting-children 1 1:dependencies 1:unsuccessful stalled events"
RELEASE = "active wait stalled paused meta limiter prioritized marker events"
BACK = {
    "delayed by itself": later(skip=1, fields=b""),
    "rate limited": f"worker >> {script(keys(RELEASE), '1', TOKEN, BASE + '1')}\nworker << :250",
    "waits for children": f"worker >> {script(keys(CHILDREN), TOKEN, '', AT, '1', BASE)}\nworker << :0",
}


@pytest.mark.parametrize("back", BACK.values(), ids=BACK)
def test_a_job_that_is_given_back_has_not_failed(back: str) -> None:
    run = play(f"{add()}\n{take()}\n{back}\n{take(delivery(ats=2))}\n{finish()}", bullmq())
    assert run.tree() == TRIED.format("success").replace(" !retry", "").replace("retry_of", "previous")
    assert {span.job.fields.attempt for span in run.spans} == {0}


def test_a_lock_that_is_extended_is_a_sign_of_life() -> None:
    run = play(
        f"""
        worker >> {script(keys("stalled"), BASE, pack([TOKEN]), pack(["1", "2"]), 30000)}
        worker << []
        worker >> {script(keys("3:lock stalled"), TOKEN, 30000, "3")}
        worker << :1
        event heartbeat ref=bull:mails:1
        event heartbeat ref=bull:mails:2
        event heartbeat ref=bull:mails:3
        """,
        bullmq(),
    )
    assert run.spans == []
    assert run.lifecycle.measures.orphans == 0


def test_an_id_that_is_there_already_is_marked() -> None:
    run = play(add() + add(number=2) + take() + add(number=3) + finish(), bullmq())
    assert run.tree() == f"{ONE}\n" + "\n".join(2 * ["queue.enqueue PRODUCER mails ~duplicate_of"])
    assert [span.facts.get(a.OUTCOME) for span in run.spans] == [None, "duplicate", None, "duplicate", None]


def test_only_the_worker_has_redspan() -> None:
    """Nothing is stored, and all the attempts are in one trace all the same."""
    bare = [array(hash_of(OPTIONS, ats=1, atm=attempt), "1", 0, 0) for attempt in (0, 1)]
    run = play(take(bare[0]) + again() + take(bare[1]) + finish(), bullmq())
    assert run.tree() == (
        "queue.dequeue CLIENT mails\n"
        "  job.process CONSUMER mails retry !retry\n"
        "queue.enqueue PRODUCER mails ~retry_of\n"
        "  queue.dequeue CLIENT mails\n"
        "    job.process CONSUMER mails success ~retry_of"
    )
    assert len({span.trace_id for span in run.spans}) == 1
    assert run.spans[0].facts[a.WAIT_SOURCE] == "envelope"


def test_the_workers_own_sidecar_finds_the_context() -> None:
    run = play(take() + again() + take(delivery(atm=1)) + finish(), bullmq())
    assert run.tree() == (
        "queue.dequeue CLIENT mails (?)\n"
        "  job.process CONSUMER mails retry !retry\n"
        "queue.enqueue CLIENT mails ~retry_of (?)\n"
        "queue.dequeue CLIENT mails (?)\n"
        "  job.process CONSUMER mails success ~retry_of"
    )
    assert {span.trace_id for span in run.spans} == {trace_id(1)}


def test_what_is_told_of_jobs_that_nobody_knows_makes_no_spans() -> None:
    run = play(again() + later() + finish() + finish("failed"), bullmq())
    assert run.spans == []


def test_a_script_that_is_not_loaded_yet_is_sent_again() -> None:
    text = "--[[\n  Adds a job to the queue by doing the following:\n]] return 1"
    options = wide(OPTIONS)
    run = play(
        f"""
        producer >> {script(keys(ADD["6.7"]), sent(), "{}", options)}
        redis    >> {script(keys(ADD["6.7"]), sent(), "{}", carrying(options))}
        producer << -NOSCRIPT No matching script. Please use EVAL.
        producer >> {script(keys(ADD["6.7"]), sent(), "{}", options, text=text)}
        redis    >> {script(keys(ADD["6.7"]), sent(), "{}", carrying(options, 2), text=text)}
        producer << "1"
        event enqueue ref=bull:mails:1
        """,
        bullmq(),
    )
    assert run.spans[0].trace_id == trace_id(2)


def test_refused_by_the_script_or_by_redis_or_never_answered() -> None:
    run = play(
        add(reply=":-5") + add(reply="-OOM no", number=2) + add(reply="", number=3) + "producer :: closes", bullmq()
    )
    assert run.tree() == "queue.enqueue PRODUCER mails !OOM\nqueue.enqueue PRODUCER mails"
    assert [event.outcome.name for event in run.events] == ["ERROR", "UNKNOWN"]
    assert {span.job.fields.type for span in run.spans} == {"ok"}


def test_a_context_of_bullmqs_own_telemetry_is_joined() -> None:
    theirs = splice(wide({"attempts": 1}), [(b"tm", f'{{"traceparent":"{traceparent(9)}"}}'.encode())])
    said = array(hash_of({"attempts": 1, "tm": f'{{"traceparent":"{traceparent(9)}"}}'}), "1", 0, 0)
    run = play(
        f"producer >> {script(keys(ADD['6.7']), sent(), '{}', theirs)}\nproducer << '1'\n" + take(said) + finish(),
        bullmq(),
    )
    assert run.tree() == (
        "queue.enqueue CLIENT mails (?)\nqueue.dequeue CLIENT mails (?)\n  job.process CONSUMER mails success"
    )
    assert {span.trace_id for span in run.spans} == {trace_id(9)}
    assert run.injections == {"kept": 1}


def test_a_job_that_is_to_carry_nothing_for_telemetry() -> None:
    options = wide({"omc": True})
    header = traceparent(1).encode()
    play(
        f"""
        producer >> {script(keys(ADD["6.7"]), sent(), "{}", options)}
        redis    >> {script(keys(ADD["6.7"]), sent(), "{}", splice(options, [(b"traceparent", header)]))}
        """,
        bullmq(),
    )


def test_observed_without_writing() -> None:
    plain = f"producer >> {script(keys(ADD['6.7']), sent(), '{}', wide(OPTIONS))}\nproducer << '1'\n"
    bare = [array(hash_of(OPTIONS, ats=1, atm=attempt), "1", 0, 0) for attempt in (0, 1)]
    run = play(plain + take(bare[0]) + again() + take(bare[1]) + finish(), bullmq(inject=False))
    # Nobody stores which of the enqueues a delivery is of; there is but one that it can be.
    assert len({span.trace_id for span in run.spans}) == 1
    assert [span.operation.value for span in run.spans].count("job.process") == 2
    assert run.injections == {"disabled": 1}


def test_long_jobs_travel_without_their_data() -> None:
    fields = [b"name", b"ok", b"data", b"x" * 5000, b"opts", json.dumps(stored()).encode(), b"timestamp", b"%d" % AT]
    run = play(take(array(fields, "1", 0, 0)) + finish(), bullmq())
    event = run.events[0]
    assert (len(event.value) < 500, event.size > 5000) == (True, True)
    assert run.spans[0].parent_id
    assert run.spans[0].job.fields.type == "ok"
