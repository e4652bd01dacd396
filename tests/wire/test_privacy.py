"""Personal data in payloads, keys, names of clients and errors: everything that redspan emits is searched for it."""

from __future__ import annotations

import contextlib
import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from proxy.config import Frameworks
from proxy.frameworks.registry import build
from tests.conftest import StartSidecar
from tests.receiver import ReceivedSpan, Receiver
from tests.redis import RedisServer, free_port
from tests.sidecar import Sidecar
from tests.wire import personal
from tests.wire.personal import CREDENTIAL, EMAIL, PERSONAL
from tests.wire.surfaces import Watched
from tests.zipkin_receiver import ZipkinReceiver

LAST = "the-last-job"
OWN = {"list", "stream", "zset", "script"}
"""Queues that the user describes."""


@pytest.fixture
def receivers() -> Iterator[tuple[Receiver, ZipkinReceiver]]:
    with Receiver() as one, ZipkinReceiver() as other:
        yield one, other


def connect(sidecar: Sidecar) -> redis.Redis:
    return redis.Redis.from_url(sidecar.url, client_name=EMAIL)


def work(client: redis.Redis) -> None:
    """Jobs with all of it in every place, through to success and to the dead letters; and what Redis refuses."""
    for name, value in PERSONAL.items():
        queue = f"jobs:{value.replace(' ', '_')}" if name in ("email", "ip", "ssn", "own") else "jobs:plain"
        client.lpush(queue, json.dumps(personal.job(name)))
        taken = client.lmove(queue, "work:1", "RIGHT", "LEFT")
        assert isinstance(taken, bytes)
        client.lpush("dead" if name == "email" else "done", taken)
        client.lrem("work:1", 1, taken)  # type: ignore[arg-type]  # the library's types know no bytes here
    client.set("jobs:wrong", EMAIL)
    refused = json.dumps({"id": PERSONAL["card"]})
    login = ("default", CREDENTIAL)
    for command in (("LPUSH", "jobs:wrong", refused), ("AUTH", *login), ("HELLO", 3, "AUTH", *login)):
        with contextlib.suppress(redis.RedisError):
            client.execute_command(*command)  # type: ignore[no-untyped-call]


def finish(client: redis.Redis) -> None:
    client.lpush("jobs:last", json.dumps({"id": LAST}))


def search(emitted: dict[str, str]) -> None:
    for text in personal.spellings():
        found = [where for where, said in emitted.items() if text in said]
        assert found == [], text


def frameworks(spans: list[ReceivedSpan]) -> set[str]:
    return {span.attributes["redspan.framework"] for span in spans}


@pytest.mark.parametrize("console", ["tree", "json"])
def test_nothing_personal_leaves(
    console: str, start_sidecar: StartSidecar, receivers: tuple[Receiver, ZipkinReceiver]
) -> None:
    receiver, zipkin = receivers
    places = {
        "endpoint": receiver.url,
        "exporters": [{"endpoint": f"{zipkin.url}/api/v2/spans"}],
        "console_exporter": console,
        "spans": {"naming": "semconv"},
    }
    sidecar = start_sidecar(personal.settings(**places))
    with Watched(sidecar, receivers) as watched:
        with connect(sidecar) as client:
            work(client)
            finish(client)
        spans = receiver.wait_for(lambda spans: len(spans) >= 3 * len(PERSONAL) + 1)
        emitted = watched.emitted(LAST, list(PERSONAL.values()))
    assert {f"to [{word}]" for word in ("email", "ip", "card", "ssn", "phone", "custom")} <= {
        str(span.attributes.get("redspan.payload.shown")) for span in spans
    }
    for where in ("to Receiver", "to ZipkinReceiver", f"/api/jobs/{EMAIL}"):
        assert "redspan.payload.shown" in emitted[where], "what is allowed is not there"
    assert "queue.name" in emitted["its log, and the console"] or console == "tree"
    assert '"job.enqueued"' in emitted["its log, and the console"], "no stream of events"
    search(emitted)


def test_nor_from_a_job_of_any_framework(
    start_sidecar: StartSidecar, receivers: tuple[Receiver, ZipkinReceiver]
) -> None:
    receiver, zipkin = receivers
    places = {"endpoint": receiver.url, "exporters": [{"endpoint": f"{zipkin.url}/api/v2/spans"}]}
    assert {*personal.FRAMEWORKS} == {one.name for one in build(Frameworks())} - OWN
    sidecar = start_sidecar(personal.settings(**places, console_exporter="tree"))
    with Watched(sidecar, receivers) as watched:
        with connect(sidecar) as client:
            for commands in personal.FRAMEWORKS.values():
                for command in commands():
                    client.execute_command(*command)
            finish(client)
        receiver.wait_for(lambda spans: any(span.attributes.get("messaging.message.id") == LAST for span in spans))
        sidecar.wait_for(lambda: frameworks(receiver.spans) >= {*personal.FRAMEWORKS}, "a framework has no span")
        assert sidecar.metric("redspan_blind_total") == 0
        search(watched.emitted(LAST, [EMAIL]))


def test_no_secret_of_the_settings_is_shown(
    start_sidecar: StartSidecar, redis_server: RedisServer, tmp_path: Path
) -> None:
    """Neither by the log, whatever fails, nor by the pages, nor when it is replaced."""
    (tmp_path / "headers").write_text(f"x-more: {CREDENTIAL}\n")
    sidecar = start_sidecar(
        {
            "listeners": [{}, {"upstream": redis_server.url.replace("redis://", f"redis://me:{CREDENTIAL}@")}],
            "tracing": {
                "endpoint": f"http://127.0.0.1:{free_port()}/v1/traces?key={CREDENTIAL}",
                "protocol": "http/protobuf",
                "headers": {"authorization": f"Bearer {CREDENTIAL}"},
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
    sidecar.settings["tracing"]["headers"] = {"authorization": f"Bearer {CREDENTIAL} of tomorrow"}
    sidecar.write()
    sidecar.signal(signal.SIGHUP)
    sidecar.wait_for(lambda: "tracing.headers.authorization" in sidecar.log, "the change was not told of")
    pages = "".join(sidecar.page(path).body for path in ("/metrics", "/api/config", "/healthz", "/readyz"))
    assert "tracing.headers.authorization" in pages
    assert CREDENTIAL not in pages + sidecar.log
