"""Fixtures that need real processes: a Redis for the whole run, and sidecars in front of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import redis
from hypothesis import HealthCheck, settings

from tests.redis import RedisServer
from tests.sidecar import Sidecar

# How fast a machine makes or tries an example says nothing about what is tested.
settings.register_profile("redspan", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("redspan")

StartSidecar: TypeAlias = Callable[..., Sidecar]
"""Settings (and environment) to a running sidecar; its upstream is the test's Redis where the settings name none."""


EXTRA = ("browser", "deploy", "frameworks", "go", "jaeger", "node", "php", "ruby", "tools")
"""Marks of tests that `make test` leaves to CI."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if any(item.get_closest_marker(mark) for mark in EXTRA):
            item.add_marker("extra")


@pytest.fixture(scope="session")
def _redis_server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture
def redis_server(_redis_server: RedisServer) -> RedisServer:
    """A Redis without any data, shared by all tests: do not stop it."""
    with redis.Redis.from_url(_redis_server.url) as client:
        client.flushall()
        client.script_flush()
        client.config_resetstat()
    return _redis_server


@pytest.fixture
def direct(redis_server: RedisServer) -> Iterator[redis.Redis]:
    """A client of it that does not go through redspan."""
    with redis.Redis.from_url(redis_server.url) as client:
        yield client


@pytest.fixture
def start_sidecar(tmp_path: Path, redis_server: RedisServer) -> Iterator[StartSidecar]:
    """Starts sidecars, and kills them at the end of the test."""
    with ExitStack() as running:
        started = 0

        def start(settings: Mapping[str, Any] | None = None, env: Mapping[str, str] | None = None) -> Sidecar:
            nonlocal started
            started += 1
            directory = tmp_path / f"sidecar-{started}"
            directory.mkdir()
            completed = dict(settings or {})
            completed["listeners"] = [
                {"upstream": redis_server.url, **listener} for listener in completed.get("listeners", [{}])
            ]
            return running.enter_context(Sidecar(directory, completed, env))

        yield start


@pytest.fixture
def sidecar(start_sidecar: StartSidecar) -> Sidecar:
    """One with the defaults, but that it exports nothing."""
    return start_sidecar()


@pytest.fixture
def client(sidecar: Sidecar) -> Iterator[redis.Redis]:
    """A client of ``sidecar``."""
    with redis.Redis.from_url(sidecar.url) as connected:
        yield connected
