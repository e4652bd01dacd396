"""Run other people's suites through redspan: python -m tests.suites [--quick] [--cache DIR] [redis-py] [redis-tcl].

Exit code 0: the same results directly and through redspan.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from tests.suites import redis_py, redis_tcl
from tests.suites.compare import compare

SUITES = ("redis-py", "redis-tcl")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("suites", nargs="*", choices=[*SUITES, []], help="which; none: both")
    parser.add_argument("--quick", action="store_true", help="redis-py with RESP3 alone, and a part of the Tcl suite")
    parser.add_argument("--cache", type=Path, default=Path(sys.prefix) / "suites", help="where their sources are kept")
    asked = parser.parse_args()
    runs: list[Callable[[], bool]] = []
    if "redis-py" in (asked.suites or SUITES):
        for protocol in (3,) if asked.quick else (3, 2):
            runner = redis_py.runner(asked.cache / "redis-py", protocol)
            runs.append(lambda protocol=protocol, runner=runner: compare(f"redis-py, RESP{protocol}", runner))  # type: ignore[misc]
    if "redis-tcl" in (asked.suites or SUITES):
        units = redis_tcl.SUBSET if asked.quick else ()
        tcl = redis_tcl.runner(asked.cache / "redis-tcl", units)
        runs.append(lambda: compare("Redis' Tcl suite", tcl))
    outcomes = [run() for run in runs]
    return 0 if all(outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
