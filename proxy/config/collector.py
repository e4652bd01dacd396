"""Where spans go: each of the places, what is spoken there, and the certificates for it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, TypeAlias
from urllib.parse import urlsplit

from proxy.config.values import Conflict, Endpoint, KeyPath, Name, Secret, Section, dotted

if TYPE_CHECKING:
    import ssl

ExportProtocol: TypeAlias = Literal["grpc", "http/protobuf", "zipkin", "none"]

_DEFAULT_ENDPOINT: Final = {
    "grpc": "http://127.0.0.1:4317",
    "http/protobuf": "http://127.0.0.1:4318",
    "zipkin": "http://127.0.0.1:9411",
}
_GRPC_PORT: Final = 4317
_PATHS: Final = {"http/protobuf": "/v1/traces", "zipkin": "/api/v2/spans"}
"""Used where an endpoint has none."""


class ClientTls(Section, frozen=True):
    """Files in PEM, for ``https://``. They are read once, when redspan starts."""

    ca_file: str = ""
    """Authorities that the server's certificate may be from; empty: those that the system trusts."""
    cert_file: str = ""
    """A certificate to show to the server, with what leads up to its authority."""
    key_file: str = ""
    """The key of that certificate, without a password."""

    def context(self) -> ssl.SSLContext:
        """For connections of a client. Raises `BadTlsFile`."""
        import ssl

        if self.ca_file:
            _readable("ca_file", self.ca_file)
        try:
            context = ssl.create_default_context(cafile=self.ca_file or None)
        except ssl.SSLError:
            raise BadTlsFile("ca_file", "certificates in PEM", self.ca_file) from None
        for field, name, other in (
            ("cert_file", self.cert_file, self.key_file),
            ("key_file", self.key_file, self.cert_file),
        ):
            if other and not name:
                raise BadTlsFile(field, "a file, as there is a " + ("key" if field == "cert_file" else "certificate"))
            if name:
                _readable(field, name)
        if self.cert_file:
            try:
                # A password that is wrong, or else OpenSSL would ask for it on the terminal.
                context.load_cert_chain(self.cert_file, self.key_file, password="")
            except (ssl.SSLError, ValueError):
                raise BadTlsFile("cert_file", "a certificate, and its key without a password", self.cert_file) from None
        return context


class BadTlsFile(ValueError):
    """What is wrong with a file of `ClientTls`; never what is in it."""

    def __init__(self, field: str, expected: str, found: str = "none", why: str = "") -> None:
        self.field = field
        self.expected = expected
        self.found = f"{found} ({why})" if why else found
        super().__init__(f"tls.{field}: expected {expected}, found {self.found}")


def _readable(field: str, name: str) -> None:
    try:
        with Path(name).open("rb") as file:
            file.read(1)
    except OSError as error:
        why = (error.strerror or type(error).__name__).lower()
        raise BadTlsFile(field, "a file that can be read", name, why) from None


class Collector(Section, frozen=True):
    """One more place that spans go to. What it does not take is not sent to it again."""

    endpoint: Endpoint = ""
    """As `Tracing.endpoint`."""
    protocol: Literal["", "grpc", "http/protobuf", "zipkin"] = ""
    """As `Tracing.protocol`."""
    headers: dict[Name, Secret] = {}  # noqa: RUF012 - msgspec copies it
    """Headers of every request to it. Never shown."""
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


def unreadable(path: KeyPath, file: str) -> Iterator[Conflict]:
    """A file that has to be there when redspan starts, and is not."""
    try:
        with open(file, "rb") as opened:  # noqa: PTH123  # an empty path is no path
            empty = not opened.read(64).strip()
    except OSError as error:
        yield Conflict(path, "a file that can be read", f"{file}: {error.strerror}", path)
        return
    if empty:
        yield Conflict(path, "a file with at least 16 random bytes", f"{file}, which is empty", path)


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
        if one.tls == ClientTls():
            continue
        if not url.startswith("https:"):
            first = next(field for field in one.tls.__struct_fields__ if getattr(one.tls, field))
            tls = (*path, "tls", first)
            yield Conflict(tls, "nothing, as the endpoint is not https://", "a file", endpoint, ignorable=True)
        try:
            one.tls.context()
        except BadTlsFile as error:
            at = (*path, "tls", error.field)
            yield Conflict(at, error.expected, error.found, at)
