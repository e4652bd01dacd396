"""What Sidekiq 6.4 sends and is answered, as lines of a transcript."""

from __future__ import annotations

import json
from typing import Any

from proxy.tracer.span import Span
from tests.playbook import Play, traceparent
from tests.wire.lines import array, bulk, command, raw

AT = 1_699_999_999.25
"""Seconds: a little before the play begins."""
JID = "5ea345c7008fe7e615b82f47"
WORKER = "vm:21783:feb7bd553e5c"
POP = "BRPOP queue:mails queue:low 2"
WRAPPER = "ActiveJob::QueueAdapters::SidekiqAdapter::JobWrapper"
ONE = "queue.enqueue PRODUCER mails\n  queue.dequeue CLIENT mails\n    job.process CONSUMER mails success"
LOST = "queue.enqueue PRODUCER mails\n  queue.dequeue CLIENT mails"
JOB_ID = "0f3a5b52-9c0e-4f0f-8d3c-6d8a5a8a2f11"


def job(number: int = 0, **said: Any) -> str:
    """As Ruby writes it; ``number``: with the context that the n-th injection has written. None leaves a member out."""
    whole: dict[str, Any] = {
        "retry": True,
        "queue": "mails",
        "args": ["secret"],
        "class": "Mailer",
        "jid": JID,
        "created_at": AT,
        "enqueued_at": AT,
        **said,
    }
    if number:
        whole["traceparent"] = traceparent(number)
    return json.dumps({name: value for name, value in whole.items() if value is not None}, separators=(",", ":"))


def active(executions: int = 0, number: int = 0, flags: int = 3, header: str = "", **said: Any) -> str:
    inner = {"job_class": "Welcome", "job_id": JOB_ID, "arguments": ["secret"], "executions": executions}
    more = {"traceparent": header} if header else {}
    return job(number, **{"class": WRAPPER, "wrapped": "Welcome", "args": [inner], **said}, **more)


def failed(count: int = 0, number: int = 1, **said: Any) -> str:
    more = {"error_message": "secret", "error_class": "KeyError", "failed_at": AT + 1, "retry_count": count}
    return job(number, **{**more, **said})


def push(number: int = 1, key: str = "queue:mails", **said: Any) -> str:
    return f"""
    producer >> SADD queues mails
    producer >> {command("LPUSH", key, job(**said))}
    redis    >> {command("LPUSH", key, job(number, **said))}
    producer << raw ":1\\r\\n:1\\r\\n"
    """


def sent(*parts: str | int, reply: str = ":1", who: str = "worker") -> str:
    return f"{who} >> {command(*parts)}\n{who} << {reply}\n"


def ask(who: str) -> str:
    return f"{who} >> {POP}\n"


def nothing(who: str) -> str:
    return f"{who} << nil\n"


def given(who: str, value: str, key: str = "queue:mails") -> str:
    return f"{who} << {raw(array(key, value))}\n"


def waited(*names: str) -> str:
    """Threads that have asked before: what they ask next can end something."""
    return "".join(ask(who) + nothing(who) for who in names) + "".join(map(ask, names))


def beat(*in_hand: str, key: str = "workers", worker: str = WORKER) -> str:
    """A heartbeat, in two transactions."""
    work = [{"queue": "mails", "payload": one, "run_at": 1} for one in in_hand]
    said = [command("HSET", f"{worker}:{key}", f"t{at}", json.dumps(one)) for at, one in enumerate(work)]
    first = [f"UNLINK {worker}:{key}", *said, f"EXPIRE {worker}:{key} 60"]
    info = command("HMSET", worker, "info", "{}", "busy", len(in_hand), "beat", "1.5", "rss", 1)
    return _transaction(first) + _transaction([f"SADD processes {worker}", info])


def _transaction(commands: list[str]) -> str:
    count = len(commands)
    replies = b"+OK\r\n" + b"+QUEUED\r\n" * count + b"*%d\r\n" % count + b":1\r\n" * count
    sends = "".join(f"beats >> {one}\n" for one in commands)
    return f"beats >> MULTI\n{sends}beats >> EXEC\nbeats << {raw(replies)}\n"


def due(key: str, value: str) -> str:
    """The scheduler of some worker takes it out."""
    sha = "f4a8a5467f9f4697a26fdfb839476b9ee52e897c"
    return f"scheduler >> EVALSHA {sha} 1 {key} 1700000000.5\nscheduler << {raw(bulk(value))}\n"


def processes(run: Play) -> list[Span]:
    return [span for span in run.spans if span.operation.value == "job.process"]
