"""Settings of where spans go: several collectors, certificates, compression, and what is wrong with them."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.config import ClientTls, Collector, Settings, Tracing
from proxy.config.sources import load
from tests.certificates import Certificates, make
from tests.unit.settings import Write, from_env, problems

pytestmark = pytest.mark.tools

OTLP = "OTEL_EXPORTER_OTLP"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make(tmp_path_factory.mktemp("tls"))


class TestSeveral:
    FILE = """\
tracing:
  endpoint: https://otel:4318
  exporters:
  - endpoint: http://zipkin:9411/api/v2/spans
  - endpoint: grpc.example:4317
    headers: {x-key: hidden}
  - protocol: zipkin
"""

    def test_their_protocols_and_endpoints(self, write: Write) -> None:
        tracing = load(write(self.FILE), {}, {}).settings.tracing
        assert [(one.resolved_protocol(), one.resolved_endpoint()) for _, one in tracing.collectors()] == [
            ("http/protobuf", "https://otel:4318/v1/traces"),
            ("zipkin", "http://zipkin:9411/api/v2/spans"),
            ("grpc", "http://grpc.example:4317"),
            ("zipkin", "http://127.0.0.1:9411/api/v2/spans"),
        ]
        assert tracing.exporters[1].headers == {"x-key": "hidden"}

    def test_effective(self, write: Write) -> None:
        lines = load(write(self.FILE), {}, {}).effective()
        assert "hidden" not in "\n".join(lines)
        values = {line.split(" = ")[0]: line.split(" = ")[1] for line in lines if " = " in line}
        assert values["tracing.exporters[1].headers.x-key"].split() == ["***", "#", "file", "redspan.yaml:6"]
        assert values["tracing.exporters[2].endpoint"].split() == ['""', "#", "default"]
        assert values["tracing.exporters[0].tls.ca_file"].split() == ['""', "#", "default"]
        assert lines[-4:] == [
            "# spans go by http/protobuf to https://otel:4318/v1/traces",
            "# spans go by zipkin to http://zipkin:9411/api/v2/spans",
            "# spans go by grpc to http://grpc.example:4317",
            "# spans go by zipkin to http://127.0.0.1:9411/api/v2/spans",
        ]

    def test_none(self) -> None:
        lines = from_env(REDSPAN_TRACING__PROTOCOL="none").effective()
        assert [line.split() for line in lines if line.startswith("tracing.exporters")] == [
            ["tracing.exporters", "=", "[]", "#", "default"]
        ]
        assert lines[-1] == "# spans go to nobody"

    def test_a_repr_shows_no_header(self) -> None:
        assert "hidden" not in repr(Tracing(exporters=(Collector("h", headers={"a": "hidden"}),)))

    def test_from_the_environment_as_a_whole(self, write: Write) -> None:
        text = '[{"endpoint": "h:9411", "protocol": "zipkin"}]'
        loaded = load(write(self.FILE), {}, {"REDSPAN_TRACING__EXPORTERS": text})
        assert loaded.settings.tracing.exporters == (Collector("h:9411", "zipkin"),)

    def test_from_the_environment_one_by_one(self, write: Write) -> None:
        loaded = load(
            write(self.FILE),
            {},
            {
                "REDSPAN_TRACING__EXPORTERS__1__HEADERS": "{x-key: other, y: more}",
                "REDSPAN_TRACING__EXPORTERS__0__PROTOCOL": "http/protobuf",
                "REDSPAN_TRACING__EXPORTERS__3__ENDPOINT": "one.more:4318",
            },
        )
        first, second, _, fourth = loaded.settings.tracing.exporters
        assert first.resolved_protocol() == "http/protobuf"
        assert second.endpoint == "grpc.example:4317"
        assert second.headers == {"x-key": "other", "y": "more"}
        assert fourth.endpoint == "one.more:4318"
        assert loaded.origins["tracing.exporters[3].endpoint"] == "env REDSPAN_TRACING__EXPORTERS__3__ENDPOINT"

    def test_from_the_environment_alone(self) -> None:
        tracing = from_env(REDSPAN_TRACING__EXPORTERS__0__ENDPOINT="h:4317").settings.tracing
        assert tracing.exporters == (Collector("h:4317"),)

    def test_a_gap(self) -> None:
        [problem] = problems(environ={"REDSPAN_TRACING__EXPORTERS__1__ENDPOINT": "h:4317"})
        assert problem.endswith("tracing.exporters[1].endpoint: expected an index up to 0, found 1")

    @pytest.mark.parametrize(
        ("text", "problem"),
        [
            ("{endpoint: h}", "tracing.exporters: expected a list, found a mapping"),
            ("[h]", 'tracing.exporters[0]: expected a mapping, found "h"'),
            ("[{endpont: h}]", "exporters[0].endpont: expected a known key, found endpont (did you mean endpoint?)"),
            ("[{protocol: none}]", '.protocol: expected "", grpc, http/protobuf or zipkin, found "none"'),
            ("[{endpoint: 'ftp://h'}]", "tracing.exporters[0].endpoint: expected a URL such as"),
        ],
    )
    def test_what_is_wrong(self, write: Write, text: str, problem: str) -> None:
        [found] = problems(write(f"tracing:\n  exporters: {text}\n"))
        assert found.startswith("redspan.yaml:2: ")
        assert problem in found

    def test_the_same_place_twice(self, write: Write) -> None:
        file = write("tracing:\n  endpoint: h:4318\n  exporters:\n  - endpoint: http://h:4318/v1/traces\n")
        [problem] = problems(file)
        assert problem == (
            "redspan.yaml:4: tracing.exporters[0].endpoint: expected an endpoint of its own, "
            "found the one of tracing.endpoint"
        )

    def test_the_same_place_for_another_tenant(self) -> None:
        more = Collector("h:4318", headers={"x-scope-orgid": "b"})
        assert not list(Settings(tracing=Tracing(endpoint="h:4318", exporters=(more,))).conflicts())


class TestTls:
    def test_files(self, write: Write, certificates: Certificates) -> None:
        pair = f"cert_file: {certificates.client}, key_file: {certificates.client_key}"
        file = write(
            f"tracing:\n  endpoint: https://otel\n  tls: {{ca_file: {certificates.ca}, {pair}}}\n"
            f"  exporters: [{{endpoint: 'https://more', tls: {{{pair}}}}}]\n"
        )
        tracing = load(file, {}, {}).settings.tracing
        client = str(certificates.client), str(certificates.client_key)
        assert tracing.tls == ClientTls(str(certificates.ca), *client)
        assert tracing.exporters[0].tls == ClientTls("", *client)

    @pytest.mark.parametrize("where", ["tls", "exporters[0].tls"])
    @pytest.mark.parametrize(
        ("files", "problem"),
        [
            (
                "ca_file: /nowhere",
                "ca_file: expected a file that can be read, found /nowhere (no such file or directory)",
            ),
            ("ca_file: /", "ca_file: expected a file that can be read, found / (is a directory)"),
            ("ca_file: {client_key}", "ca_file: expected certificates in PEM, found {client_key}"),
            ("cert_file: {client}", "key_file: expected a file, as there is a certificate, found none"),
            ("key_file: {client_key}", "cert_file: expected a file, as there is a key, found none"),
            (
                "cert_file: {client}, key_file: /nowhere",
                "key_file: expected a file that can be read, found /nowhere (no such file or directory)",
            ),
            (
                "cert_file: {client}, key_file: {server_key}",
                "cert_file: expected a certificate, and its key without a password, found {client}",
            ),
            (
                "cert_file: {client}, key_file: {locked_key}",
                "cert_file: expected a certificate, and its key without a password, found {client}",
            ),
        ],
    )
    def test_what_is_wrong_with_them(
        self, write: Write, certificates: Certificates, where: str, files: str, problem: str
    ) -> None:
        names = {name: str(path) for name, path in certificates._asdict().items()}
        one = f"{{endpoint: 'https://otel', tls: {{{files.format(**names)}}}}}"
        file = write(f"tracing: {one}\n" if where == "tls" else f"tracing: {{exporters: [{one}]}}\n")
        [found] = problems(file)
        assert found.removeprefix("redspan.yaml:1: ").removeprefix("default: ") == (
            f"tracing.{where}.{problem.format(**names)}"
        )

    def test_for_nothing(self, write: Write, certificates: Certificates) -> None:
        file = write(f"tracing:\n  endpoint: otel:4318\n  tls: {{ca_file: {certificates.ca}}}\n")
        assert problems(file) == [
            "redspan.yaml:3: tracing.tls.ca_file: expected nothing, as the endpoint is not https://, found a file"
        ]


class TestOtel:
    def test_certificates(self, certificates: Certificates) -> None:
        tracing = from_env(
            **{
                f"{OTLP}_ENDPOINT": "https://otel:4318",
                f"{OTLP}_CERTIFICATE": "/elsewhere",
                f"{OTLP}_TRACES_CERTIFICATE": str(certificates.ca),
                f"{OTLP}_CLIENT_CERTIFICATE": str(certificates.client),
                f"{OTLP}_CLIENT_KEY": str(certificates.client_key),
            }
        ).settings.tracing
        assert tracing.tls == ClientTls(str(certificates.ca), str(certificates.client), str(certificates.client_key))

    def test_a_certificate_for_nothing_is_a_warning(self, certificates: Certificates) -> None:
        loaded = from_env(**{f"{OTLP}_ENDPOINT": "http://otel:4318", f"{OTLP}_CERTIFICATE": str(certificates.ca)})
        [warning] = loaded.warnings
        assert warning == (
            f"env {OTLP}_CERTIFICATE: tracing.tls.ca_file: expected nothing, as the endpoint is not https://, "
            "found a file; left out"
        )

    @pytest.mark.parametrize("name", ["CLIENT_CERTIFICATE", "CLIENT_KEY"])
    def test_half_a_pair_is_left_out_with_a_warning(self, name: str) -> None:
        loaded = from_env(**{f"{OTLP}_ENDPOINT": "https://otel:4318", f"{OTLP}_{name}": "/some/file"})
        assert loaded.settings.tracing.tls == ClientTls()
        assert loaded.warnings == (f"env {OTLP}_{name}: a certificate and its key go together; left out",)

    def test_a_file_that_cannot_be_read_is_no_trifle(self) -> None:
        # Left out, it would mean to trust others than those that were meant.
        environ = {f"{OTLP}_ENDPOINT": "https://otel:4318", f"{OTLP}_CERTIFICATE": "/nowhere"}
        [problem] = problems(environ=environ)
        assert problem == (
            f"env {OTLP}_CERTIFICATE: tracing.tls.ca_file: expected a file that can be read, "
            "found /nowhere (no such file or directory)"
        )

    def test_compression(self) -> None:
        assert from_env().settings.tracing.export.compression == "gzip"
        assert from_env(**{f"{OTLP}_COMPRESSION": "none"}).settings.tracing.export.compression == "none"
        both = from_env(**{f"{OTLP}_COMPRESSION": "gzip", f"{OTLP}_TRACES_COMPRESSION": "none"})
        assert both.settings.tracing.export.compression == "none"
        other = from_env(**{f"{OTLP}_COMPRESSION": "deflate"})
        assert other.settings.tracing.export.compression == "gzip"
        assert other.warnings == (
            f'env {OTLP}_COMPRESSION: tracing.export.compression: expected gzip or none, found "deflate"; left out',
        )

    @pytest.mark.parametrize(
        ("endpoint", "insecure", "resolved"),
        [
            ("otel:4317", "false", "https://otel:4317"),
            ("otel:4317", "true", "http://otel:4317"),
            ("otel:4317", "", "http://otel:4317"),
            ("http://otel:4317", "false", "http://otel:4317"),
        ],
    )
    def test_insecure_is_for_endpoints_that_do_not_say(self, endpoint: str, insecure: str, resolved: str) -> None:
        tracing = from_env(**{f"{OTLP}_ENDPOINT": endpoint, f"{OTLP}_INSECURE": insecure}).settings.tracing
        assert tracing.resolved_endpoint() == resolved

    def test_an_endpoint_of_the_environment_for_zipkin(self, write: Write) -> None:
        file = write("tracing: {protocol: zipkin}\n")
        tracing = load(file, {}, {f"{OTLP}_ENDPOINT": "http://zipkin:9411"}).settings.tracing
        assert tracing.resolved_endpoint() == "http://zipkin:9411/api/v2/spans"

        other = load(file, {}, {f"{OTLP}_ENDPOINT": "http://otel", "OTEL_EXPORTER_ZIPKIN_ENDPOINT": "http://own/spans"})
        assert other.settings.tracing.endpoint == "http://own/spans"

    @pytest.mark.parametrize(
        ("exporter", "protocol", "console"),
        [
            ("otlp", "http/protobuf", False),
            ("none", "none", False),
            ("console", "none", True),
            ("otlp, console", "http/protobuf", True),
            ("zipkin", "zipkin", False),
        ],
    )
    def test_the_exporter_of_the_environment(self, exporter: str, protocol: str, console: bool) -> None:
        tracing = from_env(OTEL_TRACES_EXPORTER=exporter).settings.tracing
        assert (tracing.resolved_protocol(), tracing.console_exporter) == (protocol, console)

    def test_propagators_whose_contexts_are_read(self) -> None:
        loaded = from_env(OTEL_PROPAGATORS="tracecontext,b3multi,baggage,datadog")
        assert (loaded.settings.tracing.formats, loaded.warnings) == (("b3", "datadog"), ())

    def test_exporters_and_propagators_that_there_are_not(self) -> None:
        loaded = from_env(OTEL_TRACES_EXPORTER="jaeger,otlp", OTEL_PROPAGATORS="tracecontext,xray,baggage")
        assert loaded.settings == from_env().settings
        assert loaded.warnings == (
            'env OTEL_TRACES_EXPORTER: redspan has no exporter "jaeger"; left out',
            'env OTEL_PROPAGATORS: redspan does not read "xray"; left out',
        )


def test_the_files_are_those_of_the_collector_alone(certificates: Certificates, tmp_path: Path) -> None:
    """With an authority of one's own, no other is trusted."""
    context = ClientTls(str(certificates.ca)).context()
    assert len(context.get_ca_certs()) == 1
    both = tmp_path / "both.pem"
    both.write_bytes(certificates.ca.read_bytes() + certificates.server.read_bytes())
    assert context.verify_mode.name == "CERT_REQUIRED"
    assert context.check_hostname
    assert ClientTls(str(both)).context().cert_store_stats()["x509"] == 2
