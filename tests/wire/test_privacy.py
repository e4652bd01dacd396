"""Personal data in payloads, keys, names of clients and errors: everything that redspan emits is searched for it."""

from __future__ import annotations

import contextlib
import json
import signal
from pathlib import Path

import redis

from tests.conftest import StartSidecar
from tests.receiver import Receiver
from tests.redis import RedisServer, free_port
from tests.sidecar import Sidecar

PERSONAL = {
    "email": "jane.doe@example.com",
    "ip": "203.0.113.77",
    "card": "4111 1111 1111 1111",
    "ssn": "078-05-1120",
    "phone": "+49 30 1234567",
    "own": "ACC-99887766",
}
SECRET = "hunter2-in-the-payload"
PATHS = {"tenant": "email", "correlation_id": "ip", "priority": "card", "idempotency_key": "ssn", "error": "phone"}


def work(sidecar: Sidecar) -> None:
    """Jobs with all of it in every place, through to success and to the dead letters; and what Redis refuses."""
    with redis.Redis.from_url(sidecar.url, client_name=PERSONAL["email"], decode_responses=True) as client:
        for name, value in PERSONAL.items():
            queue = f"jobs:{value.replace(' ', '_')}" if name in ("email", "ip", "ssn", "own") else "jobs:plain"
            job = {"id": value, "type": f"mail {value}", "secret": SECRET, "shown": f"to {value}", **PERSONAL}
            client.lpush(queue, json.dumps(job))
            taken = client.lmove(queue, "work:1", "RIGHT", "LEFT")
            assert taken is not None
            client.lpush("dead" if name == "email" else "done", taken)
            client.lrem("work:1", 1, str(taken))
        client.set("jobs:wrong", PERSONAL["email"])
        with contextlib.suppress(redis.ResponseError):
            client.lpush("jobs:wrong", json.dumps({"id": PERSONAL["card"]}))


def test_nothing_personal_leaves(start_sidecar: StartSidecar) -> None:
    with Receiver() as receiver:
        sidecar = start_sidecar(
            {
                "frameworks": {
                    "list": {
                        "queues": ["jobs:*"],
                        "processing": ["work:*"],
                        "completed": ["done"],
                        "dead_letter": ["dead"],
                        **PATHS,
                    }
                },
                "tracing": {
                    "endpoint": receiver.url,
                    "protocol": "http/protobuf",
                    "export": {"interval": "50ms", "compression": "none"},
                    "spans": {"naming": "semconv"},
                    "attribute_filter": {"allow": [{"framework": "list", "paths": ["shown"]}]},
                    "security": {"pii_patterns": [r"ACC-\d+"]},
                },
                "log": {"level": "debug"},
            }
        )
        work(sidecar)
        spans = receiver.wait_for(lambda spans: len(spans) >= 3 * len(PERSONAL))
        sent = repr(receiver.spans)
        pages = "".join(sidecar.page(path).body for path in ("/metrics", "/healthz", "/readyz"))
        sidecar.stop()
        emitted = sent + pages + sidecar.log
    assert "redspan.payload.shown" in emitted, "what is allowed is not there"
    assert {"to [email]", "to [ip]", "to [card]", "to [ssn]", "to [phone]", "to [custom]"} <= {
        str(span.attributes.get("redspan.payload.shown")) for span in spans
    }
    for text in (*PERSONAL.values(), SECRET):
        for spelling in (text, text.replace(" ", "_"), text.replace(" ", "")):
            assert spelling not in emitted, spelling


def test_no_secret_of_the_settings_is_shown(
    start_sidecar: StartSidecar, redis_server: RedisServer, tmp_path: Path
) -> None:
    """Neither by the log, whatever fails, nor by the pages, nor when it is replaced."""
    (tmp_path / "headers").write_text(f"x-more: {SECRET}\n")
    sidecar = start_sidecar(
        {
            "listeners": [{}, {"upstream": redis_server.url.replace("redis://", f"redis://me:{SECRET}@")}],
            "tracing": {
                "endpoint": f"http://127.0.0.1:{free_port()}/v1/traces?key={SECRET}",
                "protocol": "http/protobuf",
                "headers": {"authorization": f"Bearer {SECRET}"},
                "headers_file": str(tmp_path / "headers"),
                "export": {"interval": "50ms", "timeout": "200ms"},
            },
            "frameworks": {"list": {"queues": ["jobs"]}},
            "log": {"level": "debug"},
        }
    )
    with redis.Redis.from_url(sidecar.url) as client:
        client.lpush("jobs", '{"id": 1}')
    with contextlib.suppress(redis.RedisError):
        redis.Redis.from_url(f"redis://{sidecar.settings['listeners'][1]['bind']}").ping()
    sidecar.wait_for(lambda: sidecar.metric("redspan_upstream_failures_total", reason="login") == 1, "not refused")
    sidecar.wait_for(lambda: sidecar.metric("redspan_export_requests_total", result="error") > 0, "no export failed")
    sidecar.settings["tracing"]["headers"] = {"authorization": f"Bearer {SECRET} of tomorrow"}
    sidecar.write()
    sidecar.signal(signal.SIGHUP)
    sidecar.wait_for(lambda: "tracing.headers.authorization" in sidecar.log, "the change was not told of")
    pages = "".join(sidecar.page(path).body for path in ("/metrics", "/api/config", "/healthz", "/readyz"))
    assert "tracing.headers.authorization" in pages
    assert SECRET not in pages + sidecar.log
