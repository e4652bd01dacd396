"""A real OpenTelemetry Collector between redspan and the tests: what it understands of each protocol."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import redis
import yaml

from proxy.demo import stage
from proxy.demo.app.worker import COMPLETED, DEAD_LETTER
from tests.clients.go_programs import GoProgram, build
from tests.clients.traces import assert_parents_are_exported, by_trace
from tests.conftest import StartSidecar
from tests.receiver import ReceivedSpan, Receiver
from tests.redis import PATIENCE, free_port

pytestmark = pytest.mark.go

JOBS = 12
"""Of the demo: four are for pictures, two of which fail for good, and three mails are greylisted once."""
PROTOCOLS = ("http", "grpc", "zipkin")


@contextmanager
def running(folder: Path, ports: dict[str, int], receivers: dict[str, Receiver]) -> Iterator[None]:
    """A collector that passes on what comes by one protocol to the receiver of that name."""
    bind = {name: f"127.0.0.1:{port}" for name, port in ports.items()}
    settings = {
        "receivers": {
            "otlp/http": {"protocols": {"http": {"endpoint": bind["http"]}}},
            "otlp/grpc": {"protocols": {"grpc": {"endpoint": bind["grpc"]}}},
            "zipkin/zipkin": {"endpoint": bind["zipkin"]},
        },
        "exporters": {f"otlphttp/{name}": {"endpoint": receivers[name].url} for name in PROTOCOLS},
        "service": {
            "telemetry": {"metrics": {"level": "none"}},
            "pipelines": {
                f"traces/{name}": {
                    "receivers": [f"{'zipkin' if name == 'zipkin' else 'otlp'}/{name}"],
                    "exporters": [f"otlphttp/{name}"],
                }
                for name in PROTOCOLS
            },
        },
    }
    file = folder / "collector.yaml"
    file.write_text(yaml.safe_dump(settings))
    with GoProgram([build("collector"), "--config", file], folder / "collector.log") as program:
        for port in ports.values():
            _wait_for(port, program)
        yield
        assert program.stop() == 0, program.log


def _wait_for(port: int, program: GoProgram) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        assert not program.ended, program.log
        assert time.monotonic() < deadline, program.log
        time.sleep(0.05)


def demo(url: str, directory: Path, done: Callable[[], bool]) -> None:
    """The demo's own producer and workers, until ``done``: some jobs fail at first, some for good."""
    with ExitStack() as stack:
        for number in (1, 2):
            stack.enter_context(stage.worker(directory, url, number))
        stack.enter_context(stage.producer(directory, url, JOBS, 0.02))
        deadline = time.monotonic() + PATIENCE
        while not done():
            assert time.monotonic() < deadline
            time.sleep(0.05)


def over(client: redis.Redis) -> int:
    return int(client.llen(COMPLETED)) + int(client.llen(DEAD_LETTER))


def essence(spans: list[ReceivedSpan]) -> list[tuple[Any, ...]]:
    """What no protocol may change; times in microseconds."""
    return sorted(
        (one.trace_id, one.span_id, one.parent_id, one.name, one.kind, one.status, one.start // 1000, one.scope)
        for one in spans
    )


def test_the_same_spans_by_every_protocol(start_sidecar: StartSidecar, tmp_path: Path) -> None:
    ports = {name: free_port() for name in PROTOCOLS}
    with ExitStack() as stack:
        receivers = {name: stack.enter_context(Receiver()) for name in (*PROTOCOLS, "direct")}
        stack.enter_context(running(tmp_path, ports, receivers))
        sidecar = start_sidecar(
            {
                "frameworks": {"list": stage.LISTS},
                "tracing": {
                    "service_name": "shop",
                    "endpoint": f"http://127.0.0.1:{ports['http']}",
                    "protocol": "http/protobuf",
                    "export": {"interval": "100ms"},
                    "exporters": [
                        {"endpoint": f"127.0.0.1:{ports['grpc']}", "protocol": "grpc"},
                        {"endpoint": f"http://127.0.0.1:{ports['zipkin']}/api/v2/spans"},
                        {"endpoint": receivers["direct"].url},
                    ],
                },
            }
        )
        with redis.Redis.from_url(sidecar.url) as client:
            # The mails of `linus` and the unfinished pictures are tried again.
            demo(sidecar.url, tmp_path, lambda: over(client) == JOBS)

            def counted(event: str) -> int:
                return int(sidecar.metric("redspan_jobs_total", event=event))

            # What is counted is told once a second.
            sidecar.wait_for(lambda: JOBS < counted("enqueue") == counted("ack"), "not every attempt is counted")
            attempts = counted("enqueue")
        got = {name: one.wait_for(lambda spans: len(spans) >= 3 * attempts) for name, one in receivers.items()}
        assert sidecar.metric("redspan_export_requests_total", result="error") == 0
        assert sidecar.stop() == 0
    assert len(by_trace(got["direct"])) == JOBS
    assert_parents_are_exported(got["direct"])
    assert attempts > JOBS
    direct = essence(got["direct"])
    for name in PROTOCOLS:
        assert essence(got[name]) == direct, name
        assert {span.resource["service.name"] for span in got[name]} == {"shop"}
        assert {span.name for span in got[name] if span.status == "ERROR"} == {"job.process"}
    sent = {span.span_id: span for span in got["direct"]}
    for name in ("http", "grpc"):
        assert {span.span_id: span.attributes for span in got[name]} == {
            key: one.attributes for key, one in sent.items()
        }
    for span in got["zipkin"]:
        texts = {name: _text(value) for name, value in sent[span.span_id].attributes.items()}
        assert {name: _text(value) for name, value in span.attributes.items()}.items() >= texts.items()
        assert span.attributes["network.peer.address"] == "127.0.0.1"  # the remote endpoint: Redis


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
