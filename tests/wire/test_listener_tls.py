"""Listeners that speak TLS, an upstream that wants a client's certificate, and files that are replaced meanwhile."""

from __future__ import annotations

import shutil
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.certificates import Certificates, make
from tests.conftest import StartSidecar
from tests.redis import RedisServer, free_port
from tests.sidecar import Sidecar

pytestmark = pytest.mark.tools


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make(tmp_path_factory.mktemp("others"))


@pytest.fixture
def tls_redis(certificates: Certificates) -> Iterator[tuple[RedisServer, int]]:
    """It wants a client's certificate."""
    port = free_port()
    server = RedisServer(
        tls_port=str(port),
        tls_cert_file=str(certificates.server),
        tls_key_file=str(certificates.server_key),
        tls_ca_cert_file=str(certificates.ca),
        tls_auth_clients="yes",
    )
    with server:
        yield server, port


def listening(certificates: Certificates, **more: Any) -> dict[str, Any]:
    tls = {"cert_file": str(certificates.server), "key_file": str(certificates.server_key), **more}
    return {"listeners": [{"tls": tls}], "frameworks": {"list": {"queues": ["jobs"]}}}


def client(sidecar: Sidecar, certificates: Certificates, *, shows: bool = False) -> redis.Redis:
    files = {"ssl_certfile": str(certificates.client), "ssl_keyfile": str(certificates.client_key)} if shows else {}
    return redis.Redis(host="127.0.0.1", port=sidecar.port, ssl=True, ssl_ca_certs=str(certificates.ca), **files)  # type: ignore[arg-type]


def test_clients_speak_tls(start_sidecar: StartSidecar, certificates: Certificates) -> None:
    sidecar = start_sidecar(listening(certificates))
    with client(sidecar, certificates) as one:
        one.set("big", b"x" * 3_000_000)
        assert one.get("big") == b"x" * 3_000_000
        one.lpush("jobs", '{"id":"1"}')
        popped = one.rpop("jobs")
        assert isinstance(popped, bytes)
        assert b"traceparent" in popped
        with one.pipeline() as pipe:
            for number in range(1000):
                pipe.set(f"k{number}", number)
            assert all(pipe.execute())
    sidecar.wait_for(lambda: sidecar.metric("redspan_connections") == 0, "still connected")
    assert sidecar.stop() == 0


def test_who_does_not_speak_it_is_closed_and_told_of(start_sidecar: StartSidecar, certificates: Certificates) -> None:
    sidecar = start_sidecar(listening(certificates))
    with sidecar.connect() as sock:
        sock.sendall(b"*1\r\n$4\r\nPING\r\n")
        assert sock.recv(64)[:1] in (b"", b"\x15")
    sidecar.wait_for(lambda: "tls_handshake" in sidecar.log, "not told")
    with client(sidecar, certificates) as one:
        assert one.ping()


def test_only_clients_with_a_certificate(start_sidecar: StartSidecar, certificates: Certificates) -> None:
    sidecar = start_sidecar(listening(certificates, client_ca_file=str(certificates.ca)))
    with client(sidecar, certificates, shows=True) as one:
        assert one.ping()
    with client(sidecar, certificates) as one, pytest.raises(redis.ConnectionError):
        one.ping()


def test_a_certificate_that_is_replaced_is_shown_to_the_next_client(
    start_sidecar: StartSidecar, certificates: Certificates, others: Certificates, tmp_path: Path
) -> None:
    """As a mounted secret is: a symbolic link to a directory, replaced by another one."""
    link = tmp_path / "live"
    for name, made in (("old", certificates), ("new", others)):
        (tmp_path / name).mkdir()
        shutil.copy(made.server, tmp_path / name / "server.pem")
        shutil.copy(made.server_key, tmp_path / name / "server_key.pem")
    link.symlink_to("old")
    files = {"cert_file": str(link / "server.pem"), "key_file": str(link / "server_key.pem")}
    sidecar = start_sidecar({"listeners": [{"tls": files}]})

    def point_to(name: str) -> None:
        (tmp_path / "next").symlink_to(name)
        (tmp_path / "next").replace(link)

    def trusted(by: Certificates) -> bool:
        try:
            with client(sidecar, by) as one:
                return bool(one.ping())
        except redis.ConnectionError:
            return False

    with client(sidecar, certificates) as before:
        assert before.ping()
        (tmp_path / "bad").mkdir()
        (tmp_path / "bad" / "server.pem").write_text("nonsense")
        point_to("bad")
        sidecar.wait_for(lambda: trusted(certificates) and "stays as it was" in sidecar.log, "not told")
        point_to("new")
        sidecar.wait_for(lambda: trusted(others), "not read again")
        assert not trusted(certificates)
        # Who is connected stays.
        assert before.ping()


def test_redis_wants_a_certificate_and_has_another_name(
    start_sidecar: StartSidecar, certificates: Certificates, tls_redis: tuple[RedisServer, int]
) -> None:
    _, port = tls_redis
    tls = {
        "ca_file": str(certificates.ca),
        "cert_file": str(certificates.client),
        "key_file": str(certificates.client_key),
        "server_name": "localhost",
    }
    sidecar = start_sidecar({"listeners": [{"upstream": f"rediss://127.0.0.1:{port}", "upstream_tls": tls}]})
    with redis.Redis.from_url(sidecar.url) as one:
        assert one.set("key", b"x" * 1_000_000)
        assert one.get("key") == b"x" * 1_000_000
    wrong = start_sidecar(
        {"listeners": [{"upstream": f"rediss://127.0.0.1:{port}", "upstream_tls": {**tls, "server_name": "no.such"}}]}
    )
    with redis.Redis.from_url(wrong.url) as one, pytest.raises(redis.ConnectionError):
        one.ping()
    assert "its TLS certificate is not accepted" in wrong.log
    unverified = start_sidecar(
        {
            "listeners": [
                {
                    "upstream": f"rediss://127.0.0.1:{port}",
                    "upstream_tls": {**tls, "server_name": "no.such", "verify": False},
                }
            ]
        }
    )
    with redis.Redis.from_url(unverified.url) as one:
        assert one.ping()


def test_a_peer_that_goes_without_a_word_gets_what_was_written(
    start_sidecar: StartSidecar, certificates: Certificates, direct: redis.Redis
) -> None:
    """No close_notify: what it had sent reaches Redis all the same."""
    sidecar = start_sidecar(listening(certificates))
    context = ssl.create_default_context(cafile=str(certificates.ca))
    for number in range(20):
        with sidecar.connect() as sock:
            secure = context.wrap_socket(sock, server_hostname="localhost", suppress_ragged_eofs=True)
            secure.sendall(b"INCR counter\r\n" * 100)
            with socket.socket(fileno=secure.detach()) as bare:
                bare.shutdown(socket.SHUT_WR)
                wanted = 100 * (number + 1)
                sidecar.wait_for(lambda wanted=wanted: int(direct.get("counter") or 0) == wanted, "lost")  # type: ignore[misc]


def test_a_password_that_is_replaced(start_sidecar: StartSidecar, tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("first\n")
    with RedisServer(password="first") as server:
        sidecar = start_sidecar({"listeners": [{"upstream": server.plain_url, "upstream_password_file": str(file)}]})
        with redis.Redis.from_url(sidecar.url) as one:
            assert one.ping()
            one.config_set("requirepass", "second")
        file.write_text("second\n")

        def served() -> bool:
            try:
                with redis.Redis.from_url(sidecar.url) as one:
                    return bool(one.ping())
            except redis.ConnectionError:
                return False

        sidecar.wait_for(served, "not read again")
        assert "first" not in sidecar.log
        assert "second" not in sidecar.log
