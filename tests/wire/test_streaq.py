"""streaq 7.2's exact commands, replayed."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from proxy.context.derive import Deriver
from proxy.context.fields_slot import pack
from proxy.tracer import attributes as a
from tests.frameworks import streaq
from tests.playbook import MS, START, Play, play
from tests.wire.binary import bulk, command

ID, OTHER = "bd054a721236457f8ebb4f207f85750c", "a059dabbaa644831829681acf0b85aaf"
AT = START // MS
P = "streaq:default:"
S, DELAYED = P + "queues:normal", P + "queues:delayed:normal"


def task() -> bytes:
    return pickle.dumps({"f": "mail", "a": ("secret", 2), "k": {"s": True}, "t": AT})


def result(value: Any, name: str = "mail") -> bytes:
    said = {"f": name, "ct": AT, "et": AT, "s": not isinstance(value, BaseException), "r": value}
    return pickle.dumps({**said, "st": AT, "ft": AT, "t": 1, "w": "4fe27986"})


def never() -> bytes:
    said = {"s": False, "r": RuntimeError("secret"), "ct": AT, "st": AT, "ft": AT, "et": 0}
    return pickle.dumps({**said, "f": "Unknown", "t": 0, "w": "4fe27986"})


def context(ref: str = ID) -> tuple[str, str]:
    deriver = Deriver()
    trace_id = deriver.trace_id("streaq", ref.encode())
    return trace_id.hex(), deriver.span_id(trace_id).hex()


def publish(reply: str = '"1700000000000-0"', due: int = 0, *after: str, task_id: str = ID, space: str = P) -> str:
    keys = [f"{space}{key}" for key in ("queues:normal", "queues:delayed:normal", f"task:data:{task_id}")]
    keys += [f"{space}{key}" for key in ("task:dependents:", "task:dependencies:", "task:results:")]
    words: list[str | bytes] = [task_id, task(), str(due), "0", str(AT), *after]
    return f"""
    producer >> {command("FCALL", "publish_task", "6", *keys, *words)}
    producer << {reply}
    """


def entry(number: int = 0, task_id: str = ID, at: int = AT) -> str:
    return f'["{AT}-{number}", ["task_id", "{task_id}", "enqueue_time", "{at}"]]'


def read(*entries: str, who: str = "worker", stream: str = S) -> str:
    return f"""
    {who} >> FCALL read_streams 1 {stream.rpartition(":")[0]}: workers {who} 32 60000 normal
    {who} << [["{stream}", [{", ".join(entries or [entry()])}]]]
    """


def begin(attempt: int = 1, task_id: str = ID, space: str = P) -> str:
    return f"""
    worker >> GET {space}task:data:{task_id}
    worker << {bulk(task())}
    worker >> INCR {space}task:retry:{task_id}
    worker << :{attempt}
    worker >> SREM {space}aborted {task_id}
    worker << :0
    worker >> FCALL refresh_timeout 2 {space}queues:normal {space}index:running workers w {AT}-0 {task_id}
    worker << :1
    """


def end(stored: bytes, task_id: str = ID, space: str = P) -> str:
    queued, replies = "+QUEUED\\r\\n" * 7, ":1\\r\\n:1\\r\\n:0\\r\\n:1\\r\\n+OK\\r\\n:2\\r\\n*0\\r\\n"
    return f"""
    worker >> MULTI
    worker >> XACK {space}queues:normal workers {AT}-0
    worker >> XDEL {space}queues:normal {AT}-0
    worker >> {command("PUBLISH", f"{space}channels:{task_id}", stored)}
    worker >> SREM {space}index:running {task_id}
    worker >> {command("SET", f"{space}task:results:{task_id}", stored, "EX", "300")}
    worker >> DEL {space}task:retry:{task_id} {space}task:data:{task_id}
    worker >> FCALL update_dependents 2 {space}task:dependents: {space}task:dependencies: {task_id}
    worker >> EXEC
    worker << raw "+OK\\r\\n{queued}*7\\r\\n{replies}"
    """


def retry(due: int) -> str:
    replies = "+QUEUED\\r\\n" * 4 + "*4\\r\\n" + ":1\\r\\n" * 4
    return f"""
    worker >> MULTI
    worker >> XACK {S} workers {AT}-0
    worker >> XDEL {S} {AT}-0
    worker >> SREM {P}index:running {ID}
    worker >> ZADD {DELAYED} {due} {ID}
    worker >> EXEC
    worker << raw "+OK\\r\\n{replies}"
    """


ONE = "queue.enqueue PRODUCER default\n  queue.dequeue CLIENT default\n    job.process CONSUMER default success"


def unique(run: Play, *refs: str) -> None:
    ids = [span.span_id for span in run.spans]
    assert len(ids) == len(set(ids))
    assert {span.trace_id.hex() for span in run.spans} == {context(ref)[0] for ref in refs or (ID,)}
    assert run.lifecycle.measures.orphans == 0
    assert "secret" not in str(run.spans)


def test_a_task_is_one_trace_that_follows_from_its_id() -> None:
    run = play(
        publish()
        + read()
        + begin()
        + end(result(3))
        + f"""
        event describe ref={ID} carry=derived
        event enqueue  ref={ID} queue=default
        event describe ref={ID} number={AT}
        event dequeue  ref={ID} queue=default worker=worker
        event describe ref={ID}
        event start    ref={ID} number=1
        event settle   ref={ID} verdict=success
        """,
        streaq(),
    )
    assert run.tree() == ONE
    unique(run)
    enqueued, dequeued, process = run.spans
    assert (enqueued.trace_id.hex(), enqueued.span_id.hex()) == context()
    assert {(span.job.fields.id, span.job.fields.type) for span in run.spans} == {(ID, "mail")}
    assert process.start > dequeued.end
    assert process.facts[a.WORKER_ID] == "worker"
    assert {span.job.key for span in run.spans} == {S}


def test_the_workers_own_sidecar_computes_the_same() -> None:
    run = play("#\n" * 30 + read(entry(at=AT + 5)) + begin(2) + end(result(KeyError("secret"))), streaq())
    assert run.tree() == "queue.dequeue CLIENT default (?)\n  job.process CONSUMER default failure !KeyError"
    dequeued, process = run.spans
    assert (dequeued.trace_id.hex(), dequeued.parent_id.hex()) == context()
    assert dequeued.facts[a.PARENT_UNVERIFIED]
    assert dequeued.facts[a.WAIT_SOURCE] == "envelope"
    assert dequeued.facts[a.WAIT_MS] == (dequeued.end - (AT + 5) * MS) / 1e6
    assert (process.job.fields.id, process.job.fields.type, process.job.fields.attempt) == (ID, "mail", 1)
    unique(run)


@pytest.mark.parametrize("reply", [f'%["{S}", [{entry()}]]', f'[["{S}", [{entry()}]]]'], ids=["RESP3", "RESP2"])
def test_a_blocking_read(reply: str) -> None:
    run = play(
        publish()
        + f"""
        worker >> XREADGROUP GROUP workers w1 COUNT 26 BLOCK 60000 STREAMS {S} >
        worker << nil3
        worker >> XREADGROUP GROUP workers w1 COUNT 26 BLOCK 60000 STREAMS {S} >
        worker << {reply}
        """
        + begin()
        + end(result(None)),
        streaq(),
    )
    assert run.tree() == ONE
    unique(run)


def test_many_at_once() -> None:
    run = play(
        publish() + publish(task_id=OTHER) + read(entry(), entry(1, OTHER)) + begin() + begin(task_id=OTHER),
        streaq(),
    )
    assert run.tree() == "\n".join([ONE.rpartition("\n")[0]] * 2)
    unique(run, ID, OTHER)


def test_a_task_that_is_there_already_is_not_enqueued() -> None:
    assert play(publish() + publish(":0"), streaq()).tree() == "queue.enqueue PRODUCER default"


def test_a_delayed_task_has_waited_since_it_was_due() -> None:
    run = play(publish(":1", AT + 20) + "\n" * 30 + read() + begin() + end(result(1)), streaq())
    assert run.tree() == ONE
    unique(run)
    dequeued = run.spans[1]
    assert dequeued.facts[a.WAIT_MS] == (dequeued.end - (AT + 20) * MS) / 1e6
    assert a.SCHEDULED_MS in dequeued.facts


@pytest.mark.parametrize("delay", [0, 60])
def test_a_retry_is_linked_to_the_failed_attempt(delay: int) -> None:
    run = play(
        publish() + read() + begin() + retry(AT + delay) + "\n" * 60 + read(entry(3)) + begin(2) + end(result(1)),
        streaq(),
    )
    unique(run)
    assert run.tree() == (
        "queue.enqueue PRODUCER default\n"
        "  queue.dequeue CLIENT default\n"
        "    job.process CONSUMER default retry !retry\n"
        "  queue.enqueue CLIENT default ~retry_of\n"
        "  queue.dequeue CLIENT default\n"
        "    job.process CONSUMER default success ~retry_of"
    )
    assert [span.job.fields.attempt for span in run.spans if span.operation.value == "job.process"] == [0, 1]


def test_a_task_whose_worker_died_is_taken_by_another() -> None:
    run = play(publish() + read() + begin() + read(who="other") + begin(2) + end(result(1)), streaq())
    unique(run)
    assert [span.error for span in run.spans if span.operation.value == "job.process"] == ["redelivered", ""]
    assert [span.job.fields.attempt for span in run.spans if span.operation.value == "job.process"] == [0, 1]


ADDED = f"""
    worker >> XADD {S} * task_id {OTHER} enqueue_time {AT}
    worker << "{AT}-7"
"""


def test_a_task_that_waits_for_another_is_added_by_its_worker() -> None:
    run = play(
        publish()
        + publish(":1", 0, ID, task_id=OTHER)
        + read()
        + begin()
        + end(result(1))
        + ADDED
        + read(entry(7, OTHER))
        + begin(task_id=OTHER)
        + end(result(1), OTHER),
        streaq(),
    )
    second = ONE.split("\n")
    assert run.tree() == "\n".join([ONE, second[0], "  queue.enqueue CLIENT default", *second[1:]])
    unique(run, ID, OTHER)


def test_the_worker_behind_another_sidecar_adds_it_to_the_same_trace() -> None:
    run = play(ADDED + read(entry(7, OTHER)) + begin(task_id=OTHER), streaq())
    assert {(span.trace_id.hex(), span.parent_id.hex()) for span in run.spans} == {context(OTHER)}
    assert [span.operation.value for span in run.spans] == ["queue.enqueue", "queue.dequeue"]
    unique(run, OTHER)


@pytest.mark.parametrize("submitted", [publish(":1", 0, ID, task_id=OTHER), ""], ids=["here", "elsewhere"])
def test_the_next_worker_may_be_faster_than_the_reply(submitted: str) -> None:
    sent, answered = ADDED.strip().split("\n")
    run = play(
        f"{submitted}\n{sent}\n" + read(entry(7, OTHER), who="other") + f"{answered}\n" + begin(task_id=OTHER),
        streaq(),
    )
    unique(run, OTHER)
    parents = {span.parent_id.hex() for span in run.spans if span.kind.name == "CLIENT"}
    assert parents == {context(OTHER)[1]}
    assert len(run.spans) == 2 + bool(submitted)


def test_a_task_that_waits_for_one_that_fails_is_never_tried() -> None:
    run = play(
        publish()
        + publish(":1", 0, ID, task_id=OTHER)
        + read()
        + begin()
        + end(result(ValueError("secret")))
        + f"""
        worker >> {command("PUBLISH", f"{P}channels:{OTHER}", never())}
        worker << :0
        """,
        streaq(),
    )
    assert run.tree() == ONE.replace("success", "failure !ValueError") + (
        "\nqueue.enqueue PRODUCER default\n  queue.cancel CLIENT default"
    )
    unique(run, ID, OTHER)


CANCEL = f"""
    producer >> ZREM {DELAYED} {ID}
    producer << :1
    event describe
    event schedule
    event cancel
"""


def test_a_cancelled_task() -> None:
    run = play(
        publish(":1", AT + 99)
        + f"producer >> ZREM {DELAYED} {ID}\nproducer << :1\nevent describe\nevent schedule\nevent cancel",
        streaq(),
    )
    assert run.tree() == "queue.enqueue PRODUCER default\n  queue.cancel CLIENT default"


def test_cron_jobs_are_scheduled_by_each_worker() -> None:
    says = (
        f"FCALL schedule_cron_job 4 {P}cron:schedule {DELAYED} {P}cron:data:tick {P}task:data:{ID} {ID} {AT + 20} tick"
    )
    run = play(
        f"""
        one >> {says}
        one << nil3
        two >> {says}
        two << nil3
        """
        + "\n" * 30
        + read()
        + begin()
        + end(result(1)),
        streaq(),
    )
    assert run.tree() == ONE
    unique(run)
    assert run.spans[-1].job.fields.type == "mail"


def test_two_applications_may_have_tasks_of_the_same_id() -> None:
    space = "streaq:mails:"
    run = play(
        publish()
        + publish(space=space)
        + read()
        + read(stream=f"{space}queues:normal")
        + begin()
        + begin(space=space)
        + end(result(1))
        + end(result(1), space=space),
        streaq(),
    )
    assert sorted(run.tree().split("\n")) == sorted((ONE + "\n" + ONE.replace("default", "mails")).split("\n"))
    unique(run, ID, f"mails:{ID}")
    assert {span.job.fields.id for span in run.spans} == {ID}


def test_another_serializer_leaves_the_id() -> None:
    run = play(publish() + read() + begin() + end(b'{"s": true}'), streaq())
    assert run.tree() == ONE.removesuffix(" success")


def test_a_summary_says_the_same() -> None:
    value = pack(ID.encode(), [ID.encode(), task() + b"x" * 5000])
    short = streaq().summary(value)
    assert len(short) < 1000
    assert streaq().identity(short) == streaq().identity(value)
    assert streaq().fields(short) == streaq().fields(value)


def test_what_is_not_streaqs_passes() -> None:
    run = play(
        f"""
        other >> FCALL publish_task 1 {S} {ID}
        other << nil
        other >> FCALL other 1 {S} {ID}
        other << [["{S}", [{entry()}]]]
        other >> FCALL read_streams 1 other workers w 32 60000 normal
        other << [["other", [{entry()}]]]
        other >> XADD {S} * field value
        other << "1-0"
        other >> XADD other * task_id {ID}
        other << "1-0"
        other >> ZADD {P}index:results 1 {ID}
        other << :1
        other >> GET {P}task:results:{ID}
        other << nil
        other >> GET {P}task:retry:{ID}
        other << nil
        other >> INCR {P}task:data:{ID}
        other << :1
        other >> PUBLISH other text
        other << :0
        other >> FCALL read_streams 1 {P}queues: workers w 32 60000 normal
        other << [["{S}", [["1-0", ["field", "value"]]]]]
        """,
        streaq(),
    )
    assert run.events == []
    assert run.blind == {}
