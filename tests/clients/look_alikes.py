"""Commands that look like a framework's, and are nobody's."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

Command = tuple[str | bytes | int, ...]

JOB: Final = '{"id": 7, "type": "mail", "task": "shop.add", "args": [1, 2], "traceparent": ""}'
UUID: Final = "0f3a5b52-9c0e-4f0f-8d3c-6d8a5a8a2f11"
MD5: Final = "9b74c9897bac770ffc029102a200c5de"
CELERY: Final[dict[str, Any]] = {
    "body": "W1tdLCB7fSwgbnVsbF0=",
    "content-encoding": "utf-8",
    "content-type": "application/json",
    "headers": {"lang": "py", "task": "shop.add", "id": UUID, "retries": 0, "root_id": UUID, "parent_id": None},
    "properties": {"correlation_id": UUID, "delivery_tag": UUID, "delivery_info": {"routing_key": "celery"}},
}
TASKIQ: Final[dict[str, Any]] = {
    "task_id": MD5,
    "task_name": "shop:add",
    "labels": {"queue": "taskiq"},
    "labels_types": {},
    "args": [1, 2],
    "kwargs": {},
}
DRAMATIQ: Final[dict[str, Any]] = {
    "queue_name": "default",
    "actor_name": "add",
    "args": [1, 2],
    "kwargs": {},
    "options": {"redis_message_id": UUID},
    "message_id": UUID,
    "message_timestamp": 1700000000000,
}
MACHINERY: Final[dict[str, Any]] = {
    "UUID": f"task_{UUID}",
    "Name": "mail",
    "RoutingKey": "mails",
    "ETA": None,
    "GroupUUID": "",
    "Args": [],
    "Headers": {},
    "RetryCount": 0,
    "RetryTimeout": 0,
}
GOCRAFT: Final[dict[str, Any]] = {"name": "mail", "id": "0123456789abcdef01234567", "t": 1700000000, "args": None}
ASYNQ: Final = b"\x0a\x04mail\x1a\x017\x22\x05mails\x28\x03"
PIDBOX: Final = {
    "body": '{"method": "ping", "arguments": {}, "destination": null, "ticket": "x"}',
    "content-encoding": "utf-8",
    "content-type": "application/json",
    "headers": {"clock": 3, "expires": 1700000001.0},
    "properties": {"delivery_mode": 2, "delivery_tag": UUID, "delivery_info": {"exchange": "celery.pidbox"}},
}
LARAVEL: Final[dict[str, Any]] = {
    "uuid": UUID,
    "displayName": "App\\Jobs\\Mail",
    "job": "Illuminate\\Queue\\CallQueuedHandler@call",
    "data": {"commandName": "App\\Jobs\\Mail", "command": "O:4:..."},
    "id": MD5,
    "attempts": 0,
}
SIDEKIQ: Final[dict[str, Any]] = {
    "retry": True,
    "queue": "mails",
    "args": [1, 2],
    "class": "Mailer",
    "jid": "5ea345c7008fe7e615b82f47",
    "created_at": 1700000000.25,
}
DISPATCH: Final = "return redis.call('RPUSH', KEYS[1] .. ':' .. ARGV[3], ARGV[10])"


def without(message: dict[str, Any], *path: str) -> str:
    """The message as JSON, without one of its fields."""
    copy = json.loads(json.dumps(message))
    inner = copy
    for name in path[:-1]:
        inner = inner[name]
    del inner[path[-1]]
    return json.dumps(copy)


def lists(key: str, value: str) -> Iterator[Command]:
    """A value goes through a list in all the ways there are."""
    yield ("LPUSH", key, value, value)
    yield ("RPUSH", key, value)
    yield ("BRPOP", key, 1)
    yield ("LMOVE", key, f"{key}:busy", "RIGHT", "LEFT")
    yield ("LREM", f"{key}:busy", 1, value)
    yield ("LRANGE", key, 0, -1)


def celery() -> Iterator[Command]:
    for at, path in enumerate((("headers", "task"), ("headers", "id"), ("properties", "delivery_tag"), ("headers",))):
        yield from lists(f"celery{at}", without(CELERY, *path))
    yield from lists(f"{UUID}.reply.celery.pidbox", json.dumps(PIDBOX))
    yield ("PUBLISH", "/0.celery.pidbox", json.dumps(PIDBOX))
    yield ("SADD", "_kombu.binding.celery.pidbox", "\x06\x16\x06\x16worker@host.celery.pidbox")
    yield from lists("celery-list", json.dumps(json.dumps(CELERY)))


def dramatiq() -> Iterator[Command]:
    result = json.dumps({"result": 3, "queue_name": "default", "actor_name": "add"})
    yield ("DEL", MD5)
    yield ("LPUSH", MD5, result)
    yield ("PEXPIRE", MD5, 600000)
    yield ("RPOPLPUSH", MD5, MD5)
    yield ("BRPOPLPUSH", MD5, MD5, 1)
    rest = (UUID, 60000, 1700000000000, 7, 100000, UUID)
    for path in ("queue_name",), ("actor_name",), ("message_id",), ("options",), ("options", "redis_message_id"):
        message = without(DRAMATIQ, *path)
        yield ("EVAL", DISPATCH, 1, "dramatiq", "enqueue", 1700000000000, "default", *rest, message)
        yield from lists("queue", message)


def taskiq() -> Iterator[Command]:
    for at, name in enumerate(("task_id", "task_name", "labels", "args", "kwargs")):
        yield from lists(f"taskiq{at}", without(TASKIQ, name))
        yield ("XADD", f"taskiq:stream{at}", f"1-{at + 1}", "data", without(TASKIQ, name))
    yield ("XADD", "events", "1-1", "event", json.dumps(TASKIQ), "by", "somebody")


def rq() -> Iterator[Command]:
    yield ("HSET", "rq:worker:w1", "birth", "2026-01-01T00:00:00Z", "queues", "mails", "state", "idle")
    yield ("HSET", "rq:job:7", "last_heartbeat", "2026-01-01T00:00:00Z", "worker_name", "w1")
    yield ("HSET", "rq:jobs:7", "data", JOB, "created_at", "2026-01-01T00:00:00Z", "status", "queued")
    yield ("SADD", "rq:queues", "rq:queue:mails")
    yield ("ZADD", "rq:wip:mails", 1700000000, "7")
    yield ("XADD", "rq:results:7", "1-1", "type", "1", "return_value", JOB)


def bulls() -> Iterator[Command]:
    yield ("LPUSH", "bull:orders:wait", JOB)
    yield ("HSET", "bull:orders:7", "name", "mail", "data", JOB, "opts", "{}", "timestamp", 1700000000000)
    yield ("ZADD", "bull:orders:delayed", 1700000000000, "7")
    yield ("XADD", "bull:orders:events", "1-1", "event", "added", "jobId", "7")
    yield ("INCR", "bull:orders:id")
    yield ("RPOPLPUSH", "bull:orders:wait", "bull:orders:active")
    for keys in (
        ("bull:orders:wait",),
        ("bull:orders:wait", "bull:orders:active", "bull:orders:meta"),
        ("bull:orders:wait", "bull:mails:paused", "bull:orders:meta", "bull:orders:id"),
        ("app:wait", "other:paused", "app:meta", "app:id", "app:completed", "app:active", "app:events", "app:marker"),
    ):
        yield ("EVAL", "return ARGV[1]", len(keys), *keys, JOB, JOB, JOB)
    yield ("SADD", "bq:mails:succeeded", "7")
    yield ("EVAL", "return ARGV[1]", 2, "bq:mails:id", "bq:mails:done", "7", JOB)


def laravel() -> Iterator[Command]:
    for name in ("displayName", "job", "data", "id", "attempts"):
        payload, due = without(LARAVEL, name), 1700000000
        yield ("EVAL", "return redis.call('RPUSH', KEYS[1], ARGV[1])", 2, "queues:a", "queues:a:notify", payload)
        yield ("EVAL", "return redis.call('ZADD', KEYS[1], ARGV[1], ARGV[2])", 1, "queues:a:delayed", due, payload)
        yield ("ZADD", "queues:a:reserved", due, payload)
        yield ("ZREM", "queues:a:reserved", payload)
    # Sidekiq's and Resque's queues are called almost like that.
    payload = json.dumps(LARAVEL)
    for key in ("queue:a", "resque:queue:a", "queues"):
        yield ("EVAL", "return redis.call('RPUSH', KEYS[1], ARGV[1])", 2, key, f"{key}:notify", payload)
        yield ("ZADD", f"{key}:delayed", 1700000000, payload)
        yield ("ZREM", f"{key}:delayed", payload)
        yield from lists(key, payload)
    yield ("EVAL", "return ARGV[1]", 2, "queues:a", "queues:b:notify", payload)
    yield ("HMSET", "horizon:7", "status", "failed")


def go() -> Iterator[Command]:
    """The libraries of Go."""
    yield ("HSET", "asynq:{mails}:t:7", "msg", ASYNQ, "state", "pending")
    yield ("LPUSH", "asynq:{mails}:pending", "7")
    yield ("ZADD", "asynq:{mails}:lease", 1700000000, "7")
    for keys, task in (
        (("asynq:{mails}:t:8", "asynq:{mails}:pending"), ASYNQ),
        (("asynq:{letters}:t:7", "asynq:{letters}:pending"), ASYNQ),
        (("asynq:mails:t:7", "asynq:mails:pending"), ASYNQ),
        (("app:{mails}:t:7", "app:{mails}:pending"), ASYNQ),
        (("asynq:{mails}:t:7", "asynq:{mails}:pending"), ASYNQ[:-1]),
        (("asynq:{mails}:t:7", "asynq:{mails}:pending"), JOB),
    ):
        yield ("EVAL", "return ARGV[1]", len(keys), *keys, task, "7", 1700000000)
    for name in ("UUID", "Name", "RoutingKey", "Args", "Headers", "RetryCount"):
        yield from lists("mails", without(MACHINERY, name))
        yield ("ZADD", "delayed_tasks", 1700000000, without(MACHINERY, name))
    yield from lists("letters", json.dumps(MACHINERY))
    yield ("SET", f"task_{UUID}", json.dumps({"TaskUUID": "another", "State": "SUCCESS"}))
    for name in GOCRAFT:
        yield from lists("app:jobs:mail", without(GOCRAFT, name))
        for suffix in ("retry", "dead", "scheduled"):
            yield ("ZADD", f"app:{suffix}", 1700000000, without(GOCRAFT, name))
    yield from lists("app:jobs:letter", json.dumps(GOCRAFT))
    yield from lists("app:mail", json.dumps(GOCRAFT))


def rubies() -> Iterator[Command]:
    """Keys of Sidekiq's and Resque's without their jobs, and their jobs under other keys."""
    whole, bare = json.dumps(SIDEKIQ), json.dumps({"class": "Mailer", "args": [1]})
    for name in ("class", "args", "jid"):
        for key in ("queue:mails", "shop:queue:mails", "resque:queue:mails"):
            yield from lists(key, without(SIDEKIQ, name))
        for key in ("schedule", "retry", "dead"):
            yield ("ZADD", key, 1700000000, without(SIDEKIQ, name))
            yield ("ZREM", key, without(SIDEKIQ, name))
    for key in ("queues:mails", "myqueue:mails", "queue", "jobs"):
        for value in (whole, bare):
            yield from lists(key, value)
    yield ("RPUSH", "resque:queue:mails", json.dumps({"class": "Mailer", "args": [1], "priority": 3}))
    yield ("LPOP", "resque:queue:mails")
    yield ("BRPOP", "queue:mails", "queue:low", 2)
    yield ("RPUSH", "resque:failed", bare)
    yield ("SET", "resque:worker:host:1:mails", bare)
    yield ("DEL", "worker:host")
    yield ("HSET", "cart:7:0123456789ab", "busy", "0")
    yield ("SREM", "processes", "7")
    yield ("ZADD", "schedules", 1700000000, whole)


def caches() -> Iterator[Command]:
    """Plain JSON under any key, also beside the keys of frameworks."""
    keys = ("cache:7", MD5, UUID, "rq:cache", "huey.cache", "celery-cache", "streaq:", "unacked:7", "jobqueue:cache")
    for key in keys:
        for value in (JOB, json.dumps(CELERY), json.dumps(TASKIQ), json.dumps(DRAMATIQ), "[1, 2]", "7"):
            yield ("SET", f"{key}:s", value)
            yield ("SETEX", f"{key}:x", 60, value)
            yield ("GET", f"{key}:s")
            yield ("HSET", f"{key}:h", "data", value, "created_at", "2026-01-01T00:00:00Z")
            yield ("HGETALL", f"{key}:h")
            yield ("ZADD", f"{key}:z", 1700000000, value)
            yield ("ZREM", f"{key}:z", value)
            yield ("XADD", f"{key}:e", "*", "payload", value)
            yield ("DEL", f"{key}:e")
        yield from lists(f"{key}:l", JOB)
        yield ("EVAL", "return redis.call('LPUSH', KEYS[1], ARGV[1])", 1, f"{key}:l", JOB)


def commands() -> Iterator[Command]:
    for some in (celery, dramatiq, taskiq, rq, bulls, go, laravel, rubies, caches):
        yield from some()
