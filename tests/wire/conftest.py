"""Fixtures of corner cases: a redspan for all tests of a file, as starting one takes a second."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.redis import RedisServer
from tests.sidecar import Sidecar
from tests.wire.corners import SETTINGS, Corner


@pytest.fixture(scope="module")
def _corner(_redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Corner]:
    settings = {"listeners": [{"upstream": _redis_server.url}], **SETTINGS}
    with Sidecar(tmp_path_factory.mktemp("corner"), settings) as sidecar:
        yield Corner(_redis_server, sidecar)


@pytest.fixture
def corner(_corner: Corner, redis_server: RedisServer) -> Corner:
    """The Redis of all tests, without any data, and a redspan in front of it that looks at the lists ``jobs:*``."""
    return _corner
