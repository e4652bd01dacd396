"""The table of faults: python -m tests.faults [--only TEXT] [--markdown FILE].

Every fault happens under load to redspan and, where there is such a fault without it, to Redis alone.  Exit code 0: no
job was lost or done twice, no answer was wrong, no session went blind, no client saw an error that it would not have
seen without redspan.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import redis

from tests.faults import clients, collector, processes, upstream
from tests.faults.scene import Fault, Outcome, play

FAULTS = (*processes.FAULTS, *collector.FAULTS, *upstream.FAULTS, *clients.FAULTS)
_HEAD = ("fault", "", "sent", "processed", "lost", "twice", "errors", "longest wait", "spans", "seen")


def row(fault: Fault, outcome: Outcome, *, direct: bool) -> tuple[str, ...]:
    totals, spans = outcome.totals, outcome.spans
    dropped = sum(spans.dropped.values())
    exported = f"{spans.exported} of {spans.started} sent, {dropped} dropped, {spans.held} held"
    return (
        "" if direct else fault.name,
        "without" if direct else "redspan",
        str(totals.sent),
        str(totals.processed),
        str(totals.lost),
        str(totals.duplicated),
        str(totals.errors),
        f"{totals.longest:.2f} s",
        exported if spans.started else "",
        "; ".join(outcome.checks),
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", default="", metavar="TEXT", help="faults whose name has it")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the table there, too")
    asked = parser.parse_args()
    chosen = [fault for fault in FAULTS if asked.only.lower() in fault.name.lower()]
    if not chosen:
        names = "\n  ".join(fault.name for fault in FAULTS)
        parser.error(f"no fault has {asked.only!r} in its name; there are\n  {names}")
    rows: list[tuple[str, ...]] = []
    failed: list[str] = []
    with tempfile.TemporaryDirectory(prefix="redspan-faults-") as place:
        for number, fault in enumerate(chosen):
            for direct in (False, True) if fault.direct else (False,):
                try:
                    outcome = play(fault, Path(place) / f"{number}-{'direct' if direct else 'redspan'}", direct=direct)
                except (AssertionError, OSError, redis.RedisError) as error:
                    failed.append(f"{fault.name}{', without redspan' if direct else ''}: {error!r}")
                    continue
                rows.append(row(fault, outcome, direct=direct))
                print(" | ".join(rows[-1]), flush=True)
                # What goes wrong without redspan as well is not ours.
                failed += [f"{fault.name}: {problem}" for problem in outcome.problems(fault) if not direct]
    if asked.markdown:
        lines = [_HEAD, tuple("---" for _ in _HEAD), *rows]
        asked.markdown.write_text("".join("| " + " | ".join(line) + " |\n" for line in lines))
    print("FAILED:\n  " + "\n  ".join(failed) if failed else "ok")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
