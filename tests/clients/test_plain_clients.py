"""Plain redis-py and redis-cli, unmodified, through the sidecar: one job is one trace of three spans."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.clients.traces import assert_one_trace_a_job
from tests.receiver import Receiver
from tests.redis import executable
from tests.sidecar import Sidecar

APP = Path(__file__).with_name("apps") / "queue_app.py"
REDIS_PY_5 = Path(sys.prefix) / "redis-py-5"
"""Where `make test` installs the old major version, beside the current one."""
JOBS = 3

CLIENTS = {
    "redis-py, RESP3": ("", "3"),
    "redis-py, RESP2": ("", "2"),
    "redis-py 5, RESP2": (str(REDIS_PY_5), "2"),
    "redis-py 5, RESP3": (str(REDIS_PY_5), "3"),
}


def run_app(client: str, url: str, queue: str, manner: str) -> dict[str, Any]:
    path, protocol = CLIENTS[client]
    if path:
        assert Path(path).is_dir(), f"{path} is missing: make test installs it"
    done = subprocess.run(
        [sys.executable, str(APP), url, protocol, queue, manner, str(JOBS)],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said: dict[str, Any] = json.loads(done.stdout)
    assert said["redis"].startswith("5.") == bool(path)
    return said


@pytest.mark.parametrize("client", CLIENTS)
def test_a_job_is_one_trace_in_every_manner_of_sending(
    client: str, traced: Callable[..., Sidecar], receiver: Receiver
) -> None:
    reliable = traced()
    for manner in ("single", "pipeline", "multi"):
        said = run_app(client, reliable.url, "orders", manner)
        assert said["removed"] == [1] * JOBS
        assert all("traceparent" in job for job in said["received"])
    assert_one_trace_a_job(receiver.wait_for(lambda spans: len(spans) >= 9 * JOBS), 3 * JOBS)
    assert reliable.metric("redspan_blind_total") == 0


@pytest.mark.parametrize("client", CLIENTS)
def test_a_plain_queue_too_with_an_inferred_end(
    client: str, traced: Callable[..., Sidecar], receiver: Receiver
) -> None:
    plain = traced(end="next_pop")
    for manner in ("single", "pipeline", "multi"):
        assert len(run_app(client, plain.url, "plain", manner)["received"]) == JOBS
    spans = receiver.wait_for(lambda spans: len(spans) >= 9 * JOBS)
    assert_one_trace_a_job(spans, 3 * JOBS)
    assert all(span.attributes["redspan.end.inferred"] for span in spans if span.name == "job.process")


def redis_cli() -> str:
    """The one on PATH, else the one beside the server that the tests use."""
    return shutil.which("redis-cli") or str(Path(executable()).with_name("redis-cli"))


@pytest.mark.parametrize("options", [[], ["-3"]], ids=["RESP2", "RESP3"])
def test_redis_cli(options: list[str], traced: Callable[..., Sidecar], receiver: Receiver) -> None:
    sidecar = traced()

    def cli(*lines: str) -> str:
        command = [redis_cli(), *options, "--no-raw", "-p", str(sidecar.port)]
        typed = "\n".join(lines) + "\n"
        return subprocess.run(command, input=typed, capture_output=True, text=True, timeout=60, check=True).stdout

    cli("MULTI", """LPUSH orders '{"id": "a"}' '{"id": "b"}'""", "EXEC", """LPUSH orders '{"id": "c"}'""")
    for _ in range(3):
        job = json.loads(cli("RPOPLPUSH orders orders:processing").splitlines()[0])
        assert cli(f"LREM orders:processing 1 {json.dumps(job)}").strip() == "(integer) 1"
    assert_one_trace_a_job(receiver.wait_for(lambda spans: len(spans) >= 9), 3)


@pytest.mark.parametrize(
    "values", [["[1]", "plain text", '{"id":', '{"Traceparent":1}', b"\x80\x05pickle", b"\xef\xbb\xbf{}"]]
)
def test_values_that_fail_a_precondition_pass_byte_for_byte(
    values: list[str | bytes], traced: Callable[..., Sidecar], direct: redis.Redis
) -> None:
    sidecar = traced()
    with redis.Redis.from_url(sidecar.url) as client:
        client.rpush("orders", *values)
    expected = [value.encode() if isinstance(value, str) else value for value in values]
    assert direct.lrange("orders", 0, -1) == expected
    sidecar.wait_for(lambda: sidecar.metric("redspan_injections_total", result="not_object") == 3, "not counted")
    for reason in ("not_json", "similar_key", "bom"):
        assert sidecar.metric("redspan_injections_total", framework="list", result=reason) == 1
