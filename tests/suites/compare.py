"""Two runs of one suite, directly and through the sidecar, with tracing on and every list and stream looked at."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

from tests.redis import RedisServer
from tests.sidecar import Sidecar

Results: TypeAlias = Mapping[str, str]
"""Outcome by test."""

Run: TypeAlias = Callable[[int, Path, tuple[str, ...]], Results]
"""Port of Redis, a folder to work in, tests (none: all) → outcomes."""

EVERYTHING: dict[str, Any] = {
    # Every other framework is on by itself. The suites push no JSON jobs: nothing may be written.
    "frameworks": {
        "list": {"queues": ["*"]},
        "stream": {"queues": ["*"], "inject": False},
        "zset": {"queues": ["*"]},
        "script": {
            "inject": True,
            "entries": [
                {"keys": 1, "key": "*", "does": "enqueue", "job": "arguments 1"},
                {"keys": 1, "key": "*", "does": "dequeue", "job": "reply"},
                {"keys": 2, "key": "*", "does": "dequeue", "job": "reply *", "held": 2},
            ],
        },
    }
}

REDIS_OPTIONS: dict[str, Any] = {
    "enable_protected_configs": "yes",
    "enable_debug_command": "yes",
    "enable_module_command": "yes",
}
RETRIES = 2
WRITTEN = "contexts written"


@contextmanager
def _redis(directory: Path) -> Iterator[RedisServer]:
    data = directory / "redis"
    data.mkdir(parents=True)
    with RedisServer(data, **REDIS_OPTIONS) as server:
        yield server


def directly(run: Run, directory: Path, tests: tuple[str, ...] = ()) -> Results:
    with _redis(directory) as server:
        return run(server.port, directory, tests)


def through_redspan(run: Run, directory: Path, tests: tuple[str, ...] = ()) -> tuple[Results, dict[str, float]]:
    """Outcomes, and what redspan counted: commands, and connections that it gave up looking at."""
    with _redis(directory) as server:
        settings = {**EVERYTHING, "listeners": [{"upstream": server.url}]}
        with Sidecar(directory, settings) as sidecar:
            results = run(sidecar.port, directory, tests)
            sidecar.wait_for(lambda: sidecar.get("/metrics").status == 200, "no metrics")
            counted = {
                "commands": sidecar.metric("redspan_commands_total"),
                "jobs seen": sidecar.metric("redspan_jobs_total"),
                WRITTEN: sum(
                    max(0.0, sidecar.metric("redspan_injections_total", result=result))
                    for result in ("written", "adopted")
                ),
                **{
                    f"blind, {reason}": sidecar.metric("redspan_blind_total", reason=reason)
                    for reason in ("bug", "overflow", "reply_mismatch", "unknown_type", "monitor", "replication")
                },
            }
            return results, counted


def compare(name: str, run: Run, tests: tuple[str, ...] = ()) -> bool:
    """Print both results side by side; whether they are the same. What differs is run again, alone, on both sides."""
    with tempfile.TemporaryDirectory(prefix="redspan-suite-") as folder:
        root = Path(folder)
        through, counted = through_redspan(run, root / "through", tests)
        direct = directly(run, root / "direct", tests)
        different = _different(direct, through)
        for attempt in range(RETRIES):
            if not different:
                break
            print(f"{name}: run again alone: {', '.join(sorted(different))}")
            again = tuple(sorted(different))
            through_again, _ = through_redspan(run, root / f"through-{attempt}", again)
            different &= _different(directly(run, root / f"direct-{attempt}", again), through_again)
    for side, results in (("direct", direct), ("through redspan", through)):
        outcomes = Counter(results.values())
        print(f"{name}, {side}: " + ", ".join(f"{outcomes[word]} {word}" for word in sorted(outcomes)))
    print(f"{name}, redspan: " + ", ".join(f"{count:.0f} {what}" for what, count in counted.items()))
    for test in sorted(different):
        print(f"{name}: DIFFERENT {test}: {direct.get(test, 'absent')} direct, {through.get(test, 'absent')} through")
    if not direct:
        print(f"{name}: NOTHING WAS RUN")
    if counted["blind, bug"]:
        print(f"{name}: redspan has a bug: see its log")
    if counted[WRITTEN]:
        print(f"{name}: REDSPAN WROTE INTO WHAT IS NO JOB")
    return bool(direct) and not different and not counted["blind, bug"] and not counted[WRITTEN]


def _different(direct: Results, through: Results) -> set[str]:
    return {test for test in {*direct, *through} if direct.get(test) != through.get(test)}
