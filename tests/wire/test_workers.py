"""``relay.workers: 2``: one sidecar, two processes that relay, one tracer."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.conftest import StartSidecar
from tests.receiver import Receiver
from tests.redis import PATIENCE
from tests.sidecar import Sidecar, alive, children_of
from tests.wire.test_reload import change, queues

TWO: Mapping[str, Any] = {"relay": {"workers": 2}, "frameworks": queues("jobs")}


def ping(sock: socket.socket) -> bool:
    try:
        sock.sendall(b"PING\r\n")
        return sock.recv(64) == b"+PONG\r\n"
    except OSError:
        return False


def owned(pid: int) -> int:
    """How many sockets a process has."""
    count = 0
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            count += str(entry.readlink()).startswith("socket:")
        except OSError:
            continue
    return count


@contextmanager
def clients(sidecar: Sidecar, count: int = 40) -> Iterator[list[socket.socket]]:
    with ExitStack() as stack:
        socks = [stack.enter_context(sidecar.connect()) for _ in range(count)]
        assert all(map(ping, socks))
        yield socks


@pytest.fixture
def pair(start_sidecar: StartSidecar) -> Sidecar:
    return start_sidecar(TWO)


def test_clients_are_spread(pair: Sidecar) -> None:
    before = [owned(pid) for pid in pair.worker_pids]
    assert len(before) == 2
    with clients(pair):
        after = [owned(pid) for pid in pair.worker_pids]
        # Two sockets for each client. That one gets less than 5 of 40 happens once in a million.
        assert all(now - was >= 10 for was, now in zip(before, after, strict=True)), (before, after)
        pair.wait_for(lambda: pair.metric("redspan_connections") == 40, "not summed")
    pair.wait_for(lambda: pair.metric("redspan_connections") == 0, "not gone")
    assert pair.stop() == 0


def test_unix_socket(start_sidecar: StartSidecar, tmp_path: Path) -> None:
    path = tmp_path / "redspan.sock"
    sidecar = start_sidecar({**TWO, "listeners": [{"bind": f"unix://{path}"}]})
    with clients(sidecar, 10):
        os.kill(sidecar.worker_pids[0], signal.SIGKILL)
        with clients(sidecar, 5):
            pass
    assert sidecar.stop() == 0
    assert not path.exists()


def test_a_worker_that_dies_comes_back(pair: Sidecar, direct: redis.Redis) -> None:
    for _ in range(20):
        with redis.Redis.from_url(pair.url) as client:
            client.lpush("jobs", '{"id":"1"}')
    pair.wait_for(lambda: pair.metric("redspan_jobs_total", event="enqueue") == 20, "not counted")
    victim, other = pair.worker_pids
    with clients(pair) as socks:
        pair.wait_for(lambda: pair.metric("redspan_connections") == 40, "not connected")
        theirs = (owned(other) - 5) // 2
        os.kill(victim, signal.SIGKILL)
        pair.wait_for(lambda: '"starting"' in pair.get("/readyz").body, "still ready")
        assert pair.get("/healthz").status == 200
        left = sum(map(ping, socks))
        assert 0 < left < 40
        assert abs(left - theirs) <= 3
        # New ones all come to the other.
        with clients(pair, 10):
            pass
        pair.wait_for(lambda: pair.get("/readyz").status == 200, "not started again")
        assert len(pair.worker_pids) == 2
        assert sum(map(ping, socks)) == left
        pair.wait_for(lambda: pair.metric("redspan_connections") == left, "the dead are still counted")
        # What it had counted is not lost, and not there twice.
        assert pair.metric("redspan_jobs_total", event="enqueue") == 20
        pair.wait_for(lambda: pair.metric("redspan_worker_restarts_total") == 1, "not counted")
    for _ in range(20):
        with redis.Redis.from_url(pair.url) as client:
            client.lpush("jobs", '{"id":"1"}')
    pair.wait_for(lambda: pair.metric("redspan_jobs_total", event="enqueue") == 40, "not counted")
    assert pair.metric("redspan_injections_total", result="written") == 40
    # Nor does the next tracer see less.
    os.kill(pair.tracer_pid, signal.SIGKILL)
    pair.wait_for(lambda: pair.metric("redspan_jobs_total", event="enqueue") == 40, "lost with the tracer")


def test_one_trace_across_workers(start_sidecar: StartSidecar) -> None:
    with Receiver() as receiver:
        frameworks = {"list": {"queues": ["jobs"], "processing": ["doing"]}}
        tracing = {"endpoint": receiver.url, "protocol": "http/protobuf", "export": {"interval": "100ms"}}
        sidecar = start_sidecar({**TWO, "frameworks": frameworks, "tracing": tracing})

        def once(number: int) -> None:
            """Each command on a connection of its own: in 1 of 4 jobs all three by the same worker."""
            with redis.Redis.from_url(sidecar.url) as producer:
                producer.lpush("jobs", f'{{"id":"{number}"}}')
            with redis.Redis.from_url(sidecar.url) as worker:
                job = worker.rpoplpush("jobs", "doing")
            with redis.Redis.from_url(sidecar.url) as worker:
                assert worker.lrem("doing", 1, job) == 1

        for number in range(20):
            once(number)
        spans = receiver.wait_for(lambda spans: len(spans) == 60)
        assert len({span.trace_id for span in spans}) == 20
        assert all(span.attributes["server.port"] for span in spans)
        assert all(span.attributes["job.status"] == "success" for span in spans if span.name == "job.process")

        # And after the tracer has died: the workers are introduced to the next one.
        tracer = sidecar.tracer_pid
        os.kill(tracer, signal.SIGKILL)
        sidecar.wait_for(lambda: sidecar.tracer_pid not in (0, tracer), "not started again")
        sidecar.page("/")
        for number in range(20, 30):
            once(number)
        assert sidecar.stop() == 0
        assert len(receiver.wait_for(lambda spans: len(spans) == 90)) == 90


def test_reload(start_sidecar: StartSidecar) -> None:
    with Receiver() as receiver:
        tracing = {"endpoint": receiver.url, "protocol": "http/protobuf"}
        sidecar = start_sidecar({**TWO, "tracing": tracing})
        with ExitStack() as stack:
            connected = [stack.enter_context(redis.Redis.from_url(sidecar.url)) for _ in range(10)]
            for client in connected:
                client.lpush("jobs", '{"id":"1"}')
            tracer = sidecar.tracer_pid
            told = change(sidecar, {"frameworks": queues("jobs", "more"), "relay": {"workers": 3}})
            assert "only a restart changes relay.workers: 2 -> 3" in told
            pushed = 10
            while sidecar.tracer_pid in (0, tracer):
                for client in connected:
                    client.lpush("jobs", '{"id":"2"}')
                    pushed += 1
            for client in connected:
                client.lpush("more", '{"id":"3"}')
            assert all(b"traceparent" in job for job in connected[0].lrange("more", 0, -1))
            assert len(sidecar.worker_pids) == 2
            sidecar.page("/")
            assert sidecar.metric("redspan_events_dropped_total") == 0
        assert sidecar.stop() == 0
        assert len(receiver.wait_for(lambda spans: len(spans) == pushed + 10)) == pushed + 10


def test_at_once_after_the_start(start_sidecar: StartSidecar) -> None:
    """The tracer may not even run yet: what the workers send it is exported all the same."""
    with Receiver() as receiver:
        sidecar = start_sidecar({**TWO, "tracing": {"endpoint": receiver.url, "protocol": "http/protobuf"}})
        for _ in range(10):
            with redis.Redis.from_url(sidecar.url) as client:
                client.lpush("jobs", '{"id":"1"}')
        assert sidecar.stop() == 0
        assert len(receiver.wait_for(lambda spans: len(spans) >= 10)) == 10


def test_drain(start_sidecar: StartSidecar) -> None:
    with Receiver() as receiver:
        tracing = {"endpoint": receiver.url, "protocol": "http/protobuf", "export": {"interval": "1h"}}
        sidecar = start_sidecar({**TWO, "tracing": tracing})
        with redis.Redis.from_url(sidecar.url) as client:
            client.lpush("jobs", '{"id":"1"}')
            sidecar.signal(signal.SIGTERM)
            sidecar.wait_for(lambda: '"draining"' in sidecar.get("/readyz").body, "still ready")
            time.sleep(0.5)
            # Both still take clients, also the one that has none.
            with clients(sidecar, 20):
                pass
            client.lpush("jobs", '{"id":"2"}')
        assert sidecar.wait() == 0
        assert len(receiver.wait_for(lambda spans: len(spans) == 2)) == 2


def test_drain_timeout_and_second_signal(start_sidecar: StartSidecar) -> None:
    sidecar = start_sidecar({"relay": {"workers": 2, "drain_timeout": "300ms"}})
    with clients(sidecar, 4):
        assert sidecar.stop() == 0
    sidecar = start_sidecar({"relay": {"workers": 2, "drain_timeout": "1h"}})
    with clients(sidecar, 4):
        sidecar.signal(signal.SIGTERM)
        sidecar.wait_for(lambda: "draining" in sidecar.log, "not draining")
        sidecar.signal(signal.SIGTERM)
        assert sidecar.wait() == 0


def test_nothing_is_left_after_sigkill(pair: Sidecar) -> None:
    children = children_of(pair.pid)
    assert len(children) == 3
    with clients(pair, 4):
        pair.signal(signal.SIGKILL)
        pair.wait()
        gone(lambda: not any(map(alive, children)))


def test_a_worker_that_hangs(pair: Sidecar) -> None:
    hanging = pair.worker_pids[0]
    os.kill(hanging, signal.SIGSTOP)
    pair.wait_for(lambda: pair.get("/healthz").status == 503, "still healthy")
    os.kill(hanging, signal.SIGCONT)
    pair.wait_for(lambda: pair.get("/healthz").status == 200, "not healthy again")


def test_without_tracing(start_sidecar: StartSidecar) -> None:
    sidecar = start_sidecar({**TWO, "tracing": {"enabled": False}})
    with clients(sidecar, 10):
        sidecar.wait_for(lambda: sidecar.metric("redspan_connections") == 10, "not summed")
    assert sidecar.tracer_pid == 0
    assert sidecar.stop() == 0


def test_address_in_use(pair: Sidecar, start_sidecar: StartSidecar) -> None:
    """Even by one that would share it."""
    second = start_sidecar(TWO)
    assert second.stop() == 0
    second.settings["listeners"][0]["bind"] = pair.bind
    second.start(ready=False)
    assert second.wait() == 1
    assert "another process listens there; change listeners[0].bind" in second.log


def test_limit_is_for_all(start_sidecar: StartSidecar) -> None:
    sidecar = start_sidecar({"relay": {"workers": 2, "max_connections": 4}})
    with ExitStack() as stack:
        assert sum(ping(stack.enter_context(sidecar.connect())) for _ in range(40)) == 4


def test_orphans_are_reaped() -> None:
    """By a process that stands in for process 1: a subreaper. Ours are left to who waits for them."""
    code = """
import ctypes, os, subprocess, time
from proxy.reap import reap
ctypes.CDLL(None).prctl(36, 1)
children = lambda: open(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read().split()
ours = subprocess.Popen(["sleep", "0.3"])
subprocess.run(["sh", "-c", "sleep 0.1 & sleep 0.1 &"])
deadline = time.time() + 20
while len(children()) > 1 and time.time() < deadline:
    reap({ours.pid})
    time.sleep(0.02)
assert children() == [str(ours.pid)], children()
time.sleep(0.5)
reap({ours.pid})
assert ours.wait() == 0
reap(set())
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=PATIENCE)


def gone(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "some process goes on alone"
        time.sleep(0.02)
