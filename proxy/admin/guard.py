"""Who may see jobs: on a loopback address whoever is there; else, who has the token.

The token comes as a bearer token, or as the password of basic authentication, which browsers ask their users for.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import ipaddress
from pathlib import Path
from typing import Final

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from proxy.address import Address
from proxy.admin.problem import problem

GUARDED: Final = ("/api", "/ui")


class Guard:
    """ASGI middleware in front of the pages that show jobs."""

    def __init__(self, app: ASGIApp, bind: Address, token_file: str) -> None:
        self._app = app
        self._local = is_local(bind)
        self._file = token_file

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = None
        if scope["type"] == "http" and scope["path"].startswith(GUARDED):
            refusal = self._refusal(Headers(scope=scope))
        await (refusal or self._app)(scope, receive, send)

    def _refusal(self, headers: Headers) -> Response | None:
        if self._file:
            try:
                # Each time: a file that is replaced counts at once.
                token = Path(self._file).read_bytes().strip()
            except OSError as error:
                return problem(503, "The token cannot be read", f"admin.token_file: {error.strerror}")
            if token and hmac.compare_digest(token, _given(headers.get("authorization", ""))):
                return None
            refusal = problem(401, "Unauthorized", "send the token of admin.token_file: Authorization: Bearer …")
            # A line each: browsers see only the first on a line.
            refusal.headers.append("WWW-Authenticate", 'Basic realm="redspan: the token is the password"')
            refusal.headers.append("WWW-Authenticate", 'Bearer realm="redspan"')
            return refusal
        if not self._local:
            return problem(403, "Forbidden", "off loopback, these pages need admin.token_file")
        if not _is_own(headers.get("host", "")):
            # A page of somebody else's whose name was made to lead here.
            return problem(403, "Forbidden", "ask for an IP address or localhost, or set admin.token_file")
        return None


def is_local(bind: Address) -> bool:
    """Whether only this machine can come there."""
    if bind.path or bind.host == "localhost":
        return True
    try:
        return ipaddress.ip_address(bind.host).is_loopback
    except ValueError:
        return False


def _given(authorization: str) -> bytes:
    scheme, _, text = authorization.partition(" ")
    text = text.strip()
    if scheme.lower() == "bearer":
        return text.encode()
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(text, validate=True).partition(b":")[2]
        except binascii.Error:
            return b""
    return b""


def _is_own(host: str) -> bool:
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() and not host.endswith("]") else host
    name = name.strip("[]").rstrip(".").lower()
    if not name or name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
