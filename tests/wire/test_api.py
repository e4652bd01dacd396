"""``/api`` of a running sidecar: what it says of jobs, whom it answers, and what it never says."""

from __future__ import annotations

import base64
import http.client
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from proxy.address import parse_bind
from tests.conftest import StartSidecar
from tests.redis import PATIENCE, RedisServer, free_port
from tests.sidecar import Sidecar
from tests.wire.shop import SECRET, SETTINGS, TRACE, ask, busy, ids, job, jobs
from tests.wire.surfaces import Stream


@pytest.fixture(scope="module")
def shop(_redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    settings = {**SETTINGS, "listeners": [{"upstream": _redis_server.url}]}
    settings["tracing"] = {"protocol": "none", "headers": {"authorization": "hush"}}
    with redis.Redis.from_url(_redis_server.url) as client:
        client.flushall()
    with Sidecar(tmp_path_factory.mktemp("shop"), settings) as sidecar:
        busy(sidecar)
        yield sidecar


def problem(sidecar: Sidecar, path: str, headers: dict[str, str] | None = None) -> dict[str, Any]:
    answer = sidecar.get(path, headers)
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = json.loads(answer.body)
    assert body["status"] == answer.status
    return body


def test_a_job_in_a_list(shop: Sidecar) -> None:
    (one,) = jobs(shop, "queue=orders&status=succeeded")
    assert one | {"enqueued_at": "", "heard_at": "", "wait_ms": 0, "process_ms": 0, "trace_url": ""} == {
        "id": "ok",
        "type": "charge",
        "queue": "orders",
        "framework": "list",
        "status": "succeeded",
        "trace_id": TRACE,
        "correlation_id": "o-1",
        "attempt": 1,
        "enqueued_at": "",
        "heard_at": "",
        "wait_ms": 0,
        "process_ms": 0,
        "worker": one["worker"],
        "error": "",
        "trace_url": "",
    }
    assert one["trace_url"].startswith(f"http://jaeger:16686/trace/{TRACE}?uiFind=")
    assert one["enqueued_at"].endswith("Z")


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("queue=mail", ["bad", "todo"]),
        ("type=charge", ["ok", "on"]),
        ("framework=list&id=on", ["on"]),
        ("correlation_id=o-1", ["bad", "ok"]),
        (f"trace_id={TRACE}", ["ok"]),
        ("trace_id=550E8400-E29B-41D4-A716-446655440000", ["ok"]),
        ("status=dead,running", ["bad", "on"]),
        ("status=dead&status=running", ["bad", "on"]),
        ("since=1h", ["bad", "ok", "on", "todo"]),
        ("since=2000-01-01T00:00:00Z&queue=orders", ["ok", "on"]),
        ("since=2999-01-01", []),
        ("slow=1h", []),
        ("worker=nobody", []),
    ],
)
def test_filters(shop: Sidecar, query: str, found: list[str]) -> None:
    assert ids(shop, query) == found


def test_pages(shop: Sidecar) -> None:
    first = ask(shop, "/api/jobs?limit=3")
    second = ask(shop, f"/api/jobs?limit=3&cursor={first['next']}")
    assert [len(page["jobs"]) for page in (first, second)] == [3, 1]
    assert second["next"] is None
    assert len({one["id"] for page in (first, second) for one in page["jobs"]}) == 4


def test_a_job_with_its_story(shop: Sidecar) -> None:
    one = ask(shop, "/api/jobs/bad")
    events = ["enqueued", "delivered", "started", "dead_letter", "failed"]
    assert [step["event"] for step in one["timeline"]] == events
    assert one["timeline"][-1]["error"] == "dead_letter"
    assert [span["operation"] for span in one["spans"]] == ["queue.enqueue", "queue.dequeue", "job.process"]
    assert one["spans"][2]["parent_id"] == one["spans"][1]["span_id"]
    assert one["final"] is True
    assert one["error"] == "dead_letter"


def test_a_trace_as_a_tree(shop: Sidecar) -> None:
    trace = ask(shop, f"/api/traces/{TRACE}")
    enqueue, dequeue = trace["spans"]
    assert (enqueue["operation"], dequeue["operation"]) == ("queue.enqueue", "queue.dequeue")
    assert [child["operation"] for child in dequeue["children"]] == ["job.process"]
    assert trace["jobs"][0]["id"] == enqueue["job_id"] == "ok"
    assert trace["start_us"] == enqueue["start_us"]


@pytest.mark.parametrize(
    ("query", "ids"),
    [("job=o", ["ok", "on"]), ("job=ok", ["ok"]), ("job=x", []), ("trace=550E8400-e2", [TRACE]), ("trace=zz", [])],
)
def test_ids_by_their_beginning(shop: Sidecar, query: str, ids: list[str]) -> None:
    assert sorted(ask(shop, f"/api/ids?{query}")["ids"]) == ids


def test_queues_and_workers(shop: Sidecar) -> None:
    queues = {one["queue"]: one for one in ask(shop, "/api/queues")["queues"]}
    assert queues["mail"]["jobs"] == {"dead": 1, "enqueued": 1}
    assert queues["mail"]["depth"] == 1
    assert queues["orders"]["in_flight"] == 1
    assert set(queues["orders"]["wait_ms"]) == {"p50", "p95", "p99"}
    (worker,) = ask(shop, "/api/workers")["workers"]
    assert worker["worker"].startswith("127.0.0.1:")
    assert (worker["jobs"], worker["failed"], worker["running"]) == (3, 1, ["on"])


def test_the_settings_without_secrets(shop: Sidecar) -> None:
    settings = ask(shop, "/api/config")["settings"]
    assert settings["index.jobs"] == "10000"
    assert settings["tracing.headers.authorization"] == "***"
    assert "hush" not in json.dumps(settings)


@pytest.mark.parametrize("path", ["jobs", "jobs/ok", f"traces/{TRACE}", "queues", "workers"])
def test_never_a_payload(shop: Sidecar, path: str) -> None:
    assert SECRET not in shop.get(f"/api/{path}").body


@pytest.mark.parametrize(
    ("path", "status", "says"),
    [
        ("jobs/nobody", 404, "no such job"),
        ("traces/" + "0" * 31 + "1", 404, "no recent job"),
        ("traces/xyz", 400, "32 hex digits"),
        ("jobs?trace_id=xyz", 400, "32 hex digits"),
        ("jobs?status=happy", 400, "scheduled, enqueued"),
        ("jobs?limit=0", 400, "from 1 to 1000"),
        ("jobs?limit=many", 400, "from 1 to 1000"),
        ("jobs?cursor=x", 400, "cursor"),
        ("jobs?since=soon", 400, "ISO 8601"),
        ("jobs?slow=very", 400, "500ms"),
        ("jobs?trace=1", 400, "trace: unknown"),
        ("events?limit=1", 400, "limit: unknown"),
        ("ids", 400, "either job or trace"),
        ("ids?job=a&trace=b", 400, "either job or trace"),
        ("ids?worker=a", 400, "either job or trace"),
    ],
)
def test_errors(shop: Sidecar, path: str, status: int, says: str) -> None:
    body = problem(shop, f"/api/{path}")
    assert body["status"] == status
    assert says in body["detail"]


def test_nothing_can_be_changed(shop: Sidecar) -> None:
    address = parse_bind(shop.admin)
    for method in ("POST", "PUT", "DELETE"):
        connection = http.client.HTTPConnection(address.host, address.port, timeout=PATIENCE)
        connection.request(method, "/api/jobs/ok")
        answer = connection.getresponse()
        assert (answer.status, answer.getheader("content-type")) == (405, "application/problem+json")
        connection.close()


def test_a_name_of_somebody_elses(shop: Sidecar) -> None:
    """A page on the internet whose name leads here reads nothing."""
    assert problem(shop, "/api/jobs", {"Host": "evil.example"})["status"] == 403
    for host in ("localhost", "127.0.0.1:9464", "[::1]:1"):
        assert shop.get("/api/jobs", {"Host": host}).status == 200
    assert shop.get("/metrics", {"Host": "evil.example"}).status == 200


class TestToken:
    def test_off_loopback(self, tmp_path: Path, start_sidecar: StartSidecar) -> None:
        file = tmp_path / "token"
        file.write_text("open sesame\n")
        bind = f"0.0.0.0:{free_port()}"
        sidecar = start_sidecar({"admin": {"bind": bind, "token_file": str(file)}})
        sidecar.page("/")
        answer = sidecar.get("/api/jobs")
        assert answer.status == 401
        assert answer.headers["www-authenticate"].startswith("Bearer")
        assert sidecar.get("/ui").status == 401
        assert sidecar.get("/api/jobs", {"Authorization": "Bearer wrong"}).status == 401
        assert sidecar.get("/api/jobs", {"Authorization": "Bearer open sesame"}).status == 200
        basic = base64.b64encode(b"me:open sesame").decode()
        assert sidecar.get("/api/jobs", {"Authorization": f"Basic {basic}"}).status == 200
        assert sidecar.get("/metrics").status == 200
        file.write_text("another")
        assert sidecar.get("/api/jobs", {"Authorization": "Bearer open sesame"}).status == 401
        assert sidecar.get("/api/jobs", {"Authorization": "Bearer another"}).status == 200
        file.write_text("")
        assert sidecar.get("/api/jobs", {"Authorization": "Bearer "}).status == 401

    def test_off_loopback_without_one(self, start_sidecar: StartSidecar) -> None:
        sidecar = start_sidecar({"admin": {"bind": f"0.0.0.0:{free_port()}"}})
        sidecar.page("/")
        assert "admin.token_file" in problem(sidecar, "/api/jobs")["detail"]
        assert sidecar.get("/ui").status == 403


class TestEvents:
    def test_jobs_as_they_change(self, start_sidecar: StartSidecar) -> None:
        sidecar = start_sidecar(SETTINGS)
        sidecar.page("/")
        everything, mails = Stream(sidecar), Stream(sidecar, "queue=mail")
        with redis.Redis.from_url(sidecar.url) as client:
            client.lpush("orders", job("a"))
            everything.until(b'"id": "a"')
            client.lpush("mail", job("b"))
        assert b'"id": "a"' not in mails.until(b'"id": "b"')
        assert b"event: job\n" in everything.until(b'"id": "b"')
        for stream in (everything, mails):
            stream.close()

    def test_not_too_many(self, start_sidecar: StartSidecar) -> None:
        sidecar = start_sidecar(SETTINGS)
        sidecar.page("/")
        streams = [Stream(sidecar) for _ in range(32)]
        assert problem(sidecar, "/api/events")["status"] == 503
        for stream in streams:
            stream.close()
        sidecar.wait_for(lambda: self._free(sidecar), "still too many")

    def _free(self, sidecar: Sidecar) -> bool:
        address = parse_bind(sidecar.admin)
        connection = http.client.HTTPConnection(address.host, address.port, timeout=PATIENCE)
        connection.request("GET", "/api/events")
        status = connection.getresponse().status
        connection.close()
        return status == 200
