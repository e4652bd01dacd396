"""A sidecar that exports to a real receiver, in front of a real Redis."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from tests.clients.node_programs import NodeProgram, install
from tests.conftest import StartSidecar
from tests.receiver import Receiver
from tests.sidecar import Sidecar

StartNode: TypeAlias = Callable[..., NodeProgram]

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
def start_node(node_modules: Callable[..., Path], tmp_path: Path) -> Iterator[StartNode]:
    """Starts programs, and kills them at the end of the test: ``start_node(program, packages, role, url, options)``."""
    with ExitStack() as running:
        started = 0

        def start(program: str, packages: tuple[str, ...], role: str, url: str, options: dict[str, Any]) -> NodeProgram:
            nonlocal started
            started += 1
            log = tmp_path / f"{started}-{role}.log"
            node = NodeProgram(program, node_modules(*packages), log, role, url, json.dumps(options))
            running.enter_context(node)
            if role == "work":
                node.wait_for(lambda said: any("ready" in one for one in said))
            return node

        yield start


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
