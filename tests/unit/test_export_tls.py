"""TLS and mTLS of every exporter, from the settings on, against servers that insist on it."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import add_TraceServiceServicer_to_server

from proxy.config import ClientTls, Collector, Export, Settings, Tracing
from proxy.tracer.assembly import exporters
from proxy.tracer.export.base import Result, Status
from tests.certificates import Certificates, make
from tests.receiver import Receiver
from tests.unit import make_spans
from tests.unit.test_export_sdk import Collector as GrpcCollector
from tests.zipkin_receiver import ZipkinReceiver

pytestmark = pytest.mark.tools

SPANS = [make_spans.make()]
PROTOCOLS = ["http/protobuf", "sdk", "zipkin", "grpc"]


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make(tmp_path_factory.mktemp("tls"))


@contextmanager
def serving(protocol: str, certificates: Certificates, *, mutual: bool) -> Iterator[str]:
    """A receiver's https:// endpoint."""
    if protocol == "grpc":
        with ThreadPoolExecutor(2) as pool:
            server = grpc.server(pool)
            add_TraceServiceServicer_to_server(GrpcCollector(), server)  # type: ignore[no-untyped-call]
            pair = certificates.server_key.read_bytes(), certificates.server.read_bytes()
            credentials = grpc.ssl_server_credentials([pair], certificates.ca.read_bytes() if mutual else None, mutual)
            port = server.add_secure_port("127.0.0.1:0", credentials)
            server.start()
            yield f"https://127.0.0.1:{port}"
            server.stop(None).wait(10)
    else:
        kind = ZipkinReceiver if protocol == "zipkin" else Receiver
        with kind(certificates.server_context(mutual=mutual)) as receiver:
            yield receiver.url


def sent(protocol: str, endpoint: str, tls: ClientTls) -> Result:
    encoder, spoken = ("sdk", "http/protobuf") if protocol == "sdk" else ("own", protocol)
    tracing = Tracing(
        endpoint=endpoint,
        protocol=spoken,  # type: ignore[arg-type]
        tls=tls,
        export=Export(timeout=5.0, encoder=encoder),  # type: ignore[arg-type]
    )
    [exporter] = exporters(Settings(tracing=tracing))
    with closing(exporter):
        return exporter.export(SPANS)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_an_authority_of_ones_own(protocol: str, certificates: Certificates) -> None:
    with serving(protocol, certificates, mutual=False) as endpoint:
        assert sent(protocol, endpoint, ClientTls(str(certificates.ca))) == Result(Status.OK, 1)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_server_that_nobody_vouches_for(protocol: str, certificates: Certificates) -> None:
    with serving(protocol, certificates, mutual=False) as endpoint:
        result = sent(protocol, endpoint, ClientTls())
    assert result.status is Status.RETRYABLE
    if protocol in ("http/protobuf", "zipkin"):
        assert result.reason == "certificate: unable to get local issuer certificate"


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_certificate_of_ones_own(protocol: str, certificates: Certificates) -> None:
    tls = ClientTls(str(certificates.ca), str(certificates.client), str(certificates.client_key))
    with serving(protocol, certificates, mutual=True) as endpoint:
        assert sent(protocol, endpoint, tls) == Result(Status.OK, 1)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_without_the_certificate_that_the_server_wants(protocol: str, certificates: Certificates) -> None:
    with serving(protocol, certificates, mutual=True) as endpoint:
        result = sent(protocol, endpoint, ClientTls(str(certificates.ca)))
    assert result.status is Status.RETRYABLE
    assert not result.accepted


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf", "zipkin"])
def test_of_one_more_exporter(protocol: str, certificates: Certificates) -> None:
    tls = ClientTls(str(certificates.ca), str(certificates.client), str(certificates.client_key))
    with serving(protocol, certificates, mutual=True) as endpoint:
        one = Collector(endpoint, protocol, tls=tls)  # type: ignore[arg-type]
        _, exporter = exporters(Settings(tracing=Tracing(exporters=(one,))))
        with closing(exporter):
            assert exporter.export(SPANS) == Result(Status.OK, 1)


@pytest.mark.parametrize("protocol", ["http/protobuf", "zipkin", "grpc"])
def test_a_file_that_is_gone_by_the_time_it_is_read(protocol: str) -> None:
    tracing = Tracing(endpoint="https://h", protocol=protocol, tls=ClientTls("/nowhere"))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^tracing: .*/nowhere"):
        list(exporters(Settings(tracing=tracing)))
