"""Where a redspan says something: spans, pages, the stream of events, commands, its log."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Sequence
from types import TracebackType
from typing import Final, Self
from urllib.parse import quote

from proxy.address import parse_bind
from tests.receiver import Receiver
from tests.redis import PATIENCE
from tests.sidecar import ROOT, Sidecar

PAGES: Final = (
    *("/", "/metrics", "/healthz", "/readyz", "/ui"),
    *("/api/jobs?limit=1000", "/api/queues", "/api/workers", "/api/config"),
)


def redspan(*arguments: str, stdin: str = "", status: int = 0, env: dict[str, str] | None = None) -> str:
    """Its output; with a status other than 0, its errors."""
    done = subprocess.run(
        [sys.executable, "-m", "proxy", *arguments],
        cwd=ROOT,
        input=stdin,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), **(env or {})},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == status, done.stderr
    return done.stderr if status else done.stdout


class Stream:
    """A reader of ``/api/events``."""

    def __init__(self, sidecar: Sidecar, query: str = "") -> None:
        address = parse_bind(sidecar.admin)
        self._socket = socket.create_connection((address.host, address.port), PATIENCE)
        self._socket.sendall(f"GET /api/events?{query} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        self._data = b""
        self.until(b"retry:")

    def until(self, text: bytes) -> bytes:
        while text not in self._data:
            more = self._socket.recv(65536)
            assert more, self._data
            self._data += more
        return self._data

    def close(self) -> None:
        self._socket.close()


class Watched:
    """A redspan that is watched: all that it says from now on."""

    def __init__(self, sidecar: Sidecar, receivers: Sequence[Receiver]) -> None:
        self._sidecar = sidecar
        self._receivers = receivers
        sidecar.page("/")
        self._streams = {f"/api/events?{query}": Stream(sidecar, query) for query in ("", "lifecycle=true")}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for stream in self._streams.values():
            stream.close()

    def emitted(self, last: str, ids: Sequence[str]) -> dict[str, str]:
        """By where it was said. Ends the redspan. ``last`` is in the last event; ``ids`` are jobs to ask about."""
        sidecar, admin = self._sidecar, ("--admin", f"http://{self._sidecar.admin}")
        said = {name: stream.until(last.encode()).decode() for name, stream in self._streams.items()}
        said |= {page: sidecar.get(page).body for page in PAGES}
        exemplars = {"Accept": "application/openmetrics-text; version=1.0.0"}
        said["/metrics, OpenMetrics"] = sidecar.get("/metrics", exemplars).body
        traces = {job["trace_id"] for job in json.loads(said["/api/jobs?limit=1000"])["jobs"]}
        said |= {f"/api/traces/{trace}": sidecar.get(f"/api/traces/{trace}").body for trace in traces}
        for name in ids:
            answer = sidecar.get(f"/api/jobs/{quote(name)}")
            assert answer.status == 200, f"no job {name}"
            said[f"/api/jobs/{name}"] = answer.body
        shown = (("jobs", "show", ids[0]), ("jobs", "show", ids[0], "--output", "mermaid"), ("trace", max(traces)))
        for command in (("jobs", "list", "--limit", "1000"), ("queues",), ("workers",), *shown):
            said[f"redspan {' '.join(command)}"] = redspan(*command, *admin)
        sidecar.stop()
        for receiver in self._receivers:
            said[f"to {type(receiver).__name__}"] = repr(receiver.spans)
        said["its log, and the console"] = sidecar.log
        return said
