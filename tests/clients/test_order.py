"""Workers that do one job after the other do them in the order in which they were sent, as without redspan."""

from __future__ import annotations

from pathlib import Path

import pytest
import redis

from tests.clients.python_workers import FRAMEWORKS, produce, worker
from tests.clients.traces import assert_parents_are_exported, by_trace
from tests.conftest import StartSidecar
from tests.receiver import Receiver
from tests.redis import PATIENCE, RedisServer

COUNT = 20
STREAM = '{"stream": true}'


@pytest.mark.parametrize(
    ("framework", "options"),
    [*((name, "{}") for name in FRAMEWORKS), pytest.param("taskiq", STREAM, id="taskiq-stream")],
)
def test_jobs_run_in_the_order_they_were_sent(
    framework: str,
    options: str,
    start_sidecar: StartSidecar,
    receiver: Receiver,
    redis_server: RedisServer,
    direct: redis.Redis,
    tmp_path: Path,
) -> None:
    tracing = {"endpoint": receiver.url, "protocol": "http/protobuf", "export": {"interval": "100ms"}}
    sidecar = start_sidecar({"tracing": tracing})
    for url in (redis_server.url, sidecar.url):
        direct.flushall()
        produce(framework, url, "many", COUNT, TASKIQ_OPTIONS=options)
        with worker(framework, url, tmp_path, one=True, TASKIQ_OPTIONS=options):
            sidecar.wait_for(lambda: direct.llen("ran") == COUNT, "not all have run", 2 * PATIENCE)
            if url == sidecar.url:
                spans = receiver.wait_for(lambda spans: sum(span.name == "job.process" for span in spans) == COUNT)
        assert direct.lrange("ran", 0, -1) == [b"%d" % number for number in range(COUNT)]
    assert_parents_are_exported(spans)
    assert len(by_trace(spans)) == COUNT
    assert sidecar.metric("redspan_blind_total") == 0
