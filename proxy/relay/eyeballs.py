"""Connecting to a name that has several addresses, some of which may be dead (RFC 8305, "happy eyeballs").

The name is looked up for each connection: what it stands for may have changed.  Its addresses are tried in turn, the
two families by turns, each `DELAY` after the one before or as soon as that has failed; the first that answers is taken.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from itertools import chain, zip_longest
from typing import Final, TypeAlias

DELAY: Final = 0.25
"""Seconds (RFC 8305, section 8: Connection Attempt Delay)."""
_TRIED: Final = 8

Place: TypeAlias = tuple[int, tuple[object, ...]]
"""Family and address."""


async def connected(host: str, port: int) -> socket.socket:
    """A socket that is connected there, not blocking. Raises OSError: that of the first address, if none answers."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    places = by_turns([(family, address) for family, _, _, _, address in found])[:_TRIED]
    if len(places) == 1:
        return await _try(places[0])
    return await _race(places)


def by_turns(places: Sequence[Place]) -> list[Place]:
    """The families by turns, beginning with that of the first; within a family as they came, none of them twice."""
    distinct = list(dict.fromkeys(places))
    first = [place for place in distinct if place[0] == distinct[0][0]]
    rest = [place for place in distinct if place[0] != distinct[0][0]]
    return [place for place in chain.from_iterable(zip_longest(first, rest)) if place is not None]


async def _race(places: Sequence[Place]) -> socket.socket:
    loop = asyncio.get_running_loop()
    waiting, running = list(reversed(places)), set[asyncio.Task[socket.socket]]()
    failure: OSError | None = None
    try:
        while waiting or running:
            if waiting:
                running.add(loop.create_task(_try(waiting.pop())))
            ended, running = await asyncio.wait(
                running, timeout=DELAY if waiting else None, return_when=asyncio.FIRST_COMPLETED
            )
            winner = next((task for task in ended if task.exception() is None), None)
            if winner is not None:
                for other in ended - {winner}:
                    if other.exception() is None:
                        other.result().close()
                return winner.result()
            for task in ended:
                error = task.exception()
                if not isinstance(error, OSError):
                    raise error or AssertionError
                failure = failure or error
    finally:
        for task in running:
            task.cancel()
        for result in await asyncio.gather(*running, return_exceptions=True):
            if isinstance(result, socket.socket):
                result.close()
    assert failure is not None
    raise failure


async def _try(place: Place) -> socket.socket:
    family, address = place
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.get_running_loop().sock_connect(sock, address)
    except BaseException:
        sock.close()
        raise
    return sock
