"""A Redis, redspan in front of it, a collector, and load: the scene that a fault happens in."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tests.load import LISTS, Load, Totals
from tests.metrics import Page, Spans, spans
from tests.receiver import Receiver
from tests.redis import RedisServer
from tests.sidecar import Sidecar

QUIET: Final = 1.0
"""Seconds of load before a fault, and after it."""


@dataclass
class Scene:
    server: RedisServer
    receiver: Receiver
    sidecar: Sidecar | None
    """None: the fault without redspan."""
    load: Load
    directory: Path
    checks: list[str] = field(default_factory=list)
    """What the fault itself saw to hold, for the table."""

    @property
    def url(self) -> str:
        """What clients connect to."""
        return self.sidecar.url if self.sidecar is not None else self.server.url

    @property
    def through(self) -> Sidecar:
        """Of a fault that there is only with redspan."""
        assert self.sidecar is not None
        return self.sidecar

    def work(self, seconds: float = QUIET) -> None:
        """Let the load go on for a while."""
        time.sleep(seconds)

    def works(self, commands: int = 200) -> None:
        """Until so many more commands were answered: it is not the fault's end that is waited for, but work."""
        goal = self.load.commands + commands
        self.wait_for(lambda: self.load.commands >= goal, "the load does not go on")

    def wait_for(self, condition: Callable[[], bool], what: str, within: float = 60.0) -> None:
        if self.sidecar is not None:
            self.sidecar.wait_for(condition, what, within)
            return
        deadline = time.monotonic() + within
        while not condition():
            assert time.monotonic() < deadline, what
            time.sleep(0.02)


Run = Callable[[Scene], None]


@dataclass(frozen=True)
class Fault:
    name: str
    run: Run
    """Does it, and returns once it is over."""
    direct: bool = False
    """Whether there is such a fault without redspan."""
    errors: bool = False
    """Whether clients may see errors, with redspan as without it."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    env: Callable[[Path], Mapping[str, str]] = lambda directory: {}
    server: Callable[[Path], RedisServer] = RedisServer
    receiver: Callable[[Path], Receiver] = lambda directory: Receiver()
    log: Path | None = None
    """Where redspan's log goes, if not to a file of the scene's."""
    ended: bool = False
    """Whether redspan has ended by itself when the fault is over."""


@dataclass
class Outcome:
    totals: Totals
    wrong: list[str]
    blind: int
    code: int
    spans: Spans
    checks: list[str]

    def problems(self, fault: Fault) -> list[str]:
        """What must not be."""
        numbers = {
            "lost": self.totals.lost,
            "duplicated": self.totals.duplicated,
            "wrong answers": len(self.wrong),
            "errors": 0 if fault.errors else self.totals.errors,
            "blind": self.blind,
            "exit code": self.code,
        }
        return [f"{what}: {number}" for what, number in numbers.items() if number]


def play(fault: Fault, directory: Path, *, direct: bool) -> Outcome:
    """The fault, once. AssertionError says what did not hold."""
    directory.mkdir()
    with (
        fault.server(directory) as server,
        fault.receiver(directory) as receiver,
        _sidecar(fault, server, receiver, directory, direct=direct) as sidecar,
    ):
        with Load(sidecar.url if sidecar is not None else server.url) as load:
            scene = Scene(server, receiver, sidecar, load, directory)
            scene.works()
            fault.run(scene)
            if not fault.ended:
                scene.works()
            load.stop()
        blind, counted, code = 0, Spans(0, 0, {}, 0), 0
        if sidecar is not None and not fault.ended:
            page = Page(sidecar.page("/metrics").body)
            blind, counted = page.total("redspan_blind_total"), spans(page)
            code = sidecar.stop(60.0)
        totals = load.settle(server.url)
    return Outcome(totals, load.wrong, blind, code, counted, scene.checks)


@contextmanager
def _sidecar(
    fault: Fault, server: RedisServer, receiver: Receiver, directory: Path, *, direct: bool
) -> Iterator[Sidecar | None]:
    if direct:
        yield None
        return
    settings: dict[str, Any] = {
        "listeners": [{"upstream": server.url}],
        "relay": {"drain_timeout": "10s"},
        "frameworks": {"list": LISTS},
        "tracing": {"endpoint": receiver.url, "protocol": "http/protobuf", "export": {"interval": "200ms"}},
    }
    for name, values in fault.settings.items():
        settings[name] = {**settings.get(name, {}), **values}
    with Sidecar(directory, settings, fault.env(directory), log_to=fault.log) as sidecar:
        yield sidecar
