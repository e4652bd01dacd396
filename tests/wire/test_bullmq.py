"""What BullMQ 4.18 to 6.7 send, replayed."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from proxy.context.msgpack_slot import splice
from proxy.events import Carry
from proxy.tracer import attributes as a
from tests.frameworks import bullmq, lists
from tests.playbook import Play, play, trace_id, traceparent
from tests.wire.lines import Part, array, command, raw, script

pack = msgspec.msgpack.encode
BASE = "bull:mails:"
AT = 1_699_999_999_000
"""ms: a second before the play begins."""
TOKEN = "3efc7c40-50df-4498-8046-8a4a34c3dd1e:1"
OPTIONS: dict[str, Any] = {"attempts": 3, "backoff": {"type": "fixed", "delay": 500}}
ADD = {
    "4.18": "wait paused meta id completed events",
    "5.0": "wait paused meta id completed events marker",
    "5.12": "wait paused meta id completed active events marker",
    "6.7": "wait paused meta id completed delayed active events marker",
}
PRIORITIZED = "marker meta id prioritized delayed completed active events pc"
DELAYED = "marker meta id delayed completed events"
PARENT = "meta id delayed waiting-children completed events"
TAKE = "wait active prioritized events stalled limiter delayed paused meta pc"
FINISH = TAKE + " {0} {1} metrics:{0} marker"
RETRY = "active wait paused 1 meta events delayed prioritized pc marker stalled"
LATER = "marker active prioritized delayed 1 events meta stalled wait limiter pc"


def keys(words: str, base: str = BASE) -> list[str]:
    return [base + word for word in words.split()]


def wide(value: dict[str, Any]) -> bytes:
    """As BullMQ's packer writes a map: always with a header of 16 bits."""
    return b"\xde" + len(value).to_bytes(2) + b"".join(pack(name) + pack(one) for name, one in value.items())


def carrying(options: bytes, number: int = 1, flags: int = 3) -> bytes:
    header = traceparent(number, flags)
    return splice(options, [(b"tm", f'{{"traceparent":"{header}"}}'.encode()), (b"traceparent", header.encode())])


def sent(name: str = "ok", job_id: str = "", base: str = BASE, parent: str | None = None, more: int = 5) -> bytes:
    return pack([base, job_id, name, float(AT), parent, *[None] * more])


def add(
    words: str = ADD["6.7"], options: bytes = b"", number: int = 1, *, reply: str = '"1"', base: str = BASE, **job: Any
) -> str:
    """A producer's add, as it goes out and arrives."""
    options = options or wide(OPTIONS)
    parts: list[Part] = [sent(base=base, **job), '{"to":"a@x"}']
    return f"""
    producer >> {script(keys(words, base), *parts, options)}
    redis    >> {script(keys(words, base), *parts, carrying(options, number))}
    producer << {reply}
    """


def hash_of(options: dict[str, Any], name: str = "ok", **fields: Any) -> list[bytes]:
    said = {"name": name, "data": '{"to":"a@x"}', "opts": json.dumps(options), "timestamp": AT, "delay": 0, **fields}
    return [str(part).encode() for field in said.items() for part in field]


def stored(number: int = 1, options: dict[str, Any] | None = None) -> dict[str, Any]:
    header = traceparent(number)
    return {**(OPTIONS if options is None else options), "tm": f'{{"traceparent":"{header}"}}', "traceparent": header}


def delivery(number: int = 1, job_id: str = "1", **fields: Any) -> bytes:
    return array(hash_of(stored(number), **{"ats": 1, **fields}), job_id, 0, 0)


def worker(**more: Any) -> bytes:
    return wide({"token": TOKEN, "lockDuration": 30000, "limiter": None, **more})


def take(reply: bytes = b"", words: str = TAKE + " marker", *before: Part) -> str:
    return f"""
    worker >> {script(keys(words), BASE, AT + 1, *before, worker(name=None))}
    worker << {raw(reply or delivery())}
    """


def finish(
    target: str = "completed", reply: bytes = b":0\r\n", job_id: str = "1", fields: bytes = b"", keep: int = -1
) -> str:
    said = ("returnvalue", '{"ok":1}') if target == "completed" else ("failedReason", "secret")
    opts = worker(keepJobs={"count": keep}, attempts=3)
    return f"""
    worker >> {script(keys(FINISH.format(target, job_id)), job_id, AT + 5, *said, target, 1, BASE, opts, fields)}
    worker << {raw(reply)}
    """


FAILED = pack(["failedReason", "secret", "stacktrace", json.dumps(["Error: no\n at", "TypeError: secret\n at x"])])
ONE = "queue.enqueue PRODUCER mails\n  queue.dequeue CLIENT mails\n    job.process CONSUMER mails success"
TRACED = """
    event enqueue queue=mails ref=bull:mails:1 carry=written
    event dequeue queue=mails ref=bull:mails:1 worker=3efc7c40-50df-4498-8046-8a4a34c3dd1e
    event settle  ref=bull:mails:1 verdict=success
"""


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


def again(reply: bytes = b":0\r\n") -> str:
    return f"""
    worker >> {script(keys(RETRY), BASE, AT, "LPUSH", "1", TOKEN, FAILED)}
    worker << {raw(reply)}
    """


def later(reply: bytes = b":0\r\n", skip: int = 0, fields: bytes = FAILED) -> str:
    return f"""
    worker >> {script(keys(LATER), BASE, AT, "1", TOKEN, 1500, skip, fields, 1, worker())}
    worker << {raw(reply)}
    """


TRIED = """queue.enqueue PRODUCER mails
  queue.dequeue CLIENT mails
    job.process CONSUMER mails retry !retry
  queue.enqueue CLIENT mails ~retry_of
  queue.dequeue CLIENT mails
    job.process CONSUMER mails {} ~retry_of"""


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


SCHEDULER = "repeat delayed wait paused meta prioritized marker id events pc"
REPEATED = {"repeat": {"every": 700, "count": 1}, "delay": float("nan"), "jobId": "repeat:s:undefined"}


def test_x2_the_next_job_of_a_scheduler_has_a_trace_of_its_own() -> None:
    first, second = (f"repeat:s:{AT + ms}" for ms in (1000, 1700))
    made = (AT, pack({"name": "tick", "every": 700}), "s", "{}", wide({}))
    template = carrying(wide({**REPEATED, "repeat": {"every": 700, "count": 2}}))
    # In the same place, and as long as the one before.
    renewed = template.replace(traceparent(1).encode(), traceparent(2).encode())
    run = play(
        f"""
        producer >> {script(keys(SCHEDULER + " active"), *made, wide(REPEATED), AT, BASE, "")}
        redis    >> {script(keys(SCHEDULER + " active"), *made, carrying(wide(REPEATED)), AT, BASE, "")}
        producer << {raw(array(first, 1000))}
        worker >> {script([*keys(SCHEDULER), BASE + first, BASE + "active"], AT, "s", "{}", template, AT, BASE, first)}
        redis  >> {script([*keys(SCHEDULER), BASE + first, BASE + "active"], AT, "s", "{}", renewed, AT, BASE, first)}
        worker << "{second}"
        worker >> {script([*keys(SCHEDULER), BASE + first, BASE + "active"], AT, "s", "{}", template, AT, BASE, first)}
        redis  >> {
            script(
                [*keys(SCHEDULER), BASE + first, BASE + "active"],
                *(AT, "s", "{}", template.replace(traceparent(1).encode(), traceparent(3).encode()), AT, BASE, first),
            )
        }
        worker << nil
        event schedule ref=bull:mails:{first} number={AT + 1000}
        event schedule ref=bull:mails:{second} number={AT + 1700} carry=replaced
        """,
        bullmq(),
    )
    assert run.tree() == "queue.enqueue PRODUCER mails\nqueue.enqueue PRODUCER mails ~previous"
    one, two = run.spans
    assert (two.links[0].trace_id, two.links[0].span_id) == (one.trace_id, one.span_id)
    assert (two.trace_id, two.parent_id) == (trace_id(2), b"")
    assert run.injections == {"written": 1, "replaced": 2}


def test_x2_the_repeatable_jobs_of_4_18() -> None:
    options = {"repeat": {"every": 700, "count": 2}, "delay": 100, "attempts": 0}
    old, new = carrying(wide(options)), carrying(wide(options), 1)
    foreign = old.replace(traceparent(1).encode(), b"00-%s-%s-01" % (b"ab" * 16, b"cd" * 8))
    parts = (sent("tick", "repeat:x:1"), "{}")
    run = play(
        f"""
        worker >> {script(keys("wait paused meta id delayed completed events"), *parts, foreign)}
        redis  >> {script(keys("wait paused meta id delayed completed events"), *parts, new)}
        worker << "repeat:x:1"
        """,
        bullmq(),
    )
    (span,) = run.spans
    assert span.links[0].trace_id == b"\xab" * 16
    assert run.events[0].carry is Carry.REPLACED


def test_the_first_job_that_repeats_keeps_the_context_it_has() -> None:
    options = carrying(wide(REPEATED), 7)
    run = play(f"producer >> {script(keys(DELAYED), sent(), '{}', options)}\nproducer << '1'", bullmq())
    assert run.events[0].carry is Carry.FOUND
    assert run.events[0].context[:16] == trace_id(7)


def test_promoted_delayed_longer_and_removed() -> None:
    promote = "delayed wait paused meta prioritized active pc events marker"
    change = "delayed meta marker events"
    run = play(
        add(DELAYED, wide({"delay": 60_000}))
        + f"""
        admin >> {script(keys(change), 90_000, AT, "1", BASE + "1")}
        admin << :0
        admin >> {script(keys("delayed 1 events"), 90_000, (AT + 90_000) * 0x1000 + 1, "1")}
        admin << :0
        admin >> {script(keys(promote), BASE, "1")}
        admin << :0
        """
        + take()
        + finish()
        + add(DELAYED, wide({"delay": 60_000}), 2, reply='"2"')
        + f"""
        admin >> {script(keys("2 repeat"), "2", 0, BASE)}
        admin << :1
        event schedule number={AT + 60_000}
        event schedule number={AT + 90_000}
        event schedule number={AT + 90_000}
        event move ref=bull:mails:1
        event dequeue
        event settle
        event schedule
        event cancel ref=bull:mails:2
        """,
        bullmq(),
    )
    assert run.tree() == f"{ONE}\nqueue.enqueue PRODUCER mails"
    dequeue = run.spans[1]
    assert dequeue.facts[a.WAIT_SOURCE] == "wire"
    assert dequeue.facts[a.WAIT_MS] == 3.0


def test_a_queue_is_emptied() -> None:
    run = play(
        f"""
        admin >> {script(keys("wait paused delayed prioritized repeat"), BASE, 0)}
        admin << nil
        admin >> {script([BASE + "meta", BASE], 1000, "force")}
        admin << :1
        admin >> {script([BASE + "meta", BASE], 1000, "force")}
        admin << :0
        event purge queue=mails
        event purge queue=mails
        """,
        bullmq(),
    )
    assert run.tree() == "queue.purge CLIENT mails\nqueue.purge CLIENT mails"


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


@pytest.mark.parametrize(
    ("base", "queue", "prefix"),
    [("{app}:mails:", "mails", "bull"), ("bull:a:b:", "a:b", "bull"), ("x:y:mails:", "mails", "bull"),
     ("x:y:a:b:", "a:b", "x:y")],
)  # fmt: skip
def test_queues_of_any_prefix_have_their_names(base: str, queue: str, prefix: str) -> None:
    run = play(add(base=base), bullmq(prefix=prefix), lists(queues=("*",)))
    assert run.spans[0].job.queue == queue


def test_long_jobs_travel_without_their_data() -> None:
    fields = [b"name", b"ok", b"data", b"x" * 5000, b"opts", json.dumps(stored()).encode(), b"timestamp", b"%d" % AT]
    run = play(take(array(fields, "1", 0, 0)) + finish(), bullmq())
    event = run.events[0]
    assert (len(event.value) < 500, event.size > 5000) == (True, True)
    assert run.spans[0].parent_id
    assert run.spans[0].job.fields.type == "ok"


UNTOUCHED = {
    "other keys": script(keys("wait paused"), sent(), "{}", wide({})),
    "keys of two queues": script([*keys("wait paused meta id completed"), "bull:x:events"], sent(), "{}", wide({})),
    "no keys": command("EVALSHA", "5ab432e88830d573e2fa33392ffbd4ad25a9b100", 0, sent(), "{}", wide({})),
    "fewer keys than it says": command("EVALSHA", "x", 6, *keys("wait paused meta id")),
    "a number of keys that is none": command("EVALSHA", "x", "6x", *keys("wait paused meta id completed events")),
    "another prefix inside": script(keys(ADD["6.7"]), sent(base="bull:x:"), "{}", wide({})),
    "no MessagePack": script(keys(ADD["6.7"]), '["bull:mails:","","ok",1]', "{}", wide({})),
    "options that are no map": script(keys(ADD["6.7"]), sent(), "{}", pack([1])),
    "an argument more": script(keys(ADD["6.7"]), sent(), "{}", wide({}), "x"),
    "a scheduler of another prefix": script(keys(SCHEDULER), 1, wide({}), "s", "{}", wide({}), wide({}), 1, "x", ""),
}


@pytest.mark.parametrize("sends", UNTOUCHED.values(), ids=UNTOUCHED)
def test_what_only_looks_like_it_passes_untouched(sends: str) -> None:
    run = play(f"c >> {sends}\nc << '1'", bullmq())
    assert (run.events, run.injections, run.blind) == ([], {}, {})


def test_idle_workers_are_not_heard() -> None:
    run = play(
        take(array(0, 0, 0, 0))
        + take(array(0, 0, 0, AT))
        + """
        blocked >> BZPOPMIN bull:mails:marker 2
        blocked << ["bull:mails:marker", "0", "0"]
        """,
        bullmq(),
    )
    assert run.records == []


TEXTS = {
    "add": "--[[\n  Adds a prioritized job to the queue by doing the following:\n    - Increases the job counter",
    "take": "--[[\n  Move next job to be processed to active, lock it and fetch its data. The job",
    "finish": "--[[\n  Move job from active to a finished status (completed or failed)",
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_a_form_that_is_not_known_passes_and_is_counted(text: str) -> None:
    from hashlib import sha1

    digest = sha1(text.encode()).hexdigest()
    strange = keys(ADD["6.7"] + " new")
    run: Play = play(
        f"""
        loader >> {command("SCRIPT", "LOAD", text)}
        loader << "{digest}"
        one >> {command("evalsha", digest.upper(), len(strange), *strange, sent(), "{}", wide({}))}
        one << "1"
        two >> {script(strange, sent(), "{}", wide({}), text=text)}
        two << "2"
        """,
        bullmq(),
    )
    assert (run.events, run.injections, run.notices) == ([], {"shape": 2}, ["bullmq"])


def test_bulls_own_texts_are_not_bullmqs() -> None:
    text = "--[[\n  Adds a job to the queue by doing the following:\n  KEYS[3] 'meta-paused'"
    run = play(f"c >> {script(keys('wait x'), '1', text=text)}\nc << '1'", bullmq())
    assert run.injections == {}
