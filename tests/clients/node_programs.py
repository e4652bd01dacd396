"""Node programs of the tests: the files in ``node/``, run with real packages from the registry.

modules = install(directory, "bullmq@6.7.0", "ioredis@5")
with NodeProgram("bullmq.cjs", modules, tmp_path / "worker.log", "work", url) as worker:
    worker.wait_for(lambda said: any("ready" in one for one in said))
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from tests.clients.json_programs import JsonProgram

_HERE = Path(__file__).resolve().parent / "node"
_INSTALL_PATIENCE = 300.0


def _found(name: str) -> str:
    path = shutil.which(name)
    assert path is not None, f"these tests run with Node 20 and npm, and there is no {name} on PATH"
    return path


def install(directory: Path, *packages: str) -> Path:
    """The packages in a folder of their own; fails where there is no npm."""
    directory.mkdir(parents=True)
    (directory / "package.json").write_text('{"private": true}')
    command = [_found("npm"), "install", "--no-audit", "--no-fund", "--no-save", "--loglevel=error", *packages]
    done = subprocess.run(
        command, cwd=directory, capture_output=True, text=True, timeout=_INSTALL_PATIENCE, check=False
    )
    assert done.returncode == 0, done.stderr
    return directory / "node_modules"


class NodeProgram(JsonProgram):
    def __init__(self, program: str, modules: Path, log: Path, *arguments: str) -> None:
        super().__init__([_found("node"), str(_HERE / program), *arguments], log, NODE_PATH=str(modules))
