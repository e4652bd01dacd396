"""Records of several workers, in order."""

from __future__ import annotations

import pytest

from proxy.events import Connection, JobEvent, Op
from proxy.tracer import merge as module
from proxy.tracer.merge import WINDOW, Merge


def event(done: int) -> JobEvent:
    return JobEvent(Op.ACK, "list", 1, 0, 1, done, b"jobs", "jobs")


def test_by_time_once_the_window_is_over() -> None:
    merge = Merge()
    later, earlier, connection = event(30), event(20), Connection(2, 1, 10, True, "", "", "")
    merge.add(1, later, 31)
    merge.add(2, connection, 31)
    merge.add(2, earlier, 31)
    merge.add(1, None, 31)
    assert list(merge.due(WINDOW + 9)) == []
    assert list(merge.due(WINDOW + 20)) == [(2, connection), (2, earlier)]
    assert list(merge.due(WINDOW + 31)) == [(1, later), (1, None)]


def test_same_time_in_the_order_of_coming() -> None:
    merge = Merge()
    events = [event(5) for _ in range(10)]
    for one in events:
        merge.add(1, one, 5)
    assert [record for _, record in merge.rest()] == events
    assert list(merge.rest()) == []


def test_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LIMIT", 3)
    merge = Merge()
    for number in range(5):
        merge.add(1, event(number), 0)
    assert len(list(merge.due(0))) == 2
