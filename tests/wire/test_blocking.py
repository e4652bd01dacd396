"""Commands that wait: each blocks its own client alone, as long as it likes, and can be ended from outside."""

from __future__ import annotations

from contextlib import ExitStack

import pytest
import redis

from tests.redis import version
from tests.wire.corners import JOB, Corner, ask, bulk, command, read_until
from tests.wire.sockets import blocked, wait_for

COMMANDS = [
    command("BLPOP", "jobs:b", "jobs:c", "0"),
    command("BRPOP", "jobs:b", "0"),
    command("BLMOVE", "jobs:b", "work", "LEFT", "LEFT", "0"),
    command("BRPOPLPUSH", "jobs:b", "work", "0"),
]
OTHERS = [
    command("BZPOPMIN", "zset", "0"),
    command("XREAD", "BLOCK", "0", "STREAMS", "stream", "$"),
]
if version() >= (7,):
    COMMANDS.append(command("BLMPOP", "0", "1", "jobs:b", "LEFT"))
    OTHERS.append(command("BZMPOP", "0", "1", "zset", "MIN"))


def number(sock_answer: bytes) -> int:
    return int(sock_answer[1:-2])


@pytest.mark.parametrize("request_", COMMANDS, ids=lambda request_: request_.split(b"\r\n")[2].decode())
def test_others_go_on_while_one_waits(request_: bytes, corner: Corner, direct: redis.Redis) -> None:
    """envoy#21783, #42823, redis-cluster-proxy#48: blocking pops stopped or crashed what shared a connection."""
    with corner.sidecar.connect() as waiting, corner.sidecar.connect() as other:
        ask(waiting)
        waiting.sendall(request_ + command("MGET", "a", "b"))
        wait_for(lambda: blocked(direct) == 1, "not blocked")
        corner.follows(other)
        ask(other, command("RPUSH", "jobs:b", JOB))
        answer = read_until(waiting, b"*2\r\n$-1\r\n$-1\r\n")
        assert b"traceparent" in answer
        corner.follows(waiting)


@pytest.mark.parametrize("protocol", ["2", "3"])
@pytest.mark.parametrize("request_", [*COMMANDS, *OTHERS], ids=lambda request_: request_.split(b"\r\n")[2].decode())
def test_ended_by_another_client(request_: bytes, protocol: str, corner: Corner, direct: redis.Redis) -> None:
    """CLIENT UNBLOCK and CLIENT KILL name a connection by the id that its client was given: one for each client."""
    with corner.sidecar.connect() as sock:
        ask(sock, command("HELLO", protocol))
        ours = number(ask(sock, command("CLIENT", "ID")))
        for error, wanted in ((False, (b"*-1\r\n", b"$-1\r\n", b"_\r\n")), (True, (b"-UNBLOCKED ",))):
            sock.sendall(request_)
            wait_for(lambda: blocked(direct) == 1, "not blocked")
            assert direct.client_unblock(ours, error=error)
            assert read_until(sock, b"\r\n").startswith(wanted)
        corner.follows(sock)
        sock.sendall(request_)
        wait_for(lambda: blocked(direct) == 1, "not blocked")
        direct.client_kill_filter(_id=str(ours))
        assert sock.recv(64) == b""


def test_longer_than_any_timeout_of_redspan(corner: Corner, direct: redis.Redis) -> None:
    """envoy#21843, sidekiq#6663: who waits for a job looks idle, and is not to be disconnected for it.

    redspan has one timeout, of five seconds, for connecting.
    """
    with corner.sidecar.connect() as sock:
        assert ask(sock, command("BRPOP", "jobs:b", "6")) == b"*-1\r\n"
        corner.follows(sock)


@pytest.mark.parametrize("protocol", ["2", "3"])
def test_waiting_in_vain(protocol: str, corner: Corner) -> None:
    endings = (command(*[word if word != b"0" else b"0.01" for word in words(request_)]) for request_ in COMMANDS)
    answer = corner.same(command("HELLO", protocol), *endings, command("WAIT", "1", "10"), differs=r"\bid\r\n:\d+")
    assert answer.endswith(b":0\r\n")


def words(request_: bytes) -> list[bytes]:
    return request_.split(b"\r\n")[2::2]


def test_workers_share_a_queue_and_each_job_has_one(corner: Corner, direct: redis.Redis) -> None:
    with ExitStack() as running:
        workers = [running.enter_context(corner.sidecar.connect()) for _ in range(20)]
        for worker in workers:
            worker.sendall(command("BLPOP", "jobs:b", "0"))
        wait_for(lambda: blocked(direct) == 20, "not blocked")
        direct.rpush("jobs:b", *range(10, 30))
        taken = [ask(worker) for worker in workers]
    assert sorted(taken) == [b"*2\r\n" + bulk(b"jobs:b") + bulk(b"%d" % number) for number in range(10, 30)]
