"""Which of the scripts are BullMQ's, and what is done with those that repeat, wait, or are not known."""

from __future__ import annotations

from hashlib import sha1

import pytest
import redis

from proxy.events import Carry
from proxy.tracer import attributes as a
from tests.frameworks import bullmq, lists
from tests.playbook import play, trace_id, traceparent
from tests.sidecar import Sidecar
from tests.wire.bullmq_lines import (
    ADD,
    AT,
    BASE,
    DELAYED,
    ONE,
    add,
    carrying,
    delivery,
    finish,
    keys,
    pack,
    sent,
    take,
    wide,
)
from tests.wire.lines import array, command, raw, script

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
    assert run.tree() == f"{ONE}\nqueue.enqueue PRODUCER mails\n  queue.cancel CLIENT mails"
    dequeue = run.spans[1]
    assert dequeue.facts[a.WAIT_SOURCE] == "wire"
    assert dequeue.facts[a.WAIT_MS] == 3.0


@pytest.mark.parametrize(
    ("base", "queue", "prefix"),
    [("{app}:mails:", "mails", "bull"), ("bull:a:b:", "a:b", "bull"), ("x:y:mails:", "mails", "bull"),
     ("x:y:a:b:", "a:b", "x:y")],
)  # fmt: skip
def test_queues_of_any_prefix_have_their_names(base: str, queue: str, prefix: str) -> None:
    run = play(add(base=base), bullmq(prefix=prefix), lists(queues=("*",)))
    assert run.spans[0].job.queue == queue


def test_ids_begin_anew_in_a_queue_that_was_obliterated() -> None:
    run = play(add() + add(number=2) + take(delivery(2)) + finish(), bullmq())
    dequeue = run.spans[-2]
    assert (dequeue.trace_id, dequeue.facts[a.WAIT_SOURCE]) == (trace_id(2), "envelope")


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
    digest = sha1(text.encode()).hexdigest()
    strange = keys(ADD["6.7"] + " new")
    run = play(
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


def test_of_a_form_that_is_not_known_the_log_speaks_once(sidecar: Sidecar, client: redis.Redis) -> None:
    text = "--[[\n  Adds a job to the queue by doing the following:\n]] return {KEYS[10], ARGV[1]}"
    strange = keys(ADD["6.7"] + " new")
    for job in (b"\x80", b"\x81\xa1a\x01", b"x"):
        assert client.eval(text, len(strange), *strange, job) == [b"bull:mails:new", job]
    counted = {"framework": "bullmq"}
    sidecar.wait_for(lambda: sidecar.metric("redspan_unrecognised_total", **counted) == 3, "not counted")
    assert sidecar.log.count("a script of bullmq in a form that is not known") == 1
