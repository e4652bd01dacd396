"""Personal data, and jobs of every framework that have it in each place where an application could put it.

Scripts are run as EVAL with a text that answers what the framework's own would: keys and arguments are what counts.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, TypeAlias

import msgspec
from huey.registry import Message

from tests.clients.look_alikes import CELERY, DRAMATIQ, GOCRAFT, LARAVEL, MACHINERY, SIDEKIQ, TASKIQ, UUID
from tests.wire import bullmq_lines

Command: TypeAlias = tuple[str | bytes | int, ...]

PERSONAL: Final = {
    "email": "jane.doe@example.com",
    "ip": "203.0.113.77",
    "card": "4111 1111 1111 1111",
    "ssn": "078-05-1120",
    "phone": "+49 30 1234567",
    "own": "ACC-99887766",
}
PATTERN: Final = r"ACC-\d+"
"""For ``pii_patterns``: the last one."""
SECRET: Final = "hunter2-in-the-payload"
CREDENTIAL: Final = "hunter2-to-log-in"

EMAIL: Final = PERSONAL["email"]
ALL: Final = " ".join(PERSONAL.values())
ERROR: Final = f"ValueError: {ALL} {SECRET}"
QUEUE: Final = f"mail-{EMAIL}"
_AT: Final = 1_700_000_000_000


def spellings() -> Iterator[str]:
    """What must not be seen anywhere: also without blanks, or with others."""
    for text in (*PERSONAL.values(), SECRET, CREDENTIAL):
        yield from {text, text.replace(" ", "_"), text.replace(" ", "")}


def job(name: str) -> dict[str, str]:
    """One of the application's own, with one of `PERSONAL` in each field that is read; and with all in its payload."""
    value = PERSONAL[name]
    return {"id": value, "type": f"mail {value}", "secret": SECRET, "shown": f"to {value}", **PERSONAL}


def _lists(queue: str, value: str | bytes) -> Iterator[Command]:
    yield ("LPUSH", queue, value)
    yield ("BRPOP", queue, 1)


def _keys(base: str, words: str) -> list[str]:
    return [base + word for word in words.split()]


def _lua(value: object) -> str:
    """A script that answers this: nested lists of text and numbers."""
    if isinstance(value, list):
        return "{" + ",".join(map(_lua, value)) + "}"
    return f"'{value}'" if isinstance(value, str) else str(value)


def _eval(reply: object, keys: list[str], *args: str | bytes | int) -> Command:
    return ("EVAL", f"return {_lua(reply)}", len(keys), *keys, *args)


def celery() -> Iterator[Command]:
    headers = {**CELERY["headers"], "id": EMAIL, "task": f"send {ALL}", "argsrepr": SECRET, "origin": f"1@{EMAIL}"}
    yield from _lists(QUEUE, json.dumps({**CELERY, "headers": headers}))
    ended = {"status": "FAILURE", "task_id": EMAIL, "traceback": ERROR}
    said = json.dumps({**ended, "result": {"exc_type": "ValueError", "exc_message": [ALL], "exc_module": "builtins"}})
    yield ("SETEX", f"celery-task-meta-{EMAIL}", 60, said)


def rq() -> Iterator[Command]:
    created = "2023-11-14T22:13:20.100000Z"
    said = {"created_at": created, "data": SECRET, "description": f"send({ALL})", "origin": QUEUE, "timeout": "180"}
    fields = [text for pair in said.items() for text in pair]
    yield ("HSET", f"rq:job:{EMAIL}", *fields)
    yield ("RPUSH", f"rq:queue:{QUEUE}", EMAIL)
    yield ("LMOVE", f"rq:queue:{QUEUE}", f"rq:queue:{QUEUE}:intermediate", "LEFT", "RIGHT")
    yield ("HGETALL", f"rq:job:{EMAIL}")
    yield ("HSET", f"rq:job:{EMAIL}", "status", "started", "worker_name", f"worker of {ALL}")
    yield ("HSET", f"rq:job:{EMAIL}", "status", "failed", "exc_info", ERROR)


def huey() -> Iterator[Command]:
    task = Message(EMAIL, f"send {ALL}", None, 0, 0, None, (SECRET, ALL), {})
    yield from _lists("huey.redis.app", pickle.dumps(task))
    yield ("HSET", "huey.results.app", EMAIL, pickle.dumps({"error": ERROR, "traceback": ERROR}))


def dramatiq() -> Iterator[Command]:
    options = {"redis_message_id": UUID, "traceback": ERROR}
    message = json.dumps({**DRAMATIQ, "message_id": EMAIL, "actor_name": f"send {ALL}", "options": options})

    def call(command: str, reply: object, *rest: str | int) -> Command:
        # Names of its queues and of its workers are of a form that leaves room for little.
        return _eval(reply, ["dramatiq"], command, _AT, PERSONAL["own"], UUID, 60000, 604800000, 0, 4000, *rest)

    yield call("enqueue", 0, UUID, message)
    yield call("fetch", [message], 1)
    yield call("nack", 0, UUID)


def taskiq() -> Iterator[Command]:
    labels = {"queue": QUEUE, "secret": SECRET}
    message = json.dumps({**TASKIQ, "task_id": EMAIL, "task_name": f"send:{ALL}", "args": [SECRET], "labels": labels})
    yield from _lists(QUEUE + "-taskiq", message)


def arq() -> Iterator[Command]:
    said: dict[str, Any] = {"t": None, "f": f"send {ALL}", "a": (SECRET, ALL), "k": {}, "et": _AT}
    yield ("PSETEX", f"arq:job:{EMAIL}", 60000, pickle.dumps(said))
    yield ("ZADD", "arq:queue", _AT, EMAIL)
    yield ("PSETEX", f"arq:in-progress:{EMAIL}", 60000, b"1")
    yield ("GET", f"arq:job:{EMAIL}")
    result = {**said, "s": False, "r": ValueError(ERROR), "st": _AT, "ft": _AT, "q": "arq:queue", "id": EMAIL}
    yield ("SET", f"arq:result:{EMAIL}", pickle.dumps(result))


def streaq() -> Iterator[Command]:
    prefix = f"streaq:{QUEUE}:"
    stream = f"{prefix}queues:normal"
    yield ("SET", f"{prefix}task:data:{EMAIL}", pickle.dumps({"f": f"send {ALL}", "a": (SECRET,), "k": {}, "t": _AT}))
    yield ("XGROUP", "CREATE", stream, "workers", "0", "MKSTREAM")
    yield ("XADD", stream, "*", "task_id", EMAIL, "enqueue_time", _AT)
    yield ("XREADGROUP", "GROUP", "workers", f"worker of {ALL}", "COUNT", 1, "STREAMS", stream, ">")
    yield ("GET", f"{prefix}task:data:{EMAIL}")


def bullmq() -> Iterator[Command]:
    base = f"bull:{QUEUE}:"
    options = bullmq_lines.wide(bullmq_lines.OPTIONS)
    sent = bullmq_lines.sent(f"send {ALL}", EMAIL, base)
    yield _eval(EMAIL, _keys(base, bullmq_lines.ADD["6.7"]), sent, json.dumps(PERSONAL), options)
    fields = ["name", f"send {ALL}", "data", json.dumps(PERSONAL), "opts", "{}", "timestamp", str(_AT), "ats", "1"]
    worker = msgspec.msgpack.encode({"token": f"{EMAIL}:1", "lockDuration": 30000, "name": f"worker of {ALL}"})
    yield _eval([fields, EMAIL, 0, 0], _keys(base, bullmq_lines.TAKE), base, _AT, worker)


def bull() -> Iterator[Command]:
    base, options = f"bull:{QUEUE}-4:", json.dumps({"attempts": 3, "delay": 0, "timestamp": _AT})
    keys = _keys(base, "wait paused meta-paused id delayed priority")
    packed = msgspec.msgpack.encode(options)
    more = ("LPUSH", f"worker of {EMAIL}", "", "", "")
    yield _eval(EMAIL, keys, base, EMAIL, f"send {ALL}", json.dumps(PERSONAL), packed, _AT, 0, 0, 0, *more)


def bee_queue() -> Iterator[Command]:
    base = f"bq:{QUEUE}:"
    options = {"timestamp": _AT, "stacktraces": [ERROR]}
    whole = {"data": PERSONAL, "options": options, "status": "created", "progress": 0}
    yield _eval(EMAIL, _keys(base, "id jobs waiting"), EMAIL, json.dumps(whole))
    yield ("LPUSH", f"{base}waiting", EMAIL)
    yield ("BRPOPLPUSH", f"{base}waiting", f"{base}active", 1)
    yield ("HSET", f"{base}jobs", EMAIL, json.dumps({**whole, "status": "failed"}))


def go_redis_work_queue() -> Iterator[Command]:
    queue, held = "jobqueue:high_priority", f"jobqueue:worker:{EMAIL}-1-2-3-4:processing"
    said = {"id": EMAIL, "filepath": f"/{ALL}/{SECRET}", "filesize": 1, "priority": ALL, "retries": 0}
    job = json.dumps({**said, "creation_time": "2025-09-20T12:55:55.123456789Z", "trace_id": "", "span_id": ""})
    yield ("LPUSH", queue, job)
    yield ("BRPOPLPUSH", queue, held, 1)
    yield ("LPUSH", "jobqueue:dead_letter", job)


def laravel() -> Iterator[Command]:
    queue = f"queues:{QUEUE}"
    said = {**LARAVEL, "uuid": EMAIL, "displayName": f"Send {ALL}", "data": PERSONAL, "id": EMAIL}
    yield _eval(1, [queue, f"{queue}:notify"], json.dumps(said))
    taken = json.dumps({**said, "attempts": 1})
    yield _eval([json.dumps(said), taken], [queue, f"{queue}:reserved", f"{queue}:notify"], _AT)
    yield ("ZREM", f"{queue}:reserved", taken)


def sidekiq() -> Iterator[Command]:
    said = {**SIDEKIQ, "queue": QUEUE, "args": [SECRET, ALL], "class": f"Send {ALL}", "jid": EMAIL}
    failed = json.dumps({**said, "retry_count": 0, "error_class": "E", "error_message": ERROR, "failed_at": 1.5})
    yield ("LPUSH", f"queue:{QUEUE}", json.dumps(said))
    yield ("BRPOP", f"queue:{QUEUE}", 2)
    yield ("ZADD", "retry", 1_700_000_000, failed)
    yield ("ZADD", "dead", 1_700_000_000, failed)


def resque() -> Iterator[Command]:
    queue, worker, said = f"resque:queue:{QUEUE}", f"{EMAIL}:1:{QUEUE}", {"class": f"Send {ALL}", "args": [SECRET]}
    work = {"queue": QUEUE, "run_at": "2023-11-14T22:13:20Z", "payload": said}
    failed = {**work, "exception": f"Error of {ALL}", "error": ERROR, "worker": worker, "failed_at": work["run_at"]}
    yield ("RPUSH", queue, json.dumps(said))
    yield ("LPOP", queue)
    yield ("SET", f"resque:worker:{worker}", json.dumps(work))
    yield ("RPUSH", "resque:failed", json.dumps(failed))
    yield ("DEL", f"resque:worker:{worker}")


def asynq() -> Iterator[Command]:
    def field(number: int, text: str) -> bytes:
        value = text.encode()
        return bytes((number << 3 | 2, len(value))) + value

    base = f"asynq:{{{QUEUE}}}:"
    task = field(1, f"send {ALL}") + field(2, SECRET) + field(3, EMAIL) + field(4, QUEUE) + field(7, ALL)
    yield _eval(1, [f"{base}t:{EMAIL}", f"{base}pending"], task, EMAIL, _AT)


def machinery() -> Iterator[Command]:
    queue = f"{QUEUE}-machinery"
    said = {**MACHINERY, "UUID": EMAIL, "Name": f"send {ALL}", "RoutingKey": queue, "Args": [{"Value": SECRET}]}
    yield ("RPUSH", queue, json.dumps(said))
    yield ("BLPOP", queue, 1)
    yield ("SET", EMAIL, json.dumps({"TaskUUID": EMAIL, "TaskName": "send", "State": "FAILURE", "Error": ERROR}))


def gocraft_work() -> Iterator[Command]:
    said = {**GOCRAFT, "name": QUEUE, "id": EMAIL, "args": PERSONAL, "err": ERROR, "fails": 1, "failed_at": 1}
    yield ("LPUSH", f"app:jobs:{QUEUE}", json.dumps(said))
    yield ("ZADD", "app:retry", 1_700_000_000, json.dumps(said))


FRAMEWORKS: Final[Mapping[str, Callable[[], Iterator[Command]]]] = {
    "celery": celery,
    "rq": rq,
    "huey": huey,
    "dramatiq": dramatiq,
    "taskiq": taskiq,
    "arq": arq,
    "streaq": streaq,
    "bullmq": bullmq,
    "bull": bull,
    "bee-queue": bee_queue,
    "go-redis-work-queue": go_redis_work_queue,
    "laravel": laravel,
    "sidekiq": sidekiq,
    "resque": resque,
    "asynq": asynq,
    "machinery": machinery,
    "gocraft-work": gocraft_work,
}
"""By the name that spans have; each has to make at least one."""


def settings(**tracing: Any) -> dict[str, Any]:
    """Of a redspan with lists of the application's own, whose fields are read."""
    paths = {"tenant": "email", "correlation_id": "ip", "priority": "card", "idempotency_key": "ssn", "error": "phone"}
    lists = {"queues": ["jobs:*"], "processing": ["work:*"], "completed": ["done"], "dead_letter": ["dead"], **paths}
    return {
        "frameworks": {"list": lists},
        "tracing": {
            "protocol": "http/protobuf",
            "export": {"interval": "50ms", "compression": "none"},
            "attribute_filter": {"allow": [{"framework": "list", "paths": ["shown"]}]},
            "security": {"pii_patterns": [PATTERN]},
            **tracing,
        },
        "events": {"to": "stdout"},
        "log": {"level": "debug"},
    }
