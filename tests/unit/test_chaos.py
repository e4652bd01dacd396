"""Many jobs whose events are dropped, doubled and put out of order: each has one end, and nothing grows.

``REDSPAN_CHAOS_JOBS`` says how many (`.ci/run --all`: a million).
"""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Iterator

import pytest

from proxy.context.traceparent import SpanContext
from proxy.events import Carry, JobEvent, Op, Verdict
from proxy.tracer.happened import CANCELLED, COMPLETED, DEAD, ENQUEUED, FAILED, LOST, RETRIED, STARTED
from proxy.tracer.lifecycle import Lifecycle
from proxy.tracer.span import Operation
from tests.playbook import MS, START, span_id, trace_id
from tests.unit.test_lifecycle import lifecycle

JOBS = int(os.environ.get("REDSPAN_CHAOS_JOBS", "10000"))
AT_ONCE = 200
"""Jobs whose events come mixed."""
LIMIT = 5000
WORKERS = [b"work:%d" % number for number in range(16)]
FINAL = {COMPLETED, FAILED, DEAD, CANCELLED, LOST}


class Story:
    """The events of one job, in order, and how it ends."""

    def __init__(self, number: int, dice: random.Random) -> None:
        self._dice = dice
        self._id = b"%d" % number
        self._context = SpanContext(trace_id(number % 2**24), span_id(number % 2**24), 3)
        self._at = START + number * MS
        self._attempt = 0
        self.events: list[JobEvent] = []
        self.end = ""
        self._push()
        while not self.end:
            self._live()

    def _live(self) -> None:
        turn = self._dice.random()
        if turn < 0.03 and self._attempt == 0 and len(self.events) == 1:
            self._add(Op.CANCEL, b"jobs", number=1)
            self.end = CANCELLED
            return
        work = self._dice.choice(WORKERS)
        self._add(Op.DEQUEUE, b"jobs", dest=work)
        if turn < 0.75:
            self._add(Op.OUTCOME, b"done", verdict=Verdict.SUCCESS)
            self._add(Op.ACK, work, number=1)
            self.end = COMPLETED
        elif turn < 0.80:
            self._add(Op.DEAD_LETTER, b"dead", verdict=Verdict.FAILURE)
            self._add(Op.ACK, work, number=1)
            self.end = DEAD
        elif turn < 0.83:
            self._add(Op.RECLAIM, work)
            self.end = LOST
        elif turn < 0.90:
            self._add(Op.RECLAIM, work)
            self._push()
        else:
            value = self._value
            self._attempt += 1
            self._push()
            self._add(Op.ACK, work, value=value, number=1)

    @property
    def _value(self) -> bytes:
        return b'{"id":"%s","attempt":%d,"traceparent":"%s"}' % (self._id, self._attempt, self._context.header())

    def _push(self) -> None:
        carry = Carry.FOUND if self.events else Carry.WRITTEN
        self._add(Op.ENQUEUE, b"jobs", context=self._context.pack(), carry=carry, number=1)

    def _add(self, op: Op, key: bytes, **more: object) -> None:
        self._at += self._dice.randrange(1, 20) * MS
        fields = {"value": self._value, "queue": "jobs" if key == b"jobs" else "", "conn": 1, **more}
        self.events.append(
            JobEvent(op, "list", fields.pop("conn"), 0, self._at, self._at + MS, key, **fields)  # type: ignore[arg-type]
        )


def mixed(stories: Iterator[Story], dice: random.Random, told: dict[str, str]) -> Iterator[JobEvent]:
    """The events of many jobs: each job's in order, those of several in any."""
    running: list[tuple[Story, Iterator[JobEvent]]] = []
    for story in stories:
        told[story.events[0].value.split(b'"')[3].decode()] = story.end
        running.append((story, iter(story.events)))
        while len(running) >= AT_ONCE:
            yield from _step(running, dice)
    while running:
        yield from _step(running, dice)


def _step(running: list[tuple[Story, Iterator[JobEvent]]], dice: random.Random) -> Iterator[JobEvent]:
    at = dice.randrange(len(running))
    following = next(running[at][1], None)
    if following is None:
        running[at] = running[-1]
        running.pop()
    else:
        yield following


def disturbed(events: Iterator[JobEvent], dice: random.Random, life: Lifecycle, faults: float) -> Iterator[JobEvent]:
    """Some are dropped (and that is noticed), some come twice, some later than those after them."""
    held: list[JobEvent] = []
    for one in events:
        fate = dice.random()
        if fate < faults:
            life.gap(0, 1)
        elif fate < 2 * faults:
            yield one
            yield one
        elif fate < 3 * faults:
            held.append(one)
        else:
            yield one
        if held and dice.random() < 0.5:
            yield held.pop(dice.randrange(len(held)))
    yield from held


@pytest.mark.parametrize("faults", [0.0, 0.02], ids=["in order", "disturbed"])
def test_every_job_has_one_end(faults: float) -> None:
    dice = random.Random(8)
    life = lifecycle(policy={"jobs": LIMIT, "keep": 10_000 * MS})
    life.listen()
    meant: dict[str, str] = {}
    ends: dict[str, list[str]] = {}
    spans: Counter[str] = Counter()
    begun: Counter[str] = Counter()
    seen = 0

    def listen() -> None:
        for one in life.happened():
            begun[one.event] += 1
            if one.event in FINAL:
                ends.setdefault(one.job_id, []).append(one.event)

    stories = (Story(number, dice) for number in range(1, JOBS + 1))
    for one in disturbed(mixed(stories, dice, meant), dice, life, faults):
        for span in life.feed(0, one):
            assert span.start <= span.end
            spans[span.operation] += 1
        seen = max(seen, one.done)
        if not seen % 7:
            for span in life.tick(seen):
                spans[span.operation] += 1
            listen()
            assert len(life._book.jobs) <= LIMIT
            assert len(life._book.taken) + len(life._book.held) + len(life._book.handles) <= 4 * LIMIT
    for span in [*life.tick(seen + 3_600_000 * MS), *life.flush()]:
        spans[span.operation] += 1
    listen()

    assert len(life._book.jobs) == len(life._book.taken) == len(life._book.held) == 0
    assert sum(life.measures.in_flight.values()) == 0
    assert life.measures.evicted == 0
    # What has begun has one end each, or none that is known: then there is no process span either.
    processes = sum(begun[event] for event in (COMPLETED, FAILED, DEAD, RETRIED, LOST))
    assert processes <= begun[STARTED] == spans[Operation.DEQUEUE]
    assert begun[ENQUEUED] == spans[Operation.ENQUEUE]
    wrong = Counter((meant[job], *told) for job, told in ends.items() if told != [meant[job]])
    if not faults:
        assert not wrong
        assert ends.keys() == meant.keys()
        assert spans[Operation.PROCESS] == spans[Operation.DEQUEUE]
    # Nothing is lost or cancelled that was not; no job has two different ends, and a wrong one has none.
    assert {(meant[job], *told) for job, told in ends.items() if set(told) != {meant[job]}} == set()
    # An event that comes twice cannot be told from two commands that are alike.
    assert sum(wrong.values()) <= 0.005 * JOBS
