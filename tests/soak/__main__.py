"""Reload, kill and restart redspan's processes under load: python -m tests.soak [--calm] [--minutes N] [--workers N].

Every other second something happens: SIGHUP with other settings for the relay, or for the tracer, SIGKILL to a relay
worker or to the tracer.  Exit code 0: no client saw an error but those whose worker was killed, no job was lost or
done twice, no answer was wrong, no session went blind.

With --calm nothing happens but the load; then no process may have grown by more than a tenth since its first minute.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from statistics import median

from tests.load import LISTS, Load
from tests.receiver import Receiver
from tests.redis import RedisServer
from tests.sidecar import Sidecar, resident_memory

PAUSE = 2.0
"""Seconds between two events."""
GRACE = 1.0
"""Seconds after a worker's death in which its clients may notice."""


ALLOWED_GROWTH = 1.1
SETTLED = 0.1
"""Part of a calm soak after which a process has the memory that it is to keep; the last part that long is its end."""


class Memory:
    """What redspan's processes have, sampled over a calm soak."""

    def __init__(self, sidecar: Sidecar) -> None:
        self.sidecar = sidecar
        self.samples: dict[str, list[int]] = {}

    def watch(self, until: float) -> None:
        while time.monotonic() < until:
            time.sleep(1.0)
            sidecar = self.sidecar
            pids = {"tracer": sidecar.tracer_pid, "relay": sidecar.pid}
            pids |= {f"worker {number}": pid for number, pid in enumerate(sidecar.worker_pids)}
            for name, pid in pids.items():
                self.samples.setdefault(name, []).append(resident_memory(pid))

    def grown(self) -> list[str]:
        """Prints how each went, and answers those that have grown too much."""
        too_much = []
        for name, samples in self.samples.items():
            part = max(1, int(len(samples) * SETTLED))
            begin, end = median(samples[part : 2 * part]), median(samples[-part:])
            print(f"{name}: {begin / 2**20:.1f} MiB, at the end {end / 2**20:.1f} MiB ({end / begin - 1:+.1%})")
            if end > ALLOWED_GROWTH * begin:
                too_much.append(name)
        return too_much


class Soak:
    def __init__(self, sidecar: Sidecar, load: Load) -> None:
        self.sidecar = sidecar
        self.load = load
        self.happened: Counter[str] = Counter()
        self.kills: list[tuple[float, set[int]]] = []
        """When a worker was killed, and the ports of its clients."""
        self._turn = 0

    def run(self, until: float) -> None:
        events: list[Callable[[], str]] = [
            self.reload_relay,
            self.kill_worker,
            self.reload_tracer,
            self.kill_tracer,
            self.kill_worker_while_reloading,
        ]
        while time.monotonic() < until:
            time.sleep(min(PAUSE, max(0.0, until - time.monotonic())))
            self._turn += 1
            self.happened[events[self._turn % len(events)]()] += 1
            self.sidecar.wait_for(lambda: self.sidecar.get("/healthz").status == 200, "not healthy")
        self.sidecar.wait_for(lambda: self.sidecar.get("/readyz").status == 200, "not ready at the end")

    def reload_relay(self) -> str:
        relay = self.sidecar.settings.setdefault("relay", {})
        relay["max_inspect_bytes"] = 1_000_000 + self._turn
        return self._reload("reload, relay")

    def reload_tracer(self) -> str:
        self.sidecar.settings["tracing"]["service_name"] = f"soak-{self._turn}"
        return self._reload("reload, tracer replaced")

    def _reload(self, what: str) -> str:
        self.sidecar.write()
        self.sidecar.signal(signal.SIGHUP)
        return what

    def kill_worker(self) -> str:
        pids = self.sidecar.worker_pids
        if len(pids) < 2:
            return "worker still away"
        victim = pids[self._turn % len(pids)]
        # Whoever connects between this look and the kill is its client, too.
        os.kill(victim, signal.SIGSTOP)
        ports = client_ports(victim, self.sidecar.port)
        self.kills.append((time.monotonic(), ports))
        os.kill(victim, signal.SIGKILL)
        return "kill worker"

    def kill_tracer(self) -> str:
        pid = self.sidecar.tracer_pid
        if not pid:
            return "tracer still away"
        os.kill(pid, signal.SIGKILL)
        return "kill tracer"

    def kill_worker_while_reloading(self) -> str:
        self.reload_tracer()
        return self.kill_worker()

    def unexplained(self) -> list[str]:
        """Errors of clients whose worker was not killed."""
        doomed = {port for _, ports in self.kills for port in ports}
        return [
            failed.error
            for failed in self.load.failures
            if failed.port not in doomed
            # It was connecting: in the queue of a socket that the killed worker listened on.
            and not (failed.port == 0 and any(0 <= failed.at - at < GRACE for at, _ in self.kills))
        ]


def client_ports(pid: int, port: int) -> set[int]:
    """Remote ports of a process' connections on ``port`` of this machine."""
    inodes = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        link = str(entry.readlink())
        if link.startswith("socket:["):
            inodes.add(link[8:-1])
    found = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        here, there = (int(place.rpartition(":")[2], 16) for place in fields[1:3])
        if here == port and there and fields[9] in inodes:
            found.add(there)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--calm", action="store_true", help="let nothing happen, and look at the memory")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as place, RedisServer() as server, Receiver() as receiver:
        settings = {
            "listeners": [{"upstream": server.url}],
            "relay": {"workers": asked.workers, "drain_timeout": "2s"},
            "frameworks": {"list": LISTS},
            "tracing": {"endpoint": receiver.url, "protocol": "http/protobuf", "export": {"interval": "200ms"}},
        }
        # At full speed the tracer may fall behind, and what waits for it is memory, too.
        with Sidecar(Path(place), settings) as sidecar, Load(sidecar.url, pause=0.01 if asked.calm else 0.002) as load:
            soak = Soak(sidecar, load)
            began = time.monotonic()
            memory = Memory(sidecar)
            (memory.watch if asked.calm else soak.run)(began + asked.minutes * 60)
            load.stop()
            unexplained = soak.unexplained()
            # The tracer may have been killed a moment ago.
            sidecar.wait_for(lambda: sidecar.metric("redspan_blind_total") >= 0, "no metrics at the end")
            blind = sidecar.metric("redspan_blind_total")
            code = sidecar.stop()
            totals = load.settle(server.url)
        spans = len(receiver.spans)
    print(f"{time.monotonic() - began:.0f} s; " + ", ".join(f"{what}: {n}" for what, n in soak.happened.items()))
    print(f"{totals.commands} commands, {spans} spans; {totals._asdict()}")
    print(f"errors of clients of killed workers: {totals.errors - len(unexplained)}; other errors: {len(unexplained)}")
    for error, count in Counter(unexplained).most_common(5):
        print(f"  {count} x {error}")
    problems = {
        "errors": len(unexplained),
        "lost": totals.lost,
        "duplicated": totals.duplicated,
        "wrong answers": len(load.wrong),
        "blind": int(blind),
        "exit code": code,
        "grown": len(memory.grown()),
    }
    failed = {what: number for what, number in problems.items() if number}
    print("FAILED: " + str(failed) if failed else "ok")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
