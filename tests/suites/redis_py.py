"""redis-py's own suite, from its source distribution, in an environment of its own."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
from pathlib import Path

from tests.suites.compare import Results, Run

VERSION = "8.1.0"
NEEDS = (
    "pytest pytest-asyncio pytest-timeout pytest-cov numpy xxhash pybreaker ujson packaging uvloop cryptography aiohttp"
    " redis-entraid click invoke opentelemetry-sdk opentelemetry-exporter-otlp-proto-http"
)
FILES = (
    "commands pubsub pipeline encoding scripting lock monitor connection_pool function"
    " client cache multiprocessing retry max_connections_error"
)
MARKS = "not onlycluster and not redismod and not ssl and not replica and not cp_integration"
_OUTCOME = re.compile(r"^(PASSED|FAILED|ERROR|XFAIL|XPASS) (\S+)", re.MULTILINE)
_SKIPPED = re.compile(r"^SKIPPED \[(\d+)\] (\S+)", re.MULTILINE)


def prepare(cache: Path) -> tuple[Path, Path]:
    """The suite's folder and its Python, made once in ``cache``."""
    python, source = cache / "venv" / "bin" / "python", cache / f"redis-{VERSION}"
    if not (cache / "ready").exists():
        subprocess.run([sys.executable, "-m", "venv", str(cache / "venv")], check=True)
        pip = [str(python), "-m", "pip", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "install", *NEEDS.split()], check=True)
        download = ["download", "--no-deps", "--no-binary", ":all:", "--dest", str(cache), f"redis=={VERSION}"]
        subprocess.run([*pip, *download], check=True)
        with tarfile.open(cache / f"redis-{VERSION}.tar.gz") as archive:
            archive.extractall(cache, filter="data")
        (cache / "ready").touch()
    return source, python


def runner(cache: Path, protocol: int) -> Run:
    source, python = prepare(cache)

    def run(port: int, directory: Path, tests: tuple[str, ...]) -> Results:
        chosen = tests or tuple(
            f"tests/test_{name}.py" for name in FILES.split() if (source / f"tests/test_{name}.py").exists()
        )
        command = [str(python), "-m", "pytest", *chosen, "--redis-url", f"redis://127.0.0.1:{port}/0"]
        command += ["--protocol", str(protocol), "-m", MARKS, "-q", "-rA", "-p", "no:cacheprovider", "--timeout", "120"]
        done = subprocess.run(command, cwd=source, capture_output=True, text=True, check=False)
        results = {test: outcome.lower() for outcome, test in _OUTCOME.findall(done.stdout)}
        if not results:
            raise RuntimeError(f"redis-py's suite did not run: {done.stdout[-2000:]}{done.stderr[-2000:]}")
        skipped = {f"{place} skipped x{count}": "skipped" for count, place in _SKIPPED.findall(done.stdout)}
        return results if tests else {**results, **skipped}

    return run
