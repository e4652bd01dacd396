"""The manners of process 1 of a container: whoever loses its parent there becomes its child, and wants to be reaped."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable
from typing import Final

EVERY: Final = 1.0


async def reap_orphans(ours: Callable[[], set[int]]) -> None:
    """Reap every child that ends and is not among ``ours``, for ever: somebody else waits for those."""
    while True:
        reap(ours())
        await asyncio.sleep(EVERY)


def reap(ours: set[int]) -> None:
    """Reap orphans that have ended, up to the first that is one of ``ours``."""
    with contextlib.suppress(ChildProcessError):
        # Looked at only: a status that was taken is lost for who waits for it.
        while (ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) and ended.si_pid not in ours:
            os.waitpid(ended.si_pid, os.WNOHANG)
