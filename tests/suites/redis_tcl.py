"""Redis' own Tcl suite, from the source of Debian's package, in external mode, with Debian's own binaries."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

from tests.suites.compare import Results, Run

SUBSET = tuple(
    f"unit/{name}"
    for name in ("protocol", "multi", "pubsub", "pubsubshard", "tracking", "querybuf", "introspection", "auth", "info",
                 "type/list", "type/stream")
)  # fmt: skip
"""About half a minute."""

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_RESULT = re.compile(r"^\[(ok|err|ignore|exception)\]: (.*?)(?: \(\d+ ms\))?$", re.MULTILINE)
_NUMBERS = re.compile(r"\d+(\.\d+)?")
_SERVER = "redis-server", "redis-cli", "redis-benchmark", "redis-check-aof", "redis-check-rdb"


def prepare(cache: Path) -> Path:
    """The suite's folder, made once in ``cache``. Needs root, for apt's list of sources."""
    suite = cache / "suite"
    if not (suite / "runtest").exists():
        cache.mkdir(parents=True, exist_ok=True)
        sources = Path("/etc/apt/sources.list.d/debian.sources")
        text = sources.read_text()
        if "deb-src" not in text:
            sources.write_text(text.replace("Types: deb\n", "Types: deb deb-src\n"))
            subprocess.run(["apt-get", "update", "-qq"], check=True)
        subprocess.run(["apt-get", "source", "-qq", "redis"], cwd=cache, check=True, capture_output=True)
        (found,) = (folder for folder in cache.glob("redis-*") if folder.is_dir())
        (suite / "src").mkdir(parents=True)
        for name in ("tests", "utils"):
            shutil.copytree(found / name, suite / name)
        for name in _SERVER:
            (suite / "src" / name).symlink_to(shutil.which(name) or f"/usr/bin/{name}")
        shutil.copy2(found / "runtest", suite / "runtest")
    return suite


def runner(cache: Path, units: tuple[str, ...] = ()) -> Run:
    """``units``: those to run; none: all."""
    suite = prepare(cache)

    def run(port: int, directory: Path, tests: tuple[str, ...]) -> Results:
        copy = directory / "suite"
        shutil.copytree(suite, copy, symlinks=True)
        command = ["./runtest", "--host", "127.0.0.1", "--port", str(port), "--durable", "--tags", "-slow"]
        command += ["--baseport", "21111"]
        for unit in units:
            command += ["--single", unit]
        for test in tests:
            command += ["--only", test]
        done = subprocess.run(command, cwd=copy, capture_output=True, text=True, check=False, errors="replace")
        found = _RESULT.findall(_COLOUR.sub("", done.stdout))
        if not found:
            raise RuntimeError(f"the suite did not run: {done.stdout[-2000:]}{done.stderr[-2000:]}")
        return _numbered([(outcome, _name(text)) for outcome, text in found])

    return run


def _name(text: str) -> str:
    """A test's name; without the file that an error adds, and the numbers that differ from run to run."""
    return _NUMBERS.sub("#", text.split(" in tests/", maxsplit=1)[0])


def _numbered(found: list[tuple[str, str]]) -> Results:
    """Outcomes by name; a name that occurs several times is numbered, its outcomes in order of their words."""
    results: dict[str, str] = {}
    for outcome, name in sorted(found, key=lambda item: (item[1], item[0])):
        number = 1
        while (key := name if number == 1 else f"{name} ({number})") in results:
            number += 1
        results[key] = outcome
    return results
