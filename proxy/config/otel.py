"""OpenTelemetry's standard environment variables, as values of redspan's own settings.

By the specification: empty is not set, durations are milliseconds, and what cannot be used is left out with a
warning.  Some things differ, because one value has one place here:

- ``service.name``, ``service.version`` and ``deployment.environment.name`` among ``OTEL_RESOURCE_ATTRIBUTES`` become
  ``tracing.service_name``, ``.service_version`` and ``.environment``.
- All samplers are parent-based: a decision that a job carries is kept.
- ``OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`` is taken as it is, but without any path it gets ``/v1/traces``, as in YAML.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final, NamedTuple
from urllib.parse import unquote

from proxy.config import Tracing
from proxy.config.values import KeyPath

_SAMPLING: Final[KeyPath] = ("tracing", "sampling", "default_rate")
_PROTOCOL: Final[KeyPath] = ("tracing", "protocol")
_ENDPOINT: Final[KeyPath] = ("tracing", "endpoint")
_TIMEOUT: Final[KeyPath] = ("tracing", "export", "timeout")
_TLS: Final[KeyPath] = ("tracing", "tls")

# Path, and the variables for it, the first that is set decides.
_TEXT: Final[list[tuple[KeyPath, tuple[str, ...]]]] = [
    (("tracing", "service_name"), ("OTEL_SERVICE_NAME",)),
    (_PROTOCOL, ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")),
    (
        ("tracing", "export", "compression"),
        ("OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", "OTEL_EXPORTER_OTLP_COMPRESSION"),
    ),
    ((*_TLS, "ca_file"), ("OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE", "OTEL_EXPORTER_OTLP_CERTIFICATE")),
]
_NUMBERS: Final[list[tuple[KeyPath, tuple[str, ...]]]] = [
    (("tracing", "export", "buffer"), ("OTEL_BSP_MAX_QUEUE_SIZE",)),
    (("tracing", "export", "batch_size"), ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE",)),
]
_MILLISECONDS: Final[list[tuple[KeyPath, tuple[str, ...]]]] = [
    (("tracing", "export", "interval"), ("OTEL_BSP_SCHEDULE_DELAY",)),
    (_TIMEOUT, ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT", "OTEL_BSP_EXPORT_TIMEOUT")),
]
_FORMATS: Final = {"b3": {"b3", "b3multi"}, "datadog": {"datadog"}}
"""Of ``tracing.formats``: the propagators that read and write it. W3C contexts are always written."""
_OWN_PLACE: Final[dict[str, KeyPath]] = {
    "service.name": ("tracing", "service_name"),
    "service.version": ("tracing", "service_version"),
    "deployment.environment.name": ("tracing", "environment"),
}


class OtelValue(NamedTuple):
    value: object
    """As YAML would give it; not checked."""
    name: str
    """The variable that it is from."""


def otel_values(environ: Mapping[str, str], protocol: str) -> tuple[dict[KeyPath, OtelValue], list[str]]:
    """What the environment says, and warnings.

    ``protocol`` is what stronger sources say of ``tracing.protocol`` (empty: nothing): it decides what the general
    endpoint means.
    """
    reader = _Reader(environ, protocol)
    reader.read()
    return reader.values, reader.warnings


class _Reader:
    def __init__(self, environ: Mapping[str, str], protocol: str) -> None:
        self._environ = environ
        self._protocol = protocol
        self.values: dict[KeyPath, OtelValue] = {}
        self.warnings: list[str] = []

    def read(self) -> None:
        self._resource()
        for path, names in _TEXT:
            self._set(path, *self._first(*names))
        for path, names in _NUMBERS:
            name, text = self._first(*names)
            self._set(path, name, int(text) if text.isdecimal() else text)
        for path, names in _MILLISECONDS:
            name, text = self._first(*names)
            self._set(path, name, f"{text}ms" if text.isdecimal() else text)
        self._exporters()
        self._propagators()
        self._disabled()
        self._sampler()
        self._endpoint()
        self._headers()
        self._client_certificate()

    def _first(self, *names: str) -> tuple[str, str]:
        """The first variable that is set, and its text; two empty strings for none."""
        return next(((name, text) for name in names if (text := self._environ.get(name, "").strip())), ("", ""))

    def _set(self, path: KeyPath, name: str, value: object) -> None:
        if name:
            self.values[path] = OtelValue(value, name)

    def _resource(self) -> None:
        name, text = self._first("OTEL_RESOURCE_ATTRIBUTES")
        for key, value in self._pairs(name, text):
            self._set(_OWN_PLACE.get(key, ("tracing", "resource_attributes", key)), name, value)

    def _headers(self) -> None:
        name, text = self._first("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS")
        for key, value in self._pairs(name, text):
            self._set(("tracing", "headers", key.lower()), name, value)

    def _client_certificate(self) -> None:
        pair = {
            "cert_file": ("OTEL_EXPORTER_OTLP_TRACES_CLIENT_CERTIFICATE", "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE"),
            "key_file": ("OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY", "OTEL_EXPORTER_OTLP_CLIENT_KEY"),
        }
        found = {field: self._first(*names) for field, names in pair.items()}
        given = [name for name, _ in found.values() if name]
        if len(given) == 1:
            self.warnings.append(f"env {given[0]}: a certificate and its key go together; left out")
            return
        for field, (name, text) in found.items():
            self._set((*_TLS, field), name, text)

    def _pairs(self, name: str, text: str) -> list[tuple[str, str]]:
        """``key=value,key=value``, percent-decoded. A warning never repeats an item: it may be a credential."""
        pairs: list[tuple[str, str]] = []
        for item in filter(None, map(str.strip, text.split(","))):
            key, equals, value = item.partition("=")
            if equals and key.strip():
                pairs.append((unquote(key.strip()), unquote(value.strip())))
            else:
                self.warnings.append(f"env {name}: an item that is not key=value is left out")
        return pairs

    def _disabled(self) -> None:
        name, text = self._first("OTEL_SDK_DISABLED")
        if text.lower() == "true":
            self._set(("tracing", "enabled"), name, False)
        elif text and text.lower() != "false":
            self.warnings.append(f"env {name}: expected true or false; left out")

    def _sampler(self) -> None:
        name, text = self._first("OTEL_TRACES_SAMPLER")
        sampler = text.removeprefix("parentbased_")
        if sampler == "always_on":
            self._set(_SAMPLING, name, 1.0)
        elif sampler == "always_off":
            self._set(_SAMPLING, name, 0.0)
        elif sampler == "traceidratio":
            argument, ratio = self._first("OTEL_TRACES_SAMPLER_ARG")
            try:
                self._set(_SAMPLING, argument or name, float(ratio or 1))
            except ValueError:
                self._set(_SAMPLING, argument, ratio)
        elif text:
            self.warnings.append(f"env {name}: no such sampler in redspan; left out")

    def _exporters(self) -> None:
        """``OTEL_TRACES_EXPORTER``: the first that sends spans somewhere decides, ``console`` may stand beside it."""
        name, text = self._first("OTEL_TRACES_EXPORTER")
        wanted = [word.strip().lower() for word in text.split(",") if word.strip()]
        for unknown in sorted({*wanted} - {"otlp", "zipkin", "console", "none"}):
            self.warnings.append(f"env {name}: redspan has no exporter {json.dumps(unknown)}; left out")
        if "console" in wanted:
            self._set(("tracing", "console_exporter"), name, True)
        if "zipkin" in wanted and "otlp" not in wanted:
            self._set(_PROTOCOL, name, "zipkin")
        elif "otlp" not in wanted and {"console", "none"} & {*wanted}:
            self._set(_PROTOCOL, name, "none")

    def _propagators(self) -> None:
        name, text = self._first("OTEL_PROPAGATORS")
        wanted = {word.strip().lower() for word in text.split(",")} - {"", "tracecontext", "baggage"}
        formats = [one for one, words in _FORMATS.items() if words & wanted]
        if formats:
            self._set(("tracing", "formats"), name, formats)
        others = wanted.difference(*_FORMATS.values())
        if others:
            listed = json.dumps(", ".join(sorted(others)))
            self.warnings.append(f"env {name}: redspan does not read {listed}; left out")

    def _endpoint(self) -> None:
        chosen = self.values.get(_PROTOCOL)
        name, text = self._first("OTEL_EXPORTER_ZIPKIN_ENDPOINT")
        if name and (self._protocol or (chosen.value if chosen else "")) == "zipkin":
            self._set(_ENDPOINT, name, text)
            return
        name, text = self._first("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
        if name:
            self._set(_ENDPOINT, name, self._secured(text))  # else verbatim
            return
        name, text = self._first("OTEL_EXPORTER_OTLP_ENDPOINT")
        if name and self._speaks_http(text):
            text = f"{text.rstrip('/')}/v1/traces"
        self._set(_ENDPOINT, name, self._secured(text))

    def _secured(self, endpoint: str) -> str:
        """With https://, where an endpoint of the environment leaves that to the variable for it."""
        _, insecure = self._first("OTEL_EXPORTER_OTLP_TRACES_INSECURE", "OTEL_EXPORTER_OTLP_INSECURE")
        return f"https://{endpoint}" if "://" not in endpoint and insecure.lower() == "false" else endpoint

    def _speaks_http(self, endpoint: str) -> bool:
        _, own = self._first("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
        protocol = self._protocol or own
        if protocol in ("grpc", "zipkin", "none"):
            return False
        try:
            return bool(protocol) or Tracing(endpoint=endpoint).resolved_protocol() == "http/protobuf"
        except ValueError:  # no URL: whoever reads the value says so
            return False
