"""Opening sockets to listen on, with errors that say what to do."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import socket
from pathlib import Path
from typing import Final

from proxy.address import Address

BACKLOG: Final = 511
"""As Redis' own default; the kernel caps it at net.core.somaxconn."""

_KEEPALIVE_IDLE: Final = 300
_KEEPALIVE_INTERVAL: Final = 100
_KEEPALIVE_PROBES: Final = 3

_REASONS: Final = {
    errno.EADDRINUSE: "another process listens there",
    errno.EADDRNOTAVAIL: "this machine has no such address",
    errno.EACCES: "not permitted",
    errno.ENOENT: "its directory does not exist",
}


class CannotListen(Exception):
    """Its text is for the user: which address, why, and which setting to change."""


def open_listeners(address: Address, setting: str) -> list[socket.socket]:
    """Non-blocking listening sockets: one, or one for each address of a host name.

    ``setting`` is what the user has to change if it fails, as ``listeners[0].bind (--listen)``.
    Raises `CannotListen`.
    """
    opened: list[socket.socket] = []
    try:
        if address.path:
            opened.append(_open_unix(Path(address.path)))
        else:
            port = address.port
            for family, _, _, _, place in _resolve(address):
                opened.append(_open_tcp(family, (place[0], port, *place[2:])))
                # Port 0 is any free port, but the same one for all addresses of a name.
                port = port or opened[0].getsockname()[1]
    except OSError as error:
        for sock in opened:
            sock.close()
        reason = _REASONS.get(error.errno or 0, error.strerror or str(error))
        raise CannotListen(f"cannot listen on {address.display()}: {reason}; change {setting}") from error
    return opened


def reserve(address: Address, setting: str) -> list[socket.socket]:
    """TCP sockets that hold their addresses without listening: for `share`, in other processes, to listen on.

    Raises `CannotListen`, also if somebody listens there who would share.
    """
    places = []
    for sock in open_listeners(address, setting):
        places.append((sock.family, sock.getsockname()))
        sock.close()
    try:
        return [_bind_tcp(family, place, shared=True) for family, place in places]
    except OSError as error:
        raise CannotListen(f"cannot listen on {address.display()}: {error.strerror}; change {setting}") from error


def share(family: int, place: tuple[object, ...]) -> socket.socket:
    """A listening socket of one's own on an address that others of ours listen on, too. Raises OSError."""
    sock = _bind_tcp(family, place, shared=True)
    try:
        return _listening(sock)
    except OSError:
        sock.close()
        raise


def bound(sock: socket.socket) -> Address:
    """Where a socket listens: with the real port where port 0 was asked for."""
    name = sock.getsockname()
    if sock.family == socket.AF_UNIX:
        return Address(path=os.fsdecode(name))
    return Address(host=name[0], port=name[1])


def close_listener(sock: socket.socket) -> None:
    """Closes it; the file of a unix socket is removed, if it is still ours."""
    if sock.family == socket.AF_UNIX and sock.fileno() >= 0:
        with contextlib.suppress(OSError):
            path = Path(sock.getsockname())
            # Closed first: as long as it listens, it would be its own answer.
            sock.close()
            if not _answers(path):
                path.unlink()
    sock.close()


def keep_alive(sock: socket.socket) -> None:
    """TCP keepalive as Redis sets it; on a listening socket for all it accepts. No effect on unix sockets."""
    if sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _KEEPALIVE_IDLE)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _KEEPALIVE_INTERVAL)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, _KEEPALIVE_PROBES)


def raise_file_limit(wanted: int) -> int:
    """Tries to allow ``wanted`` open files; answers how many are allowed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return wanted
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    except (OSError, ValueError):
        return soft
    return allowed


def _resolve(address: Address) -> list[tuple[int, int, int, str, tuple[str, int] | tuple[str, int, int, int]]]:
    found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return list(dict.fromkeys(found))  # type: ignore[arg-type]  # (int, bytes) is for builds without IPv6


def _open_tcp(family: int, place: tuple[object, ...]) -> socket.socket:
    sock = _bind_tcp(family, place)
    try:
        return _listening(sock)
    except OSError:
        sock.close()
        raise


def _bind_tcp(family: int, place: tuple[object, ...], *, shared: bool = False) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        # What is set here, every accepted connection inherits.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        keep_alive(sock)
        sock.bind(place)
    except OSError:
        sock.close()
        raise
    return sock


def _open_unix(path: Path) -> socket.socket:
    with contextlib.suppress(FileNotFoundError):
        if not path.is_socket() and path.exists():
            raise OSError(errno.EADDRINUSE, "there is a file of that name")
        if _answers(path):
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
        # Left behind by a process that was killed.
        path.unlink()
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.bind(os.fspath(path))
        return _listening(sock)
    except OSError:
        sock.close()
        raise


def _listening(sock: socket.socket) -> socket.socket:
    sock.listen(BACKLOG)
    sock.setblocking(False)
    return sock


def _answers(path: Path) -> bool:
    """Whether somebody listens on this unix socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        return probe.connect_ex(os.fspath(path)) not in (errno.ECONNREFUSED, errno.ENOENT)
