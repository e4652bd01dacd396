"""What asynq's producers and workers send of one task, as lines of a transcript."""

from __future__ import annotations

from typing import Any

from proxy.context.derive import Deriver
from proxy.context.traceparent import SpanContext
from tests.playbook import START
from tests.protobuf import message_type
from tests.wire.lines import bulk, raw, script

BASE = "asynq:{mails}:"
ID = "3f0a4b1e-52f7-4c43-9c7f-0d1e2f3a4b5c"
TASK = f"t:{ID}"
DAY = "2026-02-03"
NOW = START // 10**9
COUNTS = f"processed:{DAY} failed:{DAY} processed failed"
LEASE_EXPIRED = "asynq: task lease expired"
OLD = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

Message = message_type(
    {
        "type": (1, "string"),
        "payload": (2, "bytes"),
        "id": (3, "string"),
        "queue": (4, "string"),
        "retry": (5, "int32"),
        "retried": (6, "int32"),
        "error_msg": (7, "string"),
        "timeout": (8, "int64"),
        "unique_key": (10, "string"),
        "last_failed_at": (11, "int64"),
        "group_key": (14, "string"),
    },
    headers=15,
)


def keys(words: str) -> list[str]:
    return [BASE + word for word in words.split()]


def derived(attempt: int = 0, job: str = ID) -> str:
    """The context that follows from a task's id."""
    deriver = Deriver()
    trace_id = deriver.trace_id("asynq", job.encode())
    return SpanContext(trace_id, deriver.span_id(trace_id, attempt=attempt), 1).header().decode()


def task(carried: str = "", **said: Any) -> bytes:
    """As Go writes it, and with a context at its end where there is one."""
    values: dict[str, Any] = {"type": "mail:send", "payload": b'{"to": "a@x"}', "id": ID, "queue": "mails", "retry": 3,
                              "timeout": 1800, **said}  # fmt: skip
    whole: bytes = Message(**values).SerializeToString(deterministic=True)
    entry = b"\x7a\x46\x0a\x0btraceparent\x12\x37" + carried.encode()
    return whole + entry if carried else whole


def add(written: str | None = None, *, reply: int = 1, **said: Any) -> str:
    given = written if written is not None else derived(job=said.get("id", ID))
    job_id = said.get("id", ID)
    words = keys(f"t:{job_id} pending")
    return f"""
    producer >> {script(words, task(**said), job_id, NOW * 10**9)}
    redis    >> {script(words, task(given, **said), job_id, NOW * 10**9)}
    producer << :{reply}
    """


def sent(carried: str) -> str:
    """A task that has its context already."""
    words = keys(f"{TASK} pending")
    return f"producer >> {script(words, task(carried), ID, NOW)}\nproducer << :1\n"


def take(carried: str | None = None, **said: Any) -> str:
    given = carried if carried is not None else derived(job=said.get("id", ID))
    return f"""
    worker >> {script(keys("pending paused active lease"), NOW + 30, BASE + "t:")}
    worker << {raw(bulk(task(given, **said)))}
    """


def ran(words: str, *args: Any, reply: str = "+OK") -> str:
    return f"""
    worker >> {script(keys(words), *args)}
    worker << {reply}
    """


DONE = ran(f"active lease {TASK} processed:{DAY} processed", ID, NOW, 1 << 62)


def retry(carried: str | None = None, written: str | None = None, *, failed: int = 1, **said: Any) -> str:
    """``carried``: what of the context the worker has kept; ``written``: what reaches Redis."""
    given = derived() if carried is None else carried
    words = keys(f"{TASK} active lease retry {COUNTS}")
    said = {"retried": failed, "error_msg": "secret", "last_failed_at": NOW, **said}
    rest = (NOW + 5, NOW, failed, 1 << 62)
    return f"""
    worker >> {script(words, ID, task(given, **said), *rest)}
    redis  >> {script(words, ID, task(given if written is None else written, **said), *rest)}
    worker << +OK
    """


def archive(words: str = "t:", **said: Any) -> str:
    words = f"{TASK} active lease archived {COUNTS} {words}"
    return ran(words, ID, task(derived(), error_msg="secret", **said), NOW, NOW, 10000, NOW, 1 << 62)
