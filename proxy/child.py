"""Processes of ours, as their parent sees them: started, kept running, asked to end. And the tracer, as one of them.

The child gets its settings as JSON in an anonymous file on standard input, because its arguments and environment can
be read by others and the settings hold secrets.  Beside it there are inherited sockets, the last one for control.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import ClassVar, Final

import msgspec

from proxy import log
from proxy.admin import handoff
from proxy.config import Settings

FIRST_DELAY: Final = 0.2
LONGEST_DELAY: Final = 10.0
"""Seconds before a tracer that died is started again; doubled each time."""
STEADY_AFTER: Final = 30.0
"""Seconds after which a tracer counts as having been fine: the next delay is the first again."""
HUNG_AFTER: Final = 60.0
"""Seconds without a sign of life before a tracer is killed, to be replaced."""

_POLL: Final = 0.02
_EXIT_GRACE: Final = 1.0
"""Seconds that a tracer has to exit once it has closed its channel, or once its time to flush is over."""


class Child:
    """A process of ours. Who derives from it says what it runs, and what happens when it has come and gone."""

    what: ClassVar[str]
    """In messages: ``tracer``."""
    module: ClassVar[str]
    cost: ClassVar[str]
    """What it costs that one has died, as a sentence; and ..."""
    loss: ClassVar[str]
    """... that one did not end in peace."""

    def __init__(self, settings: bytes) -> None:
        self.restarts = 0
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None
        self._control: handoff.ParentEnd | None = None
        self._started = 0.0
        self._delay = FIRST_DELAY
        self._stopping = False
        self._renewing = False
        self._watchdog: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def _inherited(self) -> list[socket.socket]:
        """Sockets for a new one, besides its control channel: the first of its arguments. They are closed here."""
        return []

    def _kept(self) -> list[int]:
        """Descriptors that a new one inherits, and that stay open here."""
        return []

    def _came(self) -> None:
        """One was started."""

    def _went(self) -> None:
        """It is dead, or about to be."""

    def _said(self, message: bytes) -> None:
        """It gave a sign of life."""

    def start(self) -> None:
        """Start one now; if that fails, again and again later."""
        self._started = time.monotonic()
        try:
            self._spawn()
        except OSError as error:
            log.error(f"{self.what}_start", f"cannot start a {self.what}: {error.strerror}; trying again")
            self._spawn_later()
        self._watch()

    @property
    def live(self) -> bool:
        return self._control is not None and self._control.live

    @property
    def responsive(self) -> bool:
        """Whether it lives, or was started so lately that it may not have been able to say so."""
        return self._control is not None and self._control.silence < handoff.LIVE_FOR

    @property
    def pid(self) -> int:
        """0 while none runs."""
        return 0 if self._process is None else self._process.pid

    def ask_to_end(self) -> bool:
        """Whether it could be told."""
        return self._control is not None and self._control.flush()

    async def stop(self, within: float) -> None:
        """Let it flush for so many seconds, then end it."""
        self._stopping = True
        if self._watchdog is not None:
            self._watchdog.cancel()
        for task in self._tasks:
            task.cancel()
        if self._process is None:
            return
        await self._end(within if self.ask_to_end() else -_EXIT_GRACE)
        self._let_go()

    async def _end(self, within: float) -> None:
        """Wait for one that was told to end. Until there are no more seconds left it may flush."""
        process = self._process
        assert process is not None
        await self._reap(within + _EXIT_GRACE)
        if process.returncode:
            log.warning(f"{self.what}_end", f"the {self.what} process {_describe(process.returncode)}; {self.loss}")

    def _spawn(self) -> None:
        ours, theirs = handoff.channel()
        others = self._inherited()
        inherited = [sock.fileno() for sock in (*others, theirs)]
        stdin = os.memfd_create("redspan-settings")
        # It ignores these signals once it runs; until then they stay blocked, which exec leaves as it is.
        unblocked = signal.pthread_sigmask(signal.SIG_BLOCK, handoff.NOT_FOR_THE_TRACER)
        try:
            with os.fdopen(stdin, "wb", closefd=False) as file:
                file.write(self._settings)
            os.lseek(stdin, 0, os.SEEK_SET)
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", self.module, *map(str, inherited)],
                stdin=stdin,
                pass_fds=[*inherited, *self._kept()],
                env=_environment(),
                # Ctrl-C in a terminal reaches its whole process group; the tracer ends when the relay has.
                start_new_session=True,
            )
        except BaseException:
            ours.close()
            self._went()
            raise
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, unblocked)
            os.close(stdin)
            for sock in (*others, theirs):
                sock.close()
        self._control = handoff.ParentEnd(ours, self._gone, time.monotonic, self._said)
        self._came()

    def _gone(self) -> None:
        """It has closed its end: it is dead, or about to be."""
        self._control = None
        if self._renewing:
            return
        self._went()
        if not self._stopping:
            self._run(self._replace())

    async def _replace(self) -> None:
        lived = time.monotonic() - self._started
        await self._reap(_EXIT_GRACE)
        status = "" if self._process is None else _describe(self._process.returncode)
        self._process = None
        if lived > STEADY_AFTER:
            self._delay = FIRST_DELAY
        log.error(
            f"{self.what}_died",
            f"the {self.what} process {status}; starting it again in {self._delay:.1f} s. {self.cost}",
        )
        await self._pause()

    def _spawn_later(self) -> None:
        self._run(self._pause())

    async def _pause(self) -> None:
        await asyncio.sleep(self._delay)
        self._delay = min(self._delay * 2, LONGEST_DELAY)
        self.restarts += 1
        self.start()

    async def _reap(self, patience: float) -> None:
        """Wait for the process to exit; kill it when patience is over."""
        process = self._process
        if process is None:
            return
        deadline = time.monotonic() + patience
        while process.poll() is None:
            if time.monotonic() > deadline:
                process.kill()
                process.wait()  # at once: nothing survives SIGKILL, stopped or not
                return
            await asyncio.sleep(_POLL)

    def _let_go(self) -> None:
        if self._control is not None:
            self._control.close()
            self._control = None
            self._went()

    def _watch(self) -> None:
        """One that hangs is of no use to anybody; nor is one that was stopped and forgotten."""
        if self._watchdog is not None:
            self._watchdog.cancel()
        if self._control is not None and self._process is not None and self._control.silence > HUNG_AFTER:
            log.error(
                f"{self.what}_hung", f"the {self.what} gave no sign of life for {HUNG_AFTER:.0f} s; it is replaced"
            )
            self._process.kill()
        self._watchdog = asyncio.get_running_loop().call_later(handoff.BEAT_EVERY, self._watch)

    def _run(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class TracerChild(Child):
    """``attach`` gets the relay's end of each new event channel, ``detach`` is called when a tracer has gone."""

    what = "tracer"
    module = "proxy.tracer.process"
    cost = "Clients are not affected, but what happens until then is not traced"
    loss = "its last spans are lost"

    def __init__(self, settings: Settings, attach: Callable[[socket.socket], None], detach: Callable[[], None]) -> None:
        super().__init__(msgspec.json.encode(settings))
        self._attach = attach
        self._detach = detach
        self._events: socket.socket | None = None

    def hand_over(self, connection: socket.socket) -> bool:
        """Give an admin connection to the tracer; False: there is none that lives."""
        return self._control is not None and self._control.hand_over(connection)

    def pass_events(self, events: socket.socket) -> bool:
        """Give it the channel of one more relay worker; False: there is no tracer."""
        return self._control is not None and self._control.pass_events(events)

    def configure_log(self, settings: Settings) -> None:
        """Settings that differ in how to log, and for a tracer in nothing else."""
        self._settings = msgspec.json.encode(settings)
        if self._control is not None:
            self._control.configure_log(settings.log.level, settings.log.format)

    async def renew(self, settings: Settings, within: float) -> None:
        """Let the tracer flush for so many seconds, then start the next one, with other settings.

        ``detach`` is not called: who renews a tracer knows that it goes, and keeps what comes for the next one.
        """
        self._settings = msgspec.json.encode(settings)
        control = self._control
        if control is None:
            # One has died, and the next is about to be started: with these.
            return
        self._renewing = True
        try:
            # It may be ending already: it takes the end of its events for a sign.
            control.flush()
            await self._end(within if self.responsive else -_EXIT_GRACE)
            control.close()
            self._control = self._process = None
        finally:
            self._renewing = False
        if not self._stopping:
            self.start()

    def _inherited(self) -> list[socket.socket]:
        self._events, theirs = handoff.channel()
        return [theirs]

    def _came(self) -> None:
        assert self._events is not None
        self._attach(self._events)
        self._events = None

    def _went(self) -> None:
        if self._events is not None:
            self._events.close()
            self._events = None
            return
        self._detach()


def _environment() -> dict[str, str]:
    """Ours, but with our module path: what the child imports does not depend on where it is started."""
    path = [entry or str(Path.cwd()) for entry in sys.path]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path)}


def _describe(status: int | None) -> str:
    if status is None:
        return "hung"
    return f"was killed by signal {-status}" if status < 0 else f"exited with status {status}"
