"""redspan's own processes die, stop, are told to end or to read their settings again; its log has nowhere to go."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from pathlib import Path

from tests.faults.scene import Fault, Scene
from tests.sidecar import resident_memory


def tracer_killed(scene: Scene) -> None:
    for _ in range(3):
        before = scene.through.tracer_pid
        os.kill(before, signal.SIGKILL)
        _replaced(scene, before)
        scene.work()
    scene.checks.append("3 times, each time replaced")


def tracer_stopped(scene: Scene) -> None:
    tracer = scene.through.tracer_pid
    os.kill(tracer, signal.SIGSTOP)
    before = resident_memory(scene.through.pid)
    scene.work(5.0)
    grown = resident_memory(scene.through.pid) - before
    os.kill(tracer, signal.SIGCONT)
    assert grown < 32 << 20, f"the relay grew by {grown >> 20} MiB"
    scene.checks.append(f"5 s; the relay grew by {max(0, grown) / 2**20:.1f} MiB")


def _replaced(scene: Scene, tracer: int) -> None:
    scene.wait_for(lambda: scene.through.tracer_pid not in (0, tracer), "no new tracer")


def worker_killed(scene: Scene) -> None:
    for _ in range(3):
        _kill_worker(scene, scene.through.worker_pids[0])
        scene.work()
    scene.checks.append("3 of 2 workers in turn, each replaced")


def _kill_worker(scene: Scene, victim: int) -> None:
    os.kill(victim, signal.SIGKILL)
    scene.wait_for(lambda: len({*scene.through.worker_pids} - {victim}) == 2, "no new worker")


def told_to_end(scene: Scene) -> None:
    """Its clients go on for two seconds more, and new ones come."""
    scene.through.signal(signal.SIGTERM)
    scene.wait_for(lambda: scene.through.get("/readyz").status == 503, "still ready")
    scene.work(2.0)
    scene.works()
    scene.load.stop()
    assert scene.through.wait(30.0) == 0
    scene.checks.append("served on for 2 s, then exit 0")


def told_to_reload(scene: Scene) -> None:
    for turn in range(5):
        scene.through.settings["tracing"]["service_name"] = f"turn-{turn}"
        scene.through.settings.setdefault("relay", {})["max_inspect_bytes"] = 1_000_000 + turn
        scene.through.write()
        before = scene.through.tracer_pid
        scene.through.signal(signal.SIGHUP)
        _replaced(scene, before)
        scene.work(0.5)
    scene.checks.append("5 reloads, each replaces the tracer")


def clock_jumps(scene: Scene) -> None:
    clock = scene.directory / "clock"
    for offset in ("+1h", "-1h", "+0"):
        clock.write_text(offset + "\n")
        scene.works()
        scene.work(2.0)
    scene.checks.append("an hour ahead, two back, one ahead")


def _faked(directory: Path) -> Mapping[str, str]:
    """The wall clock alone, for all of redspan's processes; read again with every look at it."""
    libraries = sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
    assert libraries, "libfaketime is missing (Debian's package faketime)"
    (directory / "clock").write_text("+0\n")
    return {
        "LD_PRELOAD": str(libraries[0]),
        "FAKETIME_TIMESTAMP_FILE": str(directory / "clock"),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }


def log_is_full(scene: Scene) -> None:
    """Every line that it writes fails."""
    tracer_killed(scene)
    scene.checks.append("the tracer killed, which it logs")


FAULTS = (
    Fault("tracer: SIGKILL", tracer_killed),
    Fault("tracer: SIGSTOP", tracer_stopped),
    Fault("relay worker: SIGKILL", worker_killed, errors=True, settings={"relay": {"workers": 2}}),
    Fault("SIGTERM under load", told_to_end, ended=True),
    Fault("SIGHUP under load", told_to_reload),
    Fault("wall clock jumps", clock_jumps, env=_faked),
    Fault("log on a full device", log_is_full, log=Path("/dev/full")),
)
