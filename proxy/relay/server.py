"""The relay on uvloop: listens, and gives every client connection one to Redis of its own.

The rules of what moves between the two are in `proxy.relay.legs`; this is about how they come and go.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import ssl
from collections.abc import Callable
from typing import Final, TypeAlias

from proxy import log
from proxy.address import Address
from proxy.config import Listener, Settings
from proxy.files import FromFiles
from proxy.listen import CannotListen, bound, close_listener, open_listeners, raise_file_limit
from proxy.relay.context import RelayContext
from proxy.relay.legs import ClientLeg
from proxy.relay.session import Session
from proxy.relay.upstream import CannotConnect, LoginRefused, Upstream

REFUSAL: Final = b"-ERR max number of clients reached\r\n"
"""Redis' own words, so that clients know them."""

ACCEPT_PAUSE: Final = 0.2
"""Seconds without accepting after the system refused a socket; who comes meanwhile waits in the backlog."""

_ACCEPT_BATCH: Final = 64
_TLS_HANDSHAKE_TIMEOUT: Final = 10.0
_TLS_SHUTDOWN_TIMEOUT: Final = 1.0
_SPARE_FILES: Final = 128
"""Of this process, beside the two of each client: listeners, admin connections, the tracer's sockets, the log."""
_EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


Sockets: TypeAlias = Callable[[int, Listener], list[socket.socket]]
"""From a listener, and its number in the settings, to listening sockets. Raises `proxy.listen.CannotListen`."""


def bind_setting(number: int) -> str:
    """What a user has to change if a listener cannot listen."""
    return f"listeners[{number}].bind" + (" (--listen)" if number == 0 else "")


def open_sockets(number: int, listener: Listener) -> list[socket.socket]:
    return open_listeners(listener.bind_address, bind_setting(number))


def upstream_of(listener: Listener) -> Upstream:
    """Raises `proxy.listen.CannotListen` for files that cannot be read, or are wrong."""
    try:
        return Upstream(listener.upstream_address, listener.upstream_tls, listener.upstream_password_file)
    except (OSError, ValueError) as error:
        raise CannotListen(f"cannot serve {listener.bind}: {error}; change upstream_tls or its password file") from None


def tls_of(listener: Listener) -> FromFiles[ssl.SSLContext] | None:
    """Raises `proxy.listen.CannotListen` for files that cannot be read, or are wrong."""
    if not listener.tls.cert_file:
        return None
    try:
        return FromFiles(listener.tls.context, listener.tls.files, f"the certificate of {listener.bind}")
    except (OSError, ValueError) as error:
        raise CannotListen(f"cannot serve {listener.bind}: {error}; change its tls") from None


class RelayServer:
    """All listeners of one worker.

    `open`, then any time later `begin_drain`, `wait_closed` and `close`, in this order.  Counts connections in
    ``context.counters``.
    """

    def __init__(self, settings: Settings, context: RelayContext, sockets: Sockets = open_sockets) -> None:
        """``sockets`` opens the listening ones."""
        self._settings = settings
        self._sockets = sockets
        self._context = context
        self._limit = settings.relay.max_connections
        self._gates: list[_Gate] = []
        self._clients: set[ClientLeg] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._conn = 0
        self._empty = asyncio.Event()
        self._empty.set()
        self.draining = False
        self.failures = {"unreachable": 0, "login": 0}
        """Clients that were closed for lack of a Redis, by reason."""

    def open(self) -> None:
        """Start to listen. Raises `proxy.listen.CannotListen`; then nothing is left open."""
        try:
            for number, listener in enumerate(self._settings.listeners):
                upstream, tls = upstream_of(listener), tls_of(listener)
                for sock in self._sockets(number, listener):
                    self._gates.append(_Gate(number, listener.bind, sock, tls, upstream, self._admit))
        except BaseException:
            self._close_gates()
            raise
        self._limit = self._fit(self._settings.relay.max_connections)
        for gate in self._gates:
            gate.resume()

    def apply(self, settings: Settings) -> None:
        """Go by other settings, except for listeners; the context, which sessions share, has them already."""
        if settings.relay.max_connections != self._settings.relay.max_connections:
            self._limit = self._fit(settings.relay.max_connections)
        self._settings = settings
        for client in self._clients:
            if isinstance(client.session, Session):
                client.session.settings_changed()

    def listening(self) -> bool:
        return any(gate.sock.fileno() >= 0 for gate in self._gates)

    @property
    def routes(self) -> list[tuple[Address, Upstream]]:
        """Where it listens (with real port numbers), and what is behind."""
        return [(bound(gate.sock), gate.upstream) for gate in self._gates]

    @property
    def upstreams(self) -> tuple[Upstream, ...]:
        return tuple({gate.upstream.address: gate.upstream for gate in self._gates}.values())

    def begin_drain(self) -> None:
        """From now on the last client to leave ends `wait_closed`. New ones are still served until then."""
        self.draining = True

    async def wait_closed(self, within: float) -> bool:
        """Wait until no client is left; False: some still are after so many seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within):
                await self._empty.wait()
        return not self._clients

    async def close(self) -> None:
        """Stop listening, and close what is still open; returns when every session has been told."""
        self._close_gates()
        for task in self._tasks:
            task.cancel()
        for client in list(self._clients):
            for leg in (client.other, client):
                if leg is not None:
                    leg.transport.abort()
        await self.wait_closed(1.0)

    def _close_gates(self) -> None:
        for gate in self._gates:
            gate.close()

    def _fit(self, wanted: int) -> int:
        """How many clients this process may have files for."""
        allowed = raise_file_limit(2 * wanted + _SPARE_FILES)
        fits = max(1, (allowed - _SPARE_FILES) // 2)
        if fits < wanted:
            # A little less than the default is what the usual limit of a container gives: nothing to tell anybody of.
            tell = log.warning if fits < wanted * 0.9 else log.debug
            tell(
                "file_limit",
                f"relay.max_connections is {wanted}, but the limit of open files ({allowed}) allows {fits} clients; "
                "raise it (ulimit -n, LimitNOFILE) or lower relay.max_connections",
            )
        return min(wanted, fits)

    def _admit(self, gate: _Gate, sock: socket.socket, client: str) -> None:
        counters = self._context.counters
        if counters.connections >= self._limit:
            counters.refused += 1
            log.warning(
                "connections_refused",
                f"{self._limit} clients are connected, more are refused; raise relay.max_connections",
            )
            with contextlib.suppress(OSError):
                sock.send(REFUSAL, socket.MSG_DONTWAIT)
            sock.close()
            return
        counters.connections += 1
        counters.accepted += 1
        self._conn += 1
        leg = ClientLeg(self._gone)
        self._clients.add(leg)
        self._empty.clear()
        task = asyncio.get_running_loop().create_task(self._serve(gate, sock, client, leg, self._conn))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, gate: _Gate, sock: socket.socket, client: str, leg: ClientLeg, conn: int) -> None:
        """Connect the client to Redis. Its bytes wait in the kernel or, one read's worth, in its leg."""
        try:
            loop = asyncio.get_running_loop()
            if gate.tls is None:
                await loop.connect_accepted_socket(lambda: leg, sock)
            else:
                await loop.connect_accepted_socket(
                    lambda: leg,
                    sock,
                    ssl=gate.tls.get(),
                    ssl_handshake_timeout=_TLS_HANDSHAKE_TIMEOUT,
                    ssl_shutdown_timeout=_TLS_SHUTDOWN_TIMEOUT,
                )
        except (OSError, asyncio.CancelledError) as error:
            if isinstance(error, OSError) and gate.tls is not None:
                self._no_handshake(gate, error)
            sock.close()
            if not leg.lost:
                self._gone(leg)
            return
        try:
            upstream = await gate.upstream.connect()
        except CannotConnect as error:
            self._unreachable(gate, error)
            leg.transport.abort()
            return
        except asyncio.CancelledError:
            leg.transport.abort()
            raise
        if leg.lost and not leg.early:
            upstream.transport.abort()
            return
        session = Session(self._context, conn, gate.bind, gate.upstream.address.display(), client)
        leg.join(upstream, session)

    def _gone(self, leg: ClientLeg) -> None:
        if leg in self._clients:
            self._clients.discard(leg)
            self._context.counters.connections -= 1
            if not self._clients:
                self._empty.set()

    def _no_handshake(self, gate: _Gate, error: OSError) -> None:
        self._context.counters.refused += 1
        why = error.reason.lower().replace("_", " ") if isinstance(error, ssl.SSLError) and error.reason else "it left"
        log.warning("tls_handshake", f"no TLS with a client of {gate.bind}: {why}", subject=gate.bind)

    def _unreachable(self, gate: _Gate, error: CannotConnect) -> None:
        place = gate.upstream.address.display()
        setting = f"listeners[{gate.number}].upstream" + (" (--upstream)" if gate.number == 0 else "")
        reason = "login" if isinstance(error, LoginRefused) else "unreachable"
        self.failures[reason] += 1
        log.error(
            f"upstream_{reason}",
            f"cannot connect to Redis at {place}: {error}; its client was disconnected. Is it {setting} that is wrong?",
            subject=place,
        )


class _Gate:
    """One listening socket. It accepts by itself: a server of uvloop may close for good when sockets run out."""

    def __init__(
        self,
        number: int,
        bind: str,
        sock: socket.socket,
        tls: FromFiles[ssl.SSLContext] | None,
        upstream: Upstream,
        admit: Callable[[_Gate, socket.socket, str], None],
    ) -> None:
        self.number = number
        """Of the listener in the settings."""
        self.bind = bind
        self.sock = sock
        self.tls = tls
        """What clients have to speak, if not plain RESP."""
        self.upstream = upstream
        self._admit = admit
        self._pause: asyncio.TimerHandle | None = None

    def resume(self) -> None:
        self._pause = None
        asyncio.get_running_loop().add_reader(self.sock, self._accept)

    def close(self) -> None:
        if self._pause is not None:
            self._pause.cancel()
        if self.sock.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(self.sock)
            close_listener(self.sock)

    def _accept(self) -> None:
        for _ in range(_ACCEPT_BATCH):
            try:
                sock, peer = self.sock.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                # Anything else is about the connection that was to be accepted: it has gone already.
                if error.errno in _EXHAUSTED:
                    self._out_of_sockets(error)
                    return
                continue
            self._admit(self, sock, _peer(peer))

    def _out_of_sockets(self, error: OSError) -> None:
        loop = asyncio.get_running_loop()
        loop.remove_reader(self.sock)
        self._pause = loop.call_later(ACCEPT_PAUSE, self.resume)
        log.error(
            "accept_failed",
            f"cannot accept clients on {self.bind}: {error.strerror}; they wait. Raise the limit of open files "
            "(ulimit -n, LimitNOFILE), or lower relay.max_connections",
            subject=self.bind,
        )


def _peer(peer: object) -> str:
    """``host:port`` of a client; nothing for a unix socket."""
    if not isinstance(peer, tuple):
        return ""
    host, port = peer[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
