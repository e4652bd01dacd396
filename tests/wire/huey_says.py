"""What huey 3.5 sends and is answered, in transcripts."""

from __future__ import annotations

import pickle
import struct
from datetime import datetime

from huey.registry import Message
from huey.utils import Error

from proxy.context.derive import Deriver
from tests.playbook import Play
from tests.wire.binary import bulk, command

ID = "e5f8eff9-f8c2-4d50-88f3-2de7318efba8"
QUEUE, SCHEDULE, RESULTS = "huey.redis.app", "huey.schedule.app", "huey.results.app"
SHA = "4f30a2b0c2d7759adb15efd0d270a583531c67e2"
STAMP = struct.pack(">Q", 1_700_000_000_000_000)
ONE = "queue.enqueue PRODUCER app\n  queue.dequeue CLIENT app\n    job.process CONSUMER app success"


def task(retries: int = 0, eta: datetime | None = None, protocol: int = 5) -> bytes:
    message = Message(ID, "shop.mail", eta, retries, 0, None, ("secret", 2), {})
    return pickle.dumps(message, protocol)


LATER = datetime(2033, 1, 2, 3, 4, 5, 678)  # noqa: DTZ001 - as huey stores it


def context(retries: int = 0) -> tuple[str, str]:
    """Trace and span that follow from id and retries."""
    deriver = Deriver()
    trace_id = deriver.trace_id("huey", ID.encode())
    return trace_id.hex(), deriver.span_id(trace_id, b"", retries).hex()


def push(value: bytes) -> str:
    return f"""
    producer >> {command("LPUSH", QUEUE, value)}
    producer << :1
    """


def pop(value: bytes, worker: str = "worker") -> str:
    return f"""
    {worker} >> BRPOP {QUEUE} 1
    {worker} << ["{QUEUE}", {bulk(value)}]
    """


START = f"""
    worker >> HMGET {RESULTS} r:{ID} rt:shop.mail
    worker << [nil, nil]
"""
OVER = f"""
    worker >> HDEL {RESULTS} r:{ID}
    worker << :0
"""
IDLE = f"""
    worker >> BRPOP {QUEUE} 1
    worker << nil
"""


def stored(result: object, job_id: str = ID) -> str:
    return f"""
    worker >> {command("HSET", RESULTS, job_id, pickle.dumps(result, 5))}
    worker << :1
    """


def error(retries: int, job_id: str = ID) -> Error:
    about = {"error": "KeyError('not to be told')", "retries": retries, "traceback": "T" * 300, "task_id": job_id}
    return Error(about)


def due(*values: bytes) -> str:
    return f"""
    scheduler >> EVALSHA {SHA} 1 {SCHEDULE} 1700000001.5
    scheduler << [{", ".join(bulk(value) for value in values)}]
    """


def aside(value: bytes) -> str:
    return f"""
    worker >> {command("ZADD", SCHEDULE, "1988248205.0", value)}
    worker << :1
    """


def pushed_by_scheduler(value: bytes) -> str:
    return push(value).replace("producer", "scheduler")


def unique(run: Play) -> None:
    ids = [span.span_id for span in run.spans]
    assert len(ids) == len(set(ids))
    assert {span.trace_id.hex() for span in run.spans} == {context()[0]}
    assert run.lifecycle.measures.orphans == 0
    assert "secret" not in str(run.spans)
    assert "not to be told" not in str(run.spans)
