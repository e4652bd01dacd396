"""An upstream that speaks TLS."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import NamedTuple

import pytest
import redis

from tests.conftest import StartSidecar
from tests.redis import RedisServer, free_port
from tests.sidecar import Sidecar

pytestmark = pytest.mark.tools


class Tls(NamedTuple):
    server: RedisServer
    port: int
    certificate: Path


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tls]:
    """A Redis with a certificate for localhost, signed by itself."""
    directory = tmp_path_factory.mktemp("tls")
    certificate, key, port = directory / "cert.pem", directory / "key.pem", free_port()
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=x -addext subjectAltName=DNS:localhost"
    subprocess.run([*command.split(), "-keyout", key, "-out", certificate], check=True, capture_output=True)
    server = RedisServer(
        password="secret",
        tls_port=str(port),
        tls_cert_file=str(certificate),
        tls_key_file=str(key),
        tls_ca_cert_file=str(certificate),
        tls_auth_clients="no",
    )
    with ExitStack() as running:
        running.enter_context(server)
        yield Tls(server, port, certificate)


@pytest.fixture
def sidecar(start_sidecar: StartSidecar, tls: Tls) -> Sidecar:
    upstream = f"rediss://:secret@localhost:{tls.port}"
    settings = {"listeners": [{"upstream": upstream}], "frameworks": {"list": {"queues": ["jobs"]}}}
    return start_sidecar(settings, {"SSL_CERT_FILE": str(tls.certificate)})


def assert_closed(sidecar: Sidecar) -> None:
    with sidecar.connect() as sock, suppress(ConnectionResetError):
        assert sock.recv(64) == b""


def test_traffic(sidecar: Sidecar) -> None:
    with redis.Redis.from_url(sidecar.url) as client:
        pipeline = client.pipeline(transaction=False)
        for number in range(2000):
            pipeline.set(f"key:{number}", "v" * number)
            pipeline.get(f"key:{number}")
        assert pipeline.execute()[1::2] == [b"v" * number for number in range(2000)]
        client.set("big", b"x" * 5_000_000)
        assert client.get("big") == b"x" * 5_000_000
        assert client.lpush("jobs", '{"id":"1"}')
        popped = client.rpop("jobs")
        assert isinstance(popped, bytes)
        assert b"traceparent" in popped


def test_client_that_leaves_while_blocked(sidecar: Sidecar, tls: Tls) -> None:
    with redis.Redis.from_url(tls.server.url) as direct:

        def blocked() -> bool:
            return any("b" in one["flags"] for one in direct.client_list())

        with sidecar.connect() as sock:
            sock.sendall(b"BRPOP nothing 0\r\n")
            sidecar.wait_for(blocked, "not blocked")
        sidecar.wait_for(lambda: not blocked(), "still there")


def test_blind(sidecar: Sidecar) -> None:
    with sidecar.connect() as sock, redis.Redis.from_url(sidecar.url) as client:
        sock.sendall(b"MONITOR\r\n")
        seen = sock.recv(5)
        for number in range(100):
            client.set("watched", f"value-{number}")
        while b"value-99" not in seen:
            seen += sock.recv(65536)
        sock.sendall(b"QUIT\r\n")
        while sock.recv(65536):
            pass


def test_closed_by_redis(sidecar: Sidecar, tls: Tls) -> None:
    with redis.Redis.from_url(tls.server.url) as direct, sidecar.connect() as sock:
        sock.sendall(b"CLIENT ID\r\n")
        direct.client_kill_filter(_id=sock.recv(64)[1:].strip().decode())
        assert sock.recv(64) == b""


def test_certificate_that_is_not_trusted(start_sidecar: StartSidecar, tls: Tls) -> None:
    sidecar = start_sidecar({"listeners": [{"upstream": f"rediss://:secret@localhost:{tls.port}"}]})
    assert_closed(sidecar)
    assert "its TLS certificate is not accepted" in sidecar.log
    assert "secret" not in sidecar.log


def test_no_tls_at_that_port(start_sidecar: StartSidecar, tls: Tls) -> None:
    sidecar = start_sidecar({"listeners": [{"upstream": f"rediss://localhost:{tls.server.port}"}]})
    assert_closed(sidecar)
    assert "upstream_unreachable" in sidecar.log


def test_name_that_does_not_resolve(start_sidecar: StartSidecar) -> None:
    sidecar = start_sidecar({"listeners": [{"upstream": "redis://no.such.host.invalid:6379"}]})
    assert_closed(sidecar)
    assert "its name cannot be resolved" in sidecar.log
