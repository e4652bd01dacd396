"""arq 0.28's exact commands, replayed."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from proxy.context.derive import Deriver
from proxy.events import Verdict
from proxy.frameworks.arq import _packed, _verdict
from proxy.tracer import attributes as a
from tests.frameworks import arq
from tests.playbook import MS, START, Play, play
from tests.wire.binary import bulk, command

ID = "5dd5bad63e5040768b23a95f8d51350c"
AT = START // MS
QUEUE, JOB = "arq:queue", f"arq:job:{ID}"
CLAIM, RETRY, RESULT = f"arq:in-progress:{ID}", f"arq:retry:{ID}", f"arq:result:{ID}"


def job(args: tuple[Any, ...] = ("secret", 2), **kwargs: Any) -> bytes:
    return pickle.dumps({"t": None, "f": "mail", "a": args, "k": kwargs, "et": AT})


def result(value: Any, args: tuple[Any, ...] = ("secret", 2)) -> bytes:
    success = not isinstance(value, BaseException)
    said = {"t": 1, "f": "mail", "a": args, "k": {}, "et": AT, "s": success, "r": value}
    return pickle.dumps({**said, "st": AT + 1, "ft": AT + 2, "q": QUEUE, "id": ID})


def context() -> tuple[str, str]:
    """Trace and span that follow from id and time."""
    deriver = Deriver()
    trace_id = deriver.trace_id("arq", f"{len(ID)}:{ID}{AT}".encode())
    return trace_id.hex(), deriver.span_id(trace_id).hex()


def executed(*replies: str) -> str:
    lines = ["+OK", *["+QUEUED"] * len(replies), f"*{len(replies)}", *replies]
    return 'raw "' + "".join(line + r"\r\n" for line in lines) + '"'


def transaction(who: str, commands: list[str], *replies: str) -> str:
    lines = [f"{who} >> {one}" for one in ("MULTI", *commands, "EXEC")]
    return "\n".join(("", *lines, f"{who} << {executed(*replies)}", ""))


def nested(data: bytes) -> str:
    """A bulk string within `executed`."""
    return f"${len(data)}\\r\\n" + bulk(data)[1:-1]


def enqueue(due: int = AT, value: bytes | None = None, queue: str = QUEUE) -> str:
    return f"""
        producer >> WATCH {JOB}
        producer << +OK
        producer >> EXISTS {JOB} {RESULT}
        producer << :0
        """ + transaction(
        "producer",
        [command("PSETEX", JOB, "86400000", value or job()), f"ZADD {queue} {due} {ID}"],
        "+OK",
        ":1",
    )


def claim(queue: str = QUEUE, score: int = AT) -> str:
    return f"""
    worker >> ZRANGEBYSCORE {queue} -inf {AT} LIMIT 0 100
    worker << ["{ID}"]
    worker >> WATCH {CLAIM}
    worker << +OK
    worker >> EXISTS {CLAIM}
    worker << :0
    worker >> ZSCORE {queue} {ID}
    worker << "{score}"
    """ + transaction("worker", [f"PSETEX {CLAIM} 310000 1"], "+OK")


def begin(attempt: int = 1, value: bytes | None = None) -> str:
    commands = [f"GET {JOB}", f"INCRBY {RETRY} 1", f"EXPIRE {RETRY} 88400"]
    return transaction("task", commands, nested(value or job()), f":{attempt}", ":1")


def end(stored: bytes | None) -> str:
    stores = [] if stored is None else [command("SET", RESULT, stored, "PX", "3600000")]
    commands = [*stores, f"ZREM arq:abort {ID}", f"ZREM {QUEUE} {ID}", f"DEL {CLAIM} {RETRY} {JOB}"]
    return transaction("task", commands, *["+OK"] * len(stores), ":0", ":1", ":3")


def retry(delay: str = "") -> str:
    if not delay:
        return transaction("task", [f"DEL {CLAIM}"], ":1")
    return transaction("task", [f"ZINCRBY {QUEUE} 528 {ID}", f"DEL {CLAIM}"], delay, ":1")


ONE = "queue.enqueue PRODUCER arq:queue\n  queue.dequeue CLIENT arq:queue\n    job.process CONSUMER arq:queue success"


def unique(run: Play) -> None:
    ids = [span.span_id for span in run.spans]
    assert len(ids) == len(set(ids))
    assert {span.trace_id.hex() for span in run.spans} == {context()[0]}
    assert run.lifecycle.measures.orphans == 0
    assert "secret" not in str(run.spans)


def test_a_job_is_one_trace_that_follows_from_its_id_and_time() -> None:
    run = play(
        enqueue()
        + claim()
        + begin()
        + end(result(3))
        + f"""
        event describe ref={ID} carry=derived
        event schedule ref={ID} queue=arq:queue
        event describe ref={ID} queue=arq:queue
        event dequeue  ref={ID}
        event describe ref={ID}
        event start    ref={ID} number=1
        event settle   ref={ID} verdict=success
        event over     ref={ID}
        """,
        arq(),
    )
    assert run.tree() == ONE
    unique(run)
    enqueued, dequeued, process = run.spans
    assert (enqueued.trace_id.hex(), enqueued.span_id.hex()) == context()
    assert {(span.job.fields.id, span.job.fields.type) for span in run.spans} == {(ID, "mail")}
    assert process.start > dequeued.end
    assert {span.job.key for span in run.spans} == {QUEUE}
    assert a.END_INFERRED not in process.facts
    assert a.SCHEDULED_MS not in dequeued.facts


def test_the_workers_own_sidecar_computes_the_same() -> None:
    run = play(claim() + begin() + end(result(KeyError("secret"))), arq())
    assert run.tree() == ("queue.dequeue CLIENT arq:queue (?)\n  job.process CONSUMER arq:queue failure !KeyError")
    dequeued = run.spans[0]
    assert (dequeued.trace_id.hex(), dequeued.parent_id.hex()) == context()
    assert dequeued.facts[a.PARENT_UNVERIFIED]
    assert dequeued.facts[a.WAIT_SOURCE] == "envelope"
    assert dequeued.job.fields.type == "mail"
    unique(run)


def test_a_deferred_job_has_waited_since_it_was_due() -> None:
    due = AT + 10
    own = play(enqueue(due) + claim(score=due) + begin() + end(result(1)), arq())
    assert own.tree() == ONE
    dequeued = own.spans[1]
    assert a.SCHEDULED_MS in dequeued.facts
    others = play("#\n" * 20 + claim(score=due) + begin(), arq()).spans[0]
    assert others.facts[a.WAIT_MS] == (others.end - due * MS) / 1e6


def test_a_queue_of_another_name() -> None:
    run = play(enqueue(queue="mails") + claim("mails") + begin() + end(result(1)), arq(queues=("mails",)))
    assert run.tree() == ONE.replace("arq:queue", "mails")
    unknown = play(enqueue(queue="mails") + claim("mails") + begin() + end(result(1)), arq())
    assert [span.operation.value for span in unknown.spans] == ["queue.dequeue", "job.process"]


@pytest.mark.parametrize("delay", ["", f"$13\\r\\n{AT + 60}", f",{AT + 60}"], ids=["at once", "RESP2", "RESP3"])
def test_a_retry_is_linked_to_the_failed_attempt(delay: str) -> None:
    run = play(
        enqueue() + claim() + begin() + retry(delay) + claim() + begin(2) + end(result(1)),
        arq(),
    )
    unique(run)
    again = "  queue.enqueue CLIENT arq:queue ~retry_of\n" if delay else ""
    link = "" if delay else " ~retry_of"
    assert run.tree() == (
        "queue.enqueue PRODUCER arq:queue\n"
        "  queue.dequeue CLIENT arq:queue\n"
        "    job.process CONSUMER arq:queue retry !retry\n"
        f"{again}"
        f"  queue.dequeue CLIENT arq:queue{link}\n"
        "    job.process CONSUMER arq:queue success ~retry_of"
    )
    assert [span.job.fields.attempt for span in run.spans if span.operation.value == "job.process"] == [0, 1]


def test_which_attempt_it_is_redis_says_to_whoever_has_not_seen_the_others() -> None:
    run = play(claim() + begin(3) + end(result(1)), arq())
    assert [span.job.fields.attempt for span in run.spans] == [2, 2]
    assert run.spans[-1].facts[a.STATUS] == "success"


def test_a_job_whose_worker_died_is_taken_by_another() -> None:
    other = claim() + begin(2) + end(result(1))
    run = play(
        enqueue() + claim() + begin() + other.replace("worker", "other").replace("task", "others"),
        arq(),
    )
    unique(run)
    assert [span.error for span in run.spans if span.operation.value == "job.process"] == ["redelivered", ""]


def test_a_claim_that_is_lost_is_none() -> None:
    lost = claim().rsplit("worker <<", 1)[0] + 'worker << raw "+OK\\r\\n+QUEUED\\r\\n*-1\\r\\n"\n'
    run = play(enqueue() + lost, arq())
    assert run.tree() == "queue.enqueue PRODUCER arq:queue"


def test_an_enqueue_that_is_lost_is_none() -> None:
    run = play(
        enqueue().rsplit("producer <<", 1)[0] + 'producer << raw "+OK\\r\\n+QUEUED\\r\\n+QUEUED\\r\\n*-1\\r\\n"\n',
        arq(),
    )
    assert run.events == []


def test_a_result_that_is_not_kept() -> None:
    run = play(enqueue() + claim() + begin() + end(None), arq())
    assert run.tree() == ONE.removesuffix(" success")
    assert a.END_INFERRED not in run.spans[-1].facts


def test_a_job_that_was_tried_too_often_or_has_expired() -> None:
    commands = [
        f"DEL {RETRY} {CLAIM} {JOB}",
        f"ZREM arq:abort {ID}",
        f"ZREM {QUEUE} {ID}",
        command("SET", RESULT, result(RuntimeError("max 5 retries exceeded")), "PX", "3600000"),
    ]
    run = play(enqueue() + claim() + begin(6) + transaction("task", commands, ":3", ":0", ":1", "+OK"), arq())
    assert run.tree() == ONE.replace("success", "failure !RuntimeError")
    unique(run)


def test_a_cron_job_stays_claimed() -> None:
    commands = [f"PEXPIRE {CLAIM} 60000", f"ZREM {QUEUE} {ID}", f"DEL {RETRY} {JOB}"]
    run = play(enqueue() + claim() + begin() + transaction("task", commands, ":1", ":1", ":2"), arq())
    assert run.tree() == ONE.removesuffix(" success")


def test_whoever_asks_for_a_result_changes_nothing() -> None:
    asks = transaction("producer", [f"GET {RESULT}", f"ZSCORE {QUEUE} {ID}"], "$-1", f"$13\\r\\n{AT}")
    info = f"""
    producer >> GET {JOB}
    producer << {bulk(job())}
    producer >> GET {JOB}
    producer << nil
    """
    run = play(enqueue() + asks + info + claim() + asks + begin() + asks + end(result(1)) + asks, arq())
    assert run.tree() == ONE
    unique(run)


def test_another_serializer_leaves_the_id() -> None:
    value = b'{"f": "mail", "secret": 1}'
    run = play(enqueue(value=value) + claim() + begin(value=value) + end(b'{"s": true}'), arq())
    assert run.tree() == ONE.removesuffix(" success")
    assert run.spans[0].job.fields.id == ID
    assert "secret" not in str(run.spans)


@pytest.mark.parametrize("protocol", [4, 5])
def test_names_that_are_used_before_as_words(protocol: int) -> None:
    words = ("s", "r", "q", "et", "f", {"s": True, "r": 1})
    arguments = {"t": 1, "f": "mail", "a": words, "k": {"s": 1, "et": 2}, "et": AT}
    ended = {**arguments, "s": False, "r": ValueError("x"), "st": AT, "ft": AT, "q": QUEUE, "id": ID}
    assert _verdict(pickle.dumps(ended, protocol)) == (Verdict.FAILURE, "ValueError")
    fields = arq().fields(_packed(JOB.encode(), pickle.dumps(arguments, protocol)))
    assert (fields.type, fields.created_at) == ("mail", AT * MS)


def test_arguments_that_look_like_a_result_leave_a_doubt() -> None:
    inner = result("inner")
    assert _verdict(result(1, (inner,))) == (Verdict.UNKNOWN, "")
    assert _verdict(result(1)) == (Verdict.SUCCESS, "")


def test_a_summary_says_the_same() -> None:
    value = _packed(JOB.encode(), job(("secret" * 2000,)))
    short = arq().summary(value)
    assert len(short) < 100
    assert arq().identity(short) == arq().identity(value)
    assert arq().fields(short) == arq().fields(value)


def test_what_is_not_arqs_passes() -> None:
    run = play(
        f"""
        other >> PSETEX arq:queue:health-check 3600 text
        other << +OK
        other >> ZADD arq:abort 1 {ID}
        other << :1
        other >> ZADD other 1 {ID}
        other << :1
        other >> ZADD arq:queue NX CH 1 a 2 b
        other << :2
        other >> GET other
        other << nil
        other >> GET {RESULT}
        other << nil
        other >> INCRBY other 1
        other << :1
        other >> DEL other {RETRY}
        other << :1
        """,
        arq(),
    )
    assert run.events == []
