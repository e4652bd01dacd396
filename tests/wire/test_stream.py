"""``frameworks.stream`` on the wire: RESP2 and RESP3, groups, redelivery."""

from __future__ import annotations

import pytest

from proxy.tracer.attributes import WAIT_SOURCE, WORKER_ID
from tests.frameworks import streams
from tests.playbook import START, Play, play, traceparent

TP1 = traceparent(1)
ID = f"{START // 1_000_000}-0"
STORED = f'["id", "7", "traceparent", "{TP1}"]'
LOGIN = 'producer >> HELLO 3\nproducer << %["proto", :3]\n'
ADD = (
    LOGIN
    + f"""producer >> XADD jobs * id 7
    redis >> XADD jobs * id 7 traceparent {TP1}
    redis << "{ID}"
    """
)
READ = f"""
    worker >> XREADGROUP GROUP mailers w-1 COUNT 10 BLOCK 5000 STREAMS jobs >
    redis  << [["jobs", [["{ID}", {STORED}]]]]
    """
ACK = f"""
    worker >> XACK jobs mailers {ID}
    redis  << :1
    """
ONE_TRACE = (
    "queue.enqueue PRODUCER jobs\n"
    "  queue.dequeue CLIENT jobs\n"
    "    job.process CONSUMER jobs success"
)  # fmt: skip


def test_an_entry_that_a_group_reads_and_acknowledges_is_one_trace() -> None:
    run = play(
        ADD
        + READ
        + ACK
        + f"""
        event enqueue queue=jobs carry=written ref="jobs {ID}"
        event dequeue queue=jobs dest=mailers worker=w-1 ref="jobs {ID}"
        event ack     queue=jobs dest=mailers number=1
        """,
        streams(),
    )
    assert run.tree() == ONE_TRACE
    _, dequeue, process = run.spans
    assert (dequeue.job.fields.id, process.facts[WORKER_ID], dequeue.facts[WAIT_SOURCE]) == (ID, "w-1", "wire")


def test_resp3_answers_with_a_map() -> None:
    run = play(
        ADD
        + f"""
        worker >> HELLO 3
        worker << %["proto", :3]
        worker >> XREADGROUP GROUP mailers w-1 STREAMS jobs other > >
        redis  << %["jobs", [["{ID}", {STORED}]], "other", [["1-1", ["a", "b"]]]]
        """
        + ACK,
        streams(),
    )
    assert run.tree() == ONE_TRACE


@pytest.mark.parametrize(
    "options",
    [
        "*",
        "NOMKSTREAM *",
        "MAXLEN 1000 *",
        "MAXLEN ~ 1000 LIMIT 5 *",
        "nomkstream minid = 1-0 *",
        "1700000000000-*",
        "5",
    ],
)
def test_the_field_is_added_at_the_end_whatever_stands_before_the_id(options: str) -> None:
    run = play(
        LOGIN
        + f"""producer >> XADD jobs {options} a b
        redis >> XADD jobs {options} a b traceparent {TP1}
        redis << "{ID}"
        event enqueue carry=written
        """,
        streams(),
    )
    assert run.injections == {"written": 1}


@pytest.mark.parametrize(
    ("command", "result"),
    [
        (f"XADD jobs * a b traceparent {TP1}", "kept"),
        ("XADD jobs * Traceparent x", "similar_key"),
        ("XADD jobs * traceparent x", "none"),
        ("XADD jobs * traceparent x traceparent y", "none"),
    ],
)
def test_an_entry_that_has_such_a_field_is_not_touched(command: str, result: str) -> None:
    run = play(f'{LOGIN}producer >> {command}\nredis << "{ID}"', streams())
    assert run.injections == {result: 1}


@pytest.mark.parametrize(
    "command", ["XADD jobs * a", "XADD jobs", "XADD jobs FUTURE *", "XADD other * a b", "XADD jobs *"]
)
def test_what_is_no_entry_of_ours_passes(command: str) -> None:
    run = play(f"{LOGIN}producer >> {command}\nredis << -ERR something", streams())
    assert (run.events, run.injections, run.blind) == ([], {}, {})


def test_an_entry_that_was_not_added_is_no_job() -> None:
    run = play(
        f"""{LOGIN}producer >> XADD jobs NOMKSTREAM * a b
        redis >> XADD jobs NOMKSTREAM * a b traceparent {TP1}
        redis << nil
        """,
        streams(),
    )
    assert run.events == []


def test_before_a_client_is_logged_in_an_entry_whose_head_was_cut_passes_as_it_came() -> None:
    command = b"*5\r\n$4\r\nXADD\r\n$4\r\njobs\r\n$1\r\n*\r\n$1\r\na\r\n$1\r\nb\r\n"
    run = Play((streams(),), {})
    session = run.session("producer")
    assert session.client_data(command[:3], 0) + session.client_data(command[3:], 0) == command
    session.upstream_data(b"$3\r\n1-1\r\n", 0, delivered=True)
    assert run.injections == {"split": 1}
    assert [event.op.name for event in run.events] == ["ENQUEUE"]


@pytest.mark.parametrize(
    ("command", "reply"),
    [
        ("XAUTOCLAIM jobs mailers w-2 60000 0 COUNT 10", f'["0-0", [["{ID}", {STORED}]], []]'),
        (f"XCLAIM jobs mailers w-2 60000 {ID}", f'[["{ID}", {STORED}]]'),
    ],
)
def test_what_another_consumer_claims_runs_again_in_the_same_trace(command: str, reply: str) -> None:
    run = play(
        ADD + READ + f"other >> {command}\nother << {reply}\nother >> XACK jobs mailers {ID}\nother << :1", streams()
    )
    assert run.tree() == (
        "queue.enqueue PRODUCER jobs\n"
        "  queue.dequeue CLIENT jobs\n"
        "    job.process CONSUMER jobs retry !reclaimed\n"
        "  queue.dequeue CLIENT jobs ~reclaimed_from\n"
        "    job.process CONSUMER jobs success ~reclaimed_from"
    )
    processes = [span for span in run.spans if span.operation == "job.process"]
    assert [span.facts[WORKER_ID] for span in processes] == ["w-1", "w-2"]
    # An entry does not say which delivery this is; and one entry is no batch.
    assert [span.job.fields.attempt for span in processes] == [0, 1]
    assert {event.batch for event in run.events} == {1}


def test_a_consumer_that_begins_again_reads_what_it_had() -> None:
    again = f"""
    worker >> XREADGROUP GROUP mailers w-1 STREAMS jobs 0
    redis  << [["jobs", [["{ID}", {STORED}], ["5-5", nil]]]]
    """
    run = play(ADD + READ + again + ACK, streams())
    assert [span.error for span in run.spans if span.operation == "job.process"] == ["reclaimed", ""]


def test_claiming_only_ids_is_a_sign_of_life() -> None:
    run = play(
        f"""
        worker >> XCLAIM jobs mailers w-1 0 {ID} JUSTID
        redis  << ["{ID}"]
        worker >> XAUTOCLAIM jobs mailers w-1 0 0 JUSTID
        redis  << ["0-0", ["{ID}"]]
        event heartbeat worker=w-1
        event heartbeat worker=w-1
        """,
        streams(),
    )
    assert run.spans == []


def test_each_group_has_its_own_delivery() -> None:
    other = READ.replace("mailers", "auditors").replace("w-1", "a-1") + ACK.replace("mailers", "auditors")
    run = play(ADD + READ + other + ACK, streams())
    assert run.tree() == (
        "queue.enqueue PRODUCER jobs\n"
        "  queue.dequeue CLIENT jobs\n"
        "    job.process CONSUMER jobs success\n"
        "  queue.dequeue CLIENT jobs\n"
        "    job.process CONSUMER jobs success"
    )


@pytest.mark.parametrize("command", ["XREAD STREAMS jobs 0", "XREADGROUP GROUP mailers w-1 NOACK STREAMS jobs >"])
def test_a_read_that_nobody_acknowledges_has_no_process_span(command: str) -> None:
    run = play(ADD + f'worker >> {command}\nredis << [["jobs", [["{ID}", {STORED}]]]]', streams())
    assert [span.operation for span in run.spans] == ["queue.enqueue", "queue.dequeue"]
    assert run.lifecycle.measures.in_flight == {("stream", "jobs"): 0}


@pytest.mark.parametrize("nothing", ["nil", "nil3", r'raw "*-1\r\n"'])
def test_an_empty_poll_is_nothing(nothing: str) -> None:
    run = play(f"worker >> XREADGROUP GROUP g w BLOCK 10 STREAMS jobs >\nredis << {nothing}", streams())
    assert (run.records, run.blind) == ([], {})


def test_entries_acknowledged_together() -> None:
    run = play(
        """
        worker >> XACK jobs mailers 1-0 2-0
        redis  << :2
        worker >> XACK jobs mailers 1-0 2-0
        redis  << :1
        worker >> XACK jobs mailers 1-0 2-0
        redis  << :0
        event ack number=1
        event ack number=1
        event ack number=-1
        event ack number=-1
        event ack number=0
        event ack number=0
        """,
        streams(),
    )
    assert run.spans == []
    assert run.lifecycle.measures.orphans == 6


def test_an_entry_deleted_unread_is_cancelled_and_a_stream_deleted_is_purged() -> None:
    run = play(
        f"""
        admin >> XDEL jobs {ID}
        redis << :1
        admin >> DEL jobs
        redis << :1
        event cancel ref="jobs {ID}"
        event purge queue=jobs
        """,
        streams(),
    )
    assert [span.operation for span in run.spans] == ["queue.purge"]


def test_paths_lead_into_the_json_of_a_field_and_big_entries_are_reduced() -> None:
    shape = streams(id="data.task_id", type="data.task_name")
    big = "x" * 5000
    data = '{"task_id": "t-1", "task_name": "send"}'
    entry = f'["{ID}", ["data", \'{data}\', "blob", "{big}"]]'
    run = play(f'worker >> XREADGROUP GROUP g w STREAMS jobs >\nredis << [["jobs", [{entry}]]]', shape)
    (dequeue,) = run.spans
    assert (dequeue.job.fields.id, dequeue.job.fields.type) == ("t-1", "send")
    assert len(run.events[0].value) < 200


@pytest.mark.parametrize("reply", [":1", "+OK", '["jobs"]', '[["jobs", [:1]]]'])
def test_a_reply_of_another_shape_ends_the_looking(reply: str) -> None:
    run = play(f"worker >> XREADGROUP GROUP g w STREAMS jobs >\nredis << {reply}", streams())
    assert run.blind == ({} if reply == '[["jobs", [:1]]]' else {"reply_mismatch": 1})
    assert run.events == []


def test_an_id_that_is_none_is_no_error() -> None:
    run = play(
        r'worker >> raw "*4\r\n$4\r\nXACK\r\n$4\r\njobs\r\n$1\r\ng\r\n$2\r\n\xff\xfe\r\n"' + "\nredis << :0", streams()
    )
    assert [event.op.name for event in run.events] == ["ACK"]
    assert run.spans == []
