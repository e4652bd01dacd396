"""What a service manager is told: that redspan is ready, and that it ends (sd_notify(3), for units of Type=notify)."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from typing import Final

READY: Final = "READY=1"
STOPPING: Final = "STOPPING=1"


def notify(state: str) -> None:
    """Tell it, if somebody wants to know. Whoever does not listen is not waited for."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        # "@" stands for the zero byte of a name that is in no file system.
        sock.sendto(state.encode(), f"\0{address[1:]}" if address[0] == "@" else address)
