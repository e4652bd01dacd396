"""A sidecar that exports to a real receiver, in front of a real Redis."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.clients.node_programs import install
from tests.conftest import StartSidecar
from tests.receiver import Receiver
from tests.sidecar import Sidecar

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
