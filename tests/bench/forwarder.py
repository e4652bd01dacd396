"""What Python and uvloop can do at best: bytes from one connection to the other, and nothing else.

python -m tests.bench.forwarder LISTEN UPSTREAM, both ports of this host.
"""

from __future__ import annotations

import asyncio
import sys
from typing import cast

import uvloop


class Leg(asyncio.Protocol):
    """One side of a connection; ``other`` is None until the second one stands."""

    __slots__ = ("_early", "other", "transport")

    transport: asyncio.Transport

    def __init__(self, other: Leg | None = None) -> None:
        self.other = other
        self._early: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        if self.other is not None:
            self.other.other = self
            for data in self.other._early:
                self.transport.write(data)

    def data_received(self, data: bytes) -> None:
        if self.other is None:
            self._early.append(data)
        else:
            self.other.transport.write(data)

    def pause_writing(self) -> None:
        if self.other is not None:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.other is not None:
            self.other.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        if self.other is not None:
            self.other.transport.close()


class ClientLeg(Leg):
    """The side that was accepted; it opens the other."""

    __slots__ = ("_connecting", "_port")

    def __init__(self, port: int) -> None:
        super().__init__()
        self._port = port

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._connecting = asyncio.ensure_future(self._connect())

    async def _connect(self) -> None:
        await asyncio.get_running_loop().create_connection(lambda: Leg(self), "127.0.0.1", self._port)


async def serve(listen: int, upstream: int) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: ClientLeg(upstream), "127.0.0.1", listen, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), int(sys.argv[2])))
