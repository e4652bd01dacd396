"""deploy/collector: read by a real Collector, rendered for a cluster, and run."""

from __future__ import annotations

import http.client
import re
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.clients.collectors import FAIL
from tests.clients.go_programs import build
from tests.clients.traces import by_trace
from tests.conftest import StartSidecar
from tests.deploy.kinds import assert_valid
from tests.deploy.pods import pods
from tests.deploy.programs import render, said
from tests.deploy.tiers import DECISION_WAIT, FOLDER, PATIENCE, send, tiers
from tests.receiver import ReceivedSpan, Receiver

NODE = {"NODE_NAME": "node-1"}
"""What the agent has by the downward API."""
BACKENDS = sorted(place.stem for place in (FOLDER / "backends").iterdir())


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_collector_takes_the_gateway(backend: str) -> None:
    said(
        build("collector"),
        "validate",
        "--config",
        FOLDER / "gateway.yaml",
        "--config",
        FOLDER / f"backends/{backend}.yaml",
    )


def test_a_collector_takes_the_agent() -> None:
    said(build("collector"), "validate", "--config", FOLDER / "agent.yaml", env=NODE)


def test_a_collector_refuses_what_is_wrong(tmp_path: Path) -> None:
    wrong = tmp_path / "agent.yaml"
    wrong.write_text((FOLDER / "agent.yaml").read_text().replace("routing_key: traceID", "routing_keys: traceID"))
    with pytest.raises(AssertionError, match="routing_keys"):
        said(build("collector"), "validate", "--config", wrong, env=NODE)


def test_in_a_cluster(tmp_path: Path) -> None:
    """The objects are valid, and each container's arguments name files of its ConfigMap, which a Collector takes."""
    objects = render(FOLDER)
    assert_valid(objects)
    maps = {one["metadata"]["name"]: one["data"] for one in objects if one["kind"] == "ConfigMap"}
    templates = dict(pods(objects))
    assert sorted(templates) == ["otel-agent", "otel-gateway"]
    for template in templates.values():
        [container] = template["spec"]["containers"]
        [volume] = template["spec"]["volumes"]
        for name, text in maps[volume["configMap"]["name"]].items():
            (tmp_path / name).write_text(text)
        arguments = [argument.replace("/conf", str(tmp_path)) for argument in container["args"]]
        said(build("collector"), "validate", *arguments, env=NODE)


def test_whole_traces_of_what_failed(start_sidecar: StartSidecar, tmp_path: Path) -> None:
    """Through the agent and two gateways: each trace is kept whole or not at all, and those that failed are kept."""
    with Receiver() as kept, Receiver() as direct:
        env = {"DATADOG_ENDPOINT": kept.url, "DECISION_WAIT": DECISION_WAIT}
        with tiers(tmp_path, "datadog", env) as there:
            sent, failed = send(start_sidecar, tmp_path, there.endpoint, direct)
            wanted = {span.span_id for span in sent if span.trace_id in failed}
            kept.wait_for(lambda spans: wanted <= {span.span_id for span in spans}, PATIENCE)
            # All of them, also those that were not kept.
            counts = _calls(there.span_metrics, len(sent))
    assert len(failed) == FAIL
    assert counts == Counter(span.name for span in sent)
    whole = {trace[0].trace_id: _ids(trace) for trace in by_trace(sent)}
    for trace in by_trace(kept.spans):
        assert _ids(trace) == whole[trace[0].trace_id]


def _ids(trace: list[ReceivedSpan]) -> set[str]:
    return {span.span_id for span in trace}


def _calls(places: list[str], expected: int) -> Counter[str]:
    """How many spans of each name the gateways counted, once there are as many as expected."""
    deadline = time.monotonic() + PATIENCE
    while True:
        counts: Counter[str] = Counter()
        for place in places:
            connection = http.client.HTTPConnection(place, timeout=PATIENCE)
            connection.request("GET", "/metrics")
            text = connection.getresponse().read().decode()
            connection.close()
            for labels, value in re.findall(r"^traces_span_metrics_calls_total\{(.*)\} (\S+)$", text, re.MULTILINE):
                name = re.search(r'span_name="([^"]+)"', labels)
                assert name is not None
                assert 'queue_name="jobs"' in labels
                counts[name[1]] += int(float(value))
        if counts.total() >= expected or time.monotonic() > deadline:
            return counts
        time.sleep(0.1)
