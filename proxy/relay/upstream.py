"""Connecting to Redis: TCP, unix socket or TLS, and logging in where the upstream URL has credentials."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import ssl
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final, TypeVar

from proxy.address import Address
from proxy.config import UpstreamTls
from proxy.files import FromFiles
from proxy.listen import keep_alive
from proxy.relay.eyeballs import connected
from proxy.relay.legs import UpstreamLeg

CONNECT_TIMEOUT: Final = 5.0
"""Seconds for name look-up, TCP, TLS and AUTH together."""

_NO_FILES: Final = UpstreamTls()
_TLS_SHUTDOWN_TIMEOUT: Final = 1.0
# Longer than any error line of Redis.
_AUTH_REPLY_LIMIT: Final = 4096

_REASONS: Final = {
    errno.ECONNREFUSED: "connection refused",
    errno.ENOENT: "no such unix socket",
    errno.EACCES: "not permitted to use the unix socket",
    errno.EHOSTUNREACH: "no route to that host",
    errno.ENETUNREACH: "no route to that network",
    errno.EMFILE: "too many open files in this process",
    errno.ENFILE: "too many open files on this machine",
    errno.EADDRNOTAVAIL: "no free local port",
}


_Leg = TypeVar("_Leg", bound=UpstreamLeg)


class CannotConnect(Exception):
    """Its text says why, and holds no credential."""


class LoginRefused(CannotConnect):
    """Redis did not accept the credentials of the upstream URL."""


class Upstream:
    """One Redis. Connections to it are made one for each client, when the client comes."""

    def __init__(self, address: Address, tls: UpstreamTls = _NO_FILES, password_file: str = "") -> None:
        """Raises OSError or ValueError for files that cannot be read, or are wrong."""
        self.address = address
        self._server_name = tls.server_name or address.host
        self._tls = FromFiles(tls.context, tls.files, "upstream_tls") if address.tls else None
        file = (password_file,) if password_file else ()
        self._login = FromFiles(lambda: _auth_command(address, password_file), file, "upstream_password_file")

    async def connect(self) -> UpstreamLeg:
        """A connection that is ready for the client's first byte. Raises `CannotConnect`."""
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                return await self._connect()
        except TimeoutError:
            raise CannotConnect(f"no answer in {CONNECT_TIMEOUT:.0f} s") from None
        except socket.gaierror:
            raise CannotConnect("its name cannot be resolved") from None
        except ssl.SSLCertVerificationError as error:
            raise CannotConnect(f"its TLS certificate is not accepted: {error.verify_message}") from None
        except ssl.SSLError as error:
            raise CannotConnect(f"TLS handshake failed: {error.reason or 'connection closed'}") from None
        except OSError as error:
            raise CannotConnect(_REASONS.get(error.errno or 0, error.strerror or "connection lost")) from None

    async def reachable(self) -> bool:
        """Whether something accepts connections there."""
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                leg = await self._open(UpstreamLeg, None)
        except OSError:  # a TimeoutError is one, too
            return False
        leg.transport.abort()
        return True

    async def _connect(self) -> UpstreamLeg:
        login = self._login.get()
        tls = self._tls.get() if self._tls is not None else None
        if not login:
            return await self._open(UpstreamLeg, tls)
        leg = await self._open(_LoginLeg, tls)
        try:
            leg.transport.write(login)
            reply = await leg.reply
        except BaseException:
            leg.transport.abort()
            raise
        if reply != b"+OK":
            leg.transport.abort()
            raise LoginRefused(f"it refused the credentials of the upstream URL: {_shown(reply)}")
        return leg

    async def _open(self, factory: type[_Leg], tls: ssl.SSLContext | None) -> _Leg:
        loop = asyncio.get_running_loop()
        address = self.address
        if address.path:
            _, leg = await loop.create_unix_connection(factory, address.path)
        else:
            sock = await connected(address.host, address.port)
            try:
                _, leg = await loop.create_connection(
                    factory,
                    sock=sock,
                    ssl=tls,
                    server_hostname=self._server_name if tls else None,
                    # uvloop's default leaves a closed connection open for 30 s when its peer does not answer.
                    ssl_shutdown_timeout=_TLS_SHUTDOWN_TIMEOUT if tls else None,
                )
            except BaseException:
                sock.close()
                raise
            # uvloop has set TCP_NODELAY.
            with contextlib.suppress(OSError):
                keep_alive(leg.transport.get_extra_info("socket"))
        return leg


class Reachability:
    """Whether all of some upstreams were reachable lately: asked every `EVERY` seconds, for readiness only."""

    EVERY: Final = 2.0
    GOOD_FOR: Final = 6.0

    def __init__(self, upstreams: Sequence[Upstream]) -> None:
        self._upstreams = upstreams
        self._last = -self.GOOD_FOR
        self._task = asyncio.get_running_loop().create_task(self._ask())

    @property
    def recent(self) -> bool:
        return time.monotonic() - self._last < self.GOOD_FOR

    def close(self) -> None:
        self._task.cancel()

    async def _ask(self) -> None:
        while True:
            if all([await upstream.reachable() for upstream in self._upstreams]):
                self._last = time.monotonic()
            await asyncio.sleep(self.EVERY)


class _LoginLeg(UpstreamLeg):
    """An upstream that is spoken to before the client is. ``reply``: the first line of the answer, without its end."""

    __slots__ = ("reply",)

    reply: asyncio.Future[bytes]

    def __init__(self) -> None:
        super().__init__()
        self.reply = asyncio.get_running_loop().create_future()

    def too_early(self, data: bytes) -> None:
        if self.reply.done():
            super().too_early(data)
            return
        self.early = (*self.early, data)
        line, end, rest = b"".join(self.early).partition(b"\r\n")
        if end:
            self.early = ()
            self.reply.set_result(line)
            if rest:
                super().too_early(rest)
        elif len(line) > _AUTH_REPLY_LIMIT:
            self._give_up()

    def eof_received(self) -> bool:
        if self.reply.done():
            return super().eof_received()
        self._give_up()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._give_up()
        super().connection_lost(exc)

    def _give_up(self) -> None:
        if not self.reply.done():
            self.reply.set_exception(CannotConnect("connection lost while logging in"))
            self.reply.exception()  # it may be that nobody waits any more


def _auth_command(address: Address, password_file: str) -> bytes:
    """AUTH [user] password in RESP, which every version of Redis reads; nothing without a password."""
    password = Path(password_file).read_bytes().strip() if password_file else address.password.encode()
    if not password:
        if password_file:
            raise ValueError("it is empty")
        return b""
    words = [word for word in (b"AUTH", address.username.encode(), password) if word]
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)


def _shown(reply: bytes) -> str:
    """The first word of an error reply; the rest might, with some server, repeat what was sent."""
    return reply.split(b" ", 1)[0][:32].decode("ascii", "replace")
