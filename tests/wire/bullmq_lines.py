"""What BullMQ 4.18 to 6.7 send and are answered, as lines of a transcript."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from proxy.context.msgpack_slot import splice
from tests.playbook import traceparent
from tests.wire.lines import Part, array, raw, script

pack = msgspec.msgpack.encode
BASE = "bull:mails:"
AT = 1_699_999_999_000
"""ms: a second before the play begins."""
TOKEN = "3efc7c40-50df-4498-8046-8a4a34c3dd1e:1"
OPTIONS: dict[str, Any] = {"attempts": 3, "backoff": {"type": "fixed", "delay": 500}}
ADD = {
    "4.18": "wait paused meta id completed events",
    "5.0": "wait paused meta id completed events marker",
    "5.12": "wait paused meta id completed active events marker",
    "6.7": "wait paused meta id completed delayed active events marker",
}
PRIORITIZED = "marker meta id prioritized delayed completed active events pc"
DELAYED = "marker meta id delayed completed events"
PARENT = "meta id delayed waiting-children completed events"
TAKE = "wait active prioritized events stalled limiter delayed paused meta pc"
FINISH = TAKE + " {0} {1} metrics:{0} marker"
RETRY = "active wait paused 1 meta events delayed prioritized pc marker stalled"
LATER = "marker active prioritized delayed 1 events meta stalled wait limiter pc"


def keys(words: str, base: str = BASE) -> list[str]:
    return [base + word for word in words.split()]


def wide(value: dict[str, Any]) -> bytes:
    """As BullMQ's packer writes a map: always with a header of 16 bits."""
    return b"\xde" + len(value).to_bytes(2) + b"".join(pack(name) + pack(one) for name, one in value.items())


def carrying(options: bytes, number: int = 1, flags: int = 3) -> bytes:
    header = traceparent(number, flags)
    return splice(options, [(b"tm", f'{{"traceparent":"{header}"}}'.encode()), (b"traceparent", header.encode())])


def sent(name: str = "ok", job_id: str = "", base: str = BASE, parent: str | None = None, more: int = 5) -> bytes:
    return pack([base, job_id, name, float(AT), parent, *[None] * more])


def add(
    words: str = ADD["6.7"], options: bytes = b"", number: int = 1, *, reply: str = '"1"', base: str = BASE, **job: Any
) -> str:
    """A producer's add, as it goes out and arrives."""
    options = options or wide(OPTIONS)
    parts: list[Part] = [sent(base=base, **job), '{"to":"a@x"}']
    return f"""
    producer >> {script(keys(words, base), *parts, options)}
    redis    >> {script(keys(words, base), *parts, carrying(options, number))}
    producer << {reply}
    """


def hash_of(options: dict[str, Any], name: str = "ok", **fields: Any) -> list[bytes]:
    said = {"name": name, "data": '{"to":"a@x"}', "opts": json.dumps(options), "timestamp": AT, "delay": 0, **fields}
    return [str(part).encode() for field in said.items() for part in field]


def stored(number: int = 1, options: dict[str, Any] | None = None) -> dict[str, Any]:
    header = traceparent(number)
    return {**(OPTIONS if options is None else options), "tm": f'{{"traceparent":"{header}"}}', "traceparent": header}


def delivery(number: int = 1, job_id: str = "1", **fields: Any) -> bytes:
    return array(hash_of(stored(number), **{"ats": 1, **fields}), job_id, 0, 0)


def worker(**more: Any) -> bytes:
    return wide({"token": TOKEN, "lockDuration": 30000, "limiter": None, **more})


def take(reply: bytes = b"", words: str = TAKE + " marker", *before: Part) -> str:
    return f"""
    worker >> {script(keys(words), BASE, AT + 1, *before, worker(name=None))}
    worker << {raw(reply or delivery())}
    """


def finish(
    target: str = "completed", reply: bytes = b":0\r\n", job_id: str = "1", fields: bytes = b"", keep: int = -1
) -> str:
    said = ("returnvalue", '{"ok":1}') if target == "completed" else ("failedReason", "secret")
    opts = worker(keepJobs={"count": keep}, attempts=3)
    return f"""
    worker >> {script(keys(FINISH.format(target, job_id)), job_id, AT + 5, *said, target, 1, BASE, opts, fields)}
    worker << {raw(reply)}
    """


FAILED = pack(["failedReason", "secret", "stacktrace", json.dumps(["Error: no\n at", "TypeError: secret\n at x"])])
ONE = "queue.enqueue PRODUCER mails\n  queue.dequeue CLIENT mails\n    job.process CONSUMER mails success"
TRACED = """
    event enqueue queue=mails ref=bull:mails:1 carry=written
    event dequeue queue=mails ref=bull:mails:1 worker=3efc7c40-50df-4498-8046-8a4a34c3dd1e
    event settle  ref=bull:mails:1 verdict=success
"""


def again(reply: bytes = b":0\r\n") -> str:
    return f"""
    worker >> {script(keys(RETRY), BASE, AT, "LPUSH", "1", TOKEN, FAILED)}
    worker << {raw(reply)}
    """


def later(reply: bytes = b":0\r\n", skip: int = 0, fields: bytes = FAILED) -> str:
    return f"""
    worker >> {script(keys(LATER), BASE, AT, "1", TOKEN, 1500, skip, fields, 1, worker())}
    worker << {raw(reply)}
    """


TRIED = """queue.enqueue PRODUCER mails
  queue.dequeue CLIENT mails
    job.process CONSUMER mails retry !retry
  queue.enqueue CLIENT mails ~retry_of
  queue.dequeue CLIENT mails
    job.process CONSUMER mails {} ~retry_of"""
