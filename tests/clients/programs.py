"""Producers and workers as processes of their own, which are told a URL and nothing of redspan."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.redis import PATIENCE

APPS = Path(__file__).with_name("apps")


def environment(url: str, more: Mapping[str, str]) -> dict[str, str]:
    path = os.pathsep.join((*filter(None, [more.get("PYTHONPATH")]), str(APPS)))
    return {**os.environ, "REDIS_URL": url, **more, "PYTHONPATH": path}


@contextmanager
def running(url: str, directory: Path, *command: str, **env: str) -> Iterator[subprocess.Popen[bytes]]:
    """``python *command``, until the end of the block; what it says is in ``worker.log``."""
    with (
        (directory / "worker.log").open("ab") as log,
        subprocess.Popen(
            [sys.executable, *command],
            env=environment(url, env),
            cwd=APPS,
            stdout=log,
            stderr=log,
            start_new_session=True,
        ) as process,
    ):
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(PATIENCE)
            finally:
                process.kill()


def said_by(url: str, *command: str, **env: str) -> list[Any]:
    """What ``python *command`` prints, as JSON."""
    done = subprocess.run(
        [sys.executable, *command],
        env=environment(url, env),
        cwd=APPS,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said: list[Any] = json.loads(done.stdout)
    return said
