"""Requests over HTTP: one kept-alive connection, the standard library. What is in them is the exporters' business.

Retries are the buffer's: a `Poster` makes one request, and a second one only where a kept-alive connection turned out
to be closed.  Which answers may be retried: OTLP 1.x, "Failures" (429, 502, 503, 504); Zipkin's own senders agree.
"""

from __future__ import annotations

import gzip
import http.client
import ssl
import time
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from email.utils import parsedate_to_datetime
from typing import Final, NamedTuple, TypedDict, Unpack
from urllib.parse import unquote, urlsplit

from proxy import __version__
from proxy.tracer.export.base import Result, Status, taken
from proxy.tracer.export.headers import FileHeaders
from proxy.tracer.span import Span

RETRYABLE: Final = frozenset({429, 502, 503, 504})

_ANSWER_LIMIT: Final = 64 * 1024
"""Bytes read of an answer; a longer one is not for us, and costs the connection."""


class Target(NamedTuple):
    """An endpoint, taken apart."""

    scheme: str
    host: str
    port: int | None
    path: str
    headers: dict[str, str]
    """``Authorization``, where the endpoint has a user in it."""

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}{f':{self.port}' if self.port else ''}{self.path}"

    @property
    def where(self) -> str:
        """The same for people, without what may be a key."""
        return self.url.partition("?")[0]


def target(endpoint: str, path: str = "/v1/traces") -> Target:
    """An endpoint's parts; ``path`` where it has none of its own, which is used as it stands; without a scheme http.

    User and password become basic authentication.  Raises ValueError, which does not repeat what stands in the
    endpoint: there may be a password.
    """
    try:
        parts = urlsplit(endpoint if "://" in endpoint else f"http://{endpoint}")
        port = parts.port
    except ValueError:
        raise ValueError("export endpoint: not a URL, or its port is no number (percent-encode a password)") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("export endpoint: expected http:// or https:// and a host")
    path = parts.path if parts.path.strip("/") else path
    if parts.query:
        path += f"?{parts.query}"
    if not all("!" <= char <= "~" for char in path):
        raise ValueError("export endpoint: percent-encode what is not ASCII in its path")
    headers = {}
    if parts.username is not None:
        user = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers["Authorization"] = f"Basic {b64encode(user.encode()).decode()}"
    return Target(parts.scheme, parts.hostname, port, path, headers)


class Options(TypedDict, total=False):
    """What all of those who post may be told."""

    headers: Mapping[str, str] | None
    timeout: float
    """Seconds, for connecting and for every read."""
    compression: str
    """``gzip`` or ``none``."""
    tls: ssl.SSLContext | None
    """In place of the system's trust store; it may bring a certificate of ours."""
    headers_file: str
    """`FileHeaders`."""


class Poster:
    """Posts bodies of one content type to one endpoint, by `Options`.

    Raises ValueError for a header that cannot be sent, naming it but never its value.
    """

    def __init__(
        self,
        to: Target,
        content_type: str,
        *,
        headers: Mapping[str, str] | None = None,
        timeout: float = 10.0,
        compression: str = "gzip",
        tls: ssl.SSLContext | None = None,
        headers_file: str = "",
    ) -> None:
        if compression not in ("gzip", "none"):
            raise ValueError(f"export compression: expected gzip or none, found {compression!r}")
        self.where = to.where
        self._path = to.path
        self._gzip = compression == "gzip"
        self._headers = {
            "Content-Type": content_type,
            "User-Agent": f"redspan/{__version__}",
        }
        if self._gzip:
            self._headers["Content-Encoding"] = "gzip"
        self._headers |= to.headers | _checked(headers or {})
        self._more = FileHeaders(headers_file)
        _checked(self._more.get())
        self.connection: http.client.HTTPConnection
        if to.scheme == "https":
            context = tls or ssl.create_default_context()
            self.connection = http.client.HTTPSConnection(to.host, to.port, timeout=timeout, context=context)
        else:
            self.connection = http.client.HTTPConnection(to.host, to.port, timeout=timeout)

    def post(self, body: bytes) -> bytes | Result:
        """The content of an answer of 200 to 299 (64 KiB of it at most), or how else it ended."""
        if self._gzip:
            # Level 1: a third of level 6's time for a few per cent more bytes.
            body = gzip.compress(body, 1, mtime=0)
        try:
            answer, content = self._post(body)
        except (OSError, http.client.HTTPException, UnicodeError) as error:  # the last: a host name that is none
            self.connection.close()
            return Result(Status.RETRYABLE, reason=_cause(error))
        if 200 <= answer.status < 300:
            return content
        reason = f"HTTP {answer.status}"
        if again := self._more.refusal(answer.status, reason):
            return again
        if answer.status in RETRYABLE:
            return Result(Status.RETRYABLE, reason=reason, retry_after=retry_after(answer.getheader("Retry-After")))
        return Result(Status.FATAL, reason=reason)

    def _post(self, body: bytes) -> tuple[http.client.HTTPResponse, bytes]:
        fresh = self.connection.sock is None
        try:
            return self._request(body)
        except (ConnectionError, http.client.BadStatusLine):
            if fresh:
                raise
        # The receiver had closed the connection between two requests.
        self.connection.close()
        return self._request(body)

    def _request(self, body: bytes) -> tuple[http.client.HTTPResponse, bytes]:
        self.connection.request("POST", self._path, body, {**self._headers, **self._more.get()})
        answer = self.connection.getresponse()
        content = answer.read(_ANSWER_LIMIT)
        if not answer.isclosed():
            self.connection.close()
        return answer, content

    def close(self) -> None:
        self.connection.close()


class PostExporter:
    """Posts what ``encode`` makes of spans. Raises what `Poster` does."""

    def __init__(
        self, encode: Callable[[Sequence[Span]], bytes], to: Target, content_type: str, **options: Unpack[Options]
    ) -> None:
        self._encode = encode
        self._poster = Poster(to, content_type, **options)
        self.where = self._poster.where

    def export(self, spans: Sequence[Span]) -> Result:
        answer = self._poster.post(self._encode(spans))
        return answer if isinstance(answer, Result) else self.accepted(spans, answer)

    def accepted(self, spans: Sequence[Span], answer: bytes) -> Result:
        """The result of a request that was taken; ``answer`` is what came back."""
        return taken(spans)

    def close(self) -> None:
        self._poster.close()


def _checked(headers: Mapping[str, str]) -> dict[str, str]:
    for name, value in headers.items():
        try:
            line = f"{name}: {value}".encode("latin-1")
        except UnicodeEncodeError:
            raise ValueError(f"export header {name!r}: only latin-1 can be sent") from None
        if not name or b"\r" in line or b"\n" in line:
            raise ValueError(f"export header {name!r}: empty, or more than one line")
    return dict(headers)


def _cause(error: Exception) -> str:
    """Why there was no answer, without what changes from time to time."""
    if isinstance(error, TimeoutError):
        return "timeout"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate: {error.verify_message}"
    if isinstance(error, ssl.SSLError) and error.reason:
        # Its strerror has the line of OpenSSL's source in it.
        return f"TLS: {error.reason.lower().replace('_', ' ')}"
    return error.strerror if isinstance(error, OSError) and error.strerror else type(error).__name__


def retry_after(header: str | None) -> float:
    """``Retry-After`` (RFC 9110, 10.2.3), seconds or a date, as seconds from now; 0 if absent or unreadable."""
    if not header:
        return 0.0
    if header.strip().isdecimal():
        return float(header)
    try:
        return max(parsedate_to_datetime(header).timestamp() - time.time(), 0.0)
    except (ValueError, OverflowError):
        return 0.0
