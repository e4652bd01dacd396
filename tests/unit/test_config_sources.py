"""Loading settings: what stands above what, where a value came from, and what is said when one is wrong."""

from __future__ import annotations

import pytest

from proxy.config import Listener, Settings
from proxy.config.sources import load
from tests.unit.settings import ENV_RATE, RATE, SEED, Write, from_env, problems


def test_nothing_given_is_the_defaults() -> None:
    loaded = load(None, {"listen": None, "upstream": None, "admin": None}, {"PATH": "/bin"})
    assert loaded.settings == Settings()
    assert set(loaded.origins.values()) == {"default"}
    assert loaded.warnings == ()


@pytest.mark.parametrize(
    "text", ["", "---\n", "# nothing\n", "tracing:\nlisteners:\n", "tracing: {sampling: , endpoint: }\n"]
)
def test_keys_with_nothing_behind_them_are_not_set(write: Write, text: str) -> None:
    assert load(write(text), {}, {}).settings == Settings()


class TestSeed:
    """The 'After' file of the seed document, as it stands."""

    def test_loads(self, write: Write) -> None:
        settings = load(write(SEED), {}, {}).settings
        assert settings.listeners == (Listener(upstream="redis://localhost:6379"),)
        assert settings.tracing.enabled
        assert settings.tracing.service_name == "work-queue"
        assert settings.tracing.resolved_protocol() == "grpc"
        assert settings.tracing.resolved_endpoint() == "http://localhost:4317"
        assert settings.tracing.sampling.rate("critical", "jobqueue:critical") == 1.0
        assert settings.tracing.sampling.rate("x", "batch") == 0.01
        assert settings.tracing.sampling.rate("x", "y") == 0.1
        assert settings.tracing.security.redact_pii

    def test_origins(self, write: Write) -> None:
        origins = load(write(SEED), {}, {}).origins
        assert origins["listeners[0].upstream"] == "file redspan.yaml:1"
        assert origins["listeners[0].bind"] == "default"
        assert origins["tracing.endpoint"] == "file redspan.yaml:8"
        assert origins["tracing.sampling.queue_rates.batch"] == "file redspan.yaml:13"

    @pytest.mark.parametrize(
        ("redis", "upstream"),
        [
            ("{}", "redis://127.0.0.1:6379"),
            ("{host: redis}", "redis://redis:6379"),
            ("{port: 7000}", "redis://127.0.0.1:7000"),
            ('{host: "::1", port: "7000"}', "redis://[::1]:7000"),
        ],
    )
    def test_either_half_has_a_default(self, write: Write, redis: str, upstream: str) -> None:
        assert load(write(f"redis: {redis}"), {}, {}).settings.listeners[0].upstream == upstream

    def test_beside_a_listener_without_an_upstream(self, write: Write) -> None:
        file = write("redis: {host: redis}\nlisteners: [{bind: 'localhost:1'}]\n")
        assert load(file, {}, {}).settings.listeners == (Listener("localhost:1", "redis://redis:6379"),)

    @pytest.mark.parametrize("listeners", ["[{upstream: a}]", "[{bind: 'a:1'}, {bind: 'a:2'}]"])
    def test_not_beside_an_upstream_or_several_listeners(self, write: Write, listeners: str) -> None:
        file = write(f"listeners: {listeners}\nredis: {{host: redis}}\n")
        assert problems(file) == ["redspan.yaml:2: redis: expected either redis or listeners[].upstream, found both"]

    def test_other_keys(self, write: Write) -> None:
        assert problems(write("redis: {hots: a}\n")) == [
            "redspan.yaml:1: redis.hots: expected host or port, found hots (the rest goes into listeners[].upstream)"
        ]
        assert problems(write("redis: localhost\n")) == ['redspan.yaml:1: redis: expected a mapping, found "localhost"']

    @pytest.mark.parametrize(
        ("redis", "problem"),
        [
            ("port: 99999", "redis.port: expected a whole number from 1 to 65535, found 99999"),
            ("port: abc", 'redis.port: expected a whole number from 1 to 65535, found "abc"'),
            ("host: 3", "redis.host: expected a name or an address, found 3"),
        ],
    )
    def test_values_that_are_none(self, write: Write, redis: str, problem: str) -> None:
        assert problems(write(f"\nredis: {{{redis}}}\n")) == [f"redspan.yaml:2: {problem}"]


class TestPrecedence:
    def test_one_value_through_all_sources(self, write: Write) -> None:
        file = write("tracing: {sampling: {default_rate: 0.3}}\n")
        otel = {"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.4"}
        chain = [
            (load(file, {}, {ENV_RATE: "0.2", **otel}), 0.2, f"env {ENV_RATE}"),
            (load(file, {}, otel), 0.3, "file redspan.yaml:1"),
            (load(None, {}, otel), 0.4, "env OTEL_TRACES_SAMPLER_ARG"),
            (load(None, {}, {}), 1.0, "default"),
        ]
        for loaded, rate, origin in chain:
            assert loaded.settings.tracing.sampling.default_rate == rate
            assert loaded.origins[RATE] == origin

    def test_flags_are_the_strongest(self, write: Write) -> None:
        file = write("listeners: [{bind: 'file:1', upstream: 'file:2', service_name: kept}]\nadmin: {bind: 'file:3'}\n")
        environ = {"REDSPAN_LISTENERS__0__BIND": "env:1", "REDSPAN_ADMIN__BIND": "env:3"}
        loaded = load(file, {"listen": "flag:1", "upstream": "flag:2", "admin": None}, environ)
        assert loaded.settings.listeners == (Listener("flag:1", "flag:2", "kept"),)
        assert loaded.settings.admin.bind == "env:3"
        assert loaded.origins["listeners[0].bind"] == "flag --listen"
        assert loaded.origins["listeners[0].upstream"] == "flag --upstream"
        assert loaded.origins["listeners[0].service_name"] == "file redspan.yaml:1"
        assert loaded.origins["admin.bind"] == "env REDSPAN_ADMIN__BIND"

    def test_mappings_are_merged_entry_by_entry(self, write: Write) -> None:
        file = write("tracing:\n  resource_attributes:\n    team: file\n    tier: file\n")
        environ = {
            "REDSPAN_TRACING__RESOURCE_ATTRIBUTES": '{"team": "env"}',
            "OTEL_RESOURCE_ATTRIBUTES": "tier=otel,k8s.pod.name=otel",
        }
        loaded = load(file, {}, environ)
        assert loaded.settings.tracing.resource_attributes == {"team": "env", "tier": "file", "k8s.pod.name": "otel"}
        assert loaded.origins["tracing.resource_attributes.team"] == "env REDSPAN_TRACING__RESOURCE_ATTRIBUTES"
        assert loaded.origins["tracing.resource_attributes.tier"] == "file redspan.yaml:4"
        assert loaded.origins['tracing.resource_attributes["k8s.pod.name"]'] == "env OTEL_RESOURCE_ATTRIBUTES"

    def test_lists_replace_one_another(self, write: Write) -> None:
        file = write("frameworks: {list: {queues: [a, b]}}\n")
        environ = {"REDSPAN_FRAMEWORKS__LIST__QUEUES": "[c]"}
        assert load(file, {}, environ).settings.frameworks.list.queues == ("c",)

    def test_a_list_of_listeners_hides_the_weaker_one(self, write: Write) -> None:
        file = write("listeners: [{bind: 'file:1', service_name: file}, {bind: 'file:2'}]\n")
        environ = {"REDSPAN_LISTENERS": "[{bind: 'env:1'}]", "REDSPAN_LISTENERS__0__SERVICE_NAME": "env"}
        assert load(file, {}, environ).settings.listeners == (Listener("env:1", service_name="env"),)


class TestEnvironment:
    def test_types(self) -> None:
        settings = from_env(
            REDSPAN_TRACING__ENABLED="false",
            REDSPAN_TRACING__SERVICE_VERSION="1.10",  # text stays as it is
            REDSPAN_TRACING__CONSOLE_EXPORTER="tree",
            REDSPAN_TRACING__HEADERS="authorization: Bearer x",
            REDSPAN_TRACING__EXPORT__TIMEOUT="1500ms",
            REDSPAN_TRACING__EXPORT__INTERVAL="2",
            REDSPAN_TRACING__SAMPLING__QUEUE_RATES='{"mail:*": 0.5}',
            REDSPAN_RELAY__MAX_INSPECT_BYTES="64KiB",
            REDSPAN_FRAMEWORKS__LIST__IDENTITY="[id, meta.created]",
            REDSPAN_FRAMEWORKS__LIST__END="none",
        ).settings
        assert not settings.tracing.enabled
        assert settings.tracing.service_version == "1.10"
        assert settings.tracing.console_exporter == "tree"
        assert settings.tracing.headers == {"authorization": "Bearer x"}
        assert settings.tracing.export.timeout == 1.5
        assert settings.tracing.export.interval == 2.0
        assert settings.tracing.sampling.queue_rates == {"mail:*": 0.5}
        assert settings.relay.max_inspect_bytes == 65536
        assert settings.frameworks.list.identity == ("id", "meta.created")
        assert settings.frameworks.list.end == "none"

    def test_case_does_not_count_and_a_hyphen_is_an_underscore(self) -> None:
        environ = {"redspan_frameworks__Go_Redis_Work_Queue__prefix": "jobs:"}
        assert load(None, {}, environ).settings.frameworks.go_redis_work_queue.queues[0] == "jobs:high_priority"

    def test_empty_is_not_set(self) -> None:
        assert from_env(REDSPAN_ADMIN__BIND="", OTEL_SERVICE_NAME="").settings == Settings()

    def test_a_whole_section(self) -> None:
        environ = {"REDSPAN_TRACING": "{service_name: a, environment: b}", "REDSPAN_TRACING__SERVICE_NAME": "c"}
        loaded = load(None, {}, environ)
        assert loaded.settings.tracing.service_name == "c"  # the more specific one
        assert loaded.settings.tracing.environment == "b"
        assert loaded.origins["tracing.environment"] == "env REDSPAN_TRACING"

    def test_listeners_by_index(self) -> None:
        names = [f"REDSPAN_LISTENERS__{i}__BIND" for i in range(12)]
        listeners = load(None, {}, {name: f"h:{i + 1}" for i, name in enumerate(names)}).settings.listeners
        assert [listener.bind for listener in listeners] == [f"h:{i + 1}" for i in range(12)]

    def test_an_index_without_those_before_it(self) -> None:
        assert problems(environ={"REDSPAN_LISTENERS__7__BIND": "h:1"}) == [
            "env REDSPAN_LISTENERS__7__BIND: listeners[7].bind: expected an index up to 1, found 7"
        ]

    @pytest.mark.parametrize(
        ("name", "hint"),
        [
            ("REDSPAN_TRACING__SAMPLNG__DEFAULT_RATE", f" (did you mean {ENV_RATE}?)"),
            ("REDSPAN_TRACING_ENABLED", " (did you mean REDSPAN_TRACING__ENABLED?)"),
            ("REDSPAN_TRACING__HEADERS__KEY", " (did you mean REDSPAN_TRACING__HEADERS?)"),
            ("REDSPAN_XYZZY__123", ""),
        ],
    )
    def test_an_unknown_name(self, name: str, hint: str) -> None:
        assert problems(environ={name: "x"}) == [
            f"env {name}: expected the name of a setting, found an unknown one{hint}"
        ]

    @pytest.mark.parametrize(
        "name",
        [
            "REDSPAN_SERVICE_HOST",
            "REDSPAN_SERVICE_PORT",
            "REDSPAN_SERVICE_PORT_REDIS",
            "REDSPAN_PORT",
            "REDSPAN_PORT_6380_TCP",
            "REDSPAN_PORT_6380_TCP_ADDR",
            "REDSPAN_ADMIN_PORT_9464_TCP_PROTO",
        ],
    )
    def test_what_kubernetes_sets_for_a_service_named_redspan_is_no_mistake(self, name: str) -> None:
        assert load(None, {}, {name: "tcp://10.0.0.1:6380"}).settings == Settings()

    def test_text_that_is_no_yaml(self) -> None:
        [problem] = problems(environ={"REDSPAN_TRACING__HEADERS": "{authorization: hidden"})
        assert problem.startswith("env REDSPAN_TRACING__HEADERS: expected YAML, found an error: expected ',' or '}'")
        assert "hidden" not in problem


class TestOtel:
    def test_names(self) -> None:
        loaded = from_env(
            OTEL_SERVICE_NAME="orders",
            OTEL_RESOURCE_ATTRIBUTES="service.name=n,service.version=1.1,deployment.environment.name=p, a%20b =c%2Cd,",
            OTEL_SDK_DISABLED="True",
            OTEL_BSP_SCHEDULE_DELAY="250",
            OTEL_BSP_MAX_QUEUE_SIZE="2048",
            OTEL_BSP_MAX_EXPORT_BATCH_SIZE="100",
            OTEL_EXPORTER_OTLP_TIMEOUT="3000",
            OTEL_EXPORTER_OTLP_HEADERS="Api-Key=a%3Db==,x=y",
        )
        tracing = loaded.settings.tracing
        assert tracing.service_name == "orders"
        assert tracing.service_version == "1.1"
        assert tracing.environment == "p"
        assert tracing.resource_attributes == {"a b": "c,d"}
        assert not tracing.enabled
        assert (tracing.export.interval, tracing.export.timeout) == (0.25, 3.0)
        assert (tracing.export.buffer, tracing.export.batch_size) == (2048, 100)
        assert tracing.headers == {"api-key": "a=b==", "x": "y"}
        assert loaded.origins["tracing.headers.x"] == "env OTEL_EXPORTER_OTLP_HEADERS"
        assert loaded.warnings == ()

    @pytest.mark.parametrize(
        ("sampler", "argument", "rate", "variable"),
        [
            ("always_on", "0.5", 1.0, "OTEL_TRACES_SAMPLER"),
            ("always_off", "", 0.0, "OTEL_TRACES_SAMPLER"),
            ("parentbased_always_off", "", 0.0, "OTEL_TRACES_SAMPLER"),
            ("traceidratio", "0.25", 0.25, "OTEL_TRACES_SAMPLER_ARG"),
            ("parentbased_traceidratio", "0.25", 0.25, "OTEL_TRACES_SAMPLER_ARG"),
            ("parentbased_traceidratio", "", 1.0, "OTEL_TRACES_SAMPLER"),
        ],
    )
    def test_samplers(self, sampler: str, argument: str, rate: float, variable: str) -> None:
        loaded = from_env(OTEL_TRACES_SAMPLER=sampler, OTEL_TRACES_SAMPLER_ARG=argument)
        assert loaded.settings.tracing.sampling.default_rate == rate
        assert loaded.origins[RATE] == f"env {variable}"

    @pytest.mark.parametrize(
        ("environ", "protocol", "endpoint"),
        [
            ({"ENDPOINT": "http://otel:4318"}, "http/protobuf", "http://otel:4318/v1/traces"),
            ({"ENDPOINT": "http://otel:4318/"}, "http/protobuf", "http://otel:4318/v1/traces"),
            ({"ENDPOINT": "https://otel/otlp"}, "http/protobuf", "https://otel/otlp/v1/traces"),
            ({"ENDPOINT": "http://otel:4317"}, "grpc", "http://otel:4317"),
            (
                {"ENDPOINT": "http://otel:4317", "PROTOCOL": "http/protobuf"},
                "http/protobuf",
                "http://otel:4317/v1/traces",
            ),
            ({"ENDPOINT": "http://otel:9999", "PROTOCOL": "grpc"}, "grpc", "http://otel:9999"),
            ({"TRACES_ENDPOINT": "https://otel/as/it/is"}, "http/protobuf", "https://otel/as/it/is"),
            ({"TRACES_ENDPOINT": "https://otel/one", "ENDPOINT": "https://two"}, "http/protobuf", "https://otel/one"),
            ({"PROTOCOL": "http/protobuf", "TRACES_PROTOCOL": "grpc"}, "grpc", "http://127.0.0.1:4317"),
        ],
    )
    def test_endpoints(self, environ: dict[str, str], protocol: str, endpoint: str) -> None:
        tracing = from_env(**{f"OTEL_EXPORTER_OTLP_{name}": text for name, text in environ.items()}).settings.tracing
        assert tracing.resolved_protocol() == protocol
        assert tracing.resolved_endpoint() == endpoint

    def test_a_protocol_from_the_file_decides_what_the_endpoint_means(self, write: Write) -> None:
        file = write("tracing: {protocol: grpc}\n")
        loaded = load(file, {}, {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://otel:4318"})
        assert loaded.settings.tracing.resolved_endpoint() == "http://otel:4318"

    def test_the_special_variable_before_the_general_one(self) -> None:
        tracing = from_env(
            OTEL_EXPORTER_OTLP_HEADERS="a=1,b=2",
            OTEL_EXPORTER_OTLP_TRACES_HEADERS="a=3",
            OTEL_EXPORTER_OTLP_TIMEOUT="1000",
            OTEL_EXPORTER_OTLP_TRACES_TIMEOUT="2000",
        ).settings.tracing
        assert tracing.headers == {"a": "3"}
        assert tracing.export.timeout == 2.0

    @pytest.mark.parametrize(
        ("name", "text", "warning"),
        [
            ("OTEL_BSP_SCHEDULE_DELAY", "soon", 'expected a duration above 0, such as 25s, 500ms or 2m, found "soon"'),
            ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "20000", "expected a whole number from 1 to 10000, found 20000"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json", 'http/protobuf, zipkin or none, found "http/json"'),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "ftp://otel", "expected a URL such as http://127.0.0.1:4318, or host:port"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "Bearer hidden", "an item that is not key=value is left out"),
            ("OTEL_RESOURCE_ATTRIBUTES", "a=b,=hidden", "an item that is not key=value is left out"),
            ("OTEL_TRACES_SAMPLER", "xray", "no such sampler in redspan; left out"),
            ("OTEL_SDK_DISABLED", "yes", "expected true or false; left out"),
        ],
    )
    def test_what_cannot_be_used_is_left_out_with_a_warning(self, name: str, text: str, warning: str) -> None:
        loaded = from_env(**{name: text})
        [line] = loaded.warnings
        assert line.startswith(f"env {name}: ")
        assert warning in line
        assert "hidden" not in line
        left = {origin for origin in loaded.origins.values() if origin != "default"}
        assert left <= {"env OTEL_RESOURCE_ATTRIBUTES"}

    def test_a_ratio_that_is_none(self) -> None:
        loaded = from_env(OTEL_TRACES_SAMPLER="traceidratio", OTEL_TRACES_SAMPLER_ARG="half")
        assert loaded.settings.tracing.sampling.default_rate == 1.0
        assert loaded.warnings == (
            f'env OTEL_TRACES_SAMPLER_ARG: {RATE}: expected a number from 0 to 1, found "half"; left out',
        )
