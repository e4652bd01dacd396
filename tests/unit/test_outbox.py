"""The outbox: what is sent, what is dropped, and that the receiver can tell."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from msgspec import structs

from proxy.events import BATCH_LIMIT, Batch, Connection, Hello, JobEvent, Op, Record, Snapshot, decode
from proxy.relay import outbox as module
from proxy.relay.outbox import Outbox

COUNTERS: list[tuple[str, tuple[str, ...], int]] = [("redspan_commands_total", (), 7)]


def event(number: int = 0, value: bytes = b"{}", key: bytes = b"jobs") -> JobEvent:
    return JobEvent(Op.ENQUEUE, "list", number, 0, 1, 2, key, "jobs", value=value)


def make() -> Outbox:
    return Outbox(3, lambda: 1234, lambda: ({"redspan_connections": 2}, COUNTERS))


@contextmanager
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    theirs.settimeout(10.0)
    with ours, theirs:
        yield ours, theirs


def run(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(scenario())


async def received(sock: socket.socket, count: int) -> list[tuple[int, Record]]:
    """So many records with their numbers, without those that come by themselves."""
    sock.setblocking(False)
    records: list[tuple[int, Record]] = []
    for _ in range(2000):
        try:
            datagram = sock.recv(BATCH_LIMIT + 1)
        except BlockingIOError:
            await asyncio.sleep(0.005)
            continue
        assert len(datagram) <= BATCH_LIMIT
        batch = decode(datagram)
        assert batch.worker == 3
        records += [
            (batch.first + index, record)
            for index, record in enumerate(batch.records)
            if not isinstance(record, Hello | Snapshot)
        ]
        if len(records) >= count:
            return records
    raise AssertionError(f"{len(records)} of {count} records")


def read_one(sock: socket.socket) -> Batch:
    return decode(sock.recv(BATCH_LIMIT + 1))


def test_greets_and_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SNAPSHOT_EVERY", 0.05)

    async def scenario() -> None:
        with pair() as (ours, theirs):
            outbox = make()
            outbox.attach(ours)
            await asyncio.sleep(0.2)
            batch = read_one(theirs)
            assert batch.first == 0
            hello, snapshot = batch.records
            assert isinstance(hello, Hello)
            assert (hello.worker, hello.boot) == (3, 1234)
            assert isinstance(snapshot, Snapshot)
            assert snapshot.gauges == {"redspan_connections": 2}
            assert snapshot.counters == COUNTERS
            assert isinstance(read_one(theirs).records[0], Snapshot)  # the next, after a while
            outbox.detach()

    run(scenario)


def test_in_order_and_whole() -> None:
    async def scenario() -> None:
        with pair() as (ours, theirs):
            outbox = make()
            outbox.attach(ours)
            for number in range(5000):
                outbox.emit(event(number, b"x" * (number % 4097)))
            records = await received(theirs, 5000)
            assert [record.conn for _, record in records if isinstance(record, JobEvent)] == list(range(5000))
            assert outbox.waiting == 0
            assert not any(outbox.dropped.values())
            outbox.detach()

    run(scenario)


def test_no_tracer() -> None:
    async def scenario() -> None:
        outbox = make()
        for _ in range(3):
            outbox.emit(event())
        assert outbox.dropped["no_tracer"] == 3
        with pair() as (ours, theirs):
            outbox.attach(ours)
            await asyncio.sleep(0.05)
            assert read_one(theirs).first == 3, "the numbers go on"
            outbox.detach()

    run(scenario)


def test_full_drops_the_newest_and_leaves_a_gap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RECORDS_LIMIT", 10)

    async def scenario() -> None:
        with pair() as (ours, theirs):
            outbox = make()
            outbox.attach(ours)  # two records of its own
            for number in range(12):
                outbox.emit(event(number))
            assert outbox.dropped["ring_full"] == 4
            first = await received(theirs, 8)
            outbox.emit(event(99))
            later = await received(theirs, 1)
            assert [number for number, _ in first] == list(range(2, 10))
            assert later[0][0] == 14, "four numbers are missing"
            outbox.detach()

    run(scenario)


def test_bytes_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BYTES_LIMIT", 100_000)

    async def scenario() -> None:
        with pair() as (ours, theirs):
            outbox = make()
            outbox.attach(ours)
            for number in range(1000):
                outbox.emit(event(number, key=b"k" * 4000))
            assert 15 < outbox.waiting < 30
            kept = outbox.waiting - 2
            assert len(await received(theirs, kept)) == kept
            outbox.emit(event(1))
            assert len(await received(theirs, 1)) == 1, "room again"
            outbox.detach()

    run(scenario)


def test_tracer_that_does_not_read() -> None:
    """What the socket does not take stays, and goes out when it does."""

    async def scenario() -> None:
        with pair() as (ours, theirs):
            outbox = make()
            outbox.attach(ours)
            for number in range(3000):
                outbox.emit(event(number, b"x" * 1000))
            await asyncio.sleep(0.2)
            assert outbox.waiting > 1000
            records = await received(theirs, 3000)
            assert [record.conn for _, record in records if isinstance(record, JobEvent)] == list(range(3000))
            outbox.detach()

    run(scenario)


def test_broken_channel() -> None:
    async def scenario() -> None:
        with pair() as (ours, theirs):
            outbox = make()
            outbox.attach(ours)
            await asyncio.sleep(0.05)
            theirs.close()
            for number in range(10):
                outbox.emit(event(number))
            await asyncio.sleep(0.05)
            assert outbox.dropped["channel_broken"] == 10
            outbox.emit(event())
            assert outbox.dropped["no_tracer"] == 1

    run(scenario)


def test_detach_drops_what_waits() -> None:
    async def scenario() -> None:
        with pair() as (ours, _):
            outbox = make()
            outbox.attach(ours)
            outbox.emit(event())
            outbox.detach()
            outbox.detach()
            assert outbox.dropped["channel_broken"] == 3
            assert outbox.waiting == 0

    run(scenario)


def test_long_keys_are_split_and_monstrous_ones_dropped() -> None:
    """A key can be longer than a datagram may be."""

    async def scenario() -> None:
        with pair() as (ours, theirs):
            outbox = make()
            outbox.attach(ours)
            big = Connection(3, 1, 1, True, "l" * 40_000, "u", "c")
            for record in (big, big, big, event(1), event(2, key=b"k" * 100_000), event(3)):
                outbox.emit(record)
            numbers = [number for number, _ in await received(theirs, 5)]
            assert numbers == [2, 3, 4, 5, 7]
            assert outbox.dropped["too_large"] == 1
            outbox.detach()

    run(scenario)


@pytest.mark.parametrize("more", [{"number": 1 << 64}, {"worker": "\ud800"}])
def test_what_cannot_be_encoded_takes_nothing_else_with_it(more: dict[str, Any]) -> None:
    """BullMQ's scripts name times of twenty digits, if their callers do."""

    async def scenario() -> None:
        with pair() as (ours, theirs):
            outbox = make()
            outbox.attach(ours)
            for record in (event(1), structs.replace(event(2), **more), event(3)):
                outbox.emit(record)
            assert [number for number, _ in await received(theirs, 2)] == [2, 4]
            assert outbox.dropped["too_large"] == 1
            outbox.detach()

    run(scenario)


def test_flush() -> None:
    async def scenario() -> None:
        outbox = make()
        assert not await outbox.flush(0.1), "there is nobody"
        with pair() as (ours, theirs):
            outbox.attach(ours)
            outbox.emit(event(1))
            assert await outbox.flush(10.0)
            records = [record for record in read_one(theirs).records if not isinstance(record, Hello)]
            assert [type(record) for record in records] == [Snapshot, JobEvent, Snapshot]
            for number in range(3000):
                outbox.emit(event(number, b"x" * 1000))
            assert not await outbox.flush(0.1), "nobody reads"
            outbox.detach()

    run(scenario)
