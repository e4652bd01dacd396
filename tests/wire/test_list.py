"""``frameworks.list`` on the wire: what list commands mean, what goes into a job, what is reported of it."""

from __future__ import annotations

import pytest

from tests.frameworks import lists
from tests.playbook import play, traceparent

TP1, TP2, TP3 = (traceparent(number) for number in (1, 2, 3))
ONE_TRACE = (
    "queue.enqueue PRODUCER jobs\n"
    "  queue.dequeue CLIENT jobs\n"
    "    job.process CONSUMER jobs success"
)  # fmt: skip


def test_one_job_through_a_reliable_queue_is_one_trace() -> None:
    run = play(
        f"""
        producer >> LPUSH jobs '{{"id": 1}}'
        redis    >> LPUSH jobs '{{"id": 1, "traceparent": "{TP1}"}}'
        redis    << :1
        worker   >> BRPOPLPUSH jobs work 5
        redis    << '{{"id": 1, "traceparent": "{TP1}"}}'
        worker   >> LREM work 1 '{{"id": 1, "traceparent": "{TP1}"}}'
        redis    << :1
        event enqueue queue=jobs number=1 carry=written
        event dequeue queue=jobs dest=work
        event ack     key=work number=1 value='{{"id": 1, "traceparent": "{TP1}"}}'
        """,
        lists(),
    )
    assert run.tree() == ONE_TRACE


def test_a_plain_queue_ends_a_job_with_the_next_pop_of_its_connection_and_says_so() -> None:
    run = play(
        f"""
        producer >> RPUSH jobs '{{"id":1}}'
        redis    >> RPUSH jobs '{{"id":1,"traceparent":"{TP1}"}}'
        redis    << :1
        worker   >> BLPOP jobs 5
        redis    << ["jobs", '{{"id":1,"traceparent":"{TP1}"}}']
        worker   >> BLPOP jobs 5
        redis    << nil3
        worker   >> BLPOP jobs 5
        event enqueue  queue=jobs
        event dequeue  queue=jobs dest=""
        event next_pop framework=list
        """,
        lists(end="next_pop"),
    )
    spans = run.spans
    assert [span.operation for span in spans] == ["queue.enqueue", "queue.dequeue", "job.process"]
    assert spans[-1].facts["redspan.end.inferred"] is True
    assert "job.status" not in spans[-1].facts


def test_a_connection_that_closes_ends_the_job_it_had_popped() -> None:
    run = play(
        """
        worker >> LPOP jobs
        redis  << '{"id":1}'
        worker :: closes
        event dequeue queue=jobs
        """,
        lists(end="next_pop"),
    )
    assert [span.operation for span in run.spans] == ["queue.dequeue", "job.process"]


def test_without_a_visible_end_there_is_no_process_span() -> None:
    run = play(
        """
        worker >> LPOP jobs
        redis  << '{"id":1}'
        worker >> LPOP jobs
        redis  << nil
        """,
        lists(end="none"),
    )
    assert [span.operation for span in run.spans] == ["queue.dequeue"]


def test_every_value_of_a_push_is_a_job_of_its_own() -> None:
    run = play(
        f"""
        producer >> LPUSH jobs '{{"id":1}}' '{{"id":2}}' nonsense
        redis    >> LPUSH jobs '{{"id":1,"traceparent":"{TP1}"}}' '{{"id":2,"traceparent":"{TP2}"}}' nonsense
        redis    << :3
        event enqueue number=3 batch=3 carry=written
        event enqueue number=3 batch=3 carry=written
        event enqueue number=3 batch=3 carry=none
        """,
        lists(),
    )
    assert run.injections == {"written": 2, "not_object": 1}
    assert len({span.trace_id for span in run.spans}) == 3


@pytest.mark.parametrize("reply", [":0", "-OOM command not allowed", "-NOAUTH Authentication required."])
def test_a_push_that_had_no_effect_makes_no_job(reply: str) -> None:
    run = play(
        f"""
        producer >> RPUSHX jobs '{{"id":1}}'
        redis    >> RPUSHX jobs '{{"id":1,"traceparent":"{TP1}"}}'
        redis    << {reply}
        """,
        lists(),
    )
    assert [span.error for span in run.spans] == ([] if reply == ":0" else [reply[1:].split(maxsplit=1)[0]])


@pytest.mark.parametrize(
    ("command", "reply", "values"),
    [
        ("LPOP jobs", "'{\"id\":1}'", 1),
        ("RPOP jobs 2", "['{\"id\":1}', '{\"id\":2}']", 2),
        ("BRPOP jobs:a jobs:b 1", '["jobs:b", \'{"id":1}\']', 1),
        ("BLPOP other jobs 0", '["jobs", \'{"id":1}\']', 1),
        ("LMPOP 2 jobs:a jobs LEFT COUNT 5", '["jobs", [\'{"id":1}\', \'{"id":2}\']]', 2),
        ("BLMPOP 0.5 1 jobs LEFT", '["jobs", [\'{"id":1}\']]', 1),
        ("RPOPLPUSH jobs work", "'{\"id\":1}'", 1),
        ("LMOVE jobs work LEFT RIGHT", "'{\"id\":1}'", 1),
        ("BLMOVE jobs work LEFT RIGHT 0", "'{\"id\":1}'", 1),
        ("BRPOPLPUSH jobs work 0", "'{\"id\":1}'", 1),
    ],
)
def test_every_way_to_take_a_job_is_a_dequeue(command: str, reply: str, values: int) -> None:
    run = play(f"worker >> {command}\nredis << {reply}", lists())
    assert [event.op.name for event in run.events] == ["DEQUEUE"] * values
    assert {event.batch for event in run.events} == {values}
    assert run.blind == {}


@pytest.mark.parametrize(
    "command", ["LPOP jobs", "RPOP jobs 2", "BRPOP jobs 1", "BLMPOP 1 1 jobs LEFT", "LMOVE jobs work LEFT LEFT"]
)
@pytest.mark.parametrize("nothing", ["nil", "nil3", r'raw "*-1\r\n"'])
def test_an_empty_poll_is_nothing(command: str, nothing: str) -> None:
    run = play(f"worker >> {command}\nredis << {nothing}", lists(end="next_pop"))
    assert run.records == []
    assert run.blind == {}


def test_a_retry_stays_in_the_trace_and_is_linked_to_the_attempt_before() -> None:
    first, second = f'{{"id":1,"attempt":0,"traceparent":"{TP1}"}}', f'{{"id":1,"attempt":1,"traceparent":"{TP1}"}}'
    run = play(
        f"""
        producer >> LPUSH jobs '{{"id":1,"attempt":0}}'
        redis    >> LPUSH jobs '{first}'
        redis    << :1
        worker   >> BRPOPLPUSH jobs work 5
        redis    << '{first}'
        worker   >> LPUSH jobs '{second}'
        redis    << :1
        worker   >> LREM work 1 '{first}'
        redis    << :1
        worker   >> BRPOPLPUSH jobs work 5
        redis    << '{second}'
        worker   >> LREM work 1 '{second}'
        redis    << :1
        """,
        lists(),
    )
    assert run.tree() == (
        "queue.enqueue PRODUCER jobs\n"
        "  queue.dequeue CLIENT jobs\n"
        "    job.process CONSUMER jobs retry !retry\n"
        "  queue.enqueue CLIENT jobs ~retry_of\n"
        "  queue.dequeue CLIENT jobs\n"
        "    job.process CONSUMER jobs success ~retry_of"
    )
    assert run.injections == {"written": 1, "kept": 1}


def test_a_dead_letter_ends_the_job_in_error() -> None:
    run = play(
        f"""
        worker >> BRPOPLPUSH jobs work 5
        redis  << '{{"id":1,"traceparent":"{TP1}"}}'
        worker >> LPUSH dead '{{"id":1,"traceparent":"{TP1}"}}'
        redis  << :1
        worker >> LREM work 1 '{{"id":1,"traceparent":"{TP1}"}}'
        redis  << :1
        event dequeue     queue=jobs
        event dead_letter queue=dead verdict=failure
        event ack         key=work
        """,
        lists(),
    )
    dequeue, process = run.spans
    assert dequeue.parent_id.hex() in TP1
    assert (process.error, process.facts["job.status"]) == ("dead_letter", "failure")
    assert [event.name for event in process.events] == ["job.dead_letter"]


def test_a_reaper_ends_the_attempt_and_the_same_bytes_run_again_in_the_same_trace() -> None:
    job = f'{{"id":1,"traceparent":"{TP1}"}}'
    run = play(
        f"""
        producer >> LPUSH jobs '{{"id":1}}'
        redis    >> LPUSH jobs '{job}'
        redis    << :1
        worker   >> BRPOPLPUSH jobs work:1 5
        redis    << '{job}'
        reaper   >> RPOP work:1
        redis    << '{job}'
        reaper   >> LPUSH jobs '{job}'
        redis    << :1
        other    >> BRPOPLPUSH jobs work:2 5
        redis    << '{job}'
        other    >> LREM work:2 1 '{job}'
        redis    << :1
        worker   >> LREM work:1 1 '{job}'
        redis    << :0
        """,
        lists(),
    )
    assert run.tree() == (
        "queue.enqueue PRODUCER jobs\n"
        "  queue.dequeue CLIENT jobs\n"
        "    job.process CONSUMER jobs retry !reclaimed\n"
        # Its first worker had it still.
        "      queue.ack CLIENT jobs !executed_twice ~executed_again\n"
        "  queue.enqueue CLIENT jobs ~reclaimed_from\n"
        "  queue.dequeue CLIENT jobs\n"
        "    job.process CONSUMER jobs success ~reclaimed_from"
    )


def test_moving_the_bytes_back_is_a_reclaim_and_an_enqueue() -> None:
    run = play(
        f"""
        reaper >> LMOVE work jobs LEFT LEFT
        redis  << '{{"id":1,"traceparent":"{TP1}"}}'
        event reclaim key=work
        event enqueue queue=jobs carry=none
        """,
        lists(),
    )
    assert run.blind == {}


def test_what_is_moved_back_stays_in_its_trace() -> None:
    job = f'{{"id":1,"traceparent":"{TP1}"}}'
    run = play(
        f"""
        producer >> LPUSH jobs '{{"id":1}}'
        redis    >> LPUSH jobs '{job}'
        redis    << :1
        worker   >> BRPOPLPUSH jobs work:1 5
        redis    << '{job}'
        reaper   >> LMOVE work:1 jobs RIGHT LEFT
        redis    << '{job}'
        """,
        lists(),
    )
    assert run.tree() == (
        "queue.enqueue PRODUCER jobs\n"
        "  queue.dequeue CLIENT jobs\n"
        "    job.process CONSUMER jobs retry !reclaimed\n"
        "  queue.enqueue CLIENT jobs ~reclaimed_from"
    )


def test_a_job_removed_while_it_waits_is_cancelled_and_a_queue_deleted_is_purged() -> None:
    run = play(
        """
        admin >> LREM jobs 0 '{"id":1}'
        redis << :2
        admin >> DEL jobs
        redis << :1
        admin >> UNLINK nothing jobs
        redis << :0
        admin >> LTRIM dead 1 0
        redis << +OK
        admin >> LTRIM dead 0 99
        redis << +OK
        event cancel queue=jobs number=2
        event purge  queue=jobs
        event purge  queue=dead
        """,
        lists(),
    )
    assert [span.operation for span in run.spans] == ["queue.purge", "queue.purge"]


def test_keys_that_nobody_named_are_not_looked_at() -> None:
    run = play(
        """
        client >> LPUSH cache '{"id":1}'
        redis  << :1
        client >> BRPOP cache 1
        redis  << ["cache", '{"id":1}']
        client >> LREM cache 1 x
        redis  << :1
        """,
        lists(),
    )
    assert (run.records, run.injections) == ([], {})


@pytest.mark.parametrize(
    ("value", "result"),
    [
        ("[1]", "not_object"),
        ("17", "not_object"),
        ('{"id":1', "not_json"),
        ('{"id":01}', "not_json"),
        ('{"Traceparent":"x"}', "similar_key"),
        ('{"traceparent":"00-nonsense"}', "none"),
        ('{"traceparent":null}', "none"),
        ('{"traceparent":"a","traceparent":"b"}', "none"),
        (f'{{"traceparent":"{TP3}"}}', "kept"),
    ],
)
def test_a_value_that_fails_a_precondition_passes_as_it_came_and_is_counted(value: str, result: str) -> None:
    run = play(f"producer >> LPUSH jobs '{value}'\nredis << :1", lists())
    assert run.injections == {result: 1}


def test_a_job_too_big_to_look_at_passes_and_is_counted() -> None:
    run = play(f'producer >> LPUSH jobs \'{{"id":"{"x" * 300}"}}\'\nredis << :1', lists(), max_inspect=256)
    assert run.injections == {"oversize": 1}
    assert run.records == []


def test_observing_without_writing() -> None:
    run = play(
        """
        producer >> LPUSH jobs '{"id":1}'
        redis    << :1
        worker   >> BRPOPLPUSH jobs work 0
        redis    << '{"id":1}'
        worker   >> LREM work 1 '{"id":1}'
        redis    << :1
        """,
        lists(inject=False),
    )
    assert run.tree() == ONE_TRACE
    assert run.injections == {"disabled": 1}


def test_identity_lets_a_retry_that_dropped_its_context_find_its_trace() -> None:
    run = play(
        """
        worker   >> BRPOPLPUSH jobs work 0
        redis    << '{"id":"a","attempt":0}'
        worker   >> LREM work 1 '{"id":"a","attempt":0}'
        redis    << :1
        """,
        lists(identity=("id",), inject=False),
    )
    again = play(
        """
        worker   >> BRPOPLPUSH jobs work 0
        redis    << '{"id":"a","attempt":1}'
        """,
        lists(identity=("id",), inject=False),
    )
    first, second = run.spans[0], again.spans[0]
    assert first.trace_id == second.trace_id
    assert first.parent_id != second.parent_id
    assert first.facts["redspan.parent.unverified"] is True


def test_an_empty_slot_at_dequeue_makes_the_dequeue_a_root() -> None:
    run = play("worker >> BRPOPLPUSH jobs work 0\nredis << '{\"id\":1}'", lists())
    (dequeue,) = run.spans
    assert dequeue.parent_id == b""


def test_an_unsampled_job_still_carries_its_context() -> None:
    unsampled = traceparent(1, flags=2)
    run = play(
        f"""
        producer >> LPUSH jobs '{{"id":1}}'
        redis    >> LPUSH jobs '{{"id":1,"traceparent":"{unsampled}"}}'
        redis    << :1
        worker   >> LPOP jobs
        redis    << '{{"id":1,"traceparent":"{unsampled}"}}'
        """,
        lists(),
        rate=0.0,
    )
    assert [span.sampled for span in run.spans] == [False, False]
