"""How many Python functions the core calls for each command: what its speed hangs on, and is the same on any machine.

A number here is a limit, a little above what was counted when it was written. If a change needs more, the number says
what the change costs; if one needs much fewer, lower it.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import NamedTuple

import pytest

import proxy
from proxy.config import Frameworks, ListSettings, ScriptEntry, ScriptSettings, StreamSettings, ZsetSettings
from proxy.context.carry import Carrier
from proxy.context.derive import Deriver
from proxy.context.sampling import Rates
from proxy.events import Record
from proxy.frameworks.registry import build
from proxy.frameworks.router import Router
from proxy.relay.context import RelayContext
from proxy.relay.session import Session
from proxy.resp.commands import encode
from tests.playbook import START, CountedIds, traceparent

CHUNKS = 50
PACKAGE = str(Path(proxy.__file__).parent)


class Counted:
    """Calls of redspan's functions by their names, from ``with`` to its end."""

    def __enter__(self) -> Counter[str]:
        self._calls: Counter[str] = Counter()
        sys.setprofile(self._called)
        return self._calls

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)

    def _called(self, frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(PACKAGE):
            self._calls[frame.f_code.co_name] += 1


def session(records: list[Record]) -> Session:
    """Every framework that there is, turned on; queues ``jobs*``, processing lists ``work*``."""
    options = Frameworks(
        list=ListSettings(queues=("jobs*",), processing=("work*",)),
        stream=StreamSettings(queues=("stream*",)),
        zset=ZsetSettings(queues=("delayed*",)),
        script=ScriptSettings(inject=True, entries=(ScriptEntry(key="mine", does="enqueue", job="argument 1"),)),
    )
    context = RelayContext(
        Router(build(options)),
        Carrier(Deriver(), CountedIds()),
        Rates(lambda queue, key: 1.0),
        records.append,
        lambda reason, conn, detail: pytest.fail(f"{reason} {detail}"),
    )
    return Session(context, 1, "127.0.0.1:6380", "redis:6379", "127.0.0.1:1234")


def job(number: int) -> bytes:
    return b'{"id": "%016d", "type": "send_email", "args": ["%s"]}' % (number, (b"%d" % number) * 30)


def bulk(value: bytes) -> bytes:
    return b"$%d\r\n%s\r\n" % (len(value), value)


def traced(number: int) -> bytes:
    return job(number)[:-1] + b', "traceparent": "%s"}' % traceparent(number).encode()


class Exchange(NamedTuple):
    """A command and its reply, by number, and what they may take."""

    command: Callable[[int], list[bytes]]
    reply: Callable[[int], bytes]
    limits: tuple[int, int]
    """Calls for each command, 1 and 16 deep."""
    events: int = 0


SCRIPT = [b"EVALSHA", b"a" * 40, b"1"]
MOVE = [b"BRPOPLPUSH", b"jobs", b"work:1", b"1"]
EXCHANGES = {
    "PING": Exchange(lambda _: [b"PING"], lambda _: b"+PONG\r\n", (13, 3)),
    "SET": Exchange(lambda number: [b"SET", b"session:%d" % number, job(number)], lambda _: b"+OK\r\n", (29, 21)),
    "GET": Exchange(lambda number: [b"GET", b"session:%d" % number], lambda number: bulk(job(number)), (21, 13)),
    "LPUSH, nobody's": Exchange(lambda number: [b"LPUSH", b"feed", b"%d" % number], lambda _: b":7\r\n", (17, 8)),
    "LPUSH": Exchange(lambda number: [b"LPUSH", b"jobs", job(number)], lambda _: b":7\r\n", (60, 60), 1),
    "EVALSHA, nobody's": Exchange(lambda number: [*SCRIPT, b"lock", b"%d" % number], lambda _: b":1\r\n", (29, 21)),
    "EVALSHA": Exchange(lambda number: [*SCRIPT, b"mine", job(number)], lambda _: b":1\r\n", (80, 80), 1),
    "BRPOPLPUSH": Exchange(lambda _: MOVE, lambda number: bulk(traced(number)), (39, 40), 1),
    "BRPOPLPUSH, nothing there": Exchange(lambda _: MOVE, lambda _: b"$-1\r\n", (29, 31)),
    "LREM": Exchange(lambda number: [b"LREM", b"work:1", b"1", traced(number)], lambda _: b":1\r\n", (33, 34), 1),
}


@pytest.mark.parametrize("depth", [1, 16])
@pytest.mark.parametrize("name", EXCHANGES)
def test_a_command_takes_no_more_calls_than_it_did(name: str, depth: int) -> None:
    command, reply, limits, events = EXCHANGES[name]
    records: list[Record] = []
    one = session(records)

    def exchange(chunks: list[tuple[bytes, bytes]]) -> None:
        for request, answer in chunks:
            one.client_data(request, START)
            one.upstream_data(answer, START, delivered=True)

    chunks = []
    for first in range(0, 2 * CHUNKS * depth, depth):
        numbers = range(first, first + depth)
        chunks.append((b"".join(encode(command(number)) for number in numbers), b"".join(map(reply, numbers))))
    # What is learnt once, such as the role of a key, is not counted.
    exchange(chunks[:CHUNKS])
    seen = len(records)
    with Counted() as calls:
        exchange(chunks[CHUNKS:])
    commands = CHUNKS * depth
    assert len(records) - seen == events * commands
    assert calls.total() / commands <= limits[depth > 1], calls.most_common(12)
