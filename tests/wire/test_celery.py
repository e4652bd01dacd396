"""Celery 5.7's exact commands (kombu's Redis transport), replayed."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime

from proxy.tracer.attributes import DURATION_MS, START_INFERRED, WORKER_ID
from proxy.tracer.span import Span
from tests.frameworks import celery, lists
from tests.playbook import MS, START, play, traceparent

ID, TAG = "0d7358b1-96b2-44e3-9fd9-addb97215583", "931c3b70-fe38-4265-9207-f56f3581d0f3"
META = f"celery-task-meta-{ID}"
POP = "BRPOP celery celery\x06\x163 celery\x06\x166 celery\x06\x169 1"


def message(
    trace: int = 0, *, retries: int = 0, tag: str = TAG, redelivered: bool = False, eta: str | None = None
) -> str:
    headers = {
        "lang": "py",
        "task": "tasks.add",
        "id": ID,
        "eta": eta,
        "retries": retries,
        "parent_id": None,
        **({"redelivered": True} if redelivered else {}),
        **({"traceparent": traceparent(trace)} if trace else {}),
    }
    properties = {
        "correlation_id": ID,
        "delivery_info": {"exchange": "", "routing_key": "celery"},
        "priority": 0,
        "delivery_tag": tag,
    }
    return json.dumps(
        {"body": "W1sxXSwge30sIHt9XQ==", "content-encoding": "utf-8", "headers": headers, "properties": properties}
    )


def status(word: str, result: object = None) -> str:
    return json.dumps({"status": word, "result": result, "traceback": None, "task_id": ID})


def events(*said: dict[str, object]) -> str:
    body = base64.b64encode(json.dumps(said).encode()).decode()
    return json.dumps({"body": body, "content-encoding": "utf-8", "content-type": "application/json"})


ENQUEUE = f"""
    producer >> LPUSH celery '{message()}'
    redis    >> LPUSH celery '{message(1)}'
    redis    << :1
"""
DEQUEUE = f"""
    c4 >> {POP}
    c4 << ["celery", '{message(1)}']
    c5 >> MULTI
    c5 >> ZADD unacked_index 1795301915.74 {TAG}
    c5 >> HSET unacked {TAG} '[{message(1)}, "", "celery"]'
    c5 >> EXEC
    c5 << raw "+OK\\r\\n+QUEUED\\r\\n+QUEUED\\r\\n*2\\r\\n:1\\r\\n:1\\r\\n"
"""
ACK = f"""
    c5 >> MULTI
    c5 >> ZREM unacked_index {TAG}
    c5 >> HDEL unacked {TAG}
    c5 >> EXEC
    c5 << raw "+OK\\r\\n+QUEUED\\r\\n+QUEUED\\r\\n*2\\r\\n:1\\r\\n:1\\r\\n"
"""


def ended(word: str, result: object = None) -> str:
    return f"""
    c14 >> MULTI
    c14 >> SETEX {META} 86400 '{status(word, result)}'
    c14 >> PUBLISH {META} '{status(word, result)}'
    c14 >> EXEC
    c14 << raw "+OK\\r\\n+QUEUED\\r\\n+QUEUED\\r\\n*2\\r\\n+OK\\r\\n:0\\r\\n"
    """


def test_a_task_with_early_acknowledgement_begins_with_it_and_ends_with_its_result() -> None:
    run = play(
        ENQUEUE
        + DEQUEUE
        + ACK
        + ended("SUCCESS", 3)
        + f"""
        event enqueue queue=celery carry=written number=1
        event dequeue queue=celery
        event start   ref={TAG}
        event settle  ref={ID} verdict=success
        """,
        celery(),
    )
    assert run.tree() == (
        "queue.enqueue PRODUCER celery\n  queue.dequeue CLIENT celery\n    job.process CONSUMER celery success"
    )
    _, dequeue, process = run.spans
    assert process.start > dequeue.end
    assert [span.job.fields.type for span in run.spans] == ["tasks.add"] * 3


def test_a_late_acknowledgement_does_not_begin_it_again() -> None:
    run = play(ENQUEUE + DEQUEUE + ended("SUCCESS", 3) + ACK, celery())
    assert run.tree() == (
        "queue.enqueue PRODUCER celery\n  queue.dequeue CLIENT celery\n    job.process CONSUMER celery success"
    )
    assert run.spans[-1].start == run.spans[-2].end
    assert run.lifecycle.measures.orphans == 0


def ran_with(eta: int, *, acknowledged: bool = False) -> tuple[Span, Span]:
    """Dequeue and process of a task with an ETA, in ns."""
    due = datetime.fromtimestamp(eta / 1e9, UTC).isoformat()
    sent, stored = message(eta=due), message(1, eta=due)
    taken = DEQUEUE.replace(message(1), stored)
    run = play(
        f"""
        producer >> LPUSH celery '{sent}'
        redis    >> LPUSH celery '{stored}'
        redis    << :1
        """
        + taken
        + (ACK if acknowledged else "")
        + ended("SUCCESS", 3),
        celery(),
    )
    _, dequeue, process = run.spans
    return dequeue, process


def test_a_task_that_is_acknowledged_late_begins_no_earlier_than_its_eta() -> None:
    dequeue, process = ran_with(START)
    assert process.start == dequeue.end
    assert START_INFERRED not in process.facts
    due = dequeue.end + 5 * MS
    _, held = ran_with(due)
    assert held.facts[START_INFERRED] is True
    assert (held.start, held.end) == (due, process.end)
    assert held.facts[DURATION_MS] == (process.end - due) / 1e6


def test_a_task_that_ends_before_its_eta_was_not_held_for_it() -> None:
    dequeue, process = ran_with(START + 60_000 * MS)
    assert process.start == dequeue.end
    assert START_INFERRED not in process.facts


def test_who_acknowledges_a_task_at_its_eta_says_when_it_begins() -> None:
    dequeue, process = ran_with(START + 5 * MS, acknowledged=True)
    assert process.start > dequeue.end
    assert START_INFERRED not in process.facts


def test_a_failure_says_what_was_raised_and_no_more() -> None:
    raised = {"exc_type": "KeyError", "exc_message": ["secret"], "exc_module": "builtins"}
    run = play(ENQUEUE + DEQUEUE + ACK + ended("FAILURE", raised), celery())
    assert run.tree() == (
        "queue.enqueue PRODUCER celery\n  queue.dequeue CLIENT celery\n"
        "    job.process CONSUMER celery failure !KeyError"
    )


def test_a_retry_keeps_its_context_and_is_linked_to_the_failed_attempt() -> None:
    again = message(1, retries=1, tag="7")
    run = play(
        ENQUEUE
        + DEQUEUE
        + ACK
        + f"""
        c16 >> LPUSH celery '{again}'
        c16 << :1
        """
        + ended("RETRY")
        + f"""
        c4 >> {POP}
        c4 << ["celery", '{again}']
        c5 >> HDEL unacked 7
        c5 << :1
        """
        + ended("SUCCESS"),
        celery(),
    )
    assert run.tree() == (
        "queue.enqueue PRODUCER celery\n"
        "  queue.dequeue CLIENT celery\n"
        "    job.process CONSUMER celery retry !retry\n"
        "  queue.enqueue CLIENT celery ~retry_of\n"
        "  queue.dequeue CLIENT celery\n"
        "    job.process CONSUMER celery success ~retry_of"
    )
    assert run.injections == {"written": 1, "kept": 1}
    assert run.lifecycle.measures.orphans == 0


def test_what_a_worker_gives_back_is_delivered_again_in_the_same_trace() -> None:
    back = message(1, redelivered=True)
    run = play(
        ENQUEUE
        + DEQUEUE
        + f"""
        c17 >> MULTI
        c17 >> ZREM unacked_index {TAG}
        c17 >> HDEL unacked {TAG}
        c17 >> RPUSH celery '{back}'
        c17 >> EXEC
        c17 << raw "+OK\\r\\n+QUEUED\\r\\n+QUEUED\\r\\n+QUEUED\\r\\n*3\\r\\n:1\\r\\n:1\\r\\n:1\\r\\n"
        c4 >> {POP}
        c4 << ["celery", '{back}']
        """
        + ended("SUCCESS"),
        celery(),
    )
    assert run.tree() == (
        "queue.enqueue PRODUCER celery\n"
        "  queue.dequeue CLIENT celery\n"
        "    job.process CONSUMER celery retry !reclaimed\n"
        "  queue.enqueue CLIENT celery ~reclaimed_from\n"
        "  queue.dequeue CLIENT celery\n"
        "    job.process CONSUMER celery success ~reclaimed_from"
    )


def test_task_events_tell_the_end_of_a_task_without_a_result_and_who_ran_it() -> None:
    run = play(
        ENQUEUE
        + DEQUEUE
        + ACK
        + f"""
        c9 >> PUBLISH /0.celeryev/task.multi '{
            events(
                {"type": "task-received", "uuid": ID, "hostname": "celery@web"},
                {"type": "task-started", "uuid": ID, "hostname": "celery@web", "pid": 1, "timestamp": 1.5},
                {"type": "task-failed", "uuid": ID, "hostname": "celery@web", "exception": "ValueError('secret')"},
            )
        }'
        c9 << :1
        event enqueue
        event dequeue
        event start
        event start  ref={ID} worker=celery@web
        event settle ref={ID} verdict=failure error=ValueError worker=celery@web
        """,
        celery(),
    )
    assert run.spans[-1].error == "ValueError"
    assert run.spans[-1].facts[WORKER_ID] == "celery@web"


def test_a_queue_is_known_once_its_messages_were_seen() -> None:
    run = play(
        f"""
        c1 >> LLEN celery
        c1 << :0
        c1 >> DEL celery
        c1 << :1
        c4 >> {POP}
        c4 << ["celery", '{message(9)}']
        c1 >> DEL celery celery\x06\x163
        c1 << :1
        event dequeue queue=celery
        event purge   queue=celery verdict=unknown
        event purge   queue=celery verdict=unknown
        """,
        celery(),
    )
    assert run.blind == {}


def test_what_is_no_task_passes() -> None:
    pidbox = '{"body": "e30=", "headers": {"clock": 1}, "properties": {"delivery_tag": "t"}}'
    run = play(
        f"""
        c1 >> LPUSH reply.celery.pidbox '{pidbox}'
        c1 << :1
        c1 >> BRPOP reply.celery.pidbox 1
        c1 << ["reply.celery.pidbox", '{pidbox}']
        c1 >> LPUSH any '{{"body": 1'
        c1 << :1
        c1 >> BRPOP any 1
        c1 << nil
        c1 >> PUBLISH /0.celeryev/worker.heartbeat '{{}}'
        c1 << :0
        c1 >> PUBLISH /0.celeryev/task.multi nonsense
        c1 << :0
        c1 >> SET {META} nonsense
        c1 << +OK
        """,
        celery(),
    )
    assert run.events == []
    assert run.blind == {}


def test_a_queue_that_the_user_names_himself_is_not_celerys() -> None:
    run = play(
        f'c1 >> LPUSH jobs {{}}\nredis >> LPUSH jobs \'{{"traceparent":"{traceparent(1)}"}}\'', lists(), celery()
    )
    assert run.injections == {"written": 1}


def test_a_prefix_is_taken_off_the_queue_and_expected_of_the_rest() -> None:
    play(
        f"""
        c1 >> LPUSH app:mails\x06\x163 '{message()}'
        redis >> LPUSH app:mails\x06\x163 '{message(1)}'
        c1 << :1
        c1 >> SETEX app:{META} 10 '{status("STARTED")}'
        c1 << +OK
        c1 >> SETEX {META} 10 '{status("STARTED")}'
        c1 << +OK
        event enqueue queue=mails
        event start   ref={ID}
        """,
        celery(prefix="app:"),
    )


def test_a_result_that_is_no_json_has_a_status_all_the_same() -> None:
    play(
        f"""
        c1 >> SETEX {META} 10 raw
        c1 << +OK
        c1 >> SETEX {META} 10 "junk status\x94\x8c\x07SUCCESS junk"
        c1 << +OK
        event settle ref={ID} verdict=success
        """,
        celery(),
    )


def test_a_summary_has_what_is_read_and_not_the_body() -> None:
    shape, job = celery(), message(1).encode()
    summary = shape.summary(job)
    assert b"body" not in summary
    assert shape.fields(summary) == shape.fields(job)
    assert shape.slot(summary).context == shape.slot(job).context is not None
