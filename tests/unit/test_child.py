"""The tracer process as its parent keeps it."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from proxy import child as module
from proxy.child import TracerChild
from proxy.config import Listener, Settings, Tracing

SETTINGS = Settings(listeners=(Listener(upstream="redis://:hush@127.0.0.1:6379"),), tracing=Tracing(protocol="none"))


class Parent:
    def __init__(self) -> None:
        self.attached: list[socket.socket] = []
        self.detached = 0
        self.child = TracerChild(SETTINGS, self.attached.append, self._count)

    def _count(self) -> None:
        self.detached += 1

    def close(self) -> None:
        for sock in self.attached:
            sock.close()


async def until(condition: Callable[[], object], what: str) -> None:
    for _ in range(3000):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError(what)


def shown_to_others(pid: int) -> bytes:
    """Its arguments and environment."""
    return b"".join(Path(f"/proc/{pid}/{name}").read_bytes() for name in ("cmdline", "environ"))


def alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def test_lives_and_ends() -> None:
    async def scenario() -> None:
        parent = Parent()
        child = parent.child
        child.start()
        try:
            await until(lambda: child.live, "does not beat")
            pid = child.pid
            assert len(parent.attached) == 1
            assert os.getpgid(pid) != os.getpgid(0), "Ctrl-C would reach it"
            assert b"hush" not in shown_to_others(pid)
            assert os.getpriority(os.PRIO_PROCESS, pid) > os.getpriority(os.PRIO_PROCESS, 0)
        finally:
            await child.stop(5.0)
            parent.close()
        assert parent.detached == 1
        assert not alive(pid)
        assert child.restarts == 0

    asyncio.run(scenario())


def test_started_again_with_back_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LONGEST_DELAY", 0.03)

    async def scenario() -> None:
        parent = Parent()
        child = parent.child
        child._delay = 0.01
        delays: list[float] = []
        child.start()
        try:
            for number in range(1, 4):
                await until(lambda: child.live, "not started")
                os.kill(child.pid, signal.SIGKILL)
                await until(lambda number=number: child.restarts == number, "not started again")  # type: ignore[misc]
                delays.append(child._delay)
            await until(lambda: child.live, "not started")
        finally:
            await child.stop(5.0)
            parent.close()
        assert delays == [0.02, 0.03, 0.03]
        assert parent.detached == len(parent.attached) == 4

    asyncio.run(scenario())


def test_after_a_steady_one_the_delay_is_short_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STEADY_AFTER", 0.0)

    async def scenario() -> None:
        parent = Parent()
        child = parent.child
        child._delay = 10.0
        child.start()
        try:
            await until(lambda: child.live, "not started")
            os.kill(child.pid, signal.SIGKILL)
            await until(lambda: child.restarts == 1, "not started again")
        finally:
            await child.stop(5.0)
            parent.close()

    asyncio.run(scenario())


def test_one_that_does_not_end_is_killed() -> None:
    async def scenario() -> None:
        parent = Parent()
        child = parent.child
        child.start()
        await until(lambda: child.live, "does not beat")
        pid = child.pid
        os.kill(pid, signal.SIGSTOP)
        await child.stop(0.1)
        parent.close()
        assert not alive(pid)

    asyncio.run(scenario())


def test_one_that_hangs_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        parent = Parent()
        child = parent.child
        child.start()
        try:
            await until(lambda: child.live, "does not beat")
            was = child.pid
            os.kill(was, signal.SIGSTOP)
            monkeypatch.setattr(module, "HUNG_AFTER", 0.1)
            await until(lambda: not alive(was), "not killed")
            monkeypatch.setattr(module, "HUNG_AFTER", 60.0)
            await until(lambda: child.live and child.pid != was, "not replaced")
        finally:
            await child.stop(5.0)
            parent.close()

    asyncio.run(scenario())


def test_that_cannot_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """The relay goes on; it is tried again."""

    async def scenario() -> None:
        parent = Parent()
        child = parent.child
        monkeypatch.setattr(sys, "executable", "/nowhere/python")
        child.start()
        assert not child.live
        assert child.pid == 0
        monkeypatch.undo()
        await until(lambda: child.live, "not tried again")
        await child.stop(5.0)
        parent.close()

    asyncio.run(scenario())
