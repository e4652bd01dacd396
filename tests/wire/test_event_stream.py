"""What happens to jobs, for other programs: in a file, on standard output, as server-sent events; always the same."""

from __future__ import annotations

import http.client
import json
from pathlib import Path
from typing import Any

import redis

from proxy.address import parse_bind
from tests.conftest import StartSidecar
from tests.redis import PATIENCE
from tests.sidecar import Sidecar
from tests.wire.shop import SECRET, SETTINGS, busy, done, job, work

HAPPENS = [
    ("ok", "job.enqueued"), ("ok", "job.started"), ("ok", "job.completed"),
    ("bad", "job.enqueued"), ("bad", "job.started"), ("bad", "job.dead"),
    ("on", "job.enqueued"), ("on", "job.started"), ("todo", "job.enqueued"),
]  # fmt: skip


def events(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines() if line.startswith('{"time"')]


def test_a_line_for_whatever_happens(start_sidecar: StartSidecar, tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    sidecar = start_sidecar({**SETTINGS, "events": {"to": str(file)}})
    busy(sidecar)
    sidecar.wait_for(lambda: len(events(file.read_text())) == len(HAPPENS), "events are missing")
    told = events(file.read_text())
    assert sorted((one["job_id"], one["event"]) for one in told) == sorted(HAPPENS)
    by_job = {(one["job_id"], one["event"]): one for one in told}
    dead = by_job["bad", "job.dead"]
    assert (dead["queue"], dead["type"], dead["correlation_id"], dead["error"]) == (
        "mail",
        "send",
        "o-1",
        "dead_letter",
    )
    assert dead["duration_ms"] > 0
    assert dead["trace_url"].startswith(f"http://jaeger:16686/trace/{dead['trace_id']}")
    assert SECRET not in file.read_text()
    assert sidecar.metric("redspan_lifecycle_events_total", result="written") == len(HAPPENS)
    assert sidecar.metric("redspan_lifecycle_events_total", result="dropped") == 0


def test_on_standard_output_to_the_last_one(start_sidecar: StartSidecar) -> None:
    sidecar = start_sidecar({**SETTINGS, "events": {"to": "stdout"}})
    busy(sidecar)
    assert sidecar.stop() == 0
    assert sorted((one["job_id"], one["event"]) for one in events(sidecar.log)) == sorted(HAPPENS)


def test_what_cannot_be_opened_is_said_and_jobs_go_on(start_sidecar: StartSidecar, tmp_path: Path) -> None:
    sidecar = start_sidecar({**SETTINGS, "events": {"to": str(tmp_path / "no" / "folder")}})
    busy(sidecar)
    assert "cannot write events to" in sidecar.log


def stream(sidecar: Sidecar, query: str) -> http.client.HTTPResponse:
    address = parse_bind(sidecar.admin)
    connection = http.client.HTTPConnection(address.host, address.port, timeout=PATIENCE)
    connection.request("GET", f"/api/events?{query}")
    return connection.getresponse()


def test_the_same_as_server_sent_events(start_sidecar: StartSidecar) -> None:
    sidecar = start_sidecar(SETTINGS)
    assert sidecar.page("/api/events?lifecycle=true&status=dead").status == 400
    with stream(sidecar, "lifecycle=true&queue=mail") as answer, redis.Redis.from_url(sidecar.url) as client:
        assert answer.status == 200
        client.lpush("orders", job("other"))
        client.lpush("mail", job("m", type="send"))
        done(client, work(client, "mail", "w1"), "w1")
        names: list[str] = []
        told: list[dict[str, Any]] = []
        while len(told) < 3:
            line = answer.readline().decode().strip()
            if line.startswith("event: "):
                names.append(line.removeprefix("event: "))
            elif line.startswith("data: "):
                told.append(json.loads(line.removeprefix("data: ")))
    assert names == [one["event"] for one in told] == ["job.enqueued", "job.started", "job.completed"]
    assert {one["job_id"] for one in told} == {"m"}
