"""Opening sockets, and what is said when that fails."""

from __future__ import annotations

import resource
import socket
from pathlib import Path

import pytest

from proxy.address import Address, parse_bind
from proxy.listen import CannotListen, bound, close_listener, open_listeners, raise_file_limit


def test_tcp() -> None:
    (sock,) = open_listeners(parse_bind("127.0.0.1:0"), "admin.bind")
    with sock:
        address = bound(sock)
        assert address.host == "127.0.0.1"
        assert address.port > 0
        assert not sock.getblocking()
        with socket.create_connection((address.host, address.port)):
            accepted, _ = sock.accept()
            with accepted:
                assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
                assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
                assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 300


def test_name_with_several_addresses() -> None:
    socks = open_listeners(parse_bind("localhost:0"), "admin.bind")
    try:
        assert len({bound(sock).port for sock in socks}) == 1
    finally:
        for sock in socks:
            sock.close()


def test_in_use() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(CannotListen) as caught:
            open_listeners(Address(host="127.0.0.1", port=port), "listeners[0].bind (--listen)")
    expected = f"cannot listen on 127.0.0.1:{port}: another process listens there; change listeners[0].bind (--listen)"
    assert str(caught.value) == expected


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        (Address(host="192.0.2.1", port=1), "this machine has no such address"),
        (Address(host="no.such.host.invalid", port=1), "no.such.host.invalid:1"),
        (Address(path="/nowhere/redspan.sock"), "its directory does not exist"),
    ],
)
def test_impossible(address: Address, reason: str) -> None:
    with pytest.raises(CannotListen, match=reason):
        open_listeners(address, "admin.bind")


class TestUnix:
    def test_file_goes_with_its_listener(self, tmp_path: Path) -> None:
        path = tmp_path / "s"
        (sock,) = open_listeners(Address(path=str(path)), "admin.bind")
        assert bound(sock) == Address(path=str(path))
        assert path.is_socket()
        close_listener(sock)
        assert not path.exists()
        close_listener(sock)

    def test_left_behind(self, tmp_path: Path) -> None:
        path = tmp_path / "s"
        (sock,) = open_listeners(Address(path=str(path)), "admin.bind")
        sock.close()
        assert path.is_socket()
        (sock,) = open_listeners(Address(path=str(path)), "admin.bind")
        close_listener(sock)

    def test_in_use(self, tmp_path: Path) -> None:
        (sock,) = open_listeners(Address(path=str(tmp_path / "s")), "admin.bind")
        with pytest.raises(CannotListen, match="another process listens there"):
            open_listeners(Address(path=str(tmp_path / "s")), "admin.bind")
        close_listener(sock)

    def test_somebody_elses_file(self, tmp_path: Path) -> None:
        path = tmp_path / "precious"
        path.write_text("data")
        with pytest.raises(CannotListen):
            open_listeners(Address(path=str(path)), "admin.bind")
        assert path.read_text() == "data"

    def test_successor_keeps_its_file(self, tmp_path: Path) -> None:
        path = tmp_path / "s"
        (first,) = open_listeners(Address(path=str(path)), "admin.bind")
        path.unlink()
        (second,) = open_listeners(Address(path=str(path)), "admin.bind")
        close_listener(first)
        assert path.is_socket()
        close_listener(second)
        assert not path.exists()


def test_file_limit() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
        assert raise_file_limit(100) == 100
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 256
        assert raise_file_limit(300) == 300
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 300
        if hard != resource.RLIM_INFINITY:
            assert raise_file_limit(hard + 1) == hard
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
