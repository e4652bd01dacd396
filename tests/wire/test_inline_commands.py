"""Inline commands, which people type and health checks send: passed as they are, and understood as Redis does."""

from __future__ import annotations

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy.resp.commands import encode
from proxy.resp.inline import split
from tests.redis import RedisServer
from tests.wire.conftest import StartCorner
from tests.wire.corners import JOB, Corner, ask, bulk
from tests.wire.sockets import read_all


@pytest.mark.parametrize(
    ("lines", "answer"),
    [
        (b"SET a 1\r\nGET a\r\n", b"+OK\r\n$1\r\n1\r\n"),  # predixy#129: only the first one was understood
        (b'SET a "b c"\r\nGET "a"\r\n', b"+OK\r\n$3\r\nb c\r\n"),
        (b"SET a 'b \"c\\n\\''\r\nGET 'a'\r\n", b"+OK\r\n$7\r\nb \"c\\n'\r\n"),
        (b'SET a "x\\x41\\xa"\r\nGET a\r\n', b"+OK\r\n$4\r\nxAxa\r\n"),  # envoy#46642: it ended the proxy
        (b'SET a "\\n\\r\\t\\b\\a\\"\\\\"\r\nGET a\r\n', b'+OK\r\n$7\r\n\n\r\t\b\a"\\\r\n'),
        (b'SET a ""\r\nGET a\r\n', b"+OK\r\n$0\r\n\r\n"),
        (b'SET  a\tb"c"\r\nGET a\r\n', b"+OK\r\n$2\r\nbc\r\n"),
        (b"PING\nPING\n\n \t\n\r\n", b"+PONG\r\n+PONG\r\n"),  # envoy#41201: lines that end as on Unix
        (b"*0\r\n*-1\r\n*-10\r\nPING\r\n", b"+PONG\r\n"),  # protocol.tcl: neither has an answer
        (b'""\r\n', b"-ERR unknown command "),
    ],
)  # fmt: skip
def test_lines_are_passed_as_they_are_and_followed(lines: bytes, answer: bytes, corner: Corner) -> None:
    assert corner.same(lines).startswith(answer)


def test_a_quoted_password_logs_in(start_corner: StartCorner) -> None:
    """predixy#9: eredis logs in inline, with quotes. redspan is to know then that the client is logged in."""
    with RedisServer(password='se"cret') as server:
        corner = start_corner(server)
        with corner.sidecar.connect() as sock:
            sock.sendall(b'AUTH "se\\"cret"\r\n')
            assert sock.recv(64) == b"+OK\r\n"
            corner.follows(sock)
        assert "cret" not in corner.sidecar.log


def test_a_quoted_job_is_seen_as_it_is_and_not_written_into(corner: Corner) -> None:
    with corner.sidecar.connect() as sock:
        assert ask(sock, b'RPUSH "jobs:in quotes" "{\\"id\\":1}"\r\n') == b":1\r\n"
        assert ask(sock, b'LPOP "jobs:in\\x20quotes"\r\n') == bulk(JOB)
    corner.saw("jobs:in quotes", "enqueue dequeue")


@pytest.mark.parametrize(
    "lines",
    [
        b"\"MULTI\"\r\nRPUSH jobs:a 1\r\n'EXEC'\r\n",
        b'"SUBSCRIBE" "a b"\r\nPING\r\n"UNSUBSCRIBE"\r\n',
        b'"CLIENT" REPLY "SKIP"\r\nPING\r\nLLEN jobs:a\r\n',
    ],
)
def test_commands_that_change_the_connection_are_known_in_quotes(lines: bytes, corner: Corner) -> None:
    corner.same(lines)


@pytest.mark.parametrize("line", [b'GET "a', b"GET 'a", b'GET "a"b', b"GET 'a'b", b'GET "a\\"', b'RPUSH jobs:a "{}'])
def test_unbalanced_quotes_are_for_redis_to_refuse(line: bytes, corner: Corner) -> None:
    answer = corner.same_end(b"PING\r\n" + line + b"\r\nPING\r\n")
    assert answer == b"+PONG\r\n-ERR Protocol error: unbalanced quotes in request\r\n"


def test_a_line_without_end_is_for_redis_to_refuse(corner: Corner) -> None:
    answer = corner.same_end(b"PING\r\n", b"x" * 70_000)
    assert answer.endswith(b"-ERR Protocol error: too big inline request\r\n")


pieces = st.sampled_from([b'"', b"'", b"\\", b" ", b"\t", b"\v", b"\f", b"\r", b"x41", b"xZ", b"n", b"a", b"\xff"])


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(words=st.lists(pieces, max_size=12).map(b"".join))
def test_words_are_split_as_redis_splits_them(words: bytes, direct: redis.Redis, redis_server: RedisServer) -> None:
    direct.delete("list")
    expected = split(words)
    with redis_server.connect() as sock:
        sock.sendall(b"RPUSH list " + words + b"\n" + encode([b"LRANGE", b"list", b"0", b"-1"]))
        if expected is None:
            assert read_all(sock) == b"-ERR Protocol error: unbalanced quotes in request\r\n"
        elif expected:
            answer = b"".join(bulk(word) for word in expected)
            wanted = b":%d\r\n*%d\r\n%s" % (len(expected), len(expected), answer)
            assert ask(sock) == wanted
        else:
            assert ask(sock) == b"-ERR wrong number of arguments for 'rpush' command\r\n*0\r\n"
