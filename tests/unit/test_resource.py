"""Who the spans come from, and whose word counts."""

from __future__ import annotations

import os
import uuid

import pytest

from proxy import __version__
from proxy.tracer.resource import resource_attributes, sdk_resource


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OTEL_RESOURCE_ATTRIBUTES", "OTEL_SERVICE_NAME", "OTEL_EXPERIMENTAL_RESOURCE_DETECTORS"):
        monkeypatch.delenv(name, raising=False)


def test_of_nothing() -> None:
    found = resource_attributes()
    assert found["service.name"] == "redspan"
    assert found["service.version"] == __version__
    assert found["telemetry.distro.name"] == "redspan"
    assert found["telemetry.distro.version"] == __version__
    assert found["telemetry.sdk.language"] == "python"
    assert found["process.pid"] == os.getpid()
    assert found["host.name"]
    assert uuid.UUID(str(found["service.instance.id"])).version == 4
    assert "deployment.environment.name" not in found


def test_no_command_line() -> None:
    assert not [name for name in resource_attributes() if "command" in name or "arg" in name]


def test_settings() -> None:
    found = resource_attributes(
        service_name="shop", service_version="7", environment="prod", attributes={"team": "a", "zone": 1}
    )
    assert (found["service.name"], found["service.version"]) == ("shop", "7")
    assert found["deployment.environment.name"] == "prod"
    assert (found["team"], found["zone"]) == ("a", 1)


def test_another_service_does_not_get_our_version() -> None:
    assert "service.version" not in resource_attributes(service_name="shop")


def test_the_environment_is_weaker_than_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "team=a%20b,zone=z,service.instance.id=pod-1,host.name=node")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "from-env")
    found = resource_attributes(attributes={"zone": "mine"})
    assert (found["service.name"], found["team"], found["zone"]) == ("from-env", "a b", "mine")
    assert (found["service.instance.id"], found["host.name"]) == ("pod-1", "node")
    assert resource_attributes(service_name="shop")["service.name"] == "shop"


def test_the_defaults_name_does_not_hide_the_environments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.name=from-attributes")
    assert resource_attributes(service_name="redspan")["service.name"] == "from-attributes"


def test_detectors_that_were_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPERIMENTAL_RESOURCE_DETECTORS", "os")
    assert "os.type" in resource_attributes()


def test_for_the_sdk() -> None:
    attributes = resource_attributes(service_name="shop")
    assert dict(sdk_resource(attributes).attributes) == attributes
