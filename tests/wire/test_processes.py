"""The processes of a sidecar: how they start, how they end, and what one does without the other."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest
import redis

from tests.conftest import StartSidecar
from tests.receiver import Receiver
from tests.redis import PATIENCE, RedisServer, free_port
from tests.sidecar import Sidecar, alive

JOBS = {"frameworks": {"list": {"queues": ["jobs"]}}}
"""Settings of a sidecar that traces a list."""


def push(url: str, count: int, start: int = 0) -> None:
    with redis.Redis.from_url(url) as client:
        pipeline = client.pipeline(transaction=False)
        for number in range(start, start + count):
            pipeline.lpush("jobs", f'{{"id":"{number}"}}')
        pipeline.execute()


class TestStart:
    def test_address_in_use(self, start_sidecar: StartSidecar, sidecar: Sidecar) -> None:
        """Says which address, and which setting to change."""
        second = start_sidecar()
        assert second.stop() == 0
        for path, setting in (("listeners", "listeners[0].bind (--listen)"), ("admin", "admin.bind (--admin)")):
            if path == "listeners":
                second.settings["listeners"][0]["bind"] = sidecar.bind
            else:
                second.settings["listeners"][0]["bind"] = second.bind
                second.settings["admin"]["bind"] = sidecar.admin
            second.start(ready=False)
            assert second.wait() == 1
            assert setting in second.log
            assert "another process listens there" in second.log
        assert sidecar.get("/readyz").status == 200

    def test_socket_left_behind(self, tmp_path: Path, start_sidecar: StartSidecar) -> None:
        """A unix socket of a process that was killed is in nobody's way."""
        first = start_sidecar({"listeners": [{"bind": f"unix://{tmp_path}/redspan.sock"}]})
        first.kill()
        first.start()
        with redis.Redis.from_url(first.url) as client:
            assert client.ping()
        second = start_sidecar({"listeners": [{}]})
        assert second.stop() == 0
        second.settings["listeners"][0]["bind"] = first.bind
        second.start(ready=False)
        assert second.wait() == 1
        with redis.Redis.from_url(first.url) as client:
            assert client.ping()

    @pytest.mark.parametrize("name", ["{}/notify", "@{}"])
    def test_a_service_manager_is_told(self, tmp_path: Path, start_sidecar: StartSidecar, name: str) -> None:
        """As systemd's Type=notify wants it: once it is ready, and once it ends."""
        address = name.format(tmp_path)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.bind(address.replace("@", "\0"))
            manager.settimeout(PATIENCE)
            sidecar = start_sidecar(env={"NOTIFY_SOCKET": address})
            assert manager.recv(64) == b"READY=1"
            assert sidecar.stop() == 0
            assert manager.recv(64) == b"STOPPING=1"

    def test_identity_key_that_is_not_there(self, start_sidecar: StartSidecar) -> None:
        sidecar = start_sidecar()
        assert sidecar.stop() == 0
        sidecar.settings["tracing"]["identity_key_file"] = "/nowhere/key"
        sidecar.start(ready=False)
        assert sidecar.wait() == 2
        assert "tracing.identity_key_file" in sidecar.log

    def test_without_tracing_there_is_no_tracer(self, start_sidecar: StartSidecar, direct: redis.Redis) -> None:
        sidecar = start_sidecar({**JOBS, "tracing": {"enabled": False}})
        push(sidecar.url, 10)
        assert direct.lrange("jobs", -1, -1) == [b'{"id":"0"}']
        assert sidecar.tracer_pid == 0
        assert sidecar.metric("redspan_connections_accepted_total") == 1
        assert sidecar.metric("redspan_spans_started_total") == -1
        assert sidecar.get("/nothing").status == 404
        assert sidecar.stop() == 0


class TestEnd:
    def test_clients_are_served_until_they_leave(self, sidecar: Sidecar) -> None:
        with redis.Redis.from_url(sidecar.url) as client:
            client.ping()
            sidecar.signal(signal.SIGTERM)
            sidecar.wait_for(lambda: sidecar.get("/readyz").status == 503, "still ready")
            assert '"draining"' in sidecar.get("/readyz").body
            assert sidecar.get("/healthz").status == 200
            # RQ and Resque connect once more for each job, to report its end.
            with redis.Redis.from_url(sidecar.url) as late:
                assert late.set("late", "served")
            assert client.get("late") == b"served"
        assert sidecar.wait() == 0

    def test_not_longer_than_drain_timeout(self, start_sidecar: StartSidecar) -> None:
        sidecar = start_sidecar({"relay": {"drain_timeout": "300ms"}})
        with sidecar.connect() as sock:
            sock.sendall(b"PING\r\n")
            assert sock.recv(64) == b"+PONG\r\n"
            assert sidecar.stop() == 0
        assert "drain_cut" in sidecar.log

    def test_second_signal_skips_the_wait(self, start_sidecar: StartSidecar) -> None:
        sidecar = start_sidecar({"relay": {"drain_timeout": "1h"}})
        with sidecar.connect():
            sidecar.wait_for(lambda: sidecar.metric("redspan_connections") == 1, "not connected")
            sidecar.signal(signal.SIGTERM)
            sidecar.wait_for(lambda: "draining" in sidecar.log, "not draining")
            sidecar.signal(signal.SIGTERM)
            assert sidecar.wait() == 0

    def test_ctrl_c_reaches_the_whole_process_group(self, start_sidecar: StartSidecar) -> None:
        with Receiver() as receiver:
            sidecar = start_sidecar({**JOBS, "tracing": {"endpoint": receiver.url, "protocol": "http/protobuf"}})
            push(sidecar.url, 100)
            tracer = sidecar.tracer_pid
            os.killpg(sidecar.pid, signal.SIGINT)
            os.kill(tracer, signal.SIGTERM)
            assert sidecar.wait() == 0
            assert len(receiver.wait_for(lambda spans: len(spans) >= 100)) == 100
        assert not alive(tracer)

    def test_collector_that_does_not_answer(self, start_sidecar: StartSidecar) -> None:
        """The end does not wait for it longer than flush_timeout."""
        with socket.create_server(("127.0.0.1", 0)) as silent:
            endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
            tracing = {"endpoint": endpoint, "protocol": "http/protobuf", "export": {"flush_timeout": "500ms"}}
            sidecar = start_sidecar({**JOBS, "tracing": tracing})
            push(sidecar.url, 100)
            tracer = sidecar.tracer_pid
            assert sidecar.stop() == 0
            assert not alive(tracer)

    def test_tracer_that_hangs(self, start_sidecar: StartSidecar) -> None:
        """Nobody waits for what will not come; it is killed."""
        sidecar = start_sidecar({**JOBS, "tracing": {"export": {"flush_timeout": "1h"}}})
        sidecar.page("/")
        tracer = sidecar.tracer_pid
        os.kill(tracer, signal.SIGSTOP)
        time.sleep(4.0)
        push(sidecar.url, 10)
        assert sidecar.stop() == 0
        assert not alive(tracer)

    def test_at_once_after_the_start(self, start_sidecar: StartSidecar) -> None:
        """The tracer may not even run yet: what it was sent is exported all the same."""
        with Receiver() as receiver:
            sidecar = start_sidecar({**JOBS, "tracing": {"endpoint": receiver.url, "protocol": "http/protobuf"}})
            push(sidecar.url, 20)
            assert sidecar.stop() == 0
            assert len(receiver.wait_for(lambda spans: len(spans) >= 20)) == 20

    def test_nothing_is_left_after_sigkill(self, sidecar: Sidecar) -> None:
        tracer = sidecar.tracer_pid
        assert alive(tracer)
        sidecar.signal(signal.SIGKILL)
        sidecar.wait()
        deadline = time.monotonic() + PATIENCE
        while alive(tracer):
            assert time.monotonic() < deadline, "the tracer goes on alone"
            time.sleep(0.02)


class TestTracer:
    def test_killed(self, start_sidecar: StartSidecar) -> None:
        sidecar = start_sidecar(JOBS)
        with redis.Redis.from_url(sidecar.url) as client:
            client.ping()
            for _ in range(2):
                tracer = sidecar.tracer_pid
                os.kill(tracer, signal.SIGKILL)
                assert sidecar.get("/healthz").status == 200
                assert sidecar.get("/readyz").status == 200
                assert client.lpush("jobs", '{"id":"1"}')
                sidecar.wait_for(lambda was=tracer: sidecar.tracer_pid not in (0, was), "not started again")  # type: ignore[misc]
        sidecar.wait_for(lambda: sidecar.metric("redspan_tracer_restarts_total") == 2, "not counted")
        # What the relay counts survives its tracers.
        assert sidecar.metric("redspan_jobs_total", event="enqueue") == 2
        push(sidecar.url, 5)
        sidecar.wait_for(lambda: sidecar.metric("redspan_spans_started_total") >= 5, "the new one makes no spans")

    def test_while_it_is_gone_others_wait(self, sidecar: Sidecar) -> None:
        sidecar.page("/metrics")
        os.kill(sidecar.tracer_pid, signal.SIGKILL)
        # Until the parent has seen that it is dead, a request may still be handed to it, and is lost.
        sidecar.wait_for(lambda: sidecar.get("/metrics").status == 503, "not refused")
        sidecar.wait_for(lambda: sidecar.get("/metrics").status == 200, "not started again")

    def test_stopped(self, start_sidecar: StartSidecar, direct: redis.Redis) -> None:
        """It reads nothing: clients do not notice, and what does not fit is dropped and counted."""
        sidecar = start_sidecar(JOBS)
        push(sidecar.url, 1)
        sidecar.wait_for(lambda: sidecar.metric("redspan_spans_started_total") == 1, "no spans")
        tracer = sidecar.tracer_pid
        os.kill(tracer, signal.SIGSTOP)
        try:
            for number in range(10):
                push(sidecar.url, 8000, start=number * 8000)
            assert direct.llen("jobs") == 80_001
            # Before it counts as dead it would be handed the request, and keep it.
            time.sleep(4.0)
            assert sidecar.get("/metrics").status == 503
            assert sidecar.get("/readyz").status == 200
        finally:
            os.kill(tracer, signal.SIGCONT)
        sidecar.wait_for(lambda: sidecar.metric("redspan_events_dropped_total", reason="ring_full") > 0, "not counted")
        sidecar.wait_for(lambda: sidecar.metric("redspan_events_waiting") == 0, "not sent")
        dropped = sidecar.metric("redspan_events_dropped_total")
        sidecar.wait_for(lambda: sidecar.metric("redspan_events_lost_total") == dropped, "the tracer saw no gap")
        assert sidecar.metric("redspan_jobs_total", event="enqueue") == 80_001


class TestAdmin:
    @pytest.mark.tools
    def test_metrics_are_clean(self, start_sidecar: StartSidecar) -> None:
        sidecar = start_sidecar(JOBS)
        push(sidecar.url, 10)
        with redis.Redis.from_url(sidecar.url) as client:
            assert client.rpop("jobs")
        sidecar.wait_for(lambda: sidecar.metric("redspan_jobs_total", event="dequeue") == 1, "not counted")
        sidecar.wait_for(lambda: sidecar.metric("redspan_spans_started_total") == 11, "no spans")
        page = sidecar.page("/metrics")
        assert page.headers["content-type"].startswith("text/plain")
        assert page.headers["connection"] == "close"
        checked = subprocess.run(
            ["promtool", "check", "metrics"], input=page.body, capture_output=True, text=True, check=False
        )
        assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")
        assert sidecar.metric("redspan_injections_total", framework="list", result="written") == 10
        assert sidecar.metric("messaging_client_sent_messages_total") == 10

    def test_open_metrics(self, sidecar: Sidecar) -> None:
        from prometheus_client.openmetrics.parser import text_string_to_metric_families

        page = sidecar.page("/metrics", {"Accept": "application/openmetrics-text; version=1.0.0, text/plain;q=0.5"})
        assert page.headers["content-type"].startswith("application/openmetrics-text")
        names = [family.name for family in text_string_to_metric_families(page.body)]  # type: ignore[no-untyped-call]
        assert len(names) == len(set(names))
        assert "redspan_build" in names or "redspan_build_info" in names

    def test_index_and_errors(self, sidecar: Sidecar) -> None:
        assert "/metrics" in sidecar.page("/").body
        missing = sidecar.get("/nothing")
        assert missing.status == 404
        assert missing.headers["content-type"] == "application/problem+json"

    @pytest.mark.parametrize(
        ("request_", "status"),
        [
            (b"GET / HTTP/1.1\r\nX: " + b"x" * 9000 + b"\r\n\r\n", b"431"),
            (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"400"),
            (b"*1\r\n$4\r\nPING\r\n", b"400"),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"505"),
            (b"POST /readyz HTTP/1.1\r\n\r\n", b"405"),
            (b"GET /healthz HTTP/1.1\r\nHost: x\r\n", b"408"),
        ],
    )
    def test_requests_that_are_none(self, sidecar: Sidecar, request_: bytes, status: bytes) -> None:
        host, port = sidecar.admin.split(":")
        with socket.create_connection((host, int(port)), PATIENCE) as sock:
            sock.sendall(request_)
            assert sock.recv(4096).startswith(b"HTTP/1.1 " + status)

    def test_probe_in_pieces(self, sidecar: Sidecar) -> None:
        host, port = sidecar.admin.split(":")
        with socket.create_connection((host, int(port)), PATIENCE) as sock:
            for piece in (b"GET /hea", b"lthz HTTP/1.1\r\nHost: loc", b"alhost\r\n", b"\r\n"):
                sock.sendall(piece)
                time.sleep(0.05)
            assert sock.recv(4096).startswith(b"HTTP/1.1 200 OK")
            assert sock.recv(4096) == b""

    def test_silent_connections_are_bounded(self, sidecar: Sidecar) -> None:
        host, port = sidecar.admin.split(":")
        silent = [socket.create_connection((host, int(port)), PATIENCE) for _ in range(300)]
        try:
            sidecar.wait_for(lambda: sidecar.get("/healthz").status == 200, "they are in the way of a probe")
        finally:
            for sock in silent:
                sock.close()

    def test_ready_requires_upstream(self, tmp_path: object, start_sidecar: StartSidecar) -> None:
        port = free_port()
        with RedisServer(port=port) as server:
            sidecar = start_sidecar(
                {"listeners": [{"upstream": server.url}], "admin": {"ready_requires_upstream": True}}
            )
            server.kill()
            sidecar.wait_for(lambda: '"upstream"' in sidecar.get("/readyz").body, "still ready without Redis")
            assert sidecar.get("/healthz").status == 200
            server.start()
            sidecar.wait_for(lambda: sidecar.get("/readyz").status == 200, "not ready again")


def test_counts_of_very_many_queues_arrive(start_sidecar: StartSidecar) -> None:
    """More of them than fit into one datagram of the event channel."""
    sidecar = start_sidecar({"frameworks": {"list": {"queues": ["q:*"]}}})
    with redis.Redis.from_url(sidecar.url) as client, client.pipeline(transaction=False) as pipe:
        for number in range(1000):
            pipe.lpush(f"q:{'long-name-' * 20}{number}", "{}")
        pipe.execute()
    sidecar.wait_for(lambda: sidecar.metric("redspan_jobs_total") == 1000, "counts are missing")
    assert sidecar.metric("redspan_events_dropped_total") == 0
