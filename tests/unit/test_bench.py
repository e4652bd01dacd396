"""What the benchmarks rest on: that what they make up is like the real thing, and what they make of numbers."""

from __future__ import annotations

from io import StringIO
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from rich.console import Console

from proxy.context.carry import Carrier
from proxy.context.derive import Deriver
from proxy.context.sampling import Rates
from proxy.events import Connection, JobEvent, Record
from proxy.frameworks.router import Router
from proxy.relay.context import RelayContext
from proxy.relay.session import Session
from proxy.resp.commands import encode
from tests.bench import plot, report
from tests.bench.budgets import budgets
from tests.bench.cells import Cell, full, standard
from tests.bench.contenders import HAPROXY, QUEUE, SAMPLED, UNTRACED
from tests.bench.jobs import PROCESSING, Jobs, connections
from tests.bench.load import Load
from tests.bench.measure import Result, Run
from tests.bench.spread import Spread, ratio
from tests.frameworks import lists
from tests.playbook import START, CountedIds


def fields(event: JobEvent) -> dict[str, Any]:
    """All but times, ids and what is in the job."""
    found = {name: getattr(event, name) for name in event.__struct_fields__}
    return {**found, "at": 0, "done": 0, "size": 0, "value": len(event.value), "context": len(event.context)}


def test_made_up_events_are_what_a_relay_says() -> None:
    records: list[Record] = []
    context = RelayContext(
        Router((lists(queues=(QUEUE,), processing=(f"{QUEUE}:processing:*",)),)),
        Carrier(Deriver(), CountedIds()),
        Rates(lambda *_: 1.0),
        records.append,
        lambda reason, *_: pytest.fail(reason),
    )
    producer, worker = (Session(context, conn, "", "", "") for conn in (1, 2))
    made = Jobs().events(START)
    job = made[0].value
    bare = job[: job.index(b', "traceparent"')] + b"}"
    queue = QUEUE.encode()
    sent = producer.client_data(encode([b"LPUSH", queue, bare]), START)
    stored = sent[sent.index(b"{") : -2]
    producer.upstream_data(b":1\r\n", START, delivered=True)
    worker.client_data(encode([b"RPOPLPUSH", queue, PROCESSING]), START)
    worker.upstream_data(b"$%d\r\n%s\r\n" % (len(stored), stored), START, delivered=True)
    worker.client_data(encode([b"LREM", PROCESSING, b"-1", stored]), START)
    worker.upstream_data(b":1\r\n", START, delivered=True)

    seen = [fields(record) for record in records if isinstance(record, JobEvent)]
    assert [fields(event) for event in made] == seen
    announced = [record.conn for record in records if isinstance(record, Connection)]
    assert [one.conn for one in connections(START)] == announced


def test_no_two_jobs_are_alike() -> None:
    jobs = Jobs(size=1000)
    values = {jobs.events(START)[0].value for _ in range(100)}
    assert len(values) == 100
    assert {len(value) for value in values} == {1000}


def result(axis: str, depth: int, **relays: list[float]) -> Result:
    """``relays``: microseconds of each contender in each round."""
    names = {"haproxy": HAPROXY, "untraced": UNTRACED, "sampled": SAMPLED}
    rounds = [
        {names[name]: Run(spent, spent / 2, 1.0, 1000.0) for name, spent in zip(relays, costs, strict=True)}
        for costs in zip(*relays.values(), strict=True)
    ]
    cell = Cell(f"{axis}, {depth} deep", axis, "", Load(1, depth=depth), tuple(names.values()), HAPROXY, len(rounds))
    return Result(cell, rounds, {})


BASE = result("base", 1, haproxy=[10, 20, 10], untraced=[11, 30, 12], sampled=[20, 20, 30])
MANY = result("queues", 1, haproxy=[10, 10], untraced=[24, 24], sampled=[20, 20])


def test_a_ratio_is_one_of_the_same_round() -> None:
    assert ratio(BASE, UNTRACED) == Spread(1.2, 1.1, 1.5)


def test_a_budget_is_met_by_the_median() -> None:
    found = {one.what: one for one in budgets([BASE, MANY])}
    assert found["untraced command, 1 deep: x HAProxy"].met
    assert not found["traced enqueue, 1 deep: x HAProxy"].met
    growth = found[f"growth along queues, worst: , 1 deep, {UNTRACED}"]
    assert growth.found.median == 2.4 / 1.2
    assert not growth.met


def test_tables_and_picture_show_all_there_is() -> None:
    out = StringIO()
    report.print_all([BASE, MANY], Console(file=out, width=160))
    assert "1.20 [1.10, 1.50]" in out.getvalue()
    picture = plot.svg([BASE, MANY])
    ET.fromstring(picture)
    assert UNTRACED in picture


@pytest.mark.parametrize("stages", [standard, full])
def test_every_cell_has_a_name_of_its_own(stages: Any) -> None:
    names = [cell.name for stage in stages(1) for cell in stage.cells]
    assert len(set(names)) == len(names)
