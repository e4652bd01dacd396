"""taskiq 0.13's exact commands (taskiq-redis 1.2), replayed."""

from __future__ import annotations

import json
from typing import Any

import pytest

from proxy.context.fields_slot import pack
from proxy.context.slot import State
from proxy.tracer import attributes as a
from tests.frameworks import dramatiq, lists, taskiq
from tests.playbook import play, traceparent

ID, OTHER = "8aff6c34fd7e4276b164f77af5059f99", "464681ff01a348cf9ce8ce5c47e93acf"
ENTRY, AGAIN = "1700000000000-0", "1700000000009-0"
CONSUMER = "1ac35486-1e14-47c6-82e2-bf1cf746f41f"
READ = f"XREADGROUP GROUP taskiq {CONSUMER} COUNT 100 BLOCK 2000 STREAMS taskiq >"
CLAIM = f"XAUTOCLAIM taskiq taskiq {CONSUMER} 600000 0-0 COUNT 100"


def message(trace: int = 0, *, ident: str = ID, **labels: Any) -> str:
    carried = {**labels, **({"traceparent": traceparent(trace)} if trace else {})}
    fields = {
        "task_id": ident,
        "task_name": "tasks:add",
        "labels": carried,
        "labels_types": dict.fromkeys(labels, 2),
        "args": [1, "secret"],
        "kwargs": {},
    }
    return json.dumps(fields)


def push(*, who: str = "producer", found: int = 0, written: int = 0, **more: Any) -> str:
    """A message that carries the context ``found``, or into which ``written`` goes."""
    lines = f"{who} >> LPUSH taskiq '{message(found, **more)}'\n"
    if written:
        lines += f"redis >> LPUSH taskiq '{message(written, **more)}'\n"
    return f"{lines}{who} << :1\n"


def pop(text: str) -> str:
    return f"worker >> BRPOP taskiq 0\nworker << [\"taskiq\", '{text}']\n"


def add(entry: str = ENTRY, **more: Any) -> str:
    lines = push(**more).replace("LPUSH taskiq", "XADD taskiq * data")
    return lines.replace("<< :1", f'<< "{entry}"')


def read(text: str, entry: str = ENTRY) -> str:
    return f'worker >> {READ}\nworker << %["taskiq", [["{entry}", ["data", \'{text}\']]]]\n'


def ack(entry: str = ENTRY, count: int = 1) -> str:
    return f"worker >> XACK taskiq taskiq {entry}\nworker << :{count}\n"


PICKLED = (
    "\\x80\\x04\\x95U\\0\\0\\0\\0\\0\\0\\0}\\x94(\\x8c\\x06is_err\\x94\\x89"
    "\\x8c\\x03log\\x94N\\x8c\\x0creturn_value\\x94K\\x03u."
)
RAISED = (
    PICKLED.replace("x89", "x88").replace("K\\x03u.", "N\\x8c\\x05error\\x94}\\x94(\\x8c\\x08exc_type\\x94")
    + "\\x8c\\x0aValueError\\x94\\x8c\\x0bexc_message\\x94]\\x94\\x8c\\x06secret\\x94au."
)
SAID: dict[str, object] = {"log": None, "return_value": None, "execution_time": 0.1, "labels": {}}


def sets(value: str, key: str = ID) -> str:
    """``value`` with backslash escapes."""
    size = len(value.encode("latin-1", "backslashreplace").decode("unicode_escape"))
    head = f"*3\\r\\n$3\\r\\nSET\\r\\n${len(key)}\\r\\n{key}\\r\\n${size}\\r\\n"
    return f"results >> raw '{head}{value}\\r\\n'\nresults << +OK\n"


ONE = "queue.enqueue PRODUCER taskiq\n  queue.dequeue CLIENT taskiq\n    job.process CONSUMER taskiq success"
FAILED = ONE.replace("success", "failure !ValueError")
TWICE = (
    "queue.enqueue PRODUCER taskiq\n"
    "  queue.dequeue CLIENT taskiq\n"
    "    job.process CONSUMER taskiq retry !retry\n"
    "  queue.enqueue CLIENT taskiq ~retry_of\n"
    "  queue.dequeue CLIENT taskiq\n"
    "    job.process CONSUMER taskiq success ~retry_of"
)


def test_a_task_on_a_list_ends_with_its_result() -> None:
    run = play(
        push(written=1)
        + pop(message(1))
        + sets(PICKLED)
        + f"""
        event enqueue queue=taskiq carry=written number=1
        event dequeue queue=taskiq dest=
        event outcome ref={ID} verdict=success
        """,
        taskiq(),
    )
    assert run.tree() == ONE
    assert {(span.job.fields.id, span.job.fields.type) for span in run.spans} == {(ID, "tasks:add")}
    assert run.injections == {"written": 1}
    assert run.lifecycle.measures.orphans == 0


def test_a_task_on_a_stream_ends_with_its_acknowledgement() -> None:
    run = play(
        add(written=1)
        + read(message(1))
        + sets(PICKLED)
        + ack()
        + f"""
        event enqueue queue=taskiq carry=written
        event dequeue queue=taskiq dest=taskiq worker={CONSUMER}
        event outcome ref={ID} verdict=success
        event ack     queue=taskiq dest=taskiq number=1
        """,
        taskiq(),
    )
    assert run.tree() == ONE
    _, dequeued, processed = run.spans
    assert processed.start == dequeued.end
    assert dequeued.facts[a.WAIT_SOURCE] == "wire"
    assert run.lifecycle.measures.orphans == 0


@pytest.mark.parametrize(
    ("result", "tree"),
    [
        (PICKLED, ONE),
        (RAISED, FAILED),
        (json.dumps({"is_err": False, **SAID, "error": None}), ONE),
        (json.dumps({"is_err": True, **SAID, "error": {"exc_type": "ValueError", "exc_message": ["secret"]}}), FAILED),
        ("\\x86\\xa6is_err\\xc2\\xa3log\\xc0", ONE),
        ("\\x86\\xa6is_err\\xc3\\xa3log\\xc0", FAILED.replace("ValueError", "failure")),
        ("\\xa6fis_err\\xf4clog\\xf6", ONE),
        ("\\xa6fis_err\\xf5clog\\xf6", FAILED.replace("ValueError", "failure")),
    ],
    ids=["pickle", "pickle failed", "JSON", "JSON failed", "msgpack", "msgpack failed", "CBOR", "CBOR failed"],
)
def test_results_in_all_the_ways_that_taskiq_writes_them(result: str, tree: str) -> None:
    run = play(push(written=1) + pop(message(1)) + sets(result), taskiq())
    assert run.tree() == tree
    assert "secret" not in str(run.spans)
    stream = play(add(written=1) + read(message(1)) + sets(result) + ack(), taskiq())
    assert stream.tree() == tree


def test_a_retry_keeps_its_context_and_is_linked_to_the_failed_attempt() -> None:
    again: dict[str, Any] = {"max_retries": "3", "_retries": "1"}
    run = play(
        push(written=1, max_retries="3")
        + pop(message(1, max_retries="3"))
        + push(who="worker", found=1, **again)
        + pop(message(1, **again))
        + sets(PICKLED),
        taskiq(),
    )
    assert run.tree() == TWICE
    assert run.injections == {"written": 1, "kept": 1}
    assert [span.job.fields.attempt for span in run.spans if span.operation == "job.process"] == [0, 1]
    assert {span.job.fields.max_attempts for span in run.spans} == {3}


def test_a_retry_on_a_stream_is_a_new_entry_before_the_old_one_is_acknowledged() -> None:
    run = play(
        add(written=1)
        + read(message(1))
        + add(AGAIN, who="worker", found=1, _retries="1")
        + read(message(1, _retries="1"), AGAIN)
        + ack()
        + sets(PICKLED)
        + ack(AGAIN),
        taskiq(),
    )
    assert run.tree() == TWICE
    assert run.lifecycle.measures.orphans == 0


@pytest.mark.parametrize(
    "schedule",
    [
        f'{{"task_name": "add", "labels": {{"_retries": "1"}}, "task_id": "{ID}", "schedule_id": "{OTHER}"}}',
        f"\\x8c\\x08_retries\\x94\\x8c\\x011\\x8c\\x07task_id\\x94\\x8c\\x20{ID}\\x94\\x8c\\x0bschedule_id\\x94\\x8c\\x20{OTHER}u.",
    ],
    ids=["JSON", "pickle"],
)
def test_a_retry_that_is_scheduled_ends_the_attempt_at_once(schedule: str) -> None:
    run = play(
        push(written=1)
        + pop(message(1))
        + sets(schedule, f"schedule:data:{OTHER}")
        + push(who="scheduler", found=1, _retries="1", schedule_id=OTHER)
        + pop(message(1, _retries="1", schedule_id=OTHER))
        + sets(PICKLED)
        + f"""
        event enqueue
        event dequeue
        event retry   ref={ID}
        event enqueue carry=found
        event dequeue
        event outcome
        """,
        taskiq(),
    )
    assert run.tree() == TWICE


def test_a_schedule_is_told_by_its_tasks() -> None:
    plain = f'{{"task_name": "add", "labels": {{}}, "task_id": null, "schedule_id": "{OTHER}"}}'
    run = play(
        sets(plain, f"schedule:data:{OTHER}")
        + push(who="scheduler", written=1, schedule_id=OTHER)
        + pop(message(1, schedule_id=OTHER))
        + sets(PICKLED),
        taskiq(),
    )
    assert run.tree() == ONE
    assert {span.job.fields.correlation_id for span in run.spans} == {OTHER}


def test_what_a_task_gives_back_is_another_attempt() -> None:
    requeued: dict[str, Any] = {"X-Taskiq-requeue": "1"}
    run = play(
        push(written=1)
        + pop(message(1))
        + push(who="worker", found=1, **requeued)
        + pop(message(1, **requeued))
        + sets(PICKLED),
        taskiq(),
    )
    assert run.tree() == TWICE


def test_an_entry_that_was_not_acknowledged_is_claimed_by_another() -> None:
    run = play(
        add(written=1)
        + read(message(1))
        + f"""
        w2 >> MULTI
        w2 >> SET autoclaim:taskiq:taskiq 7 NX
        w2 >> {CLAIM.replace(CONSUMER, "w2")}
        w2 >> EVALSHA c3f8721cbb97f72bc19e972846bd7aaf91901658 1 autoclaim:taskiq:taskiq 7
        w2 >> EXEC
        w2 << raw "+OK\\r\\n+QUEUED\\r\\n+QUEUED\\r\\n+QUEUED\\r\\n"
        w2 << [+OK, ["0-0", [["{ENTRY}", ["data", '{message(1)}']], nil], []], :1]
        """
        + ack(),
        taskiq(),
    )
    assert run.tree() == (
        "queue.enqueue PRODUCER taskiq\n"
        "  queue.dequeue CLIENT taskiq\n"
        "    job.process CONSUMER taskiq retry !redelivered\n"
        "  queue.dequeue CLIENT taskiq ~redelivered_from\n"
        "    job.process CONSUMER taskiq ~redelivered_from"
    )
    assert [span.facts[a.WORKER_ID] for span in run.spans if span.operation == "job.process"] == [CONSUMER, "w2"]


def test_many_entries_in_one_read() -> None:
    texts = [message(number + 1, ident=f"{number}{ID[1:]}") for number in range(3)]
    pairs = ", ".join(f'["{number}-1", ["data", \'{text}\']]' for number, text in enumerate(texts))
    run = play(
        "".join(add(f"{number}-1", written=number + 1, ident=f"{number}{ID[1:]}") for number in range(3))
        + f'worker >> {READ}\nworker << [["taskiq", [{pairs}]]]\n'
        + ack("2-1")
        + ack("0-1 1-1", 2),
        taskiq(),
    )
    assert run.tree() == "\n".join([ONE.replace(" success", "")] * 3)
    assert [span.job.fields.id[0] for span in run.spans[-3:]] == ["2", "0", "1"]


@pytest.mark.parametrize("label", [False, True], ids=["worker's", "task's"])
def test_an_early_acknowledgement_is_no_end(label: bool) -> None:
    labels = {"ack_type": "when_received"} if label else {}
    shape = taskiq() if label else taskiq(ack_type="when_received")
    run = play(add(written=1, **labels) + read(message(1, **labels)) + ack() + sets(PICKLED), shape)
    assert run.tree() == ONE
    assert (run.spans[-1].start > run.spans[-2].end) is not label
    assert run.lifecycle.measures.orphans == 0


def test_the_workers_own_sidecar_finds_the_context_in_the_message() -> None:
    for run in (
        play(pop(message(7)) + sets(PICKLED), taskiq()),
        play(read(message(7)) + sets(PICKLED) + ack(), taskiq()),
    ):
        assert run.tree() == "queue.dequeue CLIENT taskiq (?)\n  job.process CONSUMER taskiq success"
        assert run.lifecycle.measures.orphans == 0


def test_a_context_of_taskiqs_own_middleware_is_kept() -> None:
    labels: dict[str, Any] = {"_taskiq_queue_time": 1700000000.5}
    run = play(push(found=7, **labels) + pop(message(7, **labels)) + sets(PICKLED), taskiq())
    assert run.tree() == (
        "queue.enqueue CLIENT taskiq (?)\nqueue.dequeue CLIENT taskiq (?)\n  job.process CONSUMER taskiq success"
    )
    assert run.spans[0].job.fields.enqueued_at == 1_700_000_000_500_000_000


def test_a_queue_is_known_once_its_messages_were_seen() -> None:
    run = play(
        "c >> DEL mails\nc << :1\n"
        + pop(message(7)).replace("taskiq", "mails")
        + f"c >> DEL mails\nc << :1\nc >> DEL {ID}\nc << :1\nc >> DEL {ID} a\nc << :2\n"
        + """
        event dequeue queue=mails
        event purge   queue=mails
        """,
        taskiq(),
    )
    assert run.blind == {}


def test_results_behind_a_prefix_of_tasks_of_any_id() -> None:
    ids: dict[str, Any] = {"ident": "order 17"}
    run = play(
        push(written=1, **ids) + pop(message(1, **ids)) + sets(PICKLED) + sets(PICKLED, "app:order 17"),
        taskiq(result_prefix="app"),
    )
    assert run.tree() == ONE


def test_observed_without_writing() -> None:
    run = play(push() + pop(message()) + sets(PICKLED), taskiq(inject=False))
    assert run.tree() == ONE
    assert run.injections == {"disabled": 1}
    play(add().splitlines()[0] + "\nproducer :: closes\nevent enqueue outcome=unknown", taskiq(inject=False))


@pytest.mark.parametrize(
    "command",
    [
        f"LPUSH taskiq '{message()}' '{message()}'",
        f"RPUSH taskiq '{message()}'",
        'LPUSH taskiq \'{"task_id": "1", "task_name": "x", "labels": {}}\'',
        "LPUSH taskiq '{\"task\": 1}'",
        f"LPUSH taskiq '{message()[:-1]}'",
        f"XADD taskiq * body '{message()}'",
        f"XADD taskiq 1-1 data '{message()}'",
        f"XADD taskiq * a b data '{message()}'",
        f"SET {ID} v",
        f"SET {ID} '{{\"is_err\": 1}}'",
        f"SET session:{ID} '{PICKLED}'",
        f"SET {ID}__progress '{PICKLED}'",
        f"LPUSH {ID} 3",
        'SET schedule:data:1 \'{"_retries": 1, "task_id": null, "schedule_id": "1"}\'',
        f'SET schedule:data:1 \'{{"max_retries": 1, "task_id": "{ID}", "schedule_id": "1"}}\'',
        f"PUBLISH taskiq '{message()}'",
    ],
)
def test_what_is_no_task_passes(command: str) -> None:
    run = play(f"c >> {command}\nc << :1", taskiq(), dramatiq())
    assert run.events == []
    assert run.blind == {}
    assert run.injections == {}


def test_replies_without_a_task() -> None:
    run = play(
        pop(message(7))
        + f"""
        worker >> BRPOP taskiq 0
        worker << nil
        worker >> BRPOP taskiq 0
        worker << ["taskiq", "junk"]
        worker >> {READ}
        worker << nil3
        worker >> {READ}
        worker << [["taskiq", [["1-1", ["other", "x"]], ["1-2", nil]]]]
        worker >> {READ.replace(">", "0")}
        worker << [["taskiq", [["1-1", ["data", '{message(8)}']]]]]
        worker >> {CLAIM}
        worker << ["0-0", [], []]
        event dequeue
        """,
        taskiq(),
    )
    assert run.blind == {}


def test_a_queue_that_the_user_names_himself_is_not_taskiqs() -> None:
    run = play(push().replace("taskiq", "jobs"), lists(inject=False), taskiq())
    assert run.events[0].framework == "list"


def test_a_summary_has_what_is_read_and_no_arguments() -> None:
    shape, job = taskiq(), message(1, _retries="2", max_retries="5").encode()
    summary = shape.summary(job)
    assert b"secret" not in summary
    assert shape.fields(summary) == shape.fields(job)
    assert shape.slot(summary).context == shape.slot(job).context is not None
    entry = pack(b"taskiq taskiq 1-1", [job])
    assert shape.fields(entry).handle == "taskiq taskiq 1-1"
    assert shape.fields(shape.summary(entry)) == shape.fields(entry)
    assert shape.summary(b"{}") == shape.summary(pack(b"x", [])) == b""
    assert shape.slot(b"\x80\x04").state is State.REFUSED
