"""The API of a running redspan, for commands."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator, Mapping
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlencode, urlsplit

from proxy import ADMIN_URL
from proxy.address import parse_bind

TIMEOUT: Final = 30.0
"""Seconds without a word from it; a stream says something every ten."""
_ANYWHERE: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - to connect to, not to listen on


_OF_IDS: Final = frozenset("0123456789abcdef-")


class WatchError(Exception):
    """It cannot be asked, or does not answer as wanted; the text says why."""

    def __init__(self, text: str, status: int = 0) -> None:
        super().__init__(text)
        self.status = status
        """Of its answer; 0: there was none."""


class _UnixConnection(HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=TIMEOUT)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Client:
    """``address``: a URL, or an address as ``admin.bind`` has it. Raises `WatchError`."""

    def __init__(self, address: str, token_file: str = "") -> None:
        self.address: Final = address
        self._headers = {"Accept": "application/json"}
        if token_file:
            try:
                self._headers["Authorization"] = f"Bearer {Path(token_file).read_text().strip()}"
            except (OSError, UnicodeDecodeError) as error:
                raise WatchError(f"the token cannot be read from {token_file}: {error}") from error
        try:
            self._secure, self._host, self._port, self._socket = _place(address)
        except ValueError as error:
            raise WatchError(f"--admin: {error}") from error

    def get(self, path: str, query: Mapping[str, object] | None = None) -> Any:
        connection, answer = self._ask(path, query)
        try:
            return json.loads(answer.read())
        except (OSError, HTTPException, ValueError) as error:
            raise WatchError(f"{self.address}: the answer is not one of redspan's: {error}") from error
        finally:
            connection.close()

    def job(self, job_id: str) -> Any:
        """A job with its timeline and spans; by its id, or what no other id begins with."""
        return self._named("job", job_id)

    def trace(self, trace_id: str) -> Any:
        """A trace as a tree; by its id, or what no other id begins with."""
        return self._named("trace", trace_id)

    def _named(self, kind: str, name: str) -> Any:
        try:
            return self.get(f"/api/{kind}s/{quote(name, safe='')}")
        except WatchError as error:
            if error.status not in (400, 404):
                raise
            ids = self.get("/api/ids", {kind: name})["ids"] if name.strip() else []
            if not ids and error.status == 400 and not set(name.lower()) - _OF_IDS:
                raise WatchError(f"no {kind} that is remembered has an id that begins with {name}", 404) from None
            if not ids:
                raise
        if len(ids) > 1:
            from proxy.tracer.console import printable

            raise WatchError(f"{len(ids)} {kind}s have an id that begins with {name}: {', '.join(map(printable, ids))}")
        return self.get(f"/api/{kind}s/{quote(ids[0], safe='')}")

    def events(self, query: Mapping[str, object] | None = None) -> Iterator[tuple[str, Any]]:
        """Names and data of events, until redspan ends; None as the data of a name that is empty: it still lives."""
        connection, answer = self._ask("/api/events", query)
        try:
            name = ""
            while line := answer.readline():
                text = line.decode().rstrip("\n")
                if text.startswith("event: "):
                    name = text[7:]
                elif text.startswith("data: "):
                    yield name, json.loads(text[6:])
                elif text.startswith((":", "retry")):
                    yield "", None
        except (OSError, HTTPException, ValueError) as error:
            raise WatchError(f"{self.address}: {error}") from error
        finally:
            connection.close()

    def _ask(self, path: str, query: Mapping[str, object] | None) -> tuple[HTTPConnection, HTTPResponse]:
        asked = {name: value for name, value in (query or {}).items() if value not in (None, "", ())}
        connection = self._connection()
        try:
            connection.request("GET", path + (f"?{urlencode(asked, doseq=True)}" if asked else ""), None, self._headers)
            answer = connection.getresponse()
            if answer.status == 200:
                return connection, answer
            said = _said(answer)
        except (OSError, HTTPException) as error:
            connection.close()
            where = f"--admin or {ADMIN_URL} says where its admin.bind is"
            raise WatchError(f"no redspan answers at {self.address}: {error}; {where}") from error
        connection.close()
        raise WatchError(said, answer.status)

    def _connection(self) -> HTTPConnection:
        if self._socket:
            return _UnixConnection(self._socket)
        kind = HTTPSConnection if self._secure else HTTPConnection
        return kind(self._host, self._port, timeout=TIMEOUT)


def _place(address: str) -> tuple[bool, str, int, str]:
    """Whether by TLS, host and port; or the path of a socket."""
    if address.startswith("unix://") or "://" not in address:
        bind = parse_bind(address)
        return False, _ANYWHERE.get(bind.host, bind.host), bind.port, bind.path
    url = urlsplit(address)
    if url.scheme not in ("http", "https") or not url.hostname:
        raise ValueError("expected a URL such as http://127.0.0.1:9464")
    return url.scheme == "https", url.hostname, url.port or (443 if url.scheme == "https" else 80), ""


def _said(answer: HTTPResponse) -> str:
    try:
        body = json.loads(answer.read())
        return str(body.get("detail") or body.get("title") or answer.status)
    except (ValueError, AttributeError):
        return f"{answer.status} {answer.reason}"
