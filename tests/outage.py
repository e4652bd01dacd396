"""A collector that is away for most of the time: python -m tests.outage [--minutes 10] [--pause 0.02] [--buffer 10000].

A producer and a worker go through redspan. The collector is a process of its own, killed after a tenth of the time and
started again when a fifth of it is left. Exit code 0: on each page of /metrics every span was somewhere (started =
exported + dropped by reason + held), the collector has those that count as exported and no other, and no job was lost.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from tests.load import LISTS, Load, Totals
from tests.metrics import Page, Spans, spans
from tests.receiver import Receiver, Request
from tests.redis import PATIENCE, RedisServer, connect, free_port
from tests.sidecar import ROOT, Sidecar

LEAVES, RETURNS = 0.1, 0.8
"""Parts of the time."""
LOOKS = 1.0
"""Seconds between two looks at /metrics."""
LAST_RETRY = 60.0
"""Seconds in which redspan has to have asked after the collector once more, and sent what it held."""


class Collector:
    """A receiver in a process of its own, on the same port each time it runs; it writes down what it was sent."""

    def __init__(self, directory: Path) -> None:
        self.port = free_port()
        self._file = directory / "received"
        self._file.touch()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def received(self) -> set[str]:
        """Ids of spans. A line that its end cut short is none."""
        return {line for line in self._file.read_text().splitlines() if len(line) == 16}

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.kill()

    def start(self) -> None:
        """Returns when it listens."""
        arguments = [sys.executable, "-m", "tests.outage", "--collect", str(self.port), str(self._file)]
        self._process = subprocess.Popen(arguments, cwd=ROOT)
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                connect(("127.0.0.1", self.port)).close()
            except OSError:
                assert time.monotonic() < deadline, "the collector does not listen"
                time.sleep(0.05)
            else:
                return

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


class Writer(Receiver):
    """Of the collector's process: spans go into a file, and are not kept."""

    def __init__(self, port: int, file: Path) -> None:
        super().__init__(port=port)
        self._file = file.open("a")

    def received(self, request: Request) -> None:
        self._file.write("".join(f"\n{span.span_id}" for span in request.spans))
        self._file.flush()


class Outcome(NamedTuple):
    spans: Spans
    """In the end."""
    received: int
    """Spans that the collector has, each counted once."""
    missing: list[Spans]
    """Of pages on which some span was nowhere."""
    looks: int
    most_held: int
    opened: int
    """How often the circuit was seen to be open."""
    jobs: Totals

    def problems(self) -> dict[str, int]:
        """What must not be."""
        found = {
            "pages with spans that are nowhere": len(self.missing),
            "spans held at the end": self.spans.held,
            "exported, not received": max(0, self.spans.exported - self.received),
            "received, not exported": max(0, self.received - self.spans.exported),
            "jobs lost": self.jobs.lost,
            "jobs done twice": self.jobs.duplicated,
            "errors of clients": self.jobs.errors,
        }
        return {what: count for what, count in found.items() if count}


def run(seconds: float, *, pause: float = 0.02, buffer: int = 10_000, batch: int = 512) -> Outcome:
    """The outage, once."""
    missing: list[Spans] = []
    looks = most_held = opened = 0
    with (
        tempfile.TemporaryDirectory(prefix="redspan-outage-") as place,
        RedisServer() as server,
        Collector(Path(place)) as collector,
    ):
        settings = {
            "listeners": [{"upstream": server.url}],
            "frameworks": {"list": LISTS},
            "tracing": {
                "endpoint": f"http://127.0.0.1:{collector.port}",
                "protocol": "http/protobuf",
                "export": {"buffer": buffer, "batch_size": batch, "interval": "1s"},
            },
        }
        with Sidecar(Path(place), settings) as sidecar:

            def look() -> Spans:
                nonlocal looks, most_held, opened
                page = Page(sidecar.page("/metrics").body)
                now = spans(page)
                looks, most_held = looks + 1, max(most_held, now.held)
                opened += page.total("redspan_export_circuit_open")
                if now.missing:
                    missing.append(now)
                return now

            with Load(sidecar.url, producers=1, consumers=1, bystanders=0, pause=pause) as load:
                began = time.monotonic()
                for part, change in ((LEAVES, collector.kill), (RETURNS, collector.start), (1.0, load.stop)):
                    while time.monotonic() < began + part * seconds:
                        time.sleep(LOOKS)
                        look()
                    change()
            sidecar.wait_for(lambda: not look().held, "what was held is not sent", LAST_RETRY)
            end = look()
            jobs = load.settle(server.url)
        return Outcome(end, len(collector.received), missing, looks, most_held, opened, jobs)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--pause", type=float, default=0.02, help="seconds between two jobs")
    parser.add_argument("--buffer", type=int, default=10_000, help="tracing.export.buffer")
    parser.add_argument("--collect", nargs=2, metavar=("PORT", "FILE"), help="be the collector, until killed")
    asked = parser.parse_args()
    if asked.collect:
        with Writer(int(asked.collect[0]), Path(asked.collect[1])):
            signal.pause()
    outcome = run(asked.minutes * 60, pause=asked.pause, buffer=asked.buffer)
    end = outcome.spans
    dropped = " + ".join(f"{count} {reason}" for reason, count in end.dropped.items())
    print(f"started {end.started} = exported {end.exported} + dropped ({dropped}) + held {end.held}")
    print(f"received {outcome.received}; {outcome.looks} looks, circuit open at {outcome.opened} of them")
    print(f"held at most {outcome.most_held}; {outcome.jobs}")
    problems = outcome.problems()
    print(f"FAILED: {problems}" if problems else "ok")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
