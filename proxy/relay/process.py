"""One of several relay workers, in a process of its own: told what to do by the parent, serving clients by itself.

Started by `proxy.pool` as ``python -m proxy.relay.process CONTROL``, with a `Start` on standard input.  The control
channel is a ``SOCK_SEQPACKET`` pair; every message is a letter, some with more after it::

    parent ── E + descriptor ──► worker     a tracer is there: send events by this
    parent ── X ───────────────► worker     it is gone
    parent ── H seconds ───────► worker     it will be replaced: give it what you have, within so long, then keep all
    parent ◄── H ─────────────── worker     done
    parent ── S + descriptor ──► worker     go by the settings in this file
    parent ── D ───────────────► worker     draining begins: tell often how many clients are left
    parent ── F ───────────────► worker     end
    parent ◄── B snapshot ────── worker     I listen, and have counted this (every second)

The end of the channel is the end of the worker: without a parent nobody would end it.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import sys
from typing import Final

import msgspec

from proxy import log
from proxy.admin.handoff import BEAT_EVERY, NOT_FOR_THE_TRACER
from proxy.assembly import CannotStart
from proxy.config import Listener, Settings
from proxy.events import Snapshot
from proxy.listen import CannotListen, share
from proxy.relay.server import bind_setting
from proxy.relay.worker import RelayWorker, parts

EVENTS: Final = b"E"
GONE: Final = b"X"
HOLD: Final = b"H"
SETTINGS: Final = b"S"
DRAIN: Final = b"D"
END: Final = b"F"
BEAT: Final = b"B"

_DRAIN_BEAT: Final = 0.05
_GC_THRESHOLD: Final = 50_000
_MESSAGE: Final = 64


class Place(msgspec.Struct, frozen=True):
    """Something to listen on: an address to share, or a descriptor that listens already."""

    family: int
    address: tuple[str | int, ...] = ()
    """As `socket.socket.bind` takes it."""
    descriptor: int = -1


class Start(msgspec.Struct, frozen=True):
    number: int
    """Of this worker; from 1, as 0 is the parent."""
    settings: Settings
    places: list[list[Place]]
    """For each listener."""


class WorkerProcess:
    def __init__(self, start: Start, control: socket.socket) -> None:
        """Raises `CannotStart`."""
        self._settings = start.settings
        self._number = start.number
        self._places = start.places
        self._control = control
        self._draining = False
        self._done = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._relay = RelayWorker(start.settings, start.number, sockets=self._sockets, counted=self._tell)

    async def run(self) -> None:
        """Until the parent says so, or is gone. Raises `CannotListen`."""
        relay = self._relay
        relay.open()
        asyncio.get_running_loop().add_reader(self._control, self._read)
        self._beat()
        gc.collect()
        gc.freeze()
        gc.set_threshold(_GC_THRESHOLD)
        await self._done.wait()
        await relay.close()
        await relay.flush(self._settings.tracing.export.flush_timeout)

    def _sockets(self, number: int, listener: Listener) -> list[socket.socket]:
        try:
            return [_listen(place) for place in self._places[number]]
        except OSError as error:
            where = f"{listener.bind_address.display()}: {error.strerror}"
            raise CannotListen(f"cannot listen on {where}; change {bind_setting(number)}") from error

    # ---- to the parent

    def _beat(self) -> None:
        if self._draining or not self._relay.outbox.attached:
            # Otherwise what goes to the tracer goes to the parent, too, and both know the same.
            self._relay.counts()
        asyncio.get_running_loop().call_later(_DRAIN_BEAT if self._draining else BEAT_EVERY, self._beat)

    def _tell(self, snapshot: Snapshot) -> None:
        self._send(BEAT + msgspec.msgpack.encode(snapshot))

    def _send(self, message: bytes) -> None:
        try:
            self._control.send(message)
        except BlockingIOError:
            # It has many unread ones: it is busy, or stopped.
            pass
        except OSError:
            self._done.set()

    # ---- from the parent

    def _read(self) -> None:
        try:
            while True:
                message, descriptors, _, _ = socket.recv_fds(self._control, _MESSAGE, 1)
                if not message:
                    break
                self._obey(message[:1], message[1:], descriptors[0] if descriptors else -1)
        except BlockingIOError:
            return
        except OSError as error:
            log.warning("control_channel", f"reading the control channel failed: {error.strerror}")
        asyncio.get_running_loop().remove_reader(self._control)
        self._done.set()

    def _obey(self, order: bytes, more: bytes, descriptor: int) -> None:
        if order == EVENTS:
            self._relay.attach(socket.socket(fileno=descriptor))
        elif order == GONE:
            self._relay.detach()
        elif order == HOLD:
            task = asyncio.get_running_loop().create_task(self._hold(float(more)))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        elif order == SETTINGS:
            self._apply(descriptor)
        elif order == DRAIN and not self._draining:
            self._draining = True
            self._beat()
        elif order == END:
            self._done.set()

    async def _hold(self, within: float) -> None:
        await self._relay.hold(within)
        self._send(HOLD)

    def _apply(self, descriptor: int) -> None:
        with os.fdopen(descriptor, "rb") as file:
            settings = msgspec.json.decode(file.read(), type=Settings)
        try:
            made = parts(settings)
        except CannotStart as error:
            # The parent could, a moment ago.
            log.error("reload", str(error))
            return
        self._settings = settings
        log.configure(settings.log.level, settings.log.format, f"relay-{self._number}")
        self._relay.apply(settings, made)


def _listen(place: Place) -> socket.socket:
    """Raises OSError."""
    if place.descriptor < 0:
        return share(place.family, place.address)
    sock = socket.socket(fileno=place.descriptor)
    sock.setblocking(False)
    return sock


def main() -> int:
    for number in NOT_FOR_THE_TRACER:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, NOT_FOR_THE_TRACER)
    control = socket.socket(fileno=int(sys.argv[1]))
    start = msgspec.json.decode(sys.stdin.buffer.read(), type=Start)
    log.configure(start.settings.log.level, start.settings.log.format, f"relay-{start.number}")
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            runner.run(_run(start, control))
        except (CannotStart, CannotListen) as error:
            log.error("cannot_start", str(error))
            return 1
    return 0


async def _run(start: Start, control: socket.socket) -> None:
    asyncio.get_running_loop().set_exception_handler(log.loop_exception)
    await WorkerProcess(start, control).run()


if __name__ == "__main__":
    sys.exit(main())
