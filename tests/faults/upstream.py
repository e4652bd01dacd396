"""Redis itself dies and comes back, or hangs."""

from __future__ import annotations

from pathlib import Path

from tests.faults.scene import Fault, Scene
from tests.redis import RedisServer


def lasting(directory: Path) -> RedisServer:
    """Forgets nothing that it has answered."""
    return RedisServer(directory, appendonly="yes", appendfsync="always")


def restarted(scene: Scene) -> None:
    for _ in range(3):
        scene.server.kill()
        scene.work(0.5)
        scene.server.start()
        scene.works()
    scene.checks.append("3 times, away for half a second")


def frozen(scene: Scene) -> None:
    scene.server.stop()
    scene.work(3.0)
    scene.server.cont()
    scene.checks.append("3 s")


FAULTS = (
    Fault("Redis: SIGKILL and restart", restarted, direct=True, errors=True, server=lasting),
    Fault("Redis: SIGSTOP", frozen, direct=True),
)
