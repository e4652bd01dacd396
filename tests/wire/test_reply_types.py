"""Every type of reply, from a Redis where it can be made to send it: passed as it is, and passed over as one reply."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.redis import RedisServer, debugging
from tests.sidecar import Sidecar
from tests.wire.conftest import StartScripted
from tests.wire.corners import JOB, Corner, bulk, command, settings

if TYPE_CHECKING:
    from tests.receiver import Receiver

ID = r"\bid\r\n:\d+"
PUSH = command("RPUSH", "jobs:a", JOB)


@pytest.fixture(scope="module")
def talkative(_receiver: Receiver, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Corner]:
    """A Redis with DEBUG PROTOCOL, which says what it is asked for."""
    with (
        RedisServer(**debugging()) as server,
        Sidecar(tmp_path_factory.mktemp("talkative"), settings(server, _receiver)) as sidecar,
    ):
        yield Corner(server, sidecar, _receiver)


@pytest.mark.parametrize("protocol", ["2", "3"])
def test_every_type_that_redis_knows(protocol: str, talkative: Corner) -> None:
    """hiredis, which reads for most clients, hands an attribute out as a reply of its own."""
    kinds = "string integer double null array set map attrib push verbatim true false bignum"
    steps = [command("DEBUG", "PROTOCOL", kind) + PUSH for kind in kinds.split()]
    answer = talkative.same(command("HELLO", protocol), *steps, *steps[::-1], differs=ID)
    assert answer.endswith(b":26\r\n")


@pytest.mark.parametrize("protocol", ["2", "3"])
@pytest.mark.parametrize(
    "script",
    [
        "return redis.status_reply(string.rep('x', 3000000))",
        "return redis.error_reply(string.rep('x', 3000000))",
        "return redis.status_reply('')",
        "return {{}, {{}, false}, '', {1, {2, {3}}}}",
        "local deep = {1}; for _ = 1, 7000 do deep = {deep} end; return deep",
        "local long = {}; for at = 1, 7000 do long[at] = 'x' end; return long",
        "redis.setresp(3); return redis.call('HGETALL', 'none')",
    ],
)
def test_replies_that_scripts_make_up(script: str, protocol: str, corner: Corner) -> None:
    """Lines without end, and arrays in arrays: a script's reply has no limit that a header has."""
    corner.same(command("HELLO", protocol), command("EVAL", script, "0"), PUSH, differs=ID)


@pytest.mark.parametrize("protocol", ["2", "3"])
def test_nothing_in_all_its_forms(protocol: str, corner: Corner) -> None:
    """Empty and null: strings, arrays, maps, sets."""
    names = ["GET a", "LPOP a", "LPOP a 2", "LRANGE a 0 -1", "HGETALL a", "SMEMBERS a", "ZSCORE a b", "MGET a b",
             "LMPOP 1 a LEFT", "BLPOP a 0.01", "BLMOVE a b LEFT LEFT 0.01", "XREAD STREAMS a 0", "XRANGE a - +",
             "ZPOPMIN a", "BZPOPMIN a 0.01", "SRANDMEMBER a", "SRANDMEMBER a 2", "GETEX a"]  # fmt: skip
    corner.same(command("HELLO", protocol), *(command(*name.split()) for name in names), differs=ID)


ATTRIBUTE = b"|1\r\n$3\r\nttl\r\n:3600\r\n"


@pytest.mark.parametrize(
    "answer",
    [ATTRIBUTE + b":1\r\n", ATTRIBUTE * 3 + b":1\r\n", b"|0\r\n:1\r\n", b"|1\r\n|1\r\n+a\r\n+b\r\n+c\r\n+d\r\n:1\r\n"],
)
def test_an_attribute_in_front_of_a_job_s_reply(answer: bytes, start_scripted: StartScripted) -> None:
    scripted = start_scripted()
    with scripted.connection() as (client, upstream):
        scripted.exchange(client, upstream, command("HELLO", "3"), ATTRIBUTE + b"%1\r\n+proto\r\n:3\r\n")
        scripted.exchange(client, upstream, command("MULTI"), ATTRIBUTE + b"+OK\r\n")
        scripted.exchange(client, upstream, PUSH, ATTRIBUTE + b"+QUEUED\r\n")
        scripted.exchange(client, upstream, command("EXEC"), ATTRIBUTE + b"*1\r\n:1\r\n")
        scripted.exchange(client, upstream, command("MULTI"), ATTRIBUTE + b"-ERR no\r\n")
        for _ in range(2):
            assert b"traceparent" in scripted.exchange(client, upstream, PUSH, answer)
    scripted.jobs("enqueue", 3)


@pytest.mark.parametrize(
    "answer",
    [
        b"$?\r\n;3\r\nabc\r\n;2\r\nde\r\n;0\r\n",  # the specification has them; no Redis has sent any yet
        b"*?\r\n:1\r\n:2\r\n.\r\n",
        b"%?\r\n+a\r\n:1\r\n.\r\n",
        b"~?\r\n:1\r\n.\r\n",
        b"@what\r\n",
        b"\x16\x03\x01 TLS, perhaps\r\n",
    ],
)
def test_types_that_no_redis_sends_are_passed_blindly(answer: bytes, start_scripted: StartScripted) -> None:
    scripted = start_scripted()
    with scripted.connection() as (client, upstream):
        for _ in range(3):
            scripted.exchange(client, upstream, command("GET", "a"), answer)
        assert scripted.exchange(client, upstream, PUSH, b":1\r\n") == PUSH
    scripted.blind("unknown_type")


@pytest.mark.parametrize("header", [b"*2147483647\r\n", b"$536870912\r\n", b"%1000000000\r\n", b"*1\r\n" * 100_000])
def test_headers_of_redis_allocate_nothing(header: bytes, start_scripted: StartScripted) -> None:
    """As Cure53's EP-01-006, from the other side: a Redis that only announces costs nothing, and breaks nothing."""
    scripted = start_scripted()
    before = scripted.sidecar.peak_memory
    with scripted.connection() as (client, upstream):
        for _ in range(3):
            scripted.exchange(client, upstream, command("LPOP", "jobs:a"), header + b":1\r\n")
            scripted.exchange(client, upstream, command("PING"), bulk(b"x" * 1000))
    assert scripted.sidecar.peak_memory - before < 8_000_000
