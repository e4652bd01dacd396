"""The own OTLP/HTTP exporter against a real receiver."""

from __future__ import annotations

import gzip
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

from proxy.tracer.export.base import Result, Status
from proxy.tracer.export.http import HttpExporter
from proxy.tracer.export.post import retry_after, target
from proxy.tracer.otlp import Encoder
from proxy.tracer.span import Operation
from tests.receiver import Receiver
from tests.unit.make_spans import make

ENCODER = Encoder({"service.name": "worker"}, "1.2.3")
SPANS = [make(operation) for operation in (Operation.ENQUEUE, Operation.DEQUEUE, Operation.PROCESS)]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as running:
        yield running


@pytest.fixture
def exporter(receiver: Receiver) -> Iterator[HttpExporter]:
    made = HttpExporter(ENCODER, receiver.url)
    yield made
    made.close()


def post(endpoint: str, **options: Any) -> Result:
    """One export by an exporter of its own."""
    with closing(HttpExporter(ENCODER, endpoint, **options)) as exporter:
        return exporter.export(SPANS)


def test_spans_arrive(receiver: Receiver, exporter: HttpExporter) -> None:
    result = exporter.export(SPANS)
    assert (result.status, result.accepted, result.rejected) == (Status.OK, 3, 0)
    assert [span.name for span in receiver.spans] == ["queue.enqueue", "queue.dequeue", "job.process"]
    first = receiver.spans[0]
    assert (first.span_id, first.kind, first.start) == (SPANS[0].span_id.hex(), "PRODUCER", SPANS[0].start)
    assert (first.resource, first.scope) == ({"service.name": "worker"}, "redspan")


def test_one_connection_for_many_requests(receiver: Receiver, exporter: HttpExporter) -> None:
    for _ in range(5):
        exporter.export(SPANS)
    assert [request.connection for request in receiver.requests] == [0] * 5


def test_what_is_sent(receiver: Receiver) -> None:
    post(receiver.url, headers={"X-Api-Key": "k"})
    [request] = receiver.requests
    assert request.path == "/v1/traces"
    assert request.headers["content-type"] == "application/x-protobuf"
    assert request.headers["content-encoding"] == "gzip"
    assert request.headers["x-api-key"] == "k"
    assert request.headers["user-agent"].startswith("redspan/")
    assert request.size == len(gzip.compress(ENCODER.encode(SPANS), 1, mtime=0))


def test_uncompressed(receiver: Receiver) -> None:
    post(receiver.url, compression="none")
    [request] = receiver.requests
    assert "content-encoding" not in request.headers
    assert request.size == len(ENCODER.encode(SPANS))


def test_a_path_is_used_as_it_stands(receiver: Receiver) -> None:
    post(f"{receiver.url}/otlp/v1/traces?tenant=a")
    assert receiver.requests[0].path == "/otlp/v1/traces?tenant=a"


def test_user_and_password(receiver: Receiver) -> None:
    post(receiver.url.replace("://", "://me:p%40ss@"))
    assert receiver.requests[0].headers["authorization"] == "Basic bWU6cEBzcw=="


def test_part_of_it_is_rejected(receiver: Receiver, exporter: HttpExporter) -> None:
    receiver.answer(rejected=2, message="too old")
    result = exporter.export(SPANS)
    assert (result.status, result.accepted, result.rejected) == (Status.OK, 1, 2)
    assert result.reason == "receiver: too old"


def test_more_than_all_of_it_is_all_of_it(receiver: Receiver, exporter: HttpExporter) -> None:
    receiver.answer(rejected=99)
    assert exporter.export(SPANS).rejected == 3


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_later_maybe(receiver: Receiver, exporter: HttpExporter, status: int) -> None:
    receiver.answer(status, headers={"Retry-After": "7"})
    result = exporter.export(SPANS)
    assert (result.status, result.reason, result.retry_after) == (Status.RETRYABLE, f"HTTP {status}", 7.0)
    assert receiver.spans == []
    assert exporter.export(SPANS).status is Status.OK


@pytest.mark.parametrize("status", [301, 400, 401, 404, 413, 500, 501])
def test_never(receiver: Receiver, exporter: HttpExporter, status: int) -> None:
    receiver.answer(status, headers={"Location": "/elsewhere"})
    result = exporter.export(SPANS)
    assert (result.status, result.reason) == (Status.FATAL, f"HTTP {status}")
    assert len(receiver.requests) == 1


def test_a_closed_connection_is_opened_again(receiver: Receiver, exporter: HttpExporter) -> None:
    exporter.export(SPANS)
    receiver.answer(hang_up=True)
    assert exporter.export(SPANS).status is Status.OK
    assert [request.connection for request in receiver.requests] == [0, 0, 1]


def test_but_only_once(receiver: Receiver, exporter: HttpExporter) -> None:
    exporter.export(SPANS)
    receiver.answer(hang_up=True, times=2)
    result = exporter.export(SPANS)
    assert (result.status, result.reason) == (Status.RETRYABLE, "RemoteDisconnected")
    assert len(receiver.requests) == 3
    assert exporter.export(SPANS).status is Status.OK


def test_a_receiver_that_says_close(receiver: Receiver, exporter: HttpExporter) -> None:
    receiver.answer(headers={"Connection": "close"})
    assert exporter.export(SPANS).status is Status.OK
    assert exporter.export(SPANS).status is Status.OK
    assert [request.connection for request in receiver.requests] == [0, 1]


def test_nobody_listens() -> None:
    with socket.socket() as bound:  # bound but not listening: nobody else gets the port
        bound.bind(("127.0.0.1", 0))
        exporter = HttpExporter(ENCODER, f"http://127.0.0.1:{bound.getsockname()[1]}")
        result = exporter.export(SPANS)
    assert (result.status, result.reason) == (Status.RETRYABLE, "Connection refused")


def test_nobody_answers(receiver: Receiver) -> None:
    receiver.answer(delay=60)
    with closing(HttpExporter(ENCODER, receiver.url, timeout=0.1)) as exporter:
        result = exporter.export(SPANS)
        assert (result.status, result.reason) == (Status.RETRYABLE, "timeout")
        # The answer to the first request, whenever it comes, is not taken for that to the second.
        while exporter.export(SPANS).status is not Status.OK:  # a slow machine may time out once more
            pass
    assert receiver.requests[-1].connection >= 1


@contextmanager
def raw_server(answer: bytes) -> Iterator[str]:
    """Answers one request with these bytes and waits until the client closes; its URL."""

    def serve() -> None:
        client, _ = server.accept()
        with client:
            client.settimeout(10)
            client.recv(65536)
            client.sendall(answer)
            with suppress(ConnectionResetError):  # closed with bytes unread
                while client.recv(65536):
                    pass
            closed.append(True)

    closed: list[bool] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(10)
        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        thread.join(10)
    assert closed == [True]


def test_an_answer_without_end_is_not_read_to_its_end() -> None:
    with (
        raw_server(b"HTTP/1.1 200 OK\r\nContent-Length: 10000000000\r\n\r\n" + b"x" * 100_000) as url,
        closing(HttpExporter(ENCODER, url)) as exporter,
    ):
        assert exporter.export(SPANS).status is Status.OK
        assert exporter._poster.connection.sock is None


def test_not_http_at_all() -> None:
    with raw_server(b"-ERR unknown command 'POST'\r\n") as url:
        result = post(url)
    assert (result.status, result.reason) == (Status.RETRYABLE, "BadStatusLine")


def test_a_host_that_is_none() -> None:
    result = post(f"http://{'x' * 70}.invalid")
    assert result.status is Status.RETRYABLE


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed one for 127.0.0.1, key included."""
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -keyout -"
    made = subprocess.run([*command.split(), "-addext", "subjectAltName=IP:127.0.0.1"], check=True, capture_output=True)
    path.write_bytes(made.stdout)
    return path


@pytest.mark.tools
def test_https(certificate: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    trusted = ssl.create_default_context(cafile=str(certificate))
    with Receiver(context) as receiver:
        assert post(receiver.url, tls=trusted).status is Status.OK
        result = post(receiver.url)
        assert (result.status, result.reason) == (Status.RETRYABLE, "certificate: self-signed certificate")
        assert len(receiver.spans) == 3


@pytest.mark.parametrize(
    ("endpoint", "url"),
    [
        ("http://localhost:4318", "http://localhost:4318/v1/traces"),
        ("http://localhost:4318/", "http://localhost:4318/v1/traces"),
        ("localhost:4318", "http://localhost:4318/v1/traces"),
        ("https://collector", "https://collector/v1/traces"),
        ("http://[::1]:4318", "http://[::1]:4318/v1/traces"),
        ("http://h/custom/", "http://h/custom/"),
        ("http://user:secret@h/x?y=z", "http://h/x?y=z"),
    ],
)
def test_target(endpoint: str, url: str) -> None:
    assert target(endpoint).url == url


@pytest.mark.parametrize(
    "endpoint",
    ["", "ftp://host", "http://", "http://user:pa/ss@host", "http://u:secret@[::1", "http://h/pa th", "http://h/é"],
)
def test_no_target(endpoint: str) -> None:
    with pytest.raises(ValueError, match="export endpoint: ") as caught:
        HttpExporter(ENCODER, endpoint)
    assert "secret" not in str(caught.value)
    assert "pa" not in str(caught.value).replace("path", "").replace("password", "")


@pytest.mark.parametrize(
    ("name", "value"), [("a", "secret\r\nb: c"), ("a", "secret\u20ac"), ("", "secret"), ("a\n", "")]
)
def test_headers_that_cannot_be_sent(name: str, value: str) -> None:
    with pytest.raises(ValueError, match="export header") as caught:
        HttpExporter(ENCODER, "http://h", headers={name: value})
    assert "secret" not in str(caught.value)


def test_compression_is_checked() -> None:
    with pytest.raises(ValueError, match="expected gzip or none, found 'zstd'"):
        HttpExporter(ENCODER, "http://h", compression="zstd")


@pytest.mark.parametrize(
    ("header", "seconds"),
    [(None, 0), ("", 0), ("30", 30), (" 5 ", 5), ("soon", 0), ("-3", 0), ("1" * 400, float("inf"))],
)
def test_retry_after(header: str | None, seconds: float) -> None:
    assert retry_after(header) == seconds


def test_retry_after_a_date() -> None:
    later = datetime.now(UTC) + timedelta(hours=1)
    assert 3500 < retry_after(format_datetime(later, usegmt=True)) <= 3600
    assert retry_after(format_datetime(later - timedelta(hours=2), usegmt=True)) == 0
