"""A name with several addresses: which is tried when, and that a dead one costs a moment at most."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator

import pytest
import uvloop

from proxy.relay import eyeballs
from proxy.relay.eyeballs import by_turns, connected

V4, V6 = socket.AF_INET, socket.AF_INET6
DEAD = ("192.0.2.1", 6379)
"""TEST-NET-1: nobody answers, or the network says so."""


@pytest.fixture
def port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def run(coroutine: object) -> object:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(coroutine)  # type: ignore[arg-type]


def test_families_by_turns() -> None:
    six, four = [(V6, (f"::{n}", 1)) for n in range(3)], [(V4, (f"127.0.0.{n}", 1)) for n in range(1)]
    assert by_turns([*six, *four]) == [six[0], four[0], six[1], six[2]]
    assert by_turns([four[0], four[0]]) == four


def test_one_address(port: int) -> None:
    async def go() -> tuple[str, int]:
        with await connected("127.0.0.1", port) as sock:
            return sock.getpeername()  # type: ignore[no-any-return]

    assert run(go()) == ("127.0.0.1", port)


@pytest.mark.parametrize("dead", [[DEAD], [DEAD, (*DEAD[:1], 1)], [("127.0.0.1", 1)]])
def test_what_is_dead_does_not_keep_the_next_from_being_tried(
    dead: list[tuple[str, int]], port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(eyeballs, "DELAY", 0.01)

    async def go() -> tuple[str, int]:
        places = [(V4, place) for place in [*dead, ("127.0.0.1", port)]]
        with await eyeballs._race(places) as sock:
            return sock.getpeername()  # type: ignore[no-any-return]

    assert run(go()) == ("127.0.0.1", port)


def test_if_none_answers_the_first_error_is_told() -> None:
    async def go() -> None:
        await eyeballs._race([(V4, ("127.0.0.1", 1)), (V6, ("::1", 1))])

    with pytest.raises(ConnectionRefusedError):
        run(go())
