"""deploy/compose: read by Compose's own code, and what it mounts by those that it is mounted for."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from proxy.cli import main
from proxy.config.sources import load
from tests.clients.go_programs import build
from tests.deploy.programs import DEPLOY, check, said

FOLDER = DEPLOY / "compose"
Service = dict[str, Any]


@pytest.fixture(scope="module")
def services() -> dict[str, Service]:
    found: dict[str, Service] = json.loads(check("compose", FOLDER / "compose.yaml"))["services"]
    return found


def mounted(service: Service) -> dict[str, Path]:
    """Where each of its files and folders comes from."""
    return {one["target"]: Path(one["source"]) for one in service.get("volumes", [])}


def test_all_are_there(services: dict[str, Service]) -> None:
    assert {"redis", "redspan", "producer", "worker", "collector", "jaeger", "prometheus", "grafana"} == set(services)
    ours = [place for service in services.values() for place in mounted(service).values()]
    assert [place for place in ours if not place.exists()] == []


def test_rules_and_dashboards_are_mounted(services: dict[str, Service]) -> None:
    places = mounted(services["prometheus"])
    settings = yaml.safe_load(places["/etc/prometheus/prometheus.yml"].read_text())
    [pattern] = map(Path, settings["rule_files"])
    assert list(places[str(pattern.parent)].glob(pattern.name)) != []
    places = mounted(services["grafana"])
    [provider] = yaml.safe_load(places["/etc/grafana/provisioning/dashboards/redspan.yaml"].read_text())["providers"]
    assert list(places[provider["options"]["path"]].glob("*.json")) != []


def test_compose_refuses_what_is_wrong(tmp_path: Path) -> None:
    wrong = tmp_path / "compose.yaml"
    wrong.write_text((FOLDER / "compose.yaml").read_text().replace("read_only:", "readonly:"))
    with pytest.raises(AssertionError, match="readonly"):
        check("compose", wrong)


def test_redspan(services: dict[str, Service]) -> None:
    service = services["redspan"]
    command, *options = service["command"]
    path = mounted(service)[main.commands[command].make_context(command, list(options)).params["file"].as_posix()]
    said(sys.executable, "-m", "proxy", "check-config", path, env=service["environment"])
    settings = load(path, {}, service["environment"]).settings
    assert settings.tracing.service_name == "shop"
    assert settings.tracing.endpoint == "http://collector:4318/v1/traces"
    assert [one.upstream_address.host for one in settings.listeners] == ["redis"]
    for name in ("producer", "worker"):
        # In the network of redspan, as the containers of a pod are.
        assert services[name]["network_mode"] == "service:redspan"
        bind = settings.listeners[0].bind_address.display()
        assert services[name]["environment"]["REDIS_URL"] == f"redis://{bind}"


def test_the_collector(services: dict[str, Service]) -> None:
    conf = str(mounted(services["collector"])["/conf"])
    said(build("collector"), "validate", *(part.replace("/conf", conf) for part in services["collector"]["command"]))


def test_prometheus(services: dict[str, Service], tmp_path: Path) -> None:
    """Its settings with the rules of deploy/prometheus, where the container will have them."""
    places = mounted(services["prometheus"])
    settings = yaml.safe_load(places["/etc/prometheus/prometheus.yml"].read_text())
    [pattern] = settings["rule_files"]
    rules = places[str(Path(pattern).parent)]
    settings["rule_files"] = [str(rules / Path(pattern).name)]
    file = tmp_path / "prometheus.yml"
    file.write_text(yaml.safe_dump(settings))
    assert "SUCCESS" in said("promtool", "check", "config", file)
    targets = {
        target for job in settings["scrape_configs"] for one in job["static_configs"] for target in one["targets"]
    }
    assert {target.partition(":")[0] for target in targets} <= set(services)


def test_grafana(services: dict[str, Service]) -> None:
    """Its sources are services, and exemplars lead from one to the other."""
    places = mounted(services["grafana"])
    sources = yaml.safe_load(places["/etc/grafana/provisioning/datasources/redspan.yaml"].read_text())["datasources"]
    assert {one["url"].partition("://")[2].partition(":")[0] for one in sources} <= set(services)
    metrics, traces = sources
    assert [one["datasourceUid"] for one in metrics["jsonData"]["exemplarTraceIdDestinations"]] == [traces["uid"]]
