"""The relay's server in this process, where a test can take its file descriptors away."""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import socket
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvloop

from proxy import assembly
from proxy.config import Listener, Relay, Settings
from proxy.events import Record
from proxy.frameworks.router import Router
from proxy.relay import server as module
from proxy.relay.context import RelayContext
from proxy.relay.legs import Leg
from proxy.relay.server import RelayServer
from tests.redis import PATIENCE, RedisServer


class Running:
    """A server in front of a Redis."""

    def __init__(self, upstream: str, max_connections: int = 100) -> None:
        settings = Settings(
            listeners=(Listener(bind="127.0.0.1:0", upstream=upstream),), relay=Relay(max_connections=max_connections)
        )
        self.records: list[Record] = []
        self.context = RelayContext(
            Router(()),
            assembly.carrier(settings),
            assembly.rates(settings),
            self.records.append,
            lambda reason, conn, _detail: None,
        )
        self.server = RelayServer(settings, self.context)
        self.server.open()
        self.port = self.server.routes[0][0].port

    async def ping(self, sock: socket.socket) -> bytes:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(PATIENCE):
            await loop.sock_sendall(sock, b"PING\r\n")
            return await loop.sock_recv(sock, 64)


def client_socket() -> socket.socket:
    sock = socket.socket()
    sock.setblocking(False)
    return sock


def run(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(scenario())


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@contextmanager
def no_more_files(spare: int = 0) -> Iterator[None]:
    """As if this process had reached its limit of open files, but for so many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(entry.name) for entry in Path("/proc/self/fd").iterdir())
    # Descriptors in use keep working above the limit; holes below it are plugged.
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 2, hard))
    plugs = []
    try:
        while True:
            try:
                plugs.append(os.open("/dev/null", os.O_RDONLY))
            except OSError:
                break
        for _ in range(spare):
            os.close(plugs.pop())
        yield
    finally:
        for plug in plugs:
            os.close(plug)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("spare", [0, 1])
def test_out_of_files(redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch, spare: int) -> None:
    """Without a descriptor for the client it waits; without one for its upstream it is closed; then all is well."""
    monkeypatch.setattr(module, "ACCEPT_PAUSE", 0.05)

    async def scenario() -> None:
        running = Running(redis_server.url)
        loop = asyncio.get_running_loop()
        with client_socket() as early, client_socket() as during, client_socket() as late:
            await loop.sock_connect(early, ("127.0.0.1", running.port))
            assert await running.ping(early) == b"+PONG\r\n"
            with no_more_files(spare):
                await loop.sock_connect(during, ("127.0.0.1", running.port))
                await asyncio.sleep(0.2)
                assert await running.ping(early) == b"+PONG\r\n"
            if spare:
                assert running.server.failures["unreachable"] == 1
            else:
                assert await running.ping(during) == b"+PONG\r\n"
            await loop.sock_connect(late, ("127.0.0.1", running.port))
            assert await running.ping(late) == b"+PONG\r\n"
        await running.server.close()

    run(scenario)


def test_limit_follows_the_limit_of_files(redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "raise_file_limit", lambda wanted: 132)

    async def scenario() -> None:
        running = Running(redis_server.url, 5000)
        loop = asyncio.get_running_loop()
        socks = [client_socket() for _ in range(3)]
        for sock in socks:
            await loop.sock_connect(sock, ("127.0.0.1", running.port))
        answers = [await running.ping(sock) for sock in socks]
        assert answers == [b"+PONG\r\n", b"+PONG\r\n", module.REFUSAL]
        assert running.context.counters.refused == 1
        for sock in socks:
            sock.close()
        await running.server.close()

    run(scenario)


def test_nothing_is_left_of_a_connection(redis_server: RedisServer) -> None:
    """Neither objects, which only the garbage collector would find, nor descriptors, nor counts."""

    async def scenario() -> None:
        running = Running(redis_server.url)
        loop = asyncio.get_running_loop()
        descriptors = 0
        for number in range(20):
            with client_socket() as sock:
                await loop.sock_connect(sock, ("127.0.0.1", running.port))
                await running.ping(sock)
            assert await until(lambda: running.context.counters.connections == 0)
            assert await until(lambda: not any(isinstance(one, Leg) for one in gc.get_objects()))
            if number == 0:
                # Only now: with its first stream, uvloop opens a descriptor that it keeps.
                descriptors = open_files()
        assert await until(lambda: open_files() == descriptors)
        assert running.context.counters.accepted == 20
        assert not running.server._clients
        assert not running.server._tasks
        await running.server.close()

    gc.collect()  # what other tests have left
    gc.disable()
    try:
        run(scenario)
    finally:
        gc.enable()


def test_close_ends_what_is_open(redis_server: RedisServer) -> None:
    async def scenario() -> None:
        running = Running(redis_server.url)
        loop = asyncio.get_running_loop()
        with client_socket() as sock:
            await loop.sock_connect(sock, ("127.0.0.1", running.port))
            await running.ping(sock)
            running.server.begin_drain()
            assert not await running.server.wait_closed(0.05)
            await running.server.close()
            assert running.context.counters.connections == 0
            assert await loop.sock_recv(sock, 64) == b""
        assert not running.server.listening()
        assert await running.server.wait_closed(0.0)

    run(scenario)


async def until(condition: Callable[[], object]) -> bool:
    for _ in range(1000):
        if condition():
            return True
        await asyncio.sleep(0.01)
    return False
