"""The resource: who the spans come from.

From weak to strong: what can be read off the process, the SDK's detectors (``service.instance.id``, those named in
``OTEL_EXPERIMENTAL_RESOURCE_DETECTORS``, then ``OTEL_RESOURCE_ATTRIBUTES`` and ``OTEL_SERVICE_NAME``), the settings.
"""

from __future__ import annotations

import os
import platform
import socket
from collections.abc import Mapping
from typing import Final
from uuid import uuid4

from opentelemetry.sdk.resources import Resource

from proxy import __version__
from proxy.tracer.span import Value

DEFAULT_SERVICE: Final = "redspan"

_SERVICE_NAME: Final = "service.name"
_SERVICE_VERSION: Final = "service.version"


def resource_attributes(
    *,
    service_name: str = "",
    service_version: str = "",
    environment: str = "",
    attributes: Mapping[str, Value] | None = None,
) -> dict[str, Value]:
    """The resource's attributes; the arguments are ``tracing.service_name`` and so on, empty where not set.

    A service name equal to the default counts as not set, so that a default in the settings does not hide
    ``OTEL_SERVICE_NAME``.  A listener's own service name is its spans' (`Span.service`), not the process's.
    """
    found: dict[str, Value] = {
        "host.name": socket.gethostname(),
        "process.pid": os.getpid(),
        # No command line: it may hold a Redis password.
        "process.runtime.name": platform.python_implementation().lower(),
        "process.runtime.version": platform.python_version(),
    }
    for name, value in Resource.create().attributes.items():
        found[name] = value if isinstance(value, (str, int, float, bool)) else str(value)
    if str(found[_SERVICE_NAME]).startswith("unknown_service"):  # the SDK's word for none
        found[_SERVICE_NAME] = DEFAULT_SERVICE
    found.setdefault("service.instance.id", str(uuid4()))  # the SDK does not before 1.43
    found |= attributes or {}
    if service_name and service_name != DEFAULT_SERVICE:
        found[_SERVICE_NAME] = service_name
    if service_version:
        found[_SERVICE_VERSION] = service_version
    elif found[_SERVICE_NAME] == DEFAULT_SERVICE:
        # Under any other name the service is the application, whose version only the user knows.
        found.setdefault(_SERVICE_VERSION, __version__)
    if environment:
        found["deployment.environment.name"] = environment
    return found | {"telemetry.distro.name": "redspan", "telemetry.distro.version": __version__}


def sdk_resource(attributes: Mapping[str, Value]) -> Resource:
    """The same for the SDK's exporters; without a schema, as the names come from more than one."""
    return Resource(dict(attributes))
