"""Whose key and whose command it is."""

from __future__ import annotations

import pytest

from proxy.frameworks import router as router_module
from proxy.frameworks.base import Role
from proxy.frameworks.router import Router
from proxy.resp.commands import encode, keys
from tests.frameworks import dramatiq, go_redis_work_queue, lists


@pytest.mark.parametrize(
    ("command", "found"),
    [
        ("LPUSH q v", ["q"]),
        ("BRPOP a b 5", ["a", "b"]),
        ("RPOPLPUSH a b", ["a", "b"]),
        ("DEL a b c", ["a", "b", "c"]),
        ("LMPOP 2 a b LEFT", ["a", "b"]),
        ("BLMPOP 0.1 1 a LEFT COUNT 2", ["a"]),
        ("EVALSHA sha 2 a b arg", ["a", "b"]),
        ("EVALSHA sha x a", []),
        ("LMPOP", []),
        ("PING", []),
        ("BRPOP", []),
    ],
)
def test_keys_of_a_command(command: str, found: list[str]) -> None:
    args = [word.encode() for word in command.split()]
    assert [key.decode() for key in keys(args[0], args)] == found


def test_a_command_is_encoded_as_clients_do() -> None:
    assert encode([b"SET", b"", b"\r\n"]) == b"*3\r\n$3\r\nSET\r\n$0\r\n\r\n$2\r\n\r\n\r\n"


def test_a_key_takes_the_first_role_in_order() -> None:
    shape = lists(queues=("*",), processing=("work*", "dead"), dead_letter=("dead",), completed=("done", "work:done"))
    roles = [shape.role(key) for key in (b"dead", b"work:done", b"work:1", b"any\xff\nthing")]
    assert roles == [Role.DEAD_LETTER, Role.COMPLETED, Role.PROCESSING, Role.QUEUE]
    assert lists(queues=("a",)).role(b"aa") is None


def test_the_first_framework_that_claims_a_key_has_it() -> None:
    router = Router([lists(queues=("jobqueue:high*",)), go_redis_work_queue()])
    owners = [router.owner(key) for key in (b"jobqueue:high_priority", b"jobqueue:low_priority", b"x")]
    assert [owner and owner.name for owner in owners] == ["list", "go-redis-work-queue", None]


def test_any_key_of_a_command_may_be_the_one() -> None:
    router = Router([lists()])
    assert router.read(b"BRPOP", [b"BRPOP", b"other", b"jobs", b"1"]) is not None
    assert router.read(b"BRPOP", [b"BRPOP", b"other", b"1"]) is None


def test_remembered_keys_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(router_module, "_REMEMBERED", 10)
    router = Router([lists()])
    for number in range(100):
        assert not router.claims(b"LPUSH", b"session:%d" % number)
        assert router.claims(b"LPUSH", b"jobs")
    assert len(router._circles[b"LPUSH"].known) <= 10


ODD = ["LPUSH jobs", "LREM work 1", "LTRIM jobs x y", "LMOVE jobs", "SET {beat}", "SET {beat} v EX", "SETEX {beat} x v"]


@pytest.mark.parametrize("command", ODD)
def test_odd_commands_are_no_error(command: str) -> None:
    router = Router([lists(), go_redis_work_queue()])
    args = command.format(beat="jobqueue:processing:worker:1").encode().split()
    router.read(args[0], args)


def test_a_script_is_whose_arguments_it_has_unless_its_key_is_somebodys() -> None:
    worker = "020846ae-a428-4532-9c95-7d715f0e6ded"
    script = f"EVALSHA sha 1 space fetch 1700000000000 q {worker} 60000 1 0 3996 4".encode().split()
    router = Router([lists(), dramatiq()])
    assert router.claims(script[0], script[1])
    assert router.read(b"EVALSHA", script) is not None
    assert router.read(b"EVALSHA", [*script[:3], b"jobs", *script[4:]]) is None
    assert router.read(b"EVALSHA", script[:-1]) is None
    assert router.owner(b"space") is None
