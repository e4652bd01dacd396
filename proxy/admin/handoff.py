"""The control channel between parent and tracer: admin connections go one way, signs of life the other.

A ``SOCK_SEQPACKET`` pair; every message is a byte, one with words after it::

    parent ── C + descriptor ──► tracer     an accepted connection with a request in it
    parent ── F ───────────────► tracer     flush what you have and end
    parent ── E + descriptor ──► tracer     one more channel of events, of a relay worker
    parent ── L level format ──► tracer     log from now on like this
    parent ◄── B ─────────────── tracer     I live (every second)

The end of one is the end of the channel for the other.
"""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Callable
from typing import Final, cast

from proxy import log

BEAT_EVERY: Final = 1.0
NOT_FOR_THE_TRACER: Final = frozenset({signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
"""What ends a service, or all of a terminal's processes: the relay goes on for a while then, and the tracer with it."""

LIVE_FOR: Final = 3.0
"""Seconds after its last beat that a tracer counts as live."""

_CONNECTION: Final = b"C"
_FLUSH: Final = b"F"
_BEAT: Final = b"B"
_EVENTS: Final = b"E"
_LOG: Final = b"L "
_LONGEST: Final = 64
_LARGEST: Final = 256 * 1024
"""Bytes of a message to the parent: more than the system lets anybody send by default."""
_AT_ONCE: Final = 16


def channel() -> tuple[socket.socket, socket.socket]:
    """Both ends, non-blocking; as many messages fit as the system allows by default."""
    ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in ends:
        end.setblocking(False)
    return ends


class ParentEnd:
    """``on_gone`` is called once, when the tracer has closed its end. ``clock`` is monotonic seconds."""

    def __init__(
        self,
        sock: socket.socket,
        on_gone: Callable[[], None],
        clock: Callable[[], float],
        on_message: Callable[[bytes], None] | None = None,
    ) -> None:
        """``on_message`` gets what a process says with its signs of life."""
        self._sock = sock
        self._on_gone = on_gone
        self._on_message = on_message
        self._clock = clock
        self._started = clock()
        self._last_beat: float | None = None
        asyncio.get_running_loop().add_reader(sock, self._read)

    @property
    def live(self) -> bool:
        return self._last_beat is not None and self.silence < LIVE_FOR

    @property
    def silence(self) -> float:
        """Seconds since its last beat, or since the channel was made."""
        return self._clock() - (self._started if self._last_beat is None else self._last_beat)

    def hand_over(self, connection: socket.socket) -> bool:
        """Give a connection to the tracer; False: it cannot take it now. The caller closes its own copy either way."""
        if not self.live:
            return False
        try:
            socket.send_fds(self._sock, [_CONNECTION], [connection.fileno()])
        except OSError:
            return False
        return True

    def flush(self) -> bool:
        """Ask the tracer to send what it has and to end."""
        return self.tell(_FLUSH)

    def configure_log(self, level: log.Level, form: log.Form) -> bool:
        return self.tell(_LOG + f"{level} {form}".encode())

    def pass_events(self, events: socket.socket) -> bool:
        """Give one more channel to the tracer, which may only be starting. The caller closes its own copy."""
        return self.tell(_EVENTS, events.fileno())

    def tell(self, message: bytes, *descriptors: int) -> bool:
        """Send a message; False: it cannot be sent."""
        try:
            socket.send_fds(self._sock, [message], descriptors)
        except OSError:
            return False
        return True

    def close(self) -> None:
        if self._sock.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(self._sock)
            self._sock.close()

    def _read(self) -> None:
        try:
            for _ in range(_AT_ONCE):
                message = self._sock.recv(_LARGEST)
                if not message:
                    break
                self._last_beat = self._clock()
                if self._on_message is not None:
                    self._on_message(message)
            else:
                return
        except BlockingIOError:
            return
        except OSError:
            pass
        self.close()
        self._on_gone()


class TracerEnd:
    """``on_connection`` gets sockets and owns them; ``on_flush`` is called when the parent asks for it or is gone."""

    def __init__(
        self,
        sock: socket.socket,
        on_connection: Callable[[socket.socket], None],
        on_flush: Callable[[], None],
        on_events: Callable[[socket.socket], None] | None = None,
    ) -> None:
        """``on_events`` gets channels of events, and owns them."""
        self._sock = sock
        self._on_connection = on_connection
        self._on_flush = on_flush
        self._on_events = on_events
        self._beat()
        asyncio.get_running_loop().add_reader(sock, self._read)

    def close(self) -> None:
        if self._sock.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(self._sock)
            self._sock.close()

    def _beat(self) -> None:
        if self._sock.fileno() < 0:
            return
        try:
            self._sock.send(_BEAT)
        except BlockingIOError:
            # The parent has a thousand unread beats: it is busy, or stopped. It will see those.
            pass
        except OSError:
            return
        asyncio.get_running_loop().call_later(BEAT_EVERY, self._beat)

    def _read(self) -> None:
        try:
            for _ in range(_AT_ONCE):
                message, descriptors, _, _ = socket.recv_fds(self._sock, _LONGEST, 4)
                connections = [socket.socket(fileno=descriptor) for descriptor in descriptors]
                if message == _EVENTS and self._on_events is not None:
                    for connection in connections:
                        connection.setblocking(False)
                        self._on_events(connection)
                    continue
                if message == _CONNECTION:
                    for connection in connections:
                        connection.setblocking(False)
                        self._on_connection(connection)
                    continue
                if message.startswith(_LOG):
                    level, form = message[len(_LOG) :].decode().split()
                    log.configure(cast(log.Level, level), cast(log.Form, form), "tracer")
                    continue
                if message != _FLUSH and message:
                    log.warning("control_message", "a message on the control channel that this version does not know")
                    continue
                break
            else:
                return
        except BlockingIOError:
            return
        except OSError as error:
            log.warning("control_channel", f"reading the control channel failed: {error.strerror}")
        self.close()
        self._on_flush()
