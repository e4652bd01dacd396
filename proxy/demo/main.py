"""``redspan demo``: a shop's jobs, run through redspan before your eyes.

Everything it starts ends with it, however it ends.  Exit codes: 0 all was as it should be; 1 it was not, and standard
error says what; 130 (143, 129) it was stopped by Ctrl-C (SIGTERM, SIGHUP), which after ``--keep`` is the regular end.
"""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import Final, NoReturn

import redis
from rich.console import Console
from rich.text import Text

from proxy.demo.processes import DemoError
from proxy.demo.report import Report
from proxy.demo.show import Show

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_SHORT: Final = 64


class _Stopped(BaseException):
    """By a signal. No `Exception`: whoever handles errors on the way must not take it for one."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def run_demo(keep: bool) -> int:
    """Run it all; the exit code. ``keep``: go on until Ctrl-C. To be called in the main thread."""
    report = Report()
    regular_end = False
    try:
        with _signals(), ExitStack() as stack:
            try:
                show = Show(stack, Path(stack.enter_context(_directory())), report)
                show.run()
                if keep:
                    regular_end = True
                    show.keep_on()
                report.next_steps()
            finally:
                # From here on all is being stopped: that takes a moment, and must not be stopped itself.
                _ignore_signals()
    except _Stopped as stopped:
        return 0 if regular_end and stopped.number == signal.SIGINT else 128 + stopped.number
    except (DemoError, redis.RedisError, OSError) as error:
        Console(stderr=True, soft_wrap=True).print(Text.assemble(("error: ", "bold red"), str(error)))
        return 1
    return 0


def _directory() -> tempfile.TemporaryDirectory[str]:
    # The path of the unix socket in it must be short, and TMPDIR may be long.
    place = tempfile.gettempdir()
    short = place if len(os.fsencode(place)) < _SHORT else "/tmp"  # noqa: S108  # a new directory in it, not a known name
    return tempfile.TemporaryDirectory(prefix="redspan-demo-", dir=short, ignore_cleanup_errors=True)


@contextmanager
def _signals() -> Iterator[None]:
    """The first signal raises `_Stopped`; those that whoever started us wants ignored (nohup) stay ignored."""
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    for number in _SIGNALS:
        if before[number] is not signal.SIG_IGN:
            signal.signal(number, _stop)
    try:
        yield
    finally:
        for number in _SIGNALS:
            signal.signal(number, before[number])


def _ignore_signals() -> None:
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _stop(number: int, _: FrameType | None) -> NoReturn:
    _ignore_signals()
    raise _Stopped(number)


__all__ = ["run_demo"]
