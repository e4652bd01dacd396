"""deploy/collector as it runs in a cluster: an agent that divides traces among two gateways, on loopback."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from tests.clients.collectors import SHOP, collector, receiver, work_off
from tests.conftest import StartSidecar
from tests.deploy.programs import DEPLOY
from tests.receiver import ReceivedSpan, Receiver
from tests.redis import free_port

FOLDER = DEPLOY / "collector"
DECISION_WAIT = "15s"
"""By then all of a trace is there, also on a machine that has much else to do."""
PATIENCE = 60.0
"""Seconds for spans to come out of the tiers."""
_GATEWAYS = 2


class Tiers(NamedTuple):
    endpoint: str
    """Of the agent, for OTLP over HTTP."""
    span_metrics: list[str]
    """Where each gateway has its metrics of spans: host and port."""


def _moved(receivers: dict[str, Any]) -> dict[str, Any]:
    """What has to be another one where several run on one machine: the ports."""
    return {
        "receivers": receivers,
        "extensions": {"health_check": {"endpoint": f"127.0.0.1:{free_port()}"}},
        # Of a container that has a limit; this machine has much more.
        "processors": {"memory_limiter": {"limit_mib": 400, "spike_limit_mib": 100}},
        "service": {"telemetry": {"metrics": {"level": "none", "readers": []}}},
    }


@contextmanager
def tiers(folder: Path, backend: str, env: Mapping[str, str]) -> Iterator[Tiers]:
    """An agent and its gateways, which send to ``backend`` (a file of backends/) as ``env`` says."""
    with ExitStack() as stack:
        ports, exposed = [], []
        for number in range(_GATEWAYS):
            ports.append(free_port())
            exposed.append(f"127.0.0.1:{free_port()}")
            gateway = _moved(receiver(ports[-1], free_port()))
            gateway["exporters"] = {"prometheus": {"endpoint": exposed[-1]}}
            gateway["connectors"] = {"span_metrics": {"metrics_flush_interval": "200ms"}}
            configs = (FOLDER / "gateway.yaml", FOLDER / f"backends/{backend}.yaml")
            stack.enter_context(collector(folder / f"gateway-{number}", gateway, configs, env))
        http = free_port()
        agent = _moved(receiver(free_port(), http))
        # There is no cluster to ask for the gateways, nor for pods.
        places = {"k8s": None, "static": {"hostnames": [f"127.0.0.1:{port}" for port in ports]}}
        agent["exporters"] = {"load_balancing": {"resolver": places}}
        agent["processors"]["k8s_attributes"] = None
        agent["service"]["pipelines"] = {"traces": {"processors": ["memory_limiter"]}}
        stack.enter_context(collector(folder / "agent", agent, (FOLDER / "agent.yaml",), env))
        yield Tiers(f"http://127.0.0.1:{http}", exposed)


def send(
    start_sidecar: StartSidecar, folder: Path, endpoint: str, direct: Receiver
) -> tuple[list[ReceivedSpan], set[str]]:
    """The shop's spans to ``endpoint``, and to ``direct`` as well. All of them, and the traces of jobs that failed."""
    tracing = {
        "service_name": "shop",
        "endpoint": endpoint,
        "protocol": "http/protobuf",
        "export": {"interval": "100ms"},
        "exporters": [{"endpoint": direct.url}],
    }
    sidecar = start_sidecar({"frameworks": SHOP, "tracing": tracing})
    attempts = work_off(sidecar, folder)
    sent = direct.wait_for(lambda spans: len(spans) >= 3 * attempts)
    assert sidecar.stop() == 0
    return sent, {span.trace_id for span in sent if span.status == "ERROR"}
