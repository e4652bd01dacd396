"""Addresses as users write them: where redspan listens, and where Redis is.

=============================== ============== =========
text                            to listen on   of Redis
=============================== ============== =========
``127.0.0.1:6380``              yes            yes
``[::1]:6380``                  yes            yes
``unix:///run/redspan.sock``    yes            yes
``redis://user:pass@host:6379``                yes
``rediss://…`` (TLS)                           yes
``redis+unix://:pass@/path``                   yes
=============================== ============== =========

No error raised here repeats what was written: it may hold a password.
"""

from __future__ import annotations

import re
from ipaddress import IPv6Address
from typing import Final
from urllib.parse import unquote

import msgspec

REDIS_PORT: Final = 6379

_SCHEME: Final = re.compile(r"(?P<scheme>redis|rediss|redis\+unix|unix)://(?P<rest>.*)", re.DOTALL)
_HOST: Final = re.compile(r"[A-Za-z0-9._-]+")
_PATH_LIMIT: Final = 107
"""Bytes of a unix socket's path that fit into ``sun_path``."""


class Address(msgspec.Struct, frozen=True):
    """A TCP address, or the path of a unix socket; for Redis, with the credentials to use there."""

    host: str = ""
    """Name or IP address, an IPv6 one without its brackets; empty for a unix socket."""
    port: int = 0
    """0 when listening: any free port."""
    path: str = ""
    """Of the unix socket; empty for TCP."""
    tls: bool = False
    username: str = ""
    password: str = ""

    def display(self) -> str:
        """As it may be shown, without credentials. Reads back as the same address, but for those."""
        if self.path:
            return f"unix://{self.path}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'rediss://' if self.tls else ''}{host}:{self.port}"

    def __repr__(self) -> str:
        return f"Address({self.display()})"


def parse_bind(text: str) -> Address:
    """An address to listen on. Raises ValueError, saying what is wrong."""
    if text.startswith("unix://"):
        return Address(path=_socket_path(text.removeprefix("unix://")))
    if "://" in text or "@" in text:
        raise ValueError("an address to listen on has no scheme and no credentials")
    host, port = _host_and_port(text, default=None)
    return Address(host=host, port=port)


def parse_upstream(text: str) -> Address:
    """An address of Redis. Raises ValueError, saying what is wrong."""
    match = _SCHEME.fullmatch(text)
    if match is None and ("://" in text or "@" in text):
        raise ValueError("write it as redis://, rediss:// or unix://")
    scheme, rest = match.group("scheme", "rest") if match else ("redis", text)
    # All before the last "@" is credentials, even where a password holds an unescaped "/" or "@";
    # only a socket's path, which begins with "/", may hold an "@" of its own.
    credentials, at, target = ("", "", rest) if rest.startswith("/") else rest.rpartition("@")
    username, password = _credentials(credentials) if at else ("", "")
    if "?" in target or "#" in target:
        raise ValueError("options in the URL are not supported")
    if scheme.endswith("unix"):
        return Address(path=_socket_path(target), username=username, password=password)
    authority, _, rest = target.partition("/")
    if rest.strip("/").isdecimal():
        raise ValueError("no database number: it is for the client to SELECT one")
    if rest:
        raise ValueError("nothing may follow the port")
    host, port = _host_and_port(authority, default=REDIS_PORT)
    if port == 0:
        raise ValueError("no server listens on port 0")
    return Address(host=host, port=port, tls=scheme == "rediss", username=username, password=password)


def masked(text: str) -> str:
    """Any text that may be an address with credentials, well-formed or not, without them."""
    head, at, target = text.rpartition("@")
    if at:
        scheme, separator, _ = head.partition("://")
        text = f"{scheme}://***@{target}" if separator else f"***@{target}"
    elif (match := _SCHEME.fullmatch(text)) and not match["rest"].startswith("["):
        # "redis://:secret", for want of the host: what stands in a port's place and is none.
        host, colon, port = match["rest"].partition(":")
        if colon and not (host and port.partition("/")[0].isdecimal()):
            text = f"{match['scheme']}://{host}:***"
    # Other clients take a password among the options of the URL.
    head, options, _ = text.partition("?")
    return f"{head}?***" if options and "://" in head else text


def _credentials(text: str) -> tuple[str, str]:
    username, colon, password = text.partition(":")
    if not colon or not password:
        raise ValueError("credentials are user:password or :password")
    return unquote(username), unquote(password)


def _socket_path(text: str) -> str:
    if not text.startswith("/") or text == "/":
        raise ValueError("the path of a unix socket is absolute: unix:///run/redis.sock")
    if "\0" in text or len(text.encode()) > _PATH_LIMIT:
        raise ValueError(f"the path of a unix socket has at most {_PATH_LIMIT} bytes")
    return text


def _host_and_port(text: str, *, default: int | None) -> tuple[str, int]:
    """Host and port; without ``default`` the port must be there."""
    if text.startswith("["):
        inside, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise ValueError("an IPv6 address is written [::1]:6380")
        host, port, given = _ipv6(inside), rest[1:], bool(rest)
    else:
        host, colon, port = text.partition(":")
        given = bool(colon)
        if ":" in port:
            raise ValueError("an IPv6 address needs brackets: [::1]:6380")
        if not _HOST.fullmatch(host):
            raise ValueError("the host is missing" if not host else "the host has characters that no host has")
    if not given and default is not None:
        return host, default
    if not (port.isascii() and port.isdecimal() and len(port) <= len("65535") and int(port) <= 0xFFFF):
        raise ValueError("the port is a number up to 65535" if port else "the port is missing")
    return host.lower(), int(port)


def _ipv6(text: str) -> str:
    try:
        return str(IPv6Address(text))
    except ValueError:
        raise ValueError("between the brackets goes an IPv6 address") from None
