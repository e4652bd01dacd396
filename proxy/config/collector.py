"""Where spans go: each of the places, what is spoken there, and the certificates for it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, Literal, TypeAlias
from urllib.parse import urlsplit

from proxy.config.tls import ClientTls, unreadable, wrong
from proxy.config.values import Conflict, Endpoint, KeyPath, Name, Secret, Section, dotted

ExportProtocol: TypeAlias = Literal["grpc", "http/protobuf", "zipkin", "none"]

_DEFAULT_ENDPOINT: Final = {
    "grpc": "http://127.0.0.1:4317",
    "http/protobuf": "http://127.0.0.1:4318",
    "zipkin": "http://127.0.0.1:9411",
}
_GRPC_PORT: Final = 4317
_PATHS: Final = {"http/protobuf": "/v1/traces", "zipkin": "/api/v2/spans"}
"""Used where an endpoint has none."""


class Collector(Section, frozen=True):
    """One more place that spans go to. What it does not take is not sent to it again."""

    endpoint: Endpoint = ""
    """As `Tracing.endpoint`."""
    protocol: Literal["", "grpc", "http/protobuf", "zipkin"] = ""
    """As `Tracing.protocol`."""
    headers: dict[Name, Secret] = {}  # noqa: RUF012 - msgspec copies it
    """Headers of every request to it. Never shown."""
    headers_file: str = ""
    """A file with more of them, one ``name: value`` a line. One that is replaced is read again."""
    tls: ClientTls = ClientTls()
    """Certificates for it."""

    def resolved_protocol(self) -> ExportProtocol:
        return protocol_of(self.endpoint, self.protocol)

    def resolved_endpoint(self) -> str:
        return endpoint_of(self.endpoint, self.protocol)


def protocol_of(endpoint: str, protocol: ExportProtocol | Literal[""]) -> ExportProtocol:
    """What is spoken: what is asked for, else what port and path tell."""
    if protocol:
        return protocol
    url = urlsplit(_with_scheme(endpoint))
    if url.port == _GRPC_PORT:
        return "grpc"
    return "zipkin" if url.path.rstrip("/").endswith(_PATHS["zipkin"]) else "http/protobuf"


def endpoint_of(endpoint: str, protocol: ExportProtocol | Literal[""]) -> str:
    """The URL with its scheme, over HTTP with its path; empty for ``none``."""
    protocol = protocol_of(endpoint, protocol)
    if protocol == "none":
        return ""
    url = urlsplit(_with_scheme(endpoint) or _DEFAULT_ENDPOINT[protocol])
    if url.path in ("", "/"):
        url = url._replace(path=_PATHS.get(protocol, url.path))
    elif protocol == "zipkin":
        url = url._replace(path=url.path.rstrip("/"))
    return url.geturl()


def _with_scheme(endpoint: str) -> str:
    return endpoint if not endpoint or "://" in endpoint else f"http://{endpoint}"


def conflicts(collectors: Iterable[tuple[KeyPath, Collector]]) -> Iterator[Conflict]:
    """What does not go together in one of them, or in two; with the paths of their settings."""
    seen: dict[tuple[object, ...], KeyPath] = {}
    for path, one in collectors:
        endpoint = (*path, "endpoint")
        url = one.resolved_endpoint()
        # With other headers it may be for another tenant.
        key = (one.resolved_protocol(), url, *sorted(one.headers.items()))
        other = seen.setdefault(key, endpoint)
        if other != endpoint and one.endpoint:
            yield Conflict(endpoint, "an endpoint of its own", f"the one of {dotted(other)}", other)
        if one.headers_file:
            yield from unreadable((*path, "headers_file"), one.headers_file, "headers")
        if one.tls == ClientTls():
            continue
        if not url.startswith("https:"):
            first = next(field for field in one.tls.__struct_fields__ if getattr(one.tls, field))
            tls = (*path, "tls", first)
            yield Conflict(tls, "nothing, as the endpoint is not https://", "a file", endpoint, ignorable=True)
        yield from wrong((*path, "tls"), one.tls)
