"""Fixtures of corner cases: a redspan for all tests of a file, as starting one takes a second."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from typing import TypeAlias

import pytest

from tests.conftest import StartSidecar
from tests.receiver import Receiver
from tests.redis import PATIENCE, RedisServer
from tests.sidecar import Sidecar
from tests.wire.corners import LISTS, Corner, Scripted, settings

StartCorner: TypeAlias = Callable[[RedisServer], Corner]
"""From a Redis that is set up in a way of its own."""
StartScripted: TypeAlias = Callable[[], Scripted]


@pytest.fixture(scope="module")
def _receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


@pytest.fixture(scope="module")
def _corner(
    _redis_server: RedisServer, _receiver: Receiver, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Corner]:
    with Sidecar(tmp_path_factory.mktemp("corner"), settings(_redis_server, _receiver)) as sidecar:
        yield Corner(_redis_server, sidecar, _receiver)


@pytest.fixture
def corner(_corner: Corner, redis_server: RedisServer) -> Corner:
    """The Redis of all tests, without any data, and a redspan in front of it that looks at the lists ``jobs:*``."""
    return _corner


@pytest.fixture
def start_corner(start_sidecar: StartSidecar, _receiver: Receiver) -> StartCorner:
    return lambda server: Corner(server, start_sidecar(settings(server, _receiver)), _receiver)


@pytest.fixture
def start_scripted(start_sidecar: StartSidecar) -> Iterator[StartScripted]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(PATIENCE)

        def start() -> Scripted:
            upstream = f"redis://127.0.0.1:{listening.getsockname()[1]}"
            return Scripted(start_sidecar({"listeners": [{"upstream": upstream}], "frameworks": LISTS}), listening)

        yield start
