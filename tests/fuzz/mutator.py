"""Inputs for a session, from a seed: streams of commands and of replies, broken in ways that break parsers."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from proxy.resp.commands import encode

CORPUS = Path(__file__).with_name("corpus")
"""One file for each stream that once found something, or reaches a corner: ``*.commands`` and ``*.replies``."""

JOB = b'{"id": "%d", "type": "t"}'
TASK = b'{"body": "W10=", "headers": {"task": "t", "id": "%d", "retries": 0}, "properties": {"delivery_tag": "%d"}}'
MESSAGE = (
    b'{"queue_name":"q","actor_name":"a","args":[],"kwargs":{},"options":{"redis_message_id":"%d"},'
    b'"message_id":"%d","message_timestamp":1700000000000}'
)
KICKED = b'{"task_id": "%032d", "task_name": "t", "labels": {}, "args": [%d], "kwargs": {}}'
SIGNATURE = (
    b'{"UUID":"task_%d","Name":"t","RoutingKey":"any","GroupUUID":"","Args":[],"Headers":{},"RetryCount":0,'
    b'"RetryTimeout":0}'
)
WORK = b'{"name":"t","id":"%d","t":1700000000,"args":{}}'
LOCKS = b"paused lock lock_info max_concurrency".split()
HELD = b"s:jobs:t:0123456789abcdef01234567:inprogress"
ASYNQ = b"\x0a\x01t\x1a\x017\x22\x01q\x28\x03"
DISPATCH = b"EVALSHA sha 1 ns %s 1700000000000 q 020846ae-a428-4532-9c95-7d715f0e6ded 60000 1 0 1"

ADD = b"meta id completed events".split()
TAKE = b"wait active prioritized events stalled limiter delayed paused meta pc".split()
DONE = b'{"data":1,"options":{"stacktraces":["Error"]},"status":"failed","progress":0}'
SENT = b"\x94\xa7bull:q:\xa0\xa1n\x01"
"""The MessagePack that a job of BullMQ is sent with."""
PAYLOAD = b'{"uuid":"%d","displayName":"J","job":"J@call","maxTries":2,"data":{},"id":"%d","attempts":1}'
"""Of a job of Laravel."""
RUBY = (
    b'{"retry":true,"queue":"q","class":"C","args":[%d],"jid":"%d","created_at":1.5}',
    b'{"class":"C","args":[%d,%d]}',
)
"""Jobs of Sidekiq and of Resque."""
PICKLES = (
    b"\x80\x05\x8c\rhuey.registry\x94\x8c\x07Message\x94\x93\x94(\x8c\x02%d\x94\x8c\x01f\x94NK\x00K\x00NNNt\x94\x81.",
    b"\x80\x04}\x94(\x8c\x01t\x94N\x8c\x01f\x94\x8c\x01g\x94\x8c\x01a\x94)\x8c\x02et\x94\x8a\x06123456u.%d",
    b"\x80\x04}\x94(\x8c\x01f\x94\x8c\x01g\x94\x8c\x02ct\x94K\x01\x8c\x02et\x94K\x01\x8c\x01s\x94\x88u.%d",
)
"""A task of huey, a job of arq, a result of streaq."""


class Input(NamedTuple):
    commands: list[bytes]
    """Chunks as they come from the client."""
    replies: list[bytes]
    """Chunks as they come from Redis."""


class Mutator:
    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._corpus = {
            kind: [path.read_bytes() for path in sorted(CORPUS.glob(f"*.{kind}"))] for kind in ("commands", "replies")
        }

    def next(self) -> Input:
        commands = b"".join(self._command() for _ in range(self._random.randrange(1, 6)))
        replies = b"".join(self._reply() for _ in range(self._random.randrange(0, 6)))
        if self._random.random() < 0.1 and self._corpus["commands"]:
            commands = self._random.choice(self._corpus["commands"])
        if self._random.random() < 0.1 and self._corpus["replies"]:
            replies = self._random.choice(self._corpus["replies"])
        for _ in range(self._random.choice((0, 0, 1, 1, 2, 4))):
            commands = self._mutate(commands)
        for _ in range(self._random.choice((0, 0, 1, 2))):
            replies = self._mutate(replies)
        return Input(self._cut(commands), self._cut(replies))

    def _number(self) -> int:
        return self._random.choice((0, 1, 2, 7, 10, 99, 4096))

    def _command(self) -> bytes:
        pick, number = self._random.choice, self._number()
        pickled, payload = pick(PICKLES) % number, pick((PAYLOAD % (number, number), b"{}", b"x" * number))
        job = pick((JOB % number, TASK % (number, number), b"{}", b"[]", b"x" * number, b'{"traceparent": "x"}'))
        return pick(
            (
                lambda: encode([pick((b"LPUSH", b"rpush", b"LPUSHX")), pick((b"jobs", b"other")), job]),
                lambda: encode([b"LPUSH", b"jobs", *[job] * pick((1, 2, 3))]),
                lambda: encode([b"BRPOPLPUSH", b"jobs", b"work", b"1"]),
                lambda: encode([b"LREM", b"work", b"1", job]),
                lambda: encode([b"BRPOP", b"any", b"1"]),
                lambda: encode([b"XADD", b"stream", b"*", b"f", job]),
                lambda: encode([b"XREADGROUP", b"GROUP", b"g", b"c", b"STREAMS", b"stream", b">"]),
                lambda: encode([b"HSET", b"rq:job:%d" % number, b"created_at", b"1", b"data", job]),
                lambda: encode([b"HGETALL", b"rq:job:1"]),
                lambda: encode([*(DISPATCH % b"enqueue").split(), b"%d" % number, MESSAGE % (number, number)]),
                lambda: encode([*(DISPATCH % pick((b"fetch", b"ack", b"nack", b"requeue"))).split(), b"%d" % number]),
                lambda: encode([b"LPUSH", b"any", KICKED % (number, number)]),
                lambda: encode([b"XADD", b"kicked", b"*", b"data", KICKED % (number, number)]),
                lambda: encode([b"XREADGROUP", b"GROUP", b"g", b"c", b"STREAMS", b"kicked", b">"]),
                lambda: encode([pick((b"XACK", b"XAUTOCLAIM")), b"kicked", b"g", b"1-1", b"0", b"0-0"]),
                lambda: encode([b"SET", b"%032d" % number, pick((b"v", b'{"is_err": true, "log": 1}'))]),
                lambda: self._script(ADD, pick((SENT, job)), job, pick((b"\x80", b"\x81\xa1a\x01", job))),
                lambda: self._script(TAKE, b"bull:q:", b"1", pick((b"\x81\xa5token\xa1t", job))),
                lambda: self._script([b"1:lock", b"stalled"], *[b"1"] * number),
                lambda: encode(
                    pick(
                        (
                            [b"LPUSH", b"huey.redis.a", pickled],
                            [b"ZADD", b"huey.schedule.a", b"1", pickled],
                            [b"HSET", b"huey.results.a", b"10", pickled],
                            [b"PSETEX", b"arq:job:10", b"9", pickled],
                            [b"SET", b"arq:result:10", pickled],
                            [
                                b"FCALL",
                                b"publish_task",
                                b"6",
                                *[b"streaq:q:queues:n"] * 6,
                                b"10",
                                pickled,
                                b"0",
                                b"0",
                                b"1",
                            ],
                            [b"PUBLISH", b"streaq:q:channels:10", pickled],
                        )
                    )
                ),
                lambda: encode(
                    pick(
                        (
                            [b"BRPOP", b"huey.redis.a", b"1"],
                            [b"BZPOPMIN", b"huey.redis.a", b"1"],
                            [b"HMGET", b"huey.results.a", b"r:10", b"rt:f"],
                            [b"EVALSHA", b"sha", b"1", b"huey.schedule.a", b"1"],
                            [b"GET", b"arq:job:10"],
                            [b"ZSCORE", b"arq:queue", b"10"],
                            [b"FCALL", b"read_streams", b"1", b"streaq:q:queues:", b"g", b"w", b"1", b"1", b"n"],
                            [b"INCR", b"streaq:q:task:retry:10"],
                        )
                    )
                ),
                lambda: self._own([b"mine"], pick((b"add", b"%d" % number)), *[job] * pick((0, 1, 2))),
                lambda: self._own([b"mine", b"work"], *[job] * pick((0, 1))),
                lambda: self._script([b"", b":notify"], payload, base=b"queues:q"),
                lambda: self._script([b":delayed"], b"1", payload, base=b"queues:q"),
                lambda: self._script([b"", b":reserved", b":notify"], b"1", base=b"queues:q"),
                lambda: self._script([b":delayed", b":reserved"], payload, b"1", base=b"queues:q"),
                lambda: self._script([b":reserved", b"", b":notify"], b"1", base=b"queues:q"),
                lambda: encode([b"ZADD", b"queues:q:delayed", b"1", payload]),
                lambda: encode([b"ZREM", b"queues:q:reserved", payload]),
                lambda: encode([b"HMSET", b"horizon:%036d" % number, b"status", b"failed"]),
                lambda: encode(self._ruby(pick(RUBY) % (number, number))),
                lambda: encode([b"HGET", b"bq:q:jobs", b"1"]),
                lambda: encode([b"RPUSH", b"any", SIGNATURE % number]),
                lambda: encode([b"BLPOP", b"any", b"1"]),
                lambda: encode(
                    [*pick(((b"ZADD", b"delayed_tasks", b"7"), (b"ZREM", b"delayed_tasks"))), SIGNATURE % number]
                ),
                lambda: encode([b"SET", b"task_%032d" % number, b'{"TaskUUID":"x","State":"SUCCESS"}']),
                lambda: encode(
                    [
                        *pick(((b"LPUSH", b"s:jobs:t"), (b"ZADD", b"s:retry", b"7"), (b"LREM", HELD, b"1"))),
                        WORK % number,
                    ]
                ),
                lambda: encode(
                    [b"EVALSHA", b"sha", b"6", b"s:jobs:t", HELD, *(b"s:jobs:t:" + word for word in LOCKS), b"p"]
                ),
                lambda: encode(
                    [b"EVALSHA", b"sha", b"2", b"asynq:{q}:t:7", b"asynq:{q}:pending", pick((ASYNQ, job)), b"7", b"1"]
                ),
                lambda: encode([b"HSET", b"bq:q:jobs", b"1", pick((DONE, job))]),
                lambda: encode([b"HELLO", pick((b"2", b"3"))]),
                lambda: encode([pick((b"MULTI", b"EXEC", b"DISCARD", b"RESET", b"QUIT"))]),
                lambda: encode([pick((b"SUBSCRIBE", b"UNSUBSCRIBE", b"PSUBSCRIBE")), b"a", b"b"]),
                lambda: encode([b"CLIENT", b"REPLY", pick((b"ON", b"OFF", b"SKIP"))]),
                lambda: encode([b"SET", b"k", b"v" * number]),
                lambda: pick((b"PING\r\n", b"LPUSH jobs {}\r\n", b"\r\n", b'SET a "b c"\r\n', b"*0\r\n", b"*-1\r\n")),
                lambda: b"*%d\r\n$%d\r\n" % (pick((-1, 0, 1, 3, 1 << 20, 1 << 31)), pick((-1, 0, 4, 1 << 29))),
            )
        )()

    def _ruby(self, job: bytes) -> list[bytes]:
        work = b'{"queue":"q","run_at":"1","payload":%s}' % job
        failed = b'{"payload":%s,"exception":"E","worker":"h:1:q","queue":"q","failed_at":"1"}' % job
        return self._random.choice(
            (
                [self._random.choice((b"LPUSH", b"RPUSH")), b"resque:queue:q", *[job] * self._random.choice((0, 1, 2))],
                [b"ZADD", self._random.choice((b"schedule", b"ns:retry", b"dead")), b"1700000000.5", job, b"2", job],
                [b"ZADD", b"retry", b"x", job],
                [b"BRPOP", b"queue:q", b"2"],
                [b"LPOP", b"queue:q"],
                [b"EVALSHA", b"sha", b"1", b"schedule", b"1700000000.5"],
                [b"LMOVE", b"queue:q", b"queue:sq|h:1:0|q", b"RIGHT", b"LEFT"],
                [b"RPOP", b"working:queue:q:h:1:0a"],
                [b"LREM", self._random.choice((b"queue:sq|h:1:0|q", b"queue:q")), b"1", job],
                [b"LPUSH", b"working:queue:q:h:1:0a", job],
                [b"HSET", b"h:1:0123456789ab:work", b"t", b'{"payload":"{}"}'],
                [b"HSET", b"h:1:0123456789ab", b"busy", b"1"],
                [b"SREM", b"processes", b"h:1:0123456789ab"],
                [b"SET", b"resque:worker:h:1:q", work],
                [b"DEL", b"resque:worker:h:1:q"],
                [b"RPUSH", b"resque:failed", failed],
            )
        )

    def _script(self, words: Sequence[bytes], *args: bytes, base: bytes = b"bull:q:") -> bytes:
        keys = [base + word for word in words]
        count = self._random.choice((len(keys), len(keys), len(keys) + 1, 0))
        return encode([self._random.choice((b"EVAL", b"evalsha")), b"text", b"%d" % count, *keys, *args])

    def _own(self, keys: Sequence[bytes], *args: bytes) -> bytes:
        called = self._random.choice((b"EVAL", b"evalsha", b"FCALL"))
        return encode([called, b"text", b"%d" % len(keys), *keys, *args])

    def _reply(self, depth: int = 0) -> bytes:
        pick, number = self._random.choice, self._number()
        job = pick(
            (
                JOB % number,
                TASK % (number, number),
                MESSAGE % (number, number),
                KICKED % (number, number),
                PAYLOAD % (number, number),
                SIGNATURE % number,
                WORK % number,
                ASYNQ,
                pick(PICKLES) % number,
                pick(RUBY) % (number, number),
                b"x" * number,
            )
        )
        if depth < 3 and self._random.random() < 0.4:
            inner = [self._reply(depth + 1) for _ in range(self._random.randrange(0, 4))]
            kind = pick((b"*", b"~", b">", b"%", b"|"))
            count = len(inner) // 2 if kind in b"%|" else len(inner)
            return b"%s%d\r\n" % (kind, count) + b"".join(inner[: count * (2 if kind in b"%|" else 1)])
        return pick(
            (
                b"+OK\r\n",
                b"+QUEUED\r\n",
                b":1\r\n",
                b":-1\r\n",
                b"-ERR no\r\n",
                b"-NOSCRIPT no\r\n",
                b"$-1\r\n",
                b"*-1\r\n",
                b"_\r\n",
                b"#t\r\n",
                b",1.5\r\n",
                b"(123456789012345678901234567890\r\n",
                b"!5\r\nERR x\r\n",
                b"*2\r\n%s%s" % (2 * (b"$%d\r\n%s\r\n" % (len(job), job),)),
                b"*4\r\n*2\r\n$4\r\nopts\r\n$2\r\n{}\r\n$1\r\n1\r\n:0\r\n:0\r\n",
                b"=7\r\ntxt:abc\r\n",
                b"$?\r\n;3\r\nabc\r\n;0\r\n",
                b"*?\r\n:1\r\n.\r\n",
                b"$%d\r\n%s\r\n" % (len(job), job),
            )
        )

    def _mutate(self, data: bytes) -> bytes:
        at = self._random.randrange(len(data) + 1)
        more = self._random.choice(
            (b"\r\n", b"$", b"*", b"-1", b"99999999999999999999", b"\0", b"\xff", b"$-1\r\n", b"*1\r\n", b" ", b'"')
        )
        return self._random.choice(
            (
                lambda: data[:at] + more + data[at:],
                lambda: data[:at] + data[at + self._random.randrange(1, 4) :],
                lambda: data[:at] + bytes([self._random.randrange(256)]) + data[at + 1 :],
                lambda: data[:at],
                lambda: data[:at] + data[max(0, at - 20) : at] + data[at:],
                lambda: data + data,
            )
        )()

    def _cut(self, data: bytes) -> list[bytes]:
        cuts = sorted(self._random.randrange(len(data) + 1) for _ in range(self._random.choice((0, 0, 1, 2, 8))))
        return [data[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(data)], strict=True) if end > begin]


def plain(sent: Sequence[bytes], member: bytes) -> bytes:
    """What reached Redis, without the contexts that were written: their members and the lengths they had changed."""
    out = b"".join(sent)
    while (at := out.find(member)) >= 0:
        begin = out.rfind(b'"traceparent"', 0, at)
        begin = len(out[:begin].rstrip(b" ,"))
        end = out.index(b'"', at) + 1
        header = out.rfind(b"$", 0, begin)
        while True:
            line = out.find(b"\r\n", header)
            length = out[header + 1 : line]
            if length.isdigit() and line + 2 + int(length) > at:
                break
            header = out.rfind(b"$", 0, header)
        shorter = int(length) - (end - begin)
        out = b"%s$%d%s%s" % (out[:header], shorter, out[line:begin], out[end:])
    return out
