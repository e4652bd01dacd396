"""The tree of settings: defaults, the kinds of values, and what follows from several of them."""

from __future__ import annotations

import ast
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest

from proxy.address import Address
from proxy.config import (
    Admin,
    GoRedisWorkQueueSettings,
    Listener,
    Sampling,
    Settings,
    Tracing,
)
from proxy.config.sources import load
from proxy.config.values import dotted, read_duration, read_size, show_duration

EXAMPLE = Path(__file__).parents[2] / "config.example.yaml"


def test_defaults_that_users_rely_on() -> None:
    settings = Settings()
    assert [(listener.bind, listener.upstream) for listener in settings.listeners] == [
        ("127.0.0.1:6380", "redis://127.0.0.1:6379")
    ]
    assert settings.admin.bind == "127.0.0.1:9464"
    assert settings.relay.max_connections == 10_000
    assert settings.relay.max_inspect_bytes == 1_048_576
    assert settings.relay.drain_timeout == 25.0
    assert settings.tracing.sampling.default_rate == 1.0
    assert settings.tracing.export.flush_timeout == 5.0
    assert settings.tracing.relation.max_age == 3600.0
    assert not list(settings.conflicts())


def test_go_redis_work_queue_defaults_are_its_own() -> None:
    settings = Settings().frameworks.go_redis_work_queue
    assert settings.queues == ("jobqueue:high_priority", "jobqueue:low_priority")
    assert settings.processing == ("jobqueue:worker:*:processing",)
    assert settings.heartbeat == ("jobqueue:processing:worker:*",)
    assert settings.completed == ("jobqueue:completed",)
    assert settings.dead_letter == ("jobqueue:dead_letter",)
    assert settings.rate_limit == ("jobqueue:rate_limit:producer",)
    assert settings.max_retries == 3


def test_the_example_has_every_setting_with_its_default() -> None:
    loaded = load(EXAMPLE, {}, {})
    assert loaded.settings == Settings()
    assert [path for path, origin in loaded.origins.items() if origin == "default"] == []


@pytest.mark.parametrize("module", ["__init__.py", "collector.py", "frameworks.py"])
def test_every_field_says_what_it_is(module: str) -> None:
    tree = ast.parse((EXAMPLE.parent / "proxy" / "config" / module).read_text())
    silent: list[str] = []
    for section in (node for node in tree.body if isinstance(node, ast.ClassDef) and node.name != "Conflict"):
        for field, after in pairwise([*section.body, ast.Pass()]):
            if isinstance(field, ast.AnnAssign) and not (
                isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
            ):
                silent.append(f"{section.name}.{ast.unparse(field.target)}")
    assert silent == []


def test_unknown_fields_are_refused_by_the_structs_themselves() -> None:
    with pytest.raises(msgspec.ValidationError, match="unknown field `binds`"):
        msgspec.convert({"listeners": [{"binds": "x"}]}, Settings)


def test_yaml_names_are_the_attributes() -> None:
    tree = {"frameworks": {"list": {"queues": ["a"]}, "go-redis-work-queue": {"prefix": "x:"}}}
    frameworks = msgspec.convert(tree, Settings).frameworks
    assert frameworks.list.queues == ("a",)
    assert frameworks.go_redis_work_queue.prefix == "x:"


def test_addresses_of_a_listener() -> None:
    listener = Listener(bind="[::1]:1", upstream="redis://:pw@redis")
    assert listener.bind_address == Address(host="::1", port=1)
    assert listener.upstream_address == Address(host="redis", port=6379, password="pw")
    assert Admin(bind="unix:///run/admin").bind_address == Address(path="/run/admin")


def test_a_prefix_moves_the_globs_that_were_not_given() -> None:
    settings = GoRedisWorkQueueSettings(prefix="jobs:", queues=("elsewhere",))
    assert settings.queues == ("elsewhere",)
    assert settings.processing == ("jobs:worker:*:processing",)
    assert settings.rate_limit == ("jobs:rate_limit:producer",)


def test_a_prefix_leaves_alone_what_was_written_even_if_it_is_the_default() -> None:
    written = msgspec.convert(["jobqueue:completed"], tuple[str, ...])
    settings = GoRedisWorkQueueSettings(prefix="jobs:", completed=written)
    assert settings.completed == ("jobqueue:completed",)


def test_a_repr_shows_no_secret() -> None:
    settings = Settings(
        listeners=(Listener(upstream="redis://app:hidden@redis"),),
        tracing=Tracing(headers={"authorization": "hidden"}),
    )
    text = repr(settings)
    assert "hidden" not in text
    assert 'upstream="redis://***@redis"' in text
    assert 'headers={"authorization": ***}' in text


class TestSamplingRate:
    rates = Sampling(0.5, {"mail:*": 0.1, "queue:mail:urgent": 0.2, "mail:urgent": 0.3, "*:slow": 0.4})

    @pytest.mark.parametrize(
        ("queue", "key", "rate"),
        [
            ("mail:urgent", "queue:mail:urgent", 0.3),  # exact name
            ("elsewhere", "queue:mail:urgent", 0.2),  # exact key
            ("mail:other", "queue:mail:urgent", 0.2),  # an exact key goes before a glob that matches the name
            ("mail:other", "queue:mail:other", 0.1),  # glob on the name
            ("mail:slow", "x", 0.1),  # of two globs the first
            ("x", "y:slow", 0.4),  # glob on the key
            ("x", "y", 0.5),  # none
            ("MAIL:URGENT", "", 0.5),  # case counts
        ],
    )
    def test_order(self, queue: str, key: str, rate: float) -> None:
        assert self.rates.rate(queue, key) == rate

    def test_limits_of_queues_go_by_the_same(self) -> None:
        limits = Sampling(queue_max_spans_per_second={"*": 500, "mail:*": 50, "queue:mail:urgent": 0})
        places = (("mail:urgent", "queue:mail:urgent"), ("mail:other", "x"), ("x", "y"))
        assert [limits.queue_limit(*place) for place in places] == [0, 500, 500]
        assert Sampling(queue_max_spans_per_second={"mail:*": 50}).queue_limit("x", "y") == 0

    def test_a_rate_of_zero_is_one(self) -> None:
        assert Sampling(1.0, {"noise": 0.0}).rate("noise", "noise") == 0.0


class TestCollector:
    @pytest.mark.parametrize(
        ("endpoint", "protocol", "resolved", "url"),
        [
            ("", "", "http/protobuf", "http://127.0.0.1:4318/v1/traces"),
            ("", "grpc", "grpc", "http://127.0.0.1:4317"),
            ("localhost:4317", "", "grpc", "http://localhost:4317"),
            ("https://otel:4317", "", "grpc", "https://otel:4317"),
            ("localhost:4317", "http/protobuf", "http/protobuf", "http://localhost:4317/v1/traces"),
            ("localhost:4318", "", "http/protobuf", "http://localhost:4318/v1/traces"),
            ("localhost", "", "http/protobuf", "http://localhost/v1/traces"),
            ("http://otel:4318/", "", "http/protobuf", "http://otel:4318/v1/traces"),
            ("https://otel/custom/path", "", "http/protobuf", "https://otel/custom/path"),
            ("https://otel/?key=1", "", "http/protobuf", "https://otel/v1/traces?key=1"),
            ("[::1]:4317", "", "grpc", "http://[::1]:4317"),
            ("otel:9999", "grpc", "grpc", "http://otel:9999"),
            ("http://otel/api/v2/spans", "http/protobuf", "http/protobuf", "http://otel/api/v2/spans"),
            ("http://zipkin:9411/api/v2/spans", "", "zipkin", "http://zipkin:9411/api/v2/spans"),
            ("zipkin:9411/api/v2/spans/", "", "zipkin", "http://zipkin:9411/api/v2/spans"),
            ("https://otel/prefix/api/v2/spans", "", "zipkin", "https://otel/prefix/api/v2/spans"),
            ("http://otel:4317/api/v2/spans", "", "grpc", "http://otel:4317/api/v2/spans"),
            ("zipkin:9411", "zipkin", "zipkin", "http://zipkin:9411/api/v2/spans"),
            ("https://otel/custom", "zipkin", "zipkin", "https://otel/custom"),
            ("", "zipkin", "zipkin", "http://127.0.0.1:9411/api/v2/spans"),
            ("localhost:4318", "none", "none", ""),
        ],
    )
    def test_rule(self, endpoint: str, protocol: str, resolved: str, url: str) -> None:
        tracing = msgspec.convert({"endpoint": endpoint, "protocol": protocol}, Tracing)
        assert tracing.resolved_protocol() == resolved
        assert tracing.resolved_endpoint() == url


class TestConflicts:
    def conflicts(self, *listeners: Listener, admin: str = "127.0.0.1:9464") -> list[tuple[str, str]]:
        found = Settings(listeners=listeners, admin=Admin(bind=admin)).conflicts()
        return [(dotted(conflict.path), conflict.found) for conflict in found]

    def test_the_same_address_twice(self) -> None:
        first, second = Listener(bind="[::1]:1"), Listener(bind="[0:0::1]:1")
        assert self.conflicts(first, second) == [("listeners[1].bind", "the one of listeners[0].bind")]

    def test_the_address_of_the_admin_pages(self) -> None:
        assert self.conflicts(Listener(bind="localhost:1"), admin="LOCALHOST:1") == [
            ("admin.bind", "the one of listeners[0].bind")
        ]

    def test_any_free_port_is_another_one_each_time(self) -> None:
        assert self.conflicts(Listener(bind="localhost:0"), Listener(bind="localhost:0"), admin="localhost:0") == []

    def test_a_proxy_of_itself(self) -> None:
        listeners = Listener(bind="localhost:1"), Listener(bind="localhost:2", upstream="rediss://:pw@localhost:1")
        assert self.conflicts(*listeners) == [("listeners[1].upstream", "redspan itself (listeners[0].bind)")]


@pytest.mark.parametrize(
    ("value", "seconds", "text"),
    [
        ("25s", 25.0, "25s"),
        ("500ms", 0.5, "500ms"),
        ("300ms", 0.3, "300ms"),
        ("2m", 120.0, "2m"),
        ("1h", 3600.0, "1h"),
        ("1m30s", 90.0, "90s"),
        ("0.25s", 0.25, "250ms"),
        (7, 7.0, "7s"),
        (0.1, 0.1, "100ms"),
        (0, 0.0, "0s"),
    ],
)
def test_durations(value: object, seconds: float, text: str) -> None:
    assert read_duration(value) == seconds
    assert show_duration(seconds) == text
    assert read_duration(text) == seconds


@pytest.mark.parametrize(
    "value", ["", "5", "5x", "s", "-5s", "5 s", "1e3s", -1, True, None, float("nan"), float("inf"), 10**400, [5]]
)
def test_no_durations(value: object) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # it has no text: the kind says what is expected
        read_duration(value)


@pytest.mark.parametrize(
    ("value", "size"),
    [(1, 1), (1048576, 1048576), ("1MiB", 1048576), ("64 KiB", 65536), ("1kB", 1000), ("1KB", 1000), ("7B", 7)],
)
def test_sizes(value: object, size: int) -> None:
    assert read_size(value) == size


@pytest.mark.parametrize("value", [0, -1, 1.5, "1.5MiB", "1M", "MiB", "", True, None, "0B", "999GiB", 10**400])
def test_no_sizes(value: object) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # it has no text: the kind says what is expected
        read_size(value)


def test_dotted_paths() -> None:
    assert dotted(("listeners", 0, "bind")) == "listeners[0].bind"
    assert dotted(("tracing", "headers", "x-key")) == "tracing.headers.x-key"
    assert dotted(("tracing", "resource_attributes", "k8s.pod")) == 'tracing.resource_attributes["k8s.pod"]'
    assert dotted(()) == ""
