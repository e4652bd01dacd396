"""Conversations of real libraries with Redis, replayed byte by byte: of those that Debian has not, or not this version.

Recorded through redspan, which had written contexts into the jobs.  A worker repeats what it was given; so the n-th
context that a reply shows is put in the place of the n-th one that was recorded.  Times are as far from each other as
they were, and now.
"""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import hiredis

from tests.redis import PATIENCE
from tests.sidecar import Sidecar

_HERE = Path(__file__).parent
_CONTEXT = re.compile(rb"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
_TIME = re.compile(rb"(?<!\d)(1795\d{6})(?=\d{3}\D|\D)")
"""Seconds since the epoch, with or without milliseconds."""
_PLACE = re.compile(rb"traceparent-(\d\d)\.{41}")


class _Connection:
    def __init__(self, sock: socket.socket, shown: list[bytes], later: int) -> None:
        """``later``: seconds since it was recorded."""
        self._socket = sock
        self._later = later
        self._reader = hiredis.Reader()
        self._shown = shown

    def send(self, data: bytes) -> None:
        data = _TIME.sub(lambda then: b"%d" % (int(then[1]) + self._later), data)
        self._socket.sendall(_PLACE.sub(lambda place: self._shown[int(place[1]) - 1], data))

    def wait(self, replies: int) -> None:
        deadline, received = time.monotonic() + PATIENCE, b""
        while replies:
            reply = self._reader.gets()
            if reply is not False:
                # CLIENT SETINFO is one of Redis 7.2's.
                failed = isinstance(reply, hiredis.ReplyError)
                assert not failed or "SETINFO" in str(reply), reply
                replies -= 1
                continue
            assert time.monotonic() < deadline, f"{replies} replies did not come; what came: {received[-200:]!r}"
            data = self._socket.recv(65536)
            received += data
            self._reader.feed(data)
        self._shown += [found for found in _CONTEXT.findall(received) if found not in self._shown]


def replay(name: str, sidecar: Sidecar, before: str = "\n") -> None:
    """Say to a sidecar what was said, in the same order, and wait for as many replies; up to the line with a word."""
    shown: list[bytes] = []
    recorded = _TIME.search((_HERE / f"{name}.txt").read_bytes())
    later = int(time.time()) - int(recorded[1]) if recorded else 0
    connections: dict[str, _Connection] = {}
    with ExitStack() as stack:
        for who, what, rest in _lines(name):
            if before in rest:
                return
            if who not in connections:
                connections[who] = _Connection(stack.enter_context(sidecar.connect()), shown, later)
            connection = connections[who]
            if what == ">":
                connection.send(rest.encode("latin-1").decode("unicode_escape").encode("latin-1"))
            elif what == "<":
                connection.wait(int(rest))
            else:
                connection._socket.close()


def _lines(name: str) -> Iterator[tuple[str, str, str]]:
    for line in (_HERE / f"{name}.txt").read_text().splitlines():
        if not line.startswith("#"):
            who, what, rest = (*line.split(" ", 2), "")[:3]
            yield who, what, rest
