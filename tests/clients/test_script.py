"""A queue of Lua scripts, as redis-py registers them, and of functions, on a real Redis through the sidecar."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from itertools import pairwise
from typing import Any

import pytest
import redis

from tests.clients.traces import (
    assert_intervals,
    assert_one_trace_a_job,
    assert_parents_are_exported,
    by_trace,
    processes,
)
from tests.conftest import StartSidecar
from tests.receiver import Receiver
from tests.sidecar import Sidecar

ADD = """
for at = 2, #ARGV do redis.call('LPUSH', KEYS[1], ARGV[at]) end
return #ARGV - 1
"""
TAKE = "return redis.call('RPOPLPUSH', KEYS[1], KEYS[2])"
DONE = """
local gone = redis.call('LREM', KEYS[1], 1, ARGV[2])
if ARGV[1] == 'retry' then redis.call('LPUSH', KEYS[2], ARGV[2]) end
if ARGV[1] == 'dead' then redis.call('LPUSH', KEYS[3], ARGV[2]) end
return gone
"""
ENDS = {"ok": "success", "failed": "failure", "retry": "retry", "dead": "dead_letter"}
ENTRIES: list[dict[str, Any]] = [
    {"keys": 1, "key": "mails", "does": "enqueue", "first_argument": "add", "job": "arguments 2"},
    {"keys": 2, "key": "mails", "does": "dequeue", "job": "reply", "held": 2},
    *(
        {"keys": 3, "key": "mails", "key_position": 2, "queue": 2, "held": 1, "if_reply": True}
        | {"does": does, "first_argument": how, "job": "argument 2"}
        for how, does in ENDS.items()
    ),
]
LIBRARY = """#!lua name=shop
redis.register_function('shop_add', function(keys, args)
  redis.call('HSET', keys[2], args[1], args[2])
  return redis.call('LPUSH', keys[1], args[1])
end)
redis.register_function('shop_take', function(keys, args)
  local id = redis.call('RPOP', keys[1])
  if not id then return nil end
  return {id, redis.call('HGET', keys[2], id)}
end)
redis.register_function('shop_done', function(keys, args) return redis.call('HDEL', keys[2], args[1]) end)
"""
SHOP: list[dict[str, Any]] = [
    {"keys": 2, "key": "shop", "name": "shop_add", "does": "enqueue", "id": "argument 1", "job": "argument 2"},
    {"keys": 2, "key": "shop", "name": "shop_take", "does": "dequeue", "id": "reply 1", "job": "reply 2"},
    {"keys": 2, "key": "shop", "name": "shop_done", "does": "success", "id": "argument 1", "if_reply": True},
]
PROTOCOLS = pytest.mark.parametrize("protocol", [2, 3], ids=["RESP2", "RESP3"])


def started(start_sidecar: StartSidecar, receiver: Receiver, entries: list[dict[str, Any]], **script: Any) -> Sidecar:
    return start_sidecar(
        {
            "frameworks": {"script": {"entries": entries, **script}},
            "tracing": {"protocol": "http/protobuf", "endpoint": receiver.url, "export": {"interval": "100ms"}},
        }
    )


def job(number: int) -> str:
    return json.dumps({"id": number, "type": "mail", "to": "somebody"})


def work(client: redis.Redis, *ends: str) -> list[bytes]:
    """Take one job for each of ``ends``, which says what becomes of it; the jobs, as they were received."""
    take, done = client.register_script(TAKE), client.register_script(DONE)
    taken = []
    for how in ends:
        received = take(keys=["mails", "busy"])
        taken.append(received)
        assert done(keys=["busy", "mails", "mails:dead"], args=[how, received]) == 1
    assert take(keys=["mails", "busy"]) is None
    return taken


@PROTOCOLS
@pytest.mark.parametrize("inject", [True, False])
def test_every_job_is_one_trace(protocol: int, inject: bool, start_sidecar: StartSidecar, receiver: Receiver) -> None:
    sidecar = started(start_sidecar, receiver, ENTRIES, inject=inject)
    with redis.Redis.from_url(sidecar.url, protocol=protocol) as client:
        add = client.register_script(ADD)
        for number in range(5):
            assert add(keys=["mails"], args=["add", job(number)]) == 1
        with client.pipeline(transaction=True) as pipe:
            add(keys=["mails"], args=["add", job(5), job(6), job(7)], client=pipe)
            assert pipe.execute() == [3]
        taken = work(client, *["ok"] * 8)
        assert client.llen("mails") == client.llen("busy") == 0
    spans = receiver.wait_for(lambda spans: len(spans) >= 24)
    assert_one_trace_a_job(spans, 8)
    assert_parents_are_exported(spans)
    assert {span.attributes["queue.name"] for span in spans} == {"mails"}
    assert {span.attributes["job.type"] for span in spans if span.name == "job.process"} == {"mail"}
    assert [json.loads(one)["id"] for one in taken] == list(range(8))
    carried = {json.loads(one).get("traceparent", "--").split("-")[1] for one in taken}
    assert carried == ({span.trace_id for span in spans} if inject else {""})
    assert inject or taken == [job(number).encode() for number in range(8)]
    assert sidecar.metric("redspan_blind_total") == 0
    assert "somebody" not in str(spans)


@PROTOCOLS
def test_retries_and_dead_letters(protocol: int, start_sidecar: StartSidecar, receiver: Receiver) -> None:
    sidecar = started(start_sidecar, receiver, ENTRIES, inject=True)
    with redis.Redis.from_url(sidecar.url, protocol=protocol) as client:
        client.register_script(ADD)(keys=["mails"], args=["add", job(1)])
        first, second, third = work(client, "retry", "retry", "dead")
        assert first == second == third == client.lindex("mails:dead", 0)
    spans = receiver.wait_for(lambda spans: len(spans) >= 7)
    assert len(by_trace(spans)) == 1
    assert_parents_are_exported(spans)
    ran = processes(spans)
    assert [span.attributes["error.type"] for span in ran] == ["retry", "retry", "dead_letter"]
    for before, after in pairwise(ran):
        assert before.span_id in [link.span_id for link in after.links]


DOOMED = """
import redis, sys, time
redis.Redis.from_url(sys.argv[1]).eval(sys.argv[2], 2, "mails", "busy")
print("took", flush=True)
time.sleep(600)
"""


def test_what_a_killed_worker_had_is_put_back_and_runs_again_in_its_trace(
    start_sidecar: StartSidecar, receiver: Receiver
) -> None:
    sidecar = started(start_sidecar, receiver, ENTRIES, inject=True)
    with redis.Redis.from_url(sidecar.url) as client:
        client.register_script(ADD)(keys=["mails"], args=["add", job(1)])
        command = [sys.executable, "-c", DOOMED, sidecar.url, TAKE]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as doomed:
            assert doomed.stdout is not None
            assert doomed.stdout.readline() == "took\n"
            doomed.kill()
        (held,) = client.lrange("busy", 0, -1)
        assert client.register_script(DONE)(keys=["busy", "mails", "mails:dead"], args=["retry", held]) == 1
        assert work(client, "ok") == [held]
    spans = receiver.wait_for(lambda spans: len(processes(spans)) >= 2)
    assert len(by_trace(spans)) == 1
    assert_parents_are_exported(spans)
    lost, done = processes(spans)
    assert [lost.attributes["error.type"], done.attributes["job.status"]] == ["retry", "success"]
    assert [link.span_id for link in done.links] == [lost.span_id]


def test_the_process_span_is_what_ran(start_sidecar: StartSidecar, receiver: Receiver) -> None:
    sidecar = started(start_sidecar, receiver, ENTRIES, inject=True)
    ran = []
    with redis.Redis.from_url(sidecar.url) as client:
        add, take, done = (client.register_script(script) for script in (ADD, TAKE, DONE))
        add(keys=["mails"], args=["add", *map(job, range(20))])
        for number in range(20):
            received = take(keys=["mails", "busy"])
            begun = time.time_ns()
            assert json.loads(received)["id"] == number
            ran.append((str(number), (begun, time.time_ns())))
            assert done(keys=["busy", "mails", "mails:dead"], args=["ok", received]) == 1
    assert_intervals(receiver.wait_for(lambda spans: len(processes(spans)) >= 20), ran)


def test_a_plain_worker_goes_on_in_the_trace(start_sidecar: StartSidecar, receiver: Receiver) -> None:
    """A script enqueues, and BRPOPLPUSH and LREM do the rest."""
    sidecar = start_sidecar(
        {
            "frameworks": {
                "script": {"entries": ENTRIES, "inject": True},
                "list": {"queues": ["mails"], "processing": ["busy"]},
            },
            "tracing": {"protocol": "http/protobuf", "endpoint": receiver.url, "export": {"interval": "100ms"}},
        }
    )
    with redis.Redis.from_url(sidecar.url) as client:
        client.register_script(ADD)(keys=["mails"], args=["add", job(1)])
        received = client.brpoplpush("mails", "busy", 5)
        assert received is not None
        assert client.lrem("busy", 1, received) == 1
    assert_one_trace_a_job(receiver.wait_for(lambda spans: len(spans) >= 3), 1)


@pytest.mark.tools
@PROTOCOLS
def test_functions_and_ids(protocol: int, start_sidecar: StartSidecar, receiver: Receiver, direct: redis.Redis) -> None:
    """The queue has ids, the jobs are in a hash."""
    direct.function_load(LIBRARY, replace=True)
    sidecar = started(start_sidecar, receiver, SHOP, inject=True)
    with redis.Redis.from_url(sidecar.url, protocol=protocol) as client:
        for number in range(3):
            client.fcall("shop_add", 2, "shop", "shop:jobs", f"j-{number}", json.dumps({"type": "order"}))
        for number in range(3):
            job_id, received = client.fcall("shop_take", 2, "shop", "shop:jobs")
            assert job_id == b"j-%d" % number
            assert json.loads(received).keys() == {"type", "traceparent"}
            assert client.fcall("shop_done", 2, "shop", "shop:jobs", job_id) == 1
        assert client.fcall("shop_take", 2, "shop", "shop:jobs") is None
    spans = receiver.wait_for(lambda spans: len(spans) >= 9)
    assert_one_trace_a_job(spans, 3)
    assert {span.attributes["messaging.message.id"] for span in spans} == {"j-0", "j-1", "j-2"}
    direct.function_delete("shop")


def test_scripts_that_nobody_named_make_nothing(start_sidecar: StartSidecar, receiver: Receiver) -> None:
    sidecar = started(start_sidecar, receiver, ENTRIES, inject=True)
    with redis.Redis.from_url(sidecar.url) as client:
        add = client.register_script(ADD)
        add(keys=["others"], args=["add", job(1)])
        add(keys=["mails"], args=["put", job(2)])
        add(keys=["mails", "others"], args=["add"])
        assert client.lrange("others", 0, -1) == [job(1).encode()]
        assert client.lrange("mails", 0, -1) == [job(2).encode()]
        sidecar.wait_for(lambda: sidecar.metric("redspan_commands_total") >= 5, "no commands")
    assert sidecar.metric("redspan_jobs_total") <= 0
    assert receiver.spans == []
