"""Feed a session with broken streams: python -m tests.fuzz [--seed S] [--count N]. Exit code 0: nothing was found."""

from __future__ import annotations

import argparse
import resource
import sys

from tests.fuzz.mutator import Mutator
from tests.fuzz.run import Failure, Fuzz

STEP = 10_000


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=1_000_000)
    asked = parser.parse_args()
    run, mutator = Fuzz(), Mutator(asked.seed)
    peak = 0
    for number in range(1, asked.count + 1):
        try:
            run.play(mutator.next())
        except Failure as failure:
            print(f"input {number} of seed {asked.seed}: {failure}")
            return 1
        if number == STEP:
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak if peak else 0
    print(f"{asked.count} inputs, {run.records} records, blind: {dict(run.notices)}, grown by {grown} KiB")
    return 1 if grown > 32 * 1024 else 0


if __name__ == "__main__":
    sys.exit(main())
