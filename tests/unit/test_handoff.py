"""The control channel, both ends in one process."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from proxy.admin import handoff
from proxy.admin.handoff import LIVE_FOR, ParentEnd, TracerEnd, channel


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Ends:
    """A parent's end and a tracer's, and what they were told."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.gone = 0
        self.flushes = 0
        self.connections: list[socket.socket] = []
        ours, self.theirs = channel()
        self.parent = ParentEnd(ours, self._count_gone, self.clock)
        self.tracer: TracerEnd | None = None

    def start_tracer(self) -> TracerEnd:
        self.tracer = TracerEnd(self.theirs, self.connections.append, self._count_flush)
        return self.tracer

    def close(self) -> None:
        self.parent.close()
        if self.tracer is None:
            self.theirs.close()
        else:
            self.tracer.close()
        for connection in self.connections:
            connection.close()

    def _count_gone(self) -> None:
        self.gone += 1

    def _count_flush(self) -> None:
        self.flushes += 1


async def until(condition: Callable[[], object]) -> None:
    for _ in range(2000):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("not within 10 s")


def run(scenario: Callable[[Ends], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        ends = Ends()
        try:
            await scenario(ends)
        finally:
            ends.close()

    asyncio.run(main())


def test_connection_arrives_unread() -> None:
    async def scenario(ends: Ends) -> None:
        ends.start_tracer()
        await until(lambda: ends.parent.live)
        ours, visitor = socket.socketpair()
        with ours, visitor:
            visitor.sendall(b"GET /metrics")
            assert ends.parent.hand_over(ours)
        await until(lambda: ends.connections)
        assert ends.connections[0].recv(64) == b"GET /metrics"
        assert not ends.connections[0].getblocking()

    run(scenario)


def test_live_only_while_it_beats(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handoff, "BEAT_EVERY", 0.01)

    async def scenario(ends: Ends) -> None:
        ours, visitor = socket.socketpair()
        with ours, visitor:
            assert not ends.parent.live
            assert not ends.parent.hand_over(ours)
            tracer = ends.start_tracer()
            await until(lambda: ends.parent.live)
            ends.clock.now += LIVE_FOR
            await until(lambda: ends.parent.live)  # by its next beat
            tracer.close()
            await until(lambda: ends.gone == 1)
            assert not ends.parent.hand_over(ours)
            assert not ends.parent.flush()

    run(scenario)


def test_silence() -> None:
    async def scenario(ends: Ends) -> None:
        ends.clock.now += 5
        assert ends.parent.silence == 5
        ends.start_tracer()
        await until(lambda: ends.parent.silence == 0)
        ends.clock.now += LIVE_FOR + 1
        assert not ends.parent.live

    run(scenario)


def test_tracer_that_does_not_read() -> None:
    """The channel fills up; what does not fit is refused, not waited for."""

    async def scenario(ends: Ends) -> None:
        ends.theirs.send(b"B")
        await until(lambda: ends.parent.live)
        ours, visitor = socket.socketpair()
        with ours, visitor:
            for _ in range(10_000):
                if not ends.parent.hand_over(ours):
                    return
        raise AssertionError("it takes everything")

    run(scenario)


def test_flush() -> None:
    async def scenario(ends: Ends) -> None:
        ends.start_tracer()
        assert ends.parent.flush()
        await until(lambda: ends.flushes == 1)
        await until(lambda: ends.gone == 1)  # it has closed its end

    run(scenario)


def test_parent_is_gone() -> None:
    async def scenario(ends: Ends) -> None:
        ends.start_tracer()
        await asyncio.sleep(0.02)
        ends.parent.close()
        await until(lambda: ends.flushes == 1)
        await asyncio.sleep(0.05)
        assert (ends.flushes, ends.gone) == (1, 0)

    run(scenario)


def test_messages_of_another_version_are_passed_over() -> None:
    async def scenario(ends: Ends) -> None:
        ours, theirs = channel()
        flushed: list[bool] = []
        tracer = TracerEnd(theirs, ends.connections.append, lambda: flushed.append(True))
        ours.send(b"?")
        ours.send(b"F")
        await until(lambda: flushed)
        tracer.close()
        ours.close()

    run(scenario)
