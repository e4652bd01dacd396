"""What a span says of itself, name by name."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.frameworks.base import Fields
from proxy.tracer import attributes as names
from proxy.tracer.attributes import attributes, server, span_name, static, variable
from proxy.tracer.span import JobFacts, Kind, Operation, Span, Value
from tests.unit.make_spans import make

FIELDS = Fields(
    id="42",
    type="mail",
    attempt=2,
    max_attempts=4,
    priority="high",
    tenant="acme",
    correlation_id="c-1",
    idempotency_key="once",
)

COMMON: dict[str, Value] = {
    "queue.system": "redis",
    "queue.name": "orders",
    "messaging.system": "go-redis-work-queue",
    "messaging.destination.name": "orders",
    "messaging.message.id": "42",
    "messaging.message.conversation_id": "c-1",
    "messaging.message.envelope.size": 512,
    "server.address": "redis.internal",
    "server.port": 6380,
    "db.namespace": "3",
    "redspan.framework": "go-redis-work-queue",
    "redspan.key": "jobqueue:high",
}


def full(operation: Operation, **rest: Any) -> Span:
    return make(
        operation,
        fields=FIELDS,
        framework="go-redis-work-queue",
        key="jobqueue:high",
        upstream="redis.internal:6380",
        db=3,
        size=512,
        **rest,
    )


def test_enqueue() -> None:
    assert attributes(full(Operation.ENQUEUE)) == COMMON | {
        "messaging.operation.name": "enqueue",
        "messaging.operation.type": "send",
        "queue.operation.type": "enqueue",
        "queue.message.id": "42",
        "queue.message.priority": "high",
        "queue.message.tenant": "acme",
        "queue.message.idempotency_key": "once",
    }


def test_dequeue() -> None:
    facts: dict[str, Value] = {names.WAIT_MS: 12.5, names.DEPTH: 7, names.WAIT_SOURCE: "wire"}
    assert attributes(full(Operation.DEQUEUE, facts=facts)) == COMMON | {
        "messaging.operation.name": "dequeue",
        "messaging.operation.type": "receive",
        "queue.operation.type": "dequeue",
        "queue.message.id": "42",
        "queue.wait_time_ms": 12.5,
        "queue.depth": 7,
        "redspan.wait.source": "wire",
    }


def test_process_that_failed() -> None:
    facts: dict[str, Value] = {names.STATUS: "retry", names.DURATION_MS: 250.0, names.JOB_ERROR: "boom"}
    assert attributes(full(Operation.PROCESS, facts=facts, error="retry")) == COMMON | {
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "job.id": "42",
        "job.type": "mail",
        "job.retry_count": 2,
        "job.max_retries": 4,
        "job.status": "retry",
        "job.error": "boom",
        "job.duration_ms": 250.0,
        "error.type": "retry",
    }


def test_purge() -> None:
    span = make(Operation.PURGE, fields=Fields(), facts={names.PURGED: 3})
    assert attributes(span) == {
        "queue.system": "redis",
        "queue.name": "orders",
        "queue.operation.type": "purge",
        "messaging.system": "rq",
        "messaging.destination.name": "orders",
        "messaging.operation.name": "purge",
        "server.address": "127.0.0.1",
        "server.port": 6379,
        "db.namespace": "0",
        "redspan.framework": "rq",
        "redspan.key": "rq:queue:orders",
        "redspan.purged": 3,
    }


@pytest.mark.parametrize("operation", Operation)
def test_what_is_not_known_is_not_said(operation: Operation) -> None:
    bare = Span(operation, Kind.CLIENT, b"t" * 16, b"s" * 8, b"", 1, 2, JobFacts("", "", "", Fields()))
    found = attributes(bare)
    assert "" not in found.values()
    assert set(found) <= {
        "queue.system",
        "queue.operation.type",
        "messaging.system",
        "messaging.operation.name",
        "messaging.operation.type",
        "db.namespace",
        "job.retry_count",  # 0 is known: this is the first attempt
    }


def test_every_operation_has_a_verb_and_a_kind() -> None:
    verbs = {operation: attributes(make(operation))["messaging.operation.name"] for operation in Operation}
    assert verbs == {operation: operation.value.partition(".")[2] for operation in Operation}


@pytest.mark.parametrize("framework", ["list", "stream", "zset", "script"])
def test_plain_structures_are_redis_itself(framework: str) -> None:
    found = attributes(make(framework=framework))
    assert (found["messaging.system"], found["redspan.framework"]) == ("redis", framework)


@pytest.mark.parametrize(("configured", "shown"), [(0, 0), (3, 3), (-1, None)])
def test_no_retries_is_known_too(configured: int, shown: int | None) -> None:
    found = attributes(make(Operation.PROCESS, fields=Fields(max_attempts=configured)))
    assert found.get("job.max_retries") == shown


def test_facts_win() -> None:
    found = attributes(make(facts={"queue.name": "theirs", "messaging.message.id": "other"}))
    assert (found["queue.name"], found["messaging.message.id"]) == ("theirs", "other")


def test_a_rule_drops_and_changes() -> None:
    def rule(name: str, value: Value) -> Value | None:
        return None if name == "redspan.key" else "x" if name == "queue.name" else value

    found = attributes(make(), rule)
    assert "redspan.key" not in found
    assert found["queue.name"] == "x"
    assert found["queue.message.id"] == "job-1"


@pytest.mark.parametrize("operation", Operation)
def test_the_two_parts_share_no_name(operation: Operation) -> None:
    span = full(operation, error="retry")
    assert set(static(span)) <= names.STATIC_NAMES
    assert names.STATIC_NAMES.isdisjoint(variable(span))


def test_the_static_part_is_kept_and_bounded() -> None:
    assert static(full(Operation.ENQUEUE)) is static(full(Operation.ENQUEUE, facts={"x": 1}))
    assert static(full(Operation.ENQUEUE)) is not static(full(Operation.DEQUEUE))
    maxsize = names.static_of.cache_info().maxsize
    assert maxsize
    for number in range(maxsize + 10):
        static(make(queue=f"q{number}"))
    assert names.static_of.cache_info().currsize == maxsize


def test_names() -> None:
    span = make(Operation.DEQUEUE)
    assert span_name(span) == span_name(span, "queue") == "queue.dequeue"
    assert span_name(span, "semconv") == "dequeue orders"
    assert span_name(make(Operation.PROCESS), "semconv") == "process orders"
    assert span_name(make(Operation.PURGE, queue=""), "semconv") == "purge"


@pytest.mark.parametrize(
    ("upstream", "expected"),
    [
        ("127.0.0.1:6379", ("127.0.0.1", 6379)),
        ("redis.internal", ("redis.internal", 0)),
        ("[::1]:6380", ("::1", 6380)),
        ("[::1]", ("::1", 0)),
        ("fe80::1", ("fe80::1", 0)),
        ("/run/redis.sock", ("/run/redis.sock", 0)),
        ("unix:///run/redis.sock", ("/run/redis.sock", 0)),
        ("unix:/run/redis.sock?db=1", ("/run/redis.sock", 0)),
        ("redis://127.0.0.1:6379", ("127.0.0.1", 6379)),
        ("rediss://user:secret@redis.internal:6379/0", ("redis.internal", 6379)),
        ("user:secret@redis.internal:6379", ("redis.internal", 6379)),
        ("host:port", ("", 0)),
        ("host:99999", ("", 0)),
        ("", ("", 0)),
    ],
)
def test_server(upstream: str, expected: tuple[str, int]) -> None:
    assert server(upstream) == expected


NAMES = {
    "WAIT_MS": "queue.wait_time_ms",
    "WAIT_SOURCE": "redspan.wait.source",
    "DEPTH": "queue.depth",
    "STATUS": "job.status",
    "DURATION_MS": "job.duration_ms",
    "JOB_ERROR": "job.error",
    "WORKER_ID": "worker.id",
    "WORKER_HOST": "redspan.worker.host",
    "WORKER_PID": "redspan.worker.pid",
    "START_INFERRED": "redspan.start.inferred",
    "END_INFERRED": "redspan.end.inferred",
    "END_UNCERTAIN": "redspan.end.uncertain_ms",
    "PARENT_UNVERIFIED": "redspan.parent.unverified",
    "OUTCOME": "redspan.outcome",
    "BATCH_COUNT": "messaging.batch.message_count",
    "INCLUDES_BACKOFF": "redspan.includes_backoff",
    "PROCESSING_LIST": "redspan.processing_list",
    "ATTEMPT": "redspan.attempt",
    "PURGED": "redspan.purged",
    "CLIENT_NAME": "messaging.client.id",
    "CLIENT_LIBRARY": "redspan.client.library",
    "CLIENT_ADDRESS": "client.address",
    "LINK_RELATION": "redspan.link",
}


@pytest.mark.parametrize(("constant", "name"), NAMES.items())
def test_the_names_that_others_rely_on(constant: str, name: str) -> None:
    assert getattr(names, constant) == name
