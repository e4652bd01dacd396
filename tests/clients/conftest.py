"""A sidecar that exports to a real receiver, in front of a real Redis."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from tests.clients.go_programs import build
from tests.clients.json_programs import JsonProgram
from tests.clients.node_programs import NodeProgram, install
from tests.conftest import StartSidecar
from tests.receiver import Receiver
from tests.sidecar import Sidecar

StartProgram: TypeAlias = Callable[[str, Callable[[Path], JsonProgram]], JsonProgram]
StartNode: TypeAlias = Callable[..., JsonProgram]
StartGo: TypeAlias = Callable[..., JsonProgram]

QUEUES = {
    "queues": ["orders", "plain*"],
    "processing": ["*:processing"],
    "completed": ["*:completed"],
    "dead_letter": ["*:dead"],
    "attempt": "attempt",
}


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as started:
        yield started


@pytest.fixture
def traced(start_sidecar: StartSidecar, receiver: Receiver) -> Callable[..., Sidecar]:
    """Starts a sidecar that sends its spans to ``receiver``; options of ``frameworks.list``."""

    def start(**options: Any) -> Sidecar:
        return start_sidecar(
            {
                "frameworks": {"list": {**QUEUES, **options}},
                "tracing": {
                    "protocol": "http/protobuf",
                    "endpoint": receiver.url,
                    "export": {"interval": "100ms"},
                },
            }
        )

    return start


@pytest.fixture(scope="session")
def node_modules(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Installs packages for Node, each set once."""
    directory = tmp_path_factory.mktemp("node")
    installed: dict[tuple[str, ...], Path] = {}

    def modules(*packages: str) -> Path:
        if packages not in installed:
            installed[packages] = install(directory / str(len(installed)), *packages)
        return installed[packages]

    return modules


@pytest.fixture
def start_program(tmp_path: Path) -> Iterator[StartProgram]:
    """Starts programs, and kills them at the end of the test: ``start_program(role, make)``, which is given its log."""
    with ExitStack() as running:
        numbers = count(1)

        def start(role: str, make: Callable[[Path], JsonProgram]) -> JsonProgram:
            program = running.enter_context(make(tmp_path / f"{next(numbers)}-{role}.log"))
            if role == "work":
                program.wait_for(lambda said: any("ready" in one for one in said))
            return program

        yield start


@pytest.fixture
def start_node(node_modules: Callable[..., Path], start_program: StartProgram) -> StartNode:
    """``start_node(program, packages, role, url, options)``."""

    def start(program: str, packages: tuple[str, ...], role: str, url: str, options: dict[str, Any]) -> JsonProgram:
        modules = node_modules(*packages)
        return start_program(role, lambda log: NodeProgram(program, modules, log, role, url, json.dumps(options)))

    return start


@pytest.fixture
def start_go(start_program: StartProgram) -> StartGo:
    """A program of ``go_jobs``: ``start_go(package, modfile, role, url, options)``."""

    def start(package: str, modfile: str, role: str, url: str, options: dict[str, Any]) -> JsonProgram:
        name = f"go_jobs-{package}-{Path(modfile).stem}"
        program = build(name, HERE / "go_jobs", f"./{package}", modfile)
        command = [str(program), role, url, json.dumps(options)]
        return start_program(role, lambda log: JsonProgram(command, log))

    return start


HERE = Path(__file__).parent
MINUTES = {
    "test_all_at_once",
    "test_arq",
    "test_celery",
    "test_dramatiq",
    "test_huey",
    "test_instrumented",
    "test_order",
    "test_rq",
    "test_streaq",
    "test_taskiq",
}
"""What `make test` leaves to CI, to be done in a few minutes."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent == HERE and item.path.stem in MINUTES:
            item.add_marker("frameworks")
            item.add_marker("extra")
