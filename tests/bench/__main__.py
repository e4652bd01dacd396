"""CPU per command of redspan, as a ratio to HAProxy and twemproxy in the same run: python -m tests.bench [--rounds N].

Load: redis-benchmark, 50 connections, LPUSH of a 300-byte JSON job with a random id, 1 and 16 deep.  The contenders
take turns within each round, in another order each time; what counts is the median over rounds of the ratio within a
round, because single runs on a shared machine differ by more than what is measured.
"""

from __future__ import annotations

import argparse
import random
import re
import shutil
import statistics
import subprocess
import tempfile
import urllib.request
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.bench.contenders import QUEUE, Contender, contenders
from tests.redis import RedisServer

CONNECTIONS = 50
COMMANDS = {1: 60_000, 16: 300_000}
"""By depth: enough that connecting does not count."""
YARDSTICK = {1: "HAProxy", 16: "twemproxy"}
JOB = '{"id": "__rand_int__", "task": "send_email", "args": ["' + "x" * 230 + '"], "n": 1}'


def cpu(pids: list[int]) -> float:
    """Seconds on a CPU so far, of these processes with all their threads."""
    total = 0
    for pid in pids:
        for thread in Path(f"/proc/{pid}/task").iterdir():
            total += int((thread / "schedstat").read_text().split()[0])
    return total / 1e9


def load(port: int, depth: int, key: str) -> float:
    """Run the load; commands per second."""
    command = [shutil.which("redis-benchmark") or "redis-benchmark", "-p", str(port), "-c", str(CONNECTIONS)]
    command += ["-n", str(COMMANDS[depth]), "-P", str(depth), "-r", "1000000000", "-q", "LPUSH", key, JOB]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    found = re.findall(r"([\d.]+) requests per second", done.stdout)
    if not found:
        raise RuntimeError(f"redis-benchmark said: {done.stdout[-500:]} {done.stderr[-500:]}")
    return float(found[-1])


def written(contender: Contender) -> float:
    """Contexts that redspan says it has written, as of now."""
    page = urllib.request.urlopen(f"http://127.0.0.1:{contender.admin}/metrics", timeout=30).read().decode()
    series = r'^redspan_injections_total\{framework="list",result="written"\} (\S+)$'
    return sum(float(value) for value in re.findall(series, page, re.MULTILINE))


def measure(contender: Contender, depth: int, server: RedisServer) -> tuple[float, float, float]:
    """Microseconds of CPU per command in the relay, in its children, and commands per second."""
    subprocess.run(["redis-cli", "-p", str(server.port), "flushall"], capture_output=True, check=True)
    pids = contender.pids
    before = [cpu([pid]) for pid in pids]
    rate = load(contender.port, depth, QUEUE)
    spent = [cpu([pid]) - began for pid, began in zip(pids, before, strict=True)]
    each = 1e6 / COMMANDS[depth]
    return (spent[0] * each if spent else 0.0), sum(spent[1:]) * each, rate


def check_injected(contender: Contender, before: float, sent: int) -> None:
    """A relay that went blind looks brilliant: every command must have been injected."""
    for _ in range(100):
        if written(contender) - before == sent:
            return
        subprocess.run(["sleep", "0.1"], check=True)
    raise RuntimeError(f"{contender.name}: {sent} sent, {written(contender) - before:.0f} injected")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    results: dict[tuple[int, str], list[tuple[float, float, float]]] = {}
    console = Console()
    with (
        tempfile.TemporaryDirectory() as directory,
        RedisServer() as server,
        contenders(Path(directory), server.port) as found,
    ):
        for number in range(rounds):
            console.print(f"round {number + 1} of {rounds}")
            for depth, sent in COMMANDS.items():
                for contender in random.sample(found, len(found)):
                    traced = contender.name in ("redspan sampled", "redspan not sampled")
                    before = written(contender) if traced else 0
                    results.setdefault((depth, contender.name), []).append(measure(contender, depth, server))
                    if traced:
                        check_injected(contender, before, sent)
        names = [contender.name for contender in found]
    for depth, yardstick in YARDSTICK.items():
        console.print(_table(depth, yardstick, names, results))


def _table(
    depth: int, yardstick: str, names: list[str], results: dict[tuple[int, str], list[tuple[float, float, float]]]
) -> Table:
    table = Table(title=f"{depth} deep, {CONNECTIONS} connections, {len(JOB)} bytes")
    for column in ("", "relay µs/command", f"x {yardstick} [range]", "tracer µs/command", "commands/s"):
        table.add_column(column, justify="left" if not column else "right")
    reference = [relay for relay, _, _ in results[depth, yardstick]]
    for name in names:
        relay, tracer, rate = (list(column) for column in zip(*results[depth, name], strict=True))
        ratios = [spent / base for spent, base in zip(relay, reference, strict=True)]
        table.add_row(
            name,
            f"{statistics.median(relay):.1f}",
            f"{statistics.median(ratios):.2f} [{min(ratios):.2f}-{max(ratios):.2f}]",
            f"{statistics.median(tracer):.1f}",
            f"{statistics.median(rate):,.0f}",
        )
    return table


if __name__ == "__main__":
    main()
