"""A collector that takes everything and looks at nothing: ``python -m tests.bench.sink PORT``.

It answers each request over HTTP with 200 and an empty body, which is an empty OTLP answer too.  GET says how many
requests and bytes came so far, as JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any, cast

import uvloop

_TAKEN = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\n\r\n"


class Sink(asyncio.Protocol):
    """One connection."""

    def __init__(self, total: dict[str, int]) -> None:
        self._total = total
        self._head = b""
        self._left = 0  # of the body that is coming

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        while data:
            if self._left:
                taken = min(self._left, len(data))
                self._left -= taken
                data = data[taken:]
                if not self._left:
                    self._transport.write(_TAKEN)
                continue
            self._head += data
            head, end, data = self._head.partition(b"\r\n\r\n")
            if not end:
                return
            self._head = b""
            self._request(head)

    def _request(self, head: bytes) -> None:
        first, *lines = head.split(b"\r\n")
        if first.startswith(b"GET"):
            content = json.dumps(self._total).encode()
            self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(content), content))
            return
        headers: dict[bytes, Any] = {name.lower(): value for name, _, value in (line.partition(b":") for line in lines)}
        self._left = int(headers.get(b"content-length", 0))
        if headers.get(b"expect"):
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self._total["requests"] += 1
        self._total["bytes"] += self._left
        if not self._left:
            self._transport.write(_TAKEN)


async def serve(port: int) -> None:
    total = {"requests": 0, "bytes": 0}
    server = await asyncio.get_running_loop().create_server(lambda: Sink(total), "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
