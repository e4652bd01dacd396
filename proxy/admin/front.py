"""The admin socket, in the parent: it looks at each request's head, answers probes, and hands the rest to the tracer.

It only peeks, so whoever gets a connection reads the request from its beginning.  No probe waits for the tracer.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterable
from typing import Final, Protocol

from proxy import log
from proxy.admin.health import HEAD_LIMIT, BadRequest, Head, Readiness, is_probe, probe, read_head, refusal
from proxy.listen import close_listener

HEAD_TIMEOUT: Final = 5.0
"""Seconds for a client to send the head of its request."""
WRITE_TIMEOUT: Final = 5.0
WAITING_LIMIT: Final = 256
"""Connections whose head is not complete."""

_RETRY_PEEK: Final = 0.02
_ACCEPT_PAUSE: Final = 0.2
_ACCEPT_BATCH: Final = 16


class Rest(Protocol):
    """Where requests go that are no probes."""

    def __call__(self, connection: socket.socket, head: Head) -> bytes | None:
        """An answer, or None: the connection was handed over."""


class Front:
    """Serves on ``sockets`` (listening, non-blocking; they become its own) from `open` until `close`."""

    def __init__(self, sockets: Iterable[socket.socket], readiness: Callable[[], Readiness], rest: Rest) -> None:
        self._sockets = list(sockets)
        self._readiness = readiness
        self._rest = rest
        self._visitors: dict[_Visitor, None] = {}  # in the order in which they came
        self._writing: set[asyncio.Task[None]] = set()

    def open(self) -> None:
        for sock in self._sockets:
            asyncio.get_running_loop().add_reader(sock, self._accept, sock)

    def close(self) -> None:
        for sock in self._sockets:
            if sock.fileno() >= 0:
                asyncio.get_running_loop().remove_reader(sock)
                close_listener(sock)
        for visitor in list(self._visitors):
            visitor.close()

    def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(_ACCEPT_BATCH):
            try:
                sock, _ = listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                log.error("admin_accept", f"cannot accept admin connections: {error.strerror}")
                loop.remove_reader(listener)
                loop.call_later(_ACCEPT_PAUSE, self._resume, listener)
                return
            sock.setblocking(False)
            if len(self._visitors) >= WAITING_LIMIT:
                # Who says nothing makes room for who may be a probe.
                next(iter(self._visitors)).give_way()
            visitor = _Visitor(sock, self._serve, self._answer, self._gone)
            self._visitors[visitor] = None

    def _resume(self, listener: socket.socket) -> None:
        if listener.fileno() >= 0:
            asyncio.get_running_loop().add_reader(listener, self._accept, listener)

    def _gone(self, visitor: _Visitor) -> None:
        self._visitors.pop(visitor, None)

    def _serve(self, sock: socket.socket, head: Head) -> None:
        reply = probe(head, self._readiness()) if is_probe(head) else self._rest(sock, head)
        if reply is None:
            sock.close()
        else:
            self._answer(sock, reply, head.size)

    def _answer(self, sock: socket.socket, reply: bytes, unread: int) -> None:
        """Write a reply, and close. ``unread``: bytes to take first; left there, they make closing a reset."""
        task = asyncio.get_running_loop().create_task(_write(sock, reply, unread))
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)


async def _write(sock: socket.socket, reply: bytes, unread: int) -> None:
    loop = asyncio.get_running_loop()
    with contextlib.suppress(OSError), sock:  # a TimeoutError is an OSError
        with contextlib.suppress(BlockingIOError):
            if unread:
                sock.recv(unread)
        async with asyncio.timeout(WRITE_TIMEOUT):
            await loop.sock_sendall(sock, reply)
        sock.shutdown(socket.SHUT_WR)


class _Visitor:
    """A connection whose request is not known yet."""

    def __init__(
        self,
        sock: socket.socket,
        serve: Callable[[socket.socket, Head], None],
        answer: Callable[[socket.socket, bytes, int], None],
        gone: Callable[[_Visitor], None],
    ) -> None:
        loop = asyncio.get_running_loop()
        self._sock = sock
        self._serve = serve
        self._answer = answer
        self._gone = gone
        self._timeout = loop.call_later(HEAD_TIMEOUT, self._too_slow)
        self._retry: asyncio.TimerHandle | None = None
        self._seen = 0
        loop.add_reader(sock, self._look)

    def close(self) -> None:
        self._leave()
        self._sock.close()

    def _leave(self) -> None:
        """Stop watching the socket."""
        asyncio.get_running_loop().remove_reader(self._sock)
        self._timeout.cancel()
        if self._retry is not None:
            self._retry.cancel()
        self._gone(self)

    def _look(self) -> None:
        self._retry = None
        try:
            data = self._sock.recv(HEAD_LIMIT, socket.MSG_PEEK)
            if not data:
                self.close()
                return
            head = read_head(data) if len(data) > self._seen else None
        except BlockingIOError:
            return
        except BadRequest as bad:
            self._refuse(bad.status, "redspan's admin port speaks HTTP/1.1")
            return
        except OSError:
            self.close()
            return
        if head is None:
            self._wait(len(data))
            return
        self._leave()
        self._serve(self._sock, head)

    def _wait(self, seen: int) -> None:
        """What was peeked at stays readable, so look again only after a moment."""
        loop = asyncio.get_running_loop()
        self._seen = seen
        loop.remove_reader(self._sock)
        self._retry = loop.call_later(_RETRY_PEEK, self._look)

    def give_way(self) -> None:
        self._refuse(503, "too many connections that send no request")

    def _too_slow(self) -> None:
        self._refuse(408, f"no complete request within {HEAD_TIMEOUT:.0f} s")

    def _refuse(self, status: int, why: str) -> None:
        self._leave()
        self._answer(self._sock, refusal(status, why), HEAD_LIMIT)
