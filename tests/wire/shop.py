"""Jobs of a shop, sent through a sidecar by a real client, for those who look at them."""

from __future__ import annotations

import json
from typing import Any, Final

import redis

from tests.sidecar import Sidecar

SETTINGS: Final[dict[str, Any]] = {
    "frameworks": {
        "list": {
            "queues": ["orders", "mail*", "<*"],
            "processing": ["work:*"],
            "completed": ["done"],
            "dead_letter": ["dead"],
            "type": "type",
            "correlation_id": "order",
            "attempt": "attempt",
        }
    },
    "admin": {"trace_links": {"backend": "jaeger", "url": "http://jaeger:16686"}},
}
TRACE: Final = "550e8400e29b41d4a716446655440000"
"""Of the job that brings a context."""
SECRET: Final = "4111 1111 1111 1111"
"""In every payload."""


def job(name: str, **members: Any) -> str:
    return json.dumps({"id": name, "attempt": 0, "card": SECRET} | members)


def work(client: redis.Redis, queue: str, worker: str) -> bytes:
    """Take a job."""
    value = client.brpoplpush(queue, f"work:{worker}", 5)
    assert isinstance(value, bytes)
    return value


def done(client: redis.Redis, value: bytes, worker: str, end: str = "done") -> None:
    client.lpush(end, value)
    client.lrem(f"work:{worker}", 1, value)  # type: ignore[arg-type]


def busy(sidecar: Sidecar) -> None:
    """One job of each kind: ``ok`` succeeded, ``bad`` is dead, ``on`` is running, ``todo`` waits."""
    with redis.Redis.from_url(sidecar.url) as client:
        client.lpush("orders", job("ok", type="charge", order="o-1", traceparent=f"00-{TRACE}-00f067aa0ba902b7-01"))
        done(client, work(client, "orders", "w1"), "w1")
        client.lpush("mail", job("bad", type="send", order="o-1"))
        done(client, work(client, "mail", "w2"), "w2", "dead")
        client.lpush("orders", job("on", type="charge", order="o-2"))
        work(client, "orders", "w1")
        client.lpush("mail", job("todo", type="send"))
    sidecar.wait_for(lambda: len(jobs(sidecar)) == 4, "not all jobs are there")
    sidecar.wait_for(lambda: {one["status"] for one in jobs(sidecar)} >= {"succeeded", "dead"}, "not done")


def ask(sidecar: Sidecar, path: str) -> Any:
    answer = sidecar.get(path)
    assert answer.status in (0, 200, 503), answer
    return json.loads(answer.body) if answer.status == 200 else {}


def jobs(sidecar: Sidecar, query: str = "") -> list[dict[str, Any]]:
    return list(ask(sidecar, f"/api/jobs?{query}").get("jobs", []))


def ids(sidecar: Sidecar, query: str = "") -> list[str]:
    return sorted(one["id"] for one in jobs(sidecar, query))
