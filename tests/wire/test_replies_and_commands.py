"""Which reply belongs to which command, in every mode of a connection; and what happens when that is lost."""

from __future__ import annotations

import pytest

from tests.frameworks import lists
from tests.playbook import Play, play, traceparent

TP1 = traceparent(1)
JOB, STORED = "'{\"id\":1}'", f'\'{{"id":1,"traceparent":"{TP1}"}}\''
PUSH = f"client >> LPUSH jobs {JOB}\nredis >> LPUSH jobs {STORED}\n"


def test_a_pipeline_of_plain_and_observed_commands() -> None:
    run = play(
        "client >> SET a 1\nclient >> GET a\n"
        + PUSH
        + """
        client >> GET b
        client >> LPOP jobs
        client << +OK
        client << "1"
        client << :1
        client << nil
        client << '{"id":2}'
        event enqueue number=1
        event dequeue queue=jobs
        """,
        lists(),
    )
    assert run.blind == {}


def test_a_transaction_reports_at_exec_with_its_own_elements() -> None:
    run = play(
        "client >> MULTI\nclient >> SET a 1\n"
        + PUSH
        + """
        client >> LPOP jobs
        client >> EXEC
        client << +OK +QUEUED +QUEUED +QUEUED
        client << [+OK, :4, nil]
        event enqueue number=4
        """,
        lists(),
    )
    assert run.blind == {}


@pytest.mark.parametrize("reply", ["nil", "nil3", r'raw "*-1\r\n"', "-EXECABORT Transaction discarded because of …"])
def test_a_transaction_that_did_not_happen_reports_nothing(reply: str) -> None:
    run = play("client >> MULTI\n" + PUSH + f"client >> EXEC\nclient << +OK +QUEUED\nclient << {reply}", lists())
    assert (run.events, run.blind) == ([], {})


def test_discard_forgets_what_was_queued() -> None:
    run = play(
        "client >> MULTI\n" + PUSH + "client >> DISCARD\nclient << +OK +QUEUED +OK\nclient >> LPOP jobs\nclient << '{}'"
        "\nevent dequeue queue=jobs",
        lists(),
    )
    assert run.blind == {}


def test_a_command_refused_inside_a_transaction_takes_no_element() -> None:
    run = play(
        "client >> MULTI\nclient >> MULTI\n"
        + PUSH
        + "client >> EXEC\nclient << +OK\nclient << -ERR MULTI calls can not be nested\nclient << +QUEUED\n"
        "client << [:9]\nevent enqueue number=9",
        lists(),
    )
    assert run.blind == {}


def test_multi_refused_leaves_the_commands_to_be_answered_one_by_one() -> None:
    run = play(
        "client >> MULTI\n" + PUSH + "client >> EXEC\nclient << -NOAUTH Authentication required.\n"
        "client << -NOAUTH Authentication required.\nclient << -ERR EXEC without MULTI\n"
        "event enqueue outcome=error error=NOAUTH",
        lists(),
    )
    assert run.blind == {}


def test_the_database_is_that_of_the_moment() -> None:
    run = play(
        """
        client >> SELECT 3
        client >> LPOP jobs
        client >> SELECT 99
        client >> LPOP jobs
        client << +OK
        client << '{"id":1}'
        client << -ERR DB index is out of range
        client << '{"id":2}'
        client >> RESET
        client >> LPOP jobs
        client << +RESET
        client << '{"id":3}'
        event dequeue db=3
        event dequeue db=3
        event dequeue db=0
        """,
        lists(),
    )
    assert run.blind == {}


def test_pushes_take_no_place_among_replies() -> None:
    run = play(
        'client >> HELLO 3\nclient << %["proto", :3]\n'
        + PUSH
        + """
        client << >["invalidate", ["a"]]
        client << :1
        client << >["message", "news", "x"]
        client >> LPOP jobs
        client << >["message", "news", "x"]
        client << '{"id":1}'
        event enqueue number=1
        event dequeue queue=jobs
        """,
        lists(),
    )
    assert run.blind == {}


def test_a_resp3_subscription_is_confirmed_by_pushes() -> None:
    run = play(
        """
        client >> HELLO 3
        client << %["proto", :3]
        client >> SUBSCRIBE a b
        client >> LPOP jobs
        client << >["subscribe", "a", :1] >["subscribe", "b", :2]
        client << '{"id":1}'
        client >> UNSUBSCRIBE
        client >> LPOP jobs
        client << >["unsubscribe", "a", :1] >["unsubscribe", "b", :0]
        client << '{"id":2}'
        event dequeue queue=jobs
        event dequeue queue=jobs
        """,
        lists(),
    )
    assert run.blind == {}


def test_a_resp2_subscriber_gets_messages_that_answer_nothing_and_can_go_back() -> None:
    run = play(
        """
        client >> SUBSCRIBE a
        client >> PSUBSCRIBE n*
        client << ["subscribe", "a", :1] ["psubscribe", "n*", :2]
        client << ["message", "a", "x"] ["pmessage", "n*", "nn", "y"]
        client >> PING
        client << ["message", "a", "x"] ["pong", ""]
        client >> UNSUBSCRIBE
        client >> PUNSUBSCRIBE
        client >> UNSUBSCRIBE q r
        client << ["unsubscribe", "a", :1] ["message", "a", "late"] ["punsubscribe", "n*", :0]
        client << ["unsubscribe", "q", :0] ["unsubscribe", "r", :0]
        client >> LPOP jobs
        client << '{"id":1}'
        event dequeue queue=jobs
        """,
        lists(),
    )
    assert run.blind == {}


def test_a_subscription_that_is_refused_is_one_reply() -> None:
    run = play(
        """
        client >> SUBSCRIBE a b c
        client >> LPOP jobs
        client << -NOPERM no
        client << '{"id":1}'
        event dequeue queue=jobs
        """,
        lists(),
    )
    assert run.blind == {}


def test_replies_that_were_turned_off() -> None:
    run = play(
        "client >> CLIENT REPLY SKIP\nclient >> SET a 1\nclient >> CLIENT REPLY OFF\n"
        + PUSH
        + """
        client >> SET a 1
        client >> CLIENT REPLY ON
        client >> LPOP jobs
        client << +OK
        client << '{"id":1}'
        event enqueue outcome=unknown
        event dequeue queue=jobs
        """,
        lists(),
    )
    assert run.blind == {}


def test_noscript_is_not_an_end() -> None:
    run = play("client >> EVALSHA abc 1 jobs\nclient << -NOSCRIPT No matching script.", lists())
    assert (run.events, run.blind) == ([], {})


@pytest.mark.parametrize(
    ("command", "reason"), [("MONITOR", "monitor"), ("PSYNC ? -1", "replication"), ("SYNC", "replication")]
)
def test_streams_that_are_no_replies_are_relayed_blindly(command: str, reason: str) -> None:
    run = play(
        f"""
        client >> LPUSH cache a
        client >> {command}
        client >> LPUSH jobs '{{"id":1}}'
        client << :1
        client << +OK
        client << raw "anything at all"
        """,
        lists(),
    )
    assert run.blind == {reason: 1}


@pytest.mark.parametrize("reply", ["+OK", '"text"', "nil", "[:1]"])
def test_a_reply_that_cannot_be_its_commands_ends_the_looking(reply: str) -> None:
    run = play(PUSH + f"client << {reply}\nclient >> LPUSH jobs {JOB}\nclient << :1\n", lists())
    assert run.blind == {"reply_mismatch": 1}


def test_a_reply_without_a_command_ends_the_looking() -> None:
    run = play(PUSH + "client << :1\nclient << :2", lists())
    assert run.blind == {"reply_mismatch": 1}


def test_an_unknown_type_ends_the_looking_and_reports_what_was_pending() -> None:
    run = play(PUSH + 'client << raw "?what\\r\\n"\nevent enqueue outcome=unknown', lists())
    assert run.blind == {"unknown_type": 1}


@pytest.mark.parametrize("garbage", [r"*1\r\n:1\r\n", r"*1\r\n$x\r\n", r"*01\r\n", r"*3\r\n$5\r\nLPUSH\r\n$-1\r\n"])
def test_bytes_that_are_no_command_pass_as_they_are(garbage: str) -> None:
    run = play(f'client >> raw "{garbage}and so on"\nclient >> LPUSH jobs {JOB}', lists())
    assert run.blind == {"unknown_type": 1}


def test_a_lost_connection_leaves_a_pushed_job_with_an_unknown_outcome() -> None:
    run = play(PUSH + "client :: closes\nevent enqueue outcome=unknown", lists())
    assert run.spans[0].facts["redspan.outcome"] == "unknown"


def test_an_unfinished_job_goes_out_as_it_came_when_the_client_ends() -> None:
    unfinished = b'*3\r\n$5\r\nLPUSH\r\n$4\r\njobs\r\n$90\r\n{"id":'
    for cut in range(len(unfinished)):
        session = Play((lists(),), {}).session("client")
        sent = session.client_data(unfinished[:cut], 0) + session.client_data(unfinished[cut:], 0)
        assert unfinished.startswith(sent)
        assert sent + session.client_eof(0) == unfinished


def test_inline_commands_empty_lines_and_negative_counts() -> None:
    run = play(
        """
        client >> raw "PING\\r\\n\\r\\n*0\\r\\n*-10\\r\\nLPUSH jobs {}\\r\\n  \\n"
        client >> LPOP jobs
        client << +PONG
        client << :1
        client << '{"id":1}'
        event enqueue number=1 carry=none
        event dequeue queue=jobs
        """,
        lists(),
    )
    assert run.injections == {"disabled": 1}
    assert run.blind == {}


def test_resp_inside_a_payload_is_payload() -> None:
    run = play(
        """
        client >> raw "*3\\r\\n$3\\r\\nSET\\r\\n$1\\r\\na\\r\\n"
        client >> raw "$32\\r\\n*3\\r\\n$5\\r\\nLPUSH\\r\\n$4\\r\\njobs\\r\\n$1\\r\\nx\\r\\n\\r\\n"
        client << +OK
        """,
        lists(),
    )
    assert (run.records, run.blind) == ([], {})


def test_without_any_framework_nothing_is_looked_at() -> None:
    run = play("client >> LPUSH jobs {}\nclient << :1\nclient << :2")
    assert (run.records, run.blind, run.context.counters.commands) == ([], {}, 0)


RESET_TURNS_REPLIES_ON = "client >> CLIENT REPLY OFF\nclient >> RESET\nclient >> LPOP jobs\nclient << +RESET\n"
AUTH_ENDS_NO_TRANSACTION = """
    client >> MULTI
    client >> AUTH x
    client >> SET a 1
    client >> EXEC
    client >> LPOP jobs
    client << +OK
    client << -ERR AUTH inside MULTI is not allowed
    client << +QUEUED
    client << [+OK]
"""


@pytest.mark.parametrize("commands", [RESET_TURNS_REPLIES_ON, AUTH_ENDS_NO_TRANSACTION])
def test_commands_that_look_like_more_than_they_are(commands: str) -> None:
    run = play(commands + "client << '{\"id\":1}'\nevent dequeue queue=jobs", lists())
    assert run.blind == {}


def test_a_client_that_reads_no_replies_is_not_remembered_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.relay.session._PENDING_LIMIT", 100)
    run = play("client >> LPUSH jobs '[1]'\n" * 10 + "client << " + ":1 " * 10, lists())
    outcomes = [event.outcome.name for event in run.events]
    assert (outcomes.count("UNKNOWN"), outcomes.count("OK")) == (2, 8)


def test_too_many_jobs_in_one_command_pass_unseen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.relay.session._JOBS_LIMIT", 2)
    run = play("client >> LPUSH jobs {} {} {}\nclient << :3", lists())
    assert (run.injections, run.events) == ({"oversize": 3}, [])


def test_a_number_that_only_one_decoder_takes_does_not_matter_until_both_have_to_read_it() -> None:
    start, number = '{"x":"\\u0041","', "7" * 5000
    run = play(
        f"client >> LPUSH jobs '{start}n\":{number}}}'\n"
        f'redis  >> LPUSH jobs \'{start}n":{number},"traceparent":"{traceparent(1)}"}}\'\n'
        "client << :1\n"
        f"client >> LPUSH jobs '{start}traceparent\":{number}}}'\n"
        "client << :2",
        lists(),
    )
    assert (run.injections, run.blind) == ({"written": 1, "not_json": 1}, {})


def test_a_user_called_setname_keeps_his_password_to_himself() -> None:
    run = play(
        'client >> HELLO 3 AUTH setname secret SETNAME web-1\nclient << %["proto", :3]\n' + PUSH + "client << :1",
        lists(),
    )
    assert [connection.name for connection in run.connections] == ["web-1"]


def test_a_bug_says_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise KeyError("secret payload")

    run = Play((lists(),), {})
    monkeypatch.setattr(run.context.router, "read", broken)
    session = run.session("client")
    command = b"*3\r\n$5\r\nLPUSH\r\n$4\r\njobs\r\n$2\r\n{}\r\n"
    assert session.client_data(command, 0) == command
    assert run.notices == [f"KeyError at {__file__.rpartition('/')[2]}:{broken.__code__.co_firstlineno + 1}"]
