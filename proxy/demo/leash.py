"""Runs a command that dies with the process that started it: ``leash.py PARENT COMMAND …``.

A script of its own instead of ``preexec_fn``, which must not be used by a process with threads.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    parent, command = int(sys.argv[1]), sys.argv[2:]
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:  # Linux
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit("its parent has gone")
    # Python ignores it, and what is ignored stays ignored.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    os.execv(command[0], command)  # noqa: S606  # what the demo wants to run, and no shell


if __name__ == "__main__":
    main()
