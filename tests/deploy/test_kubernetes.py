"""deploy/kubernetes: rendered by kustomize, valid by Kubernetes' schemas, its sidecar run as a kubelet would."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest
import redis
import yaml

from proxy.cli import main
from proxy.config.sources import load
from tests.conftest import StartSidecar
from tests.deploy.kinds import assert_valid
from tests.deploy.pods import DOWNWARD, Object, arguments, environment, files, pods, sidecar
from tests.deploy.programs import DEPLOY, check, render, said
from tests.receiver import Receiver
from tests.redis import RedisServer
from tests.sidecar import ROOT

FOLDER = DEPLOY / "kubernetes"
EXAMPLES = sorted(place.name for place in (FOLDER / "examples").iterdir())
UPSTREAM = {"redspan/upstream": "redis://user:secret@redis.example:6379"}


@pytest.fixture(scope="module")
def rendered() -> dict[str, list[Object]]:
    return {name: render(FOLDER / "examples" / name) for name in EXAMPLES}


@pytest.mark.parametrize("example", EXAMPLES)
class TestExamples:
    def test_schemas(self, example: str, rendered: dict[str, list[Object]]) -> None:
        known = [one for one in rendered[example] if one["kind"] != "PodMonitor"]
        assert len(known) == len(rendered[example]) - 1
        assert_valid(known)

    def test_every_pod_has_its_redspan(self, example: str, rendered: dict[str, list[Object]]) -> None:
        """Before all other containers, once, and where the application looks for its Redis."""
        templates = list(pods(rendered[example]))
        assert len(templates) == 2
        for _, template in templates:
            container = sidecar(template)
            assert container["restartPolicy"] == "Always"
            # The name follows from what is in it: other settings start the pods anew.
            [volume] = [one for one in template["spec"]["volumes"] if one["name"] == "redspan"]
            assert re.fullmatch(r"redspan-\w{10}", volume["configMap"]["name"])
            containers = template["spec"]["initContainers"][1:] + template["spec"]["containers"]
            for other in containers:
                assert other["name"] != "redspan"
                assert "6380" in str(other["env"])
                assert "6379" not in str(other)

    def test_settings(self, example: str, rendered: dict[str, list[Object]], tmp_path: Path) -> None:
        """What the container is told is what `redspan run` takes, and `redspan check-config` finds nothing in it."""
        for _, template in pods(rendered[example]):
            container = sidecar(template)
            command, *options = arguments(container, files(container, template, rendered[example]), tmp_path)
            given = main.commands[command].make_context(command, list(options)).params
            for secrets in ({}, UPSTREAM):
                env = environment(container, template, secrets)
                said(sys.executable, "-m", "proxy", "check-config", given["file"], env=env)
                loaded = load(given["file"], {}, env)
                assert loaded.warnings == ()
                [listener] = loaded.settings.listeners
                assert listener.bind_address.display() == "127.0.0.1:6380"
                assert listener.upstream_address.host == ("redis.example" if secrets else "redis")
                # The end comes before Kubernetes' patience does.
                needed = loaded.settings.relay.drain_timeout + loaded.settings.tracing.export.flush_timeout
                assert needed < template["spec"].get("terminationGracePeriodSeconds", 30)

    def test_labels_for_the_monitor(self, example: str, rendered: dict[str, list[Object]], tmp_path: Path) -> None:
        [monitor] = [one for one in rendered[example] if one["kind"] == "PodMonitor"]
        [endpoint] = monitor["spec"]["podMetricsEndpoints"]
        for _, template in pods(rendered[example]):
            assert monitor["spec"]["selector"]["matchLabels"].items() <= template["metadata"]["labels"].items()
            assert endpoint["port"] in [port["name"] for port in sidecar(template)["ports"]]
        file = tmp_path / "monitor.yaml"
        file.write_text(yaml.safe_dump(monitor))
        check("podmonitor", file)


def test_the_sidecar_is_restricted(rendered: dict[str, list[Object]], tmp_path: Path) -> None:
    """By Kubernetes' own judgement, in a pod with nothing else in it; and without a CPU limit."""
    _, template = next(pods(rendered["celery"]))
    container = sidecar(template)
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert set(container["resources"]["limits"]) == {"memory"}
    file = tmp_path / "pod.yaml"
    spec = {"volumes": template["spec"]["volumes"], "containers": [], "initContainers": [container]}
    file.write_text(yaml.safe_dump({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}, "spec": spec}))
    check("restricted", file)
    container["securityContext"]["capabilities"] = {}
    file.write_text(yaml.safe_dump({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}, "spec": spec}))
    with pytest.raises(AssertionError, match="capabilities"):
        check("restricted", file)


def test_the_sidecar_runs(
    rendered: dict[str, list[Object]], start_sidecar: StartSidecar, redis_server: RedisServer
) -> None:
    """With the manifests' settings and variables: its probes succeed, and its spans say where they come from."""
    objects = rendered["celery"]
    template = dict(pods(objects))["worker"]
    container = sidecar(template)
    env = environment(container, template, {"redspan/upstream": redis_server.url})
    [text] = files(container, template, objects).values()
    settings: dict[str, Any] = yaml.safe_load(text)
    with Receiver() as receiver:
        endpoint = env.pop("OTEL_EXPORTER_OTLP_ENDPOINT")
        assert endpoint == "http://127.0.0.1:4318"
        running = start_sidecar(
            {
                **settings,
                "tracing": {"protocol": "http/protobuf", "endpoint": receiver.url, "export": {"interval": "100ms"}},
                "frameworks": {"list": {"queues": ["jobs"]}},
            },
            env,
        )
        for probe in ("startupProbe", "livenessProbe"):
            ask = container[probe]["httpGet"]
            [port] = [one["containerPort"] for one in container["ports"] if one["name"] == ask["port"]]
            assert f"REDSPAN_ADMIN__BIND=0.0.0.0:{port}" in (ROOT / "Dockerfile").read_text()
            assert running.get(ask["path"]).status == 200
        with redis.Redis.from_url(running.url) as client:
            client.lpush("jobs", '{"id": "1"}')
        resource = receiver.wait_for_span("queue.enqueue").resource
    labels = template["metadata"]["labels"]
    expected = {
        "service.name": labels["app.kubernetes.io/name"],
        "service.version": labels["app.kubernetes.io/version"],
        "service.namespace": "shop",
        "service.instance.id": "shop.worker-5d4f.redspan",
        "k8s.namespace.name": "shop",
        "k8s.pod.name": DOWNWARD["metadata.name"],
        "k8s.pod.uid": DOWNWARD["metadata.uid"],
        "k8s.node.name": DOWNWARD["spec.nodeName"],
        "k8s.container.name": "redspan",
    }
    assert {name: resource.get(name) for name in expected} == expected
