"""HELLO, AUTH, RESET, CLIENT REPLY, QUIT: what one connection is after them is between its client and Redis."""

from __future__ import annotations

import pytest

from proxy.resp.commands import encode
from tests.redis import RedisServer
from tests.wire.conftest import StartCorner
from tests.wire.corners import JOB, Corner, ask, bulk, command

HELLO_3, PING, RESET = command("HELLO", "3"), command("PING"), command("RESET")
OFF, ON, SKIP = (command("CLIENT", "REPLY", mode) for mode in ("OFF", "ON", "SKIP"))
ID = r"\bid\r\n:\d+"
"""What differs in the answer to HELLO."""


class TestHello:
    @pytest.mark.parametrize(
        "steps",
        [
            [HELLO_3, command("HGETALL", "a"), command("HELLO", "2"), command("HGETALL", "a")],
            # Sent before its answer is known, a HELLO without a version keeps what it finds.
            [HELLO_3, command("HELLO"), command("SUBSCRIBE", "a"), command("PUBLISH", "a", "x"), PING],
            [command("HELLO", "4"), command("HELLO", "x"), command("HELLO", "03"), command("HELLO", "3", "AUTH", "x")],
            [command("HELLO", "3", "AUTH", "who", "wrong"), command("HGETALL", "a")],
            # envoy#10402, #40462, redis-py#2384, ioredis#284: who a client says it is stopped it from connecting
            [command("HELLO", "3", "SETNAME", "corner"), command("CLIENT", "GETNAME")],
            [command("CLIENT", "SETNAME", "corner"), command("CLIENT", "GETNAME"), command("CLIENT", "SETNAME", "a b")],
            [command("CLIENT", "SETINFO", "LIB-NAME", "corner"), command("CLIENT", "NO-EVICT", "on"),
             command("CLIENT", "NO-TOUCH", "on"), command("CLIENT", "NOSUCH")],
        ],
    )  # fmt: skip
    def test_answers_are_those_of_redis(self, steps: list[bytes], corner: Corner) -> None:
        corner.same(*steps, differs=ID)

    @pytest.mark.parametrize(
        "login",
        [["HELLO", "3", "AUTH", "default", "secret"], ["HELLO", "2", "AUTH", "default", "secret", "SETNAME", "corner"],
         ["AUTH", "secret"], ["auth", "default", "secret"]],
    )  # fmt: skip
    def test_who_has_logged_in_is_followed_and_the_password_is_nowhere(
        self, login: list[str], start_corner: StartCorner
    ) -> None:
        """envoy#17571, redis-cluster-proxy#102, StackExchange.Redis#3175: HELLO was no command to them."""
        with RedisServer(password="secret") as server:
            corner = start_corner(server)
            with corner.sidecar.connect() as sock:
                sock.sendall(PING + command("HELLO", "3", "AUTH", "default", "wrong!") + command(*login))
                answer = b""
                while not answer.endswith((b"+OK\r\n", b"$7\r\nmodules\r\n*0\r\n")):
                    answer += sock.recv(4096)
                assert answer.startswith(b"-NOAUTH Authentication required.\r\n-WRONGPASS invalid ")
                corner.follows(sock)
            told = [corner.sidecar.log, corner.sidecar.page("/metrics").body, repr(corner.receiver.spans)]
            assert not [text for text in told if "secret" in text or "wrong!" in text]


class TestReset:
    @pytest.mark.parametrize(
        "steps",
        [
            [HELLO_3, RESET, command("HGETALL", "a")],
            [OFF, PING, RESET, PING],
            [SKIP, RESET, PING],
            [command("SELECT", "3"), command("SET", "a", "1"), RESET, command("GET", "a")],
            [command("SUBSCRIBE", "a"), command("PSUBSCRIBE", "b*"), RESET, command("GET", "a")],
            [HELLO_3, command("SUBSCRIBE", "a"), command("CLIENT", "TRACKING", "ON"), RESET, command("SET", "a", "1")],
            [command("CLIENT", "SETNAME", "corner"), RESET, command("CLIENT", "GETNAME")],
        ],
    )
    def test_all_is_as_it_was_at_first(self, steps: list[bytes], corner: Corner) -> None:
        corner.same(*steps, differs=ID)


class TestReplies:
    @pytest.mark.parametrize(
        ("steps", "answer"),
        [
            ([SKIP, PING, PING], b"+PONG\r\n"),
            ([SKIP, SKIP, PING, PING], b"+PONG\r\n"),
            ([SKIP, command("NOSUCH"), PING], b"+PONG\r\n"),
            ([SKIP, OFF, PING, ON], b"+OK\r\n"),
            ([SKIP, ON, PING], b"+OK\r\n+PONG\r\n"),
            ([OFF, PING, command("NOSUCH"), SKIP, PING, ON, PING], b"+OK\r\n+PONG\r\n"),
            ([OFF, command("MULTI"), PING, command("EXEC"), ON], b"+OK\r\n"),
            ([SKIP, command("MULTI"), PING, command("EXEC")], b"+QUEUED\r\n*1\r\n+PONG\r\n"),
            ([command("CLIENT", "REPLY", "MAYBE")], b"-ERR syntax error\r\n"),
        ],
    )  # fmt: skip
    def test_replies_that_are_left_out_are_not_waited_for(
        self, steps: list[bytes], answer: bytes, corner: Corner
    ) -> None:
        assert corner.same(*steps) == answer

    @pytest.mark.parametrize(
        "steps",
        [
            [SKIP, command("SUBSCRIBE", "a"), command("PING"), command("UNSUBSCRIBE")],
            [OFF, command("SUBSCRIBE", "a", "b"), command("PSUBSCRIBE", "c*"), command("UNSUBSCRIBE"),
             command("PUNSUBSCRIBE"), ON],
            [OFF, command("UNSUBSCRIBE", "a", "b"), ON],
            [HELLO_3, OFF, command("SUBSCRIBE", "a"), command("PUBLISH", "a", "x"), ON, command("UNSUBSCRIBE")],
        ],
    )  # fmt: skip
    def test_confirmations_and_messages_come_even_so(self, steps: list[bytes], corner: Corner) -> None:
        """redis#11875, Redis 7.0.10: of what is pushed nothing is left out, and it answers no command."""
        corner.same(*steps, differs=ID)

    def test_a_job_without_a_reply_is_written_into_and_said_to_be_uncertain(self, corner: Corner) -> None:
        with corner.sidecar.connect() as sock:
            ask(sock, SKIP, command("RPUSH", "jobs:skipped", JOB))
            job = ask(sock, command("LPOP", "jobs:skipped"))
            assert b"traceparent" in job
            corner.follows(sock)
        corner.saw("jobs:skipped", "enqueue dequeue")
        enqueue = next(span for span in corner.receiver.spans if span.attributes["queue.name"] == "jobs:skipped")
        assert enqueue.attributes["redspan.outcome"] == "unknown"


def test_quit_is_the_end_whatever_follows(corner: Corner) -> None:
    assert corner.same_end(PING + command("QUIT") + command("RPUSH", "jobs:a", "1") + PING) == b"+PONG\r\n+OK\r\n"


@pytest.mark.parametrize("name", ["rpush", "RPush", "rPuSh"])
def test_names_in_any_case(name: str, corner: Corner) -> None:
    key = f"jobs:{name}"
    with corner.sidecar.connect() as sock:
        assert ask(sock, command(name, key, JOB)) == b":1\r\n"
        assert b"traceparent" in ask(sock, command("lPop", key))
        ask(sock, command("multi"), command(name, key, JOB), command("Exec"), command("sElEcT", "0"))
        corner.follows(sock)
    corner.saw(key, "enqueue dequeue enqueue")


@pytest.mark.parametrize(
    ("request_", "answer"),
    [
        (encode([b""]), b"-ERR unknown command "),
        (command("SET", "", "") + command("GET", ""), b"+OK\r\n" + bulk(b"")),
        (command("RPUSH", "jobs:a", "") + command("LPOP", "jobs:a"), b":1\r\n" + bulk(b"")),
        (command("RPUSH", "", JOB) + command("LPOP", ""), b":1\r\n" + bulk(JOB)),
        (command("N" * 40), b"-ERR unknown command "),
        (command(b"RPUSH\0", "a", "b"), b"-ERR unknown command "),
    ],
)
def test_arguments_that_are_empty_long_or_binary(request_: bytes, answer: bytes, corner: Corner) -> None:
    assert corner.same(request_).startswith(answer)
