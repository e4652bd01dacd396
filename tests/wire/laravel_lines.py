"""What Laravel's queues send and are answered, as lines of a transcript."""

from __future__ import annotations

import json
from typing import Any

from tests.playbook import traceparent
from tests.wire.lines import array, command, raw, script

QUEUE = "laravel_database_queues:default"
UUID = "d92e37cf-5706-424b-bac2-9a7b07a52728"
AT = 1_700_000_010
"""Seconds: ten after the play begins."""
PUSH = (
    "-- Push the job onto the queue...\nredis.call('rpush', KEYS[1], ARGV[1])\n"
    "-- Push a notification onto the \"notify\" queue...\nredis.call('rpush', KEYS[2], 1)"
)
LATER = "-- Push the job onto the delayed queue...\nredis.call('zadd', KEYS[1], ARGV[1], ARGV[2])"
POP = "-- Pop the first job off of the queue...\nlocal job = redis.call('lpop', KEYS[1])"
RELEASE = "-- Remove the job from the current queue...\nredis.call('zrem', KEYS[2], ARGV[1])"
MIGRATE = "-- Get all of the jobs with an expired \"score\"...\nlocal val = redis.call('zrangebyscore', KEYS[1]"
SIZE = "return redis.call('llen', KEYS[1]) + redis.call('zcard', KEYS[2]) + redis.call('zcard', KEYS[3])"
CLEAR = "local size = redis.call('llen', KEYS[1]) + redis.call('zcard', KEYS[2]) + redis.call('zcard', KEYS[3])"
COMMAND = r"O:4:\"OkJ\":2:{s:1:\"a\";s:3:\"a@x\";s:7:\"\u0000*\u0000note\";s:6:\"secret\";}"


def keys(*names: str, queue: str = QUEUE) -> list[str]:
    """Empty stands for the queue itself."""
    return [f"{queue}:{name}" if name else queue for name in names]


def payload(attempts: int = 0, carried: int = 0, uuid: str = UUID, **more: Any) -> str:
    """What is pushed; ``carried``: with the n-th context that the play writes."""
    said = {
        "uuid": uuid,
        "displayName": "OkJ",
        "job": r"Illuminate\Queue\CallQueuedHandler@call",
        "maxTries": 3,
        "retryUntil": None,
        "data": {"commandName": "OkJ", "command": json.loads(f'"{COMMAND}"')},
        "id": "VCd8RqWPB5OHNLzPxaA9d8qnJNjf1Dyh",
        "attempts": attempts,
        **more,
    }
    if carried:
        said["traceparent"] = traceparent(carried)
    return json.dumps(said, separators=(",", ":"))


def reserved(attempts: int = 1, carried: int = 1, uuid: str = UUID, **more: Any) -> str:
    """The same as cjson writes it: its members in another order, slashes with a backslash."""
    said = json.loads(payload(attempts, carried, uuid, **more))
    turned = {name: said[name] for name in sorted(said, key=lambda name: name[::-1])}
    return json.dumps(turned, separators=(",", ":")).replace("/", r"\/")


def push(number: int = 1, *, queue: str = QUEUE, reply: str = "nil", **more: Any) -> str:
    """A producer's push, as it goes out and arrives."""
    to = keys("", "notify", queue=queue)
    return f"""
    producer >> {script(to, payload(**more), text=PUSH)}
    redis    >> {script(to, payload(carried=number, **more), text=PUSH)}
    producer << {reply}
    """


def pop(attempts: int = 0, carried: int = 1, *, queue: str = QUEUE, who: str = "worker", **more: Any) -> str:
    reply = array(payload(attempts, carried, **more), reserved(attempts + 1, carried, **more))
    return f"""
    {who} >> {script(keys("", "reserved", "notify", queue=queue), AT, text=POP)}
    {who} << {raw(reply)}
    """


def delete(attempts: int = 1, reply: str = ":1", *, queue: str = QUEUE, who: str = "worker", **more: Any) -> str:
    return f"""
    {who} >> {command("ZREM", f"{queue}:reserved", reserved(attempts, **more))}
    {who} << {reply}
    """


def release(attempts: int = 1, due: int = AT) -> str:
    return f"""
    worker >> {script(keys("delayed", "reserved"), reserved(attempts), due, text=RELEASE)}
    worker << :1
    """


def migrate(name: str, *jobs: str, who: str = "worker", batch: tuple[int, ...] = ()) -> str:
    """``name``: delayed or reserved; ``batch``: the argument that 9.52 has brought."""
    return f"""
    {who} >> {script(keys(name, "", "notify"), AT, *batch, text=MIGRATE)}
    {who} << {raw(array(*jobs))}
    """


ONE = "queue.enqueue PRODUCER default\n  queue.dequeue CLIENT default\n    job.process CONSUMER default success"
UNSAID = ONE.removesuffix(" success")
TRACED = f"""
    event enqueue queue=default ref={UUID} carry=written
    event dequeue queue=default ref={UUID} dest={QUEUE}:reserved
    event over    queue=default ref={UUID} verdict=success
"""
TRIED = """queue.enqueue PRODUCER default
  queue.dequeue CLIENT default
    job.process CONSUMER default retry !{}
  queue.enqueue CLIENT default ~{}
  queue.dequeue CLIENT default
    job.process CONSUMER default success ~{}"""
