"""Errors in settings: what is said of them, where, and what is never shown; the effective settings."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from proxy.config import Frameworks, Listener
from proxy.config.sources import ConfigError, load
from tests.unit.settings import RATE, SEED, Write, problems

KNOWN = ", ".join(field.encode_name for field in msgspec.structs.fields(Frameworks))

SECTIONS = "listeners, relay, frameworks, tracing, index, events, admin, log"


class TestProblems:
    def test_all_at_once_from_every_source(self, write: Write) -> None:
        file = write("tracing:\n  sampling:\n    default_rate: 1.5\n  samplng: {}\nlog: {level: loud}\n")
        admin = "an address such as 127.0.0.1:6380, [::1]:6380 or unix:///path"
        assert problems(file, {"admin": "nowhere"}, {"REDSPAN_RELAY__MAX_CONNECTIONS": "0"}) == [
            "redspan.yaml:4: tracing.samplng: expected a known key, found samplng (did you mean sampling?)",
            "env REDSPAN_RELAY__MAX_CONNECTIONS: relay.max_connections: expected a whole number above 0, found 0",
            "redspan.yaml:3: tracing.sampling.default_rate: expected a number from 0 to 1, found 1.5",
            f'flag --admin: admin.bind: expected {admin}, found "nowhere" (the port is missing)',
            'redspan.yaml:5: log.level: expected debug, info, warning or error, found "loud"',
        ]

    def test_what_is_wrong_with_a_section_or_an_item_says_where_it_was_given(self, write: Write) -> None:
        file = write(
            'listeners:\n- upstream: "redis://r:6379"\n  upstream_tls: {verify: false}\n'
            'tracing: {security: {pii_patterns: ["ok", "(a+)+"]}}\n'
        )
        tls, pattern = problems(file, {}, {})
        expected = "expected nothing, as upstream is not rediss://, found settings"
        assert tls == f"redspan.yaml:3: listeners[0].upstream_tls: {expected}"
        expected = "expected a pattern without repetition inside of repetition"
        assert pattern == f'redspan.yaml:4: tracing.security.pii_patterns[1]: {expected}, found "(a+)+"'

    def test_their_parts(self, write: Write) -> None:
        with pytest.raises(ConfigError) as caught:
            load(write("tracing: {sampling: {default_rate: 2}}\n"), {}, {})
        [problem] = caught.value.problems
        assert (problem.path, problem.where) == (RATE, "redspan.yaml:1")
        assert (problem.expected, problem.found, problem.hint) == ("a number from 0 to 1", "2", "")

    @pytest.mark.parametrize(
        ("text", "path", "rest"),
        [
            ("relay: {max_connections: 1.5}", "relay.max_connections", "a whole number above 0, found 1.5"),
            ("relay: {max_connections: true}", "relay.max_connections", "a whole number above 0, found true"),
            (
                "relay: {max_inspect_bytes: 0}",
                "relay.max_inspect_bytes",
                "a size above 0, such as 1048576, 64KiB or 1MiB, found 0",
            ),
            ("relay: {drain_timeout: -1s}", "relay.drain_timeout", 'a duration, such as 25s, 500ms or 0s, found "-1s"'),
            ("tracing: {enabled: 1}", "tracing.enabled", "true or false, found 1"),
            ("tracing: {service_version: 1.10}", "tracing.service_version", "text, found 1.1 (put it in quotes)"),
            ("tracing: {service_version: 2024-01-01}", "tracing.service_version", 'text, found "2024-01-01"'),
            (
                "tracing: {console_exporter: table}",
                "tracing.console_exporter",
                'true, false, tree or json, found "table"',
            ),
            (
                "tracing: {export: {batch_size: 10001}}",
                "tracing.export.batch_size",
                "a whole number from 1 to 10000, found 10001",
            ),
            (
                "tracing: {export: {timeout: 0}}",
                "tracing.export.timeout",
                "a duration above 0, such as 25s, 500ms or 2m, found 0",
            ),
            (
                "tracing: {sampling: {queue_rates: {a: .nan}}}",
                "tracing.sampling.queue_rates.a",
                "a number from 0 to 1, found NaN",
            ),
            (
                "tracing: {sampling: {queue_rates: {'': 1}}}",
                'tracing.sampling.queue_rates[""]',
                'a key that is not empty, found ""',
            ),
            ("tracing: {sampling: 0.5}", "tracing.sampling", "a mapping, found 0.5"),
            ("tracing: [enabled]", "tracing", "a mapping, found a list"),
            ("frameworks: {list: {queues: orders}}", "frameworks.list.queues", 'a list, found "orders"'),
            (
                "frameworks: {list: {queues: [a, '']}}",
                "frameworks.list.queues[1]",
                'a glob that is not empty, such as orders:*, found ""',
            ),
            (
                "frameworks: {list: {queues: [a, ]}, kafka: {}}",
                "frameworks.kafka",
                f"a known key, found kafka (there are {KNOWN})",
            ),
            (
                "frameworks: {list: {queues: [~]}}",
                "frameworks.list.queues[0]",
                "a glob that is not empty, such as orders:*, found nothing",
            ),
            (
                "frameworks: {list: {identity: [a..b]}}",
                "frameworks.list.identity[0]",
                'a dotted path, such as meta.tenant, found "a..b"',
            ),
            (
                "frameworks: {list: {tenant: .a}}",
                "frameworks.list.tenant",
                'a dotted path, such as meta.tenant, or nothing, found ".a"',
            ),
            (
                "frameworks: {list: {slot: a..b}}",
                "frameworks.list.slot",
                'a key, such as traceparent, or a dotted path, such as metadata.traceparent, found "a..b"',
            ),
            (
                "frameworks: {list: {queues: [a, dead], dead_letter: [d*]}}",
                "frameworks.list.queues",
                'lists that dead_letter does not take, found "dead"',
            ),
            (
                "frameworks: {list: {processing: [p]}}",
                "frameworks.list.processing",
                "frameworks.list.queues beside it, found none",
            ),
            (
                "tracing: {identity_key_file: /nowhere/key}",
                "tracing.identity_key_file",
                "a file that can be read, found /nowhere/key: No such file or directory",
            ),
            ("frameworks: {list: {end: {}}}", "frameworks.list.end", "ack, next_pop or none, found a mapping"),
            (
                "frameworks: {go-redis-work-queue: {prefix: 'a:*'}}",
                "frameworks.go-redis-work-queue.prefix",
                'the plain text that keys begin with, found "a:*" (it is no glob)',
            ),
            ("listeners: []", "listeners", "at least one, found none"),
            ("listeners: {bind: a}", "listeners", "a list, found a mapping"),
            ("listeners: [a]", "listeners[0]", 'a mapping, found "a"'),
            (
                "endpoint: x",
                "endpoint",
                f"a known key, found endpoint (there are {SECTIONS})",
            ),
        ],
    )
    def test_texts(self, write: Write, text: str, path: str, rest: str) -> None:
        assert problems(write(f"# one\n{text}\n")) == [f"redspan.yaml:2: {path}: expected {rest}"]

    def test_a_file_of_something_else(self, write: Write) -> None:
        assert problems(write("[]\n")) == ["redspan.yaml:1: expected a mapping, found a list"]

    @pytest.mark.parametrize("url", ["redis://redis:6379/1", "rediss://redis/0"])
    def test_a_database_number_is_refused_with_the_reason(self, url: str) -> None:
        [problem] = problems(flags={"upstream": url})
        assert problem.startswith("flag --upstream: listeners[0].upstream: expected an address such as")
        assert problem.endswith(f'found "{url}" (no database number: it is for the client to SELECT one)')

    @pytest.mark.parametrize(
        "endpoint", ["ftp://otel", "http://", "otel:port", "http://[::1", "https://me:hidden@otel"]
    )
    def test_an_endpoint_that_is_none(self, endpoint: str) -> None:
        [problem] = problems(environ={"REDSPAN_TRACING__ENDPOINT": endpoint})
        assert "tracing.endpoint: expected a URL such as http://127.0.0.1:4318, or host:port, found" in problem
        assert "hidden" not in problem

    def test_the_same_address_twice(self, write: Write) -> None:
        file = write(
            "listeners:\n- bind: localhost:1\n- bind: localhost:2\n- bind: localhost:1\nadmin:\n  bind: localhost:2\n"
        )
        assert problems(file) == [
            "redspan.yaml:4: listeners[2].bind: expected an address of its own, found the one of listeners[0].bind",
            "redspan.yaml:6: admin.bind: expected an address of its own, found the one of listeners[1].bind",
        ]

    def test_the_address_of_a_default(self) -> None:
        assert problems(flags={"listen": "127.0.0.1:9464"}) == [
            "default: admin.bind: expected an address of its own, found the one of listeners[0].bind"
        ]

    def test_no_conflict_with_the_default_that_stands_in_for_a_wrong_value(self, write: Write) -> None:
        [problem] = problems(write("listeners:\n- bind: x\n- bind: 127.0.0.1:6380\n"))
        assert problem.startswith("redspan.yaml:2: listeners[0].bind: expected an address")

    def test_a_flag_for_one_of_two_listeners(self, write: Write) -> None:
        file = write("listeners: [{bind: 'h:1'}, {bind: 'h:2'}]\n")
        assert problems(file, {"listen": "h:3"}) == [
            "flag --listen: listeners[0].bind: expected one listener, to know which is meant, found 2"
        ]


class TestYaml:
    def test_a_key_twice(self, write: Write) -> None:
        assert problems(write("tracing:\n  enabled: true\n  inject: true\n  enabled: false\n")) == [
            "redspan.yaml:4: tracing.enabled: expected each key once, found it again, after line 2"
        ]

    def test_syntax(self, write: Write) -> None:
        assert problems(write("tracing:\n\tenabled: true\n")) == [
            "redspan.yaml:2: expected YAML, found an error: found character '\\t' that cannot start any token"
        ]

    @pytest.mark.parametrize(
        ("text", "problem"),
        [
            ("a: 1\n---\nb: 2\n", "redspan.yaml:2: expected YAML, found an error: but found another document"),
            (
                "log: {level: !secret x}\n",
                "redspan.yaml:1: log.level: expected a plain value, found an unknown tag, or a date that is none",
            ),
            (
                "log: {level: 2024-99-99}\n",
                "redspan.yaml:1: log.level: expected a plain value, found an unknown tag, or a date that is none",
            ),
            ("log: {[a]: b}\n", "redspan.yaml:1: log: expected a plain key, found a list or a mapping"),
            (
                "log: &a {level: *a}\n",
                "redspan.yaml:1: log.level: expected a value, found an alias of what it stands in",
            ),
            ("log: \x00\n", "redspan.yaml:1: expected YAML, found a character that may not stand in it"),
        ],
    )
    def test_what_is_not_read(self, write: Write, text: str, problem: str) -> None:
        assert problem in problems(write(text))

    def test_anchors_and_merge_keys(self, write: Write) -> None:
        text = "&one {bind: 'h:1', service_name: a}", "&two {<<: *one, bind: 'h:0'}", "*two"
        file = write("listeners:\n- " + "\n- ".join(text))
        assert load(file, {}, {}).settings.listeners == (
            Listener("h:1", service_name="a"),
            Listener("h:0", service_name="a"),
            Listener("h:0", service_name="a"),
        )

    def test_keys_are_text_whatever_yaml_makes_of_them(self, write: Write) -> None:
        file = write("tracing: {sampling: {queue_rates: {on: 0.1, 7: 0.2, null: 0.3}}}\n")
        assert load(file, {}, {}).settings.tracing.sampling.queue_rates == {"on": 0.1, "7": 0.2, "null": 0.3}

    def test_a_file_that_cannot_be_read(self, tmp_path: Path) -> None:
        missing, binary = tmp_path / "missing.yaml", tmp_path / "binary.yaml"
        binary.write_bytes(b"\xff\xfe")
        assert problems(missing) == [f"{missing}: expected a YAML file, found no such file or directory"]
        assert problems(tmp_path) == [f"{tmp_path}: expected a YAML file, found is a directory"]
        assert problems(binary) == [f"{binary}: expected a YAML file, found bytes that are not UTF-8"]


class TestSecrets:
    URL = "redis://someone:hidden@redis:6379"

    def test_effective(self, write: Write) -> None:
        file = write(f"listeners: [{{upstream: '{self.URL}'}}]\ntracing: {{headers: {{x: hidden}}}}\n")
        loaded = load(file, {}, {"OTEL_EXPORTER_OTLP_HEADERS": "y=hidden"})
        text = "\n".join(loaded.effective())
        assert "hidden" not in text
        assert "someone" not in text
        assert 'listeners[0].upstream = "redis://***@redis:6379"' in text
        assert "tracing.headers.x = ***" in text
        assert "tracing.headers.y = ***" in text
        assert "hidden" not in repr(loaded)
        assert loaded.settings.listeners[0].upstream_address.password == "hidden"

    @pytest.mark.parametrize(
        "text",
        [
            "listeners: [{upstream: 'redis://someone:hidden@redis:x'}]",
            "listeners: [{upstream: 'redis://someone:hidden/3@redis/3'}]",
            "listeners: [{upstream: 'redis://:hidden'}]",
            "listeners: [{upstream: 'redis://redis:6379?password=hidden'}]",
            "listeners: [{bind: 'redis://someone:hidden@redis'}]",
            "tracing: {headers: {x: [hidden]}}",
            "tracing: {headers: {x: {a: hidden}}}",
            "tracing: {header: {x: hidden}}",
            "tracing: {headers: 'x=hidden'}",
            "tracing: {headers: {x: hidden}",
            "tracing: {headers: {x: hidden, x: hidden}}",
            "redis: {password: hidden}",
        ],
    )
    def test_problems(self, write: Write, text: str) -> None:
        assert "hidden" not in "\n".join(problems(write(text)))


def test_effective_shows_each_value_with_its_origin(write: Write) -> None:
    file = write("tracing:\n  endpoint: localhost:4317\n  export: {timeout: 90s}\n")
    lines = load(file, {"listen": "h:1"}, {"REDSPAN_LOG__LEVEL": "debug"}).effective()
    shown = dict(line.split(" = ", 1) for line in lines[:-1])
    values = {path: [part.strip() for part in rest.split("  # ")] for path, rest in shown.items()}
    assert values["listeners[0].bind"] == ['"h:1"', "flag --listen"]
    assert values["log.level"] == ['"debug"', "env REDSPAN_LOG__LEVEL"]
    assert values["tracing.endpoint"] == ['"localhost:4317"', "file redspan.yaml:2"]
    assert values["tracing.export.timeout"] == ["90s", "file redspan.yaml:3"]
    assert values["relay.drain_timeout"] == ["25s", "default"]
    assert values["tracing.headers"] == ["{}", "default"]
    assert values["frameworks.go-redis-work-queue.completed"] == ['["jobqueue:completed"]', "default"]
    assert lines[-1] == "# spans go by grpc to http://localhost:4317"


def test_every_value_has_an_origin(write: Write) -> None:
    loaded = load(write(SEED), {}, {})
    assert [line.split(" = ")[0] for line in loaded.effective()[:-1]] == list(loaded.origins)


def test_a_key_in_the_collector_s_address_is_not_shown(write: Write) -> None:
    loaded = load(write("tracing: {endpoint: 'http://h:4318/v1?api_key=s3cret'}"), {}, {})
    assert "s3cret" not in "\n".join(
        [*loaded.effective(), loaded.settings.tracing.destinations(), repr(loaded.settings)]
    )
