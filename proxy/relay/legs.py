"""The two connections of one client: its own to us, and ours to Redis on its behalf.  Nothing but moving bytes.

::

    client ──► ClientLeg.data_received ──► session.client_data ──► upstream.write ──► Redis
    client ◄── client.write ◄── (then session.upstream_data) ◄── UpstreamLeg.data_received ◄── Redis

Rules
- An end of stream passes at once, as a half-close (TLS knows none: there the connection is closed); a reset passes as
  a reset.  So a client that leaves while it is blocked is gone at once for Redis, too.
- When one side cannot take more, the other is not read.  Nothing else is buffered.
- Once a session is blind, each side's ``data_received`` becomes the other's ``write``: no Python between them.

``data_received`` is a slot, not a method, because uvloop remembers it when the protocol is set: changing it takes
effect with the next `set_protocol`.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import time
from collections.abc import Callable
from typing import Final, Protocol, cast

HIGH_WATER: Final = 64 * 1024
"""Unsent bytes of one direction before its source is no longer read."""

_NO_LINGER: Final = struct.pack("ii", 1, 0)
_FLUSH_BEFORE_RESET: Final = 1.0
"""Seconds that bytes read before a reset have to reach the other side."""
_LEFTOVER_CHUNK: Final = 64 * 1024
_LEFTOVER_LIMIT: Final = 16

_now = time.time_ns


class SessionLike(Protocol):
    """What a leg needs of `proxy.relay.session.Session`. Times are ns since the epoch; none of these raises."""

    blind: bool

    def client_data(self, data: bytes, now: int) -> bytes:
        """The bytes to write to Redis."""

    def client_eof(self, now: int) -> bytes:
        """What was held back, to go before the end of the stream."""

    def upstream_data(self, data: bytes, now: int, delivered: bool) -> None:
        """Bytes that have been written to the client, or could not be."""

    def closed(self, now: int) -> None:
        """Both sides are gone. Called once."""


def _nothing(_: bytes) -> None:
    pass


class Leg(asyncio.BaseProtocol):
    """What both connections have in common. Until the two are joined it keeps one read's worth of bytes."""

    __slots__ = ("data_received", "early", "eof", "lost", "other", "session", "transport", "write")

    data_received: Callable[[bytes], None]
    transport: asyncio.Transport
    write: Callable[[bytes], None]
    other: Leg | None
    """None before the two are joined, and again once one of them is gone."""
    session: SessionLike | None
    """The same for both, while they are joined."""
    early: tuple[bytes, ...]
    """What came before they were joined."""
    eof: bool
    """It sent its end of stream."""
    lost: bool

    def __init__(self) -> None:
        self.data_received = self.too_early
        self.other = None
        self.session = None
        self.early = ()
        self.eof = False
        self.lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.write = self.transport.write
        # uvloop's own low-water mark is 16 bytes: all of the buffer would have to go before reading resumes.
        self.transport.set_write_buffer_limits(high=HIGH_WATER)

    def too_early(self, data: bytes) -> None:
        self.early = (*self.early, data)
        # Not in connection_made: uvloop starts reading after it, whatever it asked for.
        self.transport.pause_reading()

    def pause_writing(self) -> None:
        if self.other is not None:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        # After an end of stream there is nothing to resume: uvloop would report the end a second time.
        if self.other is not None and not self.other.eof:
            self.other.transport.resume_reading()

    def finish_writing(self) -> None:
        """Pass the other side's end of stream on."""
        if self.eof or not self.transport.can_write_eof():
            self.transport.close()
        else:
            self.transport.write_eof()

    def close_like(self, exc: Exception | None) -> None:
        """Close as the other side was lost: after a reset with a reset, once what was read before is written."""
        if exc is None:
            self.transport.close()
            return
        with contextlib.suppress(OSError):
            sock = self.transport.get_extra_info("socket")
            if sock is not None:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        if self.transport.get_write_buffer_size():
            self.transport.close()
            asyncio.get_running_loop().call_later(_FLUSH_BEFORE_RESET, self.transport.abort)
        else:
            self.transport.abort()

    def leftover(self) -> list[bytes]:
        """What the kernel still has of a connection that was lost: a failed write does not wait for unread replies."""
        chunks: list[bytes] = []
        if self.eof:
            return chunks
        sock = self.transport.get_extra_info("socket")
        # Of TLS there is only ciphertext.
        if sock is None or sock.fileno() < 0 or not self.transport.can_write_eof():
            return chunks
        with contextlib.suppress(OSError), socket.socket(fileno=sock.fileno()) as raw:
            try:
                while len(chunks) < _LEFTOVER_LIMIT and (data := raw.recv(_LEFTOVER_CHUNK, socket.MSG_DONTWAIT)):
                    chunks.append(data)
            finally:
                raw.detach()
        return chunks


class ClientLeg(Leg):
    """A client's connection."""

    __slots__ = ("_fault", "_on_lost")

    def __init__(self, on_lost: Callable[[ClientLeg], None]) -> None:
        """``on_lost`` is called once, when the connection is closed and all that was written to it is sent or lost."""
        super().__init__()
        self._on_lost = on_lost
        self._fault: Exception | None = None  # why it was lost

    def join(self, upstream: UpstreamLeg, session: SessionLike) -> None:
        """From now on the two are one. A client that was lost meanwhile has its commands sent all the same."""
        self.other, upstream.other = upstream, self
        self.session = upstream.session = session
        upstream.data_received = upstream.relay
        self.data_received = self.relay
        for leg in (upstream, self):
            if not leg.lost:
                leg.transport.set_protocol(leg)
                if not leg.eof:
                    # Before anything is written: a full buffer at the other side pauses it again.
                    leg.transport.resume_reading()
        for leg, sink in ((upstream, self), (self, upstream)):
            early, leg.early = leg.early, ()
            for data in early:
                if not sink.lost:
                    leg.data_received(data)
        self._begin(upstream)

    def _begin(self, upstream: Leg) -> None:
        """Do what one of them missed while they were not joined."""
        if self.lost:
            # With TLS an end of stream looks like a loss: what was sent before it has to arrive.
            upstream.close_like(self._fault)
            self.part()
        elif upstream.lost:
            self.transport.close()
            self.part()
        else:
            if self.eof:
                self._pass_eof()
            if upstream.eof:
                self.finish_writing()

    def relay(self, data: bytes) -> None:
        session, upstream = self.session, self.other
        if session is None or upstream is None:
            return
        out = session.client_data(data, _now())
        if out:
            upstream.write(out)
        if session.blind:
            self.go_blind()

    def go_blind(self) -> None:
        """Connect transport to transport, for good."""
        session, upstream = self.session, self.other
        if session is None or upstream is None:
            return
        if not self.eof:
            held = session.client_eof(_now())
            if held:
                upstream.write(held)
        for source, sink in ((self, upstream), (upstream, self)):
            source.data_received = sink.write
            source.transport.set_protocol(source)

    def eof_received(self) -> bool:
        self.eof = True
        if self.other is None:
            return True
        self._pass_eof()
        return not self.other.eof

    def _pass_eof(self) -> None:
        session, upstream = self.session, self.other
        if session is None or upstream is None:
            return
        held = b"" if session.blind else session.client_eof(_now())
        if held:
            upstream.write(held)
        upstream.finish_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        self._fault = exc
        upstream = self.other
        if upstream is not None:
            if self.session is not None and not self.session.blind:
                # Popped for it, but it has gone: only the session learns of it.
                for data in upstream.leftover():
                    self.session.upstream_data(data, _now(), False)
            upstream.close_like(exc)
        self.part()
        self._on_lost(self)

    def part(self) -> None:
        """One of the two is gone for good: nothing is moved any more, and the session ends."""
        session, upstream = self.session, self.other
        for leg in (self, upstream):
            if leg is not None:
                # These refer back to the leg or to its other: without them there is no cycle to collect.
                leg.data_received = _nothing
                leg.other = leg.session = None
        if session is not None:
            session.closed(_now())


class UpstreamLeg(Leg):
    """The connection to Redis."""

    __slots__ = ()

    def relay(self, data: bytes) -> None:
        session, client = self.session, self.other
        if session is None or client is None:
            return
        now = _now()  # A client may begin with what it gets before `write` is back.
        client.write(data)
        session.upstream_data(data, now, not client.transport.is_closing())
        if session.blind:
            cast(ClientLeg, client).go_blind()

    def eof_received(self) -> bool:
        self.eof = True
        if self.other is None:
            return True
        self.other.finish_writing()
        return not self.other.eof

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        client = self.other
        if client is not None:
            if not client.transport.is_closing():
                for data in self.leftover():
                    self.data_received(data)
            client.close_like(exc)
            cast(ClientLeg, client).part()
