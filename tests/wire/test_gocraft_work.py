"""What gocraft/work sends, replayed."""

from __future__ import annotations

import json
from typing import Any

import pytest

from proxy.context.derive import Deriver
from proxy.frameworks.router import Router
from proxy.tracer import attributes as a
from tests.frameworks import celery, gocraft_work, machinery
from tests.playbook import START, play
from tests.wire.lines import array, command, raw, script

ID = "0123456789abcdef01234567"
POOL = "fedcba9876543210fedcba98"
QUEUE = "shop:jobs:send"
HELD = f"{QUEUE}:{POOL}:inprogress"
NOW = START // 10**9
LOCK = "shop:unique:send:" + '{"to":"a@x"}'
TRACE = Deriver().trace_id("gocraft-work", ID.encode())
ONE = "queue.enqueue PRODUCER send\n  queue.dequeue CLIENT send\n    job.process CONSUMER send {}"
TRIED = (
    ONE + "\nqueue.enqueue PRODUCER send ~{}\n  queue.dequeue CLIENT send\n    job.process CONSUMER send success ~{}"
)


def job(fails: int = 0, **said: Any) -> str:
    whole: dict[str, Any] = {"name": "send", "id": ID, "t": NOW, "args": {"to": "a@x"}, **said}
    if fails:
        whole |= {"fails": fails, "err": "secret", "failed_at": NOW}
    return json.dumps(whole, separators=(",", ":"))


def keys_of(*names: str) -> list[str]:
    return [
        key
        for name in names
        for key in (
            f"shop:jobs:{name}",
            f"shop:jobs:{name}:{POOL}:inprogress",
            *(f"shop:jobs:{name}:{word}" for word in ("paused", "lock", "lock_info", "max_concurrency")),
        )
    ]


PUSH = f"producer >> {command('LPUSH', QUEUE, job())}\nproducer << :1\n"


def fetch(fails: int = 0) -> str:
    return f"""
    worker >> {script(keys_of("mail", "send"), POOL)}
    worker << {raw(array(job(fails), QUEUE, HELD))}
    """


def over(*more: str, fails: int = 0, removed: int = 1) -> str:
    sends = "".join(f"    worker >> {one}\n" for one in more)
    count = 3 + len(more)
    replies = b"+OK\r\n" + b"+QUEUED\r\n" * count + array(removed, 0, 0, *[1] * len(more))
    return f"""
    worker >> MULTI
    worker >> {command("LREM", HELD, 1, job(fails))}
    worker >> DECR {QUEUE}:lock
    worker >> HINCRBY {QUEUE}:lock_info {POOL} -1
{sends}
    worker >> EXEC
    worker << {raw(replies)}
    """


RETRIED = over(command("ZADD", "shop:retry", NOW, job(1)))
DEAD = over(command("ZADD", "shop:dead", NOW, job(1)))
AGAIN = f"""
    requeuer >> {script(["shop:retry", "shop:dead", "shop:jobs:mail", QUEUE], "shop:jobs:", NOW)}
    requeuer << "ok"
    """


def test_a_job_is_one_trace_from_its_enqueue_to_its_end() -> None:
    run = play(
        PUSH
        + fetch()
        + over()
        + f"""
        event enqueue key={QUEUE} queue=send carry=derived
        event dequeue key={QUEUE} queue=send worker={POOL}
        event over    key={HELD} verdict=success
        """,
        gocraft_work(),
    )
    assert run.tree() == ONE.format("success")
    assert {span.trace_id for span in run.spans} == {TRACE}
    process = run.spans[-1]
    assert process.facts[a.END_INFERRED]
    assert (process.job.fields.id, process.job.fields.type, process.facts[a.WORKER_ID]) == (ID, "send", POOL)
    assert "a@x" not in str(run.spans)


def test_a_retry_is_linked_to_the_failed_attempt() -> None:
    run = play(PUSH + fetch() + RETRIED + AGAIN + fetch(1) + over(fails=1), gocraft_work())
    assert run.tree() == TRIED.format("retry !retry", "retry_of", "retry_of")
    assert {span.trace_id for span in run.spans} == {TRACE}
    assert [span.job.fields.attempt for span in run.spans] == [0, 0, 0, 1, 1, 1]
    assert "secret" not in str(run.spans)


def test_a_job_that_has_failed_for_good() -> None:
    run = play(PUSH + fetch() + DEAD, gocraft_work())
    assert run.tree() == ONE.format("failure !dead_letter")
    assert a.END_INFERRED not in run.spans[-1].facts


def test_a_job_of_a_dead_worker_is_given_to_another() -> None:
    given = [HELD, QUEUE, f"{QUEUE}:lock", f"{QUEUE}:lock_info"]
    run = play(
        f"""
        {PUSH}
        {fetch()}
        reaper >> {script(given, POOL)}
        reaper << {raw(array(job(), HELD, QUEUE))}
        reaper >> {script(given, POOL)}
        reaper << nil
        {fetch()}
        {over()}
        """,
        gocraft_work(),
    )
    lost, done = (span for span in run.spans if span.operation.value == "job.process")
    assert (lost.error, done.error) == ("reclaimed", "")
    assert lost.span_id in [link.span_id for link in done.links]
    assert [span.operation.value for span in run.spans].count("queue.enqueue") == 1
    assert {span.trace_id for span in run.spans} == {TRACE}


def test_a_worker_of_many_kinds_of_jobs() -> None:
    many = keys_of(*(f"kind{number}" for number in range(40)), "send")
    run = play(f"worker >> {script(many, POOL)}\nworker << {raw(array(job(), QUEUE, HELD))}", gocraft_work())
    assert [event.op.name for event in run.events] == ["DEQUEUE"]


LATER = {
    "later": (command("ZADD", "shop:scheduled", NOW + 7, job()), ":1", ":0"),
    "later, unique": (script(["shop:scheduled", LOCK], job(), NOW + 7), '"ok"', '"dup"'),
    "later, unique, since 2019": (script(["shop:scheduled", LOCK], job(), "1", NOW + 7), '"ok"', '"dup"'),
}
UNIQUE = {
    "unique": (script([QUEUE, LOCK], job()), '"ok"', '"dup"'),
    "unique, since 2019": (script([QUEUE, LOCK], job(), job()), '"ok"', '"dup"'),
}


@pytest.mark.parametrize("how", [*LATER, *UNIQUE])
def test_all_ways_of_enqueueing_a_job(how: str) -> None:
    """And what is answered if there is such a job already."""
    sends, done, refused = {**LATER, **UNIQUE}[how]
    run = play(f"producer >> {sends}\nproducer << {done}\n{fetch()}{over()}", gocraft_work())
    assert run.tree() == ONE.format("success")
    op, due = ("SCHEDULE", (NOW + 7) * 1000) if how in LATER else ("ENQUEUE", -1)
    assert (run.events[0].op.name, run.events[0].number, run.injections) == (op, due, {"derived": 1})
    assert play(f"producer >> {sends}\nproducer << {refused}", gocraft_work()).events == []


def test_only_the_worker_has_redspan() -> None:
    run = play(fetch() + over(), gocraft_work())
    assert run.tree() == "queue.dequeue CLIENT send (?)\n  job.process CONSUMER send success"
    assert run.spans[0].facts[a.PARENT_UNVERIFIED]


def test_a_job_that_somebody_took_away_has_no_end() -> None:
    assert play(PUSH + fetch() + over(removed=0), gocraft_work()).tree() == ONE.rpartition("\n")[0]


def test_never_answered() -> None:
    run = play(PUSH.replace("producer << :1", "producer :: closes"), gocraft_work())
    assert run.events[0].outcome.name == "UNKNOWN"


def test_long_jobs_travel_without_their_arguments() -> None:
    long = command("LPUSH", QUEUE, job(args={"to": "x" * 5000}))
    run = play(f"producer >> {long}\nproducer << :1\n{fetch()}{over()}", gocraft_work())
    assert len(run.events[0].value) < 200
    assert run.tree() == ONE.format("success")


UNTOUCHED = {
    "another list's": command("LPUSH", "shop:jobs:mail", job()),
    "a list that is none": command("LPUSH", "shop:send", job()),
    "no time": command("LPUSH", QUEUE, job(t="now")),
    "no arguments": command("LPUSH", QUEUE, '{"name":"send","id":"7","t":7}'),
    "several": command("LPUSH", QUEUE, job(), job()),
    "no job, aside": command("ZADD", "shop:retry", 7, '{"name":"x"}'),
    "no job, over": command("LREM", HELD, 1, "x"),
    "with an option": command("ZADD", "shop:retry", "NX", 7, job()),
    "a set of another name": command("ZADD", "shop:later", 7, job()),
    "another lock": script([QUEUE, "lock"], job()),
    "a lock of another": script([QUEUE, LOCK.replace("shop", "x")], job()),
    "no keys": script([], POOL),
    "a key too few": script(keys_of("send")[:-1], POOL),
    "keys of two lists": script([*keys_of("send")[:5], *keys_of("mail")[5:]], POOL),
    "no worker": script(keys_of("send")),
}


@pytest.mark.parametrize("sends", UNTOUCHED.values(), ids=UNTOUCHED)
def test_what_only_looks_like_it_passes_untouched(sends: str) -> None:
    run = play(f"c >> {sends}\nc << :1", gocraft_work())
    assert (run.events, run.injections, run.notices) == ([], {}, [])


def test_a_worker_without_a_job_is_nothing() -> None:
    idle = f"worker >> {script(keys_of('mail', 'send'), POOL)}\nworker << nil\n"
    assert play(idle * 2 + AGAIN, gocraft_work()).records == []


NEWER = "\nlocal function acquireLock(lockKey, lockInfoKey, workerPoolID)\nend\nreturn nil"


def test_a_script_of_a_version_to_come_passes_is_counted_and_told_once() -> None:
    run = play(f"c >> {script(keys_of('send')[:4], POOL, text=NEWER)}\nc << nil\n" * 2, gocraft_work())
    assert (run.events, run.injections, run.notices) == ([], {"shape": 2}, ["gocraft-work"])


@pytest.mark.parametrize("key", ["mails:retry", "mails:dead", "mails:scheduled"])
def test_a_list_of_another_library_may_be_called_like_one_of_its_sets(key: str) -> None:
    router = Router([gocraft_work(), celery(), machinery()])
    message = {"body": "", "headers": {"task": "a", "id": "1"}, "properties": {"delivery_tag": "2"}}
    intent = router.read(b"LPUSH", [b"LPUSH", key.encode(), json.dumps(message).encode()])
    assert intent is not None
    assert intent.framework.name == "celery"
