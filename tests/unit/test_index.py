"""The index: what it says of jobs while they live, how it is asked, and that it stays small."""

from __future__ import annotations

from proxy.events import Carry, JobEvent, Op, Verdict
from proxy.tracer.entry import Entry, Wanted
from proxy.tracer.index import SPANS_LIMIT, Index
from proxy.tracer.lifecycle import Lifecycle
from tests.playbook import MS, START, trace_id, traceparent
from tests.unit.test_lifecycle import ack, dequeue, enqueue, event, lifecycle, run


def indexed(jobs: int = 100, size: int = 2**24, **options: object) -> Lifecycle:
    return lifecycle(policy={"indexed": jobs, "indexed_bytes": size}, **options)


def job(number: int, **more: str) -> bytes:
    members = "".join(f',"{name}":"{value}"' for name, value in more.items())
    return f'{{"id":"{number}"{members},"traceparent":"{traceparent(number)}"}}'.encode()


def only(index: Index) -> Entry:
    (entry,) = index.all()
    return entry


def submit(number: int, at: int, **more: str) -> JobEvent:
    return event(Op.ENQUEUE, at, value=job(number, **more), carry=Carry.FOUND, context=_context(number), number=1)


def _context(number: int) -> bytes:
    return trace_id(number) + b"\xbb" * 5 + number.to_bytes(3) + b"\x03"


def test_a_job_goes_through_its_states() -> None:
    life = indexed()
    seen = []
    for one in (enqueue(0), dequeue(40, worker="w1"), event(Op.OUTCOME, 90, verdict=Verdict.SUCCESS), ack(100)):
        run(life, one)
        seen.append(only(life.index).status)
    assert seen == ["enqueued", "running", "running", "succeeded"]
    entry = only(life.index)
    assert [span.operation.value for span in entry.spans] == ["queue.enqueue", "queue.dequeue", "job.process"]
    assert (entry.id, entry.queue, entry.attempt, entry.worker) == ("1", "jobs", 1, "w1")
    assert entry.trace_id == trace_id(1)
    assert (entry.wait_ms, entry.process_ms) == (40.0, 60.0)
    assert entry.enqueued_at == START + MS


def test_a_consumer_heard_of_first_joins_the_trace() -> None:
    life = indexed()
    value = b'{"id":"1"}'
    run(life, dequeue(5, value=value), enqueue(4, value=value, carry=Carry.NONE))
    entry = only(life.index)
    assert life.index.by_trace(entry.trace_id) == [entry]
    assert len({span.trace_id for span in entry.spans}) == 1
    stale = [trace for trace in entry.traces if trace != entry.trace_id]
    assert [life.index.by_trace(trace) for trace in stale] == [[] for _ in stale]


def test_found_by_each_of_its_ids() -> None:
    life = indexed(correlation_id="order")
    run(life, *(submit(number, number, order=f"o{number % 2}") for number in range(1, 7)))
    index = life.index
    found = index.by_id("3")
    assert found is not None
    assert found.id == "3"
    assert index.by_id("7") is None
    assert [one.id for one in index.by_trace(trace_id(4))] == ["4"]
    assert [one.id for one in index.find(Wanted(correlation_id="o1"), 10)[0]] == ["5", "3", "1"]
    assert [one.id for one in index.find(Wanted(trace_id=trace_id(2)), 10)[0]] == ["2"]


def test_the_same_id_again_is_the_latest_one() -> None:
    life = indexed(completed=["done"])
    for at in (0, 1000):
        run(life, enqueue(at), dequeue(at + 1), event(Op.OUTCOME, at + 2, verdict=Verdict.SUCCESS), ack(at + 3))
    assert len(life.index) == 2
    newest = life.index.by_id("1")
    assert newest is not None
    assert newest.first == START + 1000 * MS


def test_filters() -> None:
    life = indexed(type="kind")
    run(life, submit(1, 1, kind="mail"), submit(2, 2, kind="bill"), submit(3, 3, kind="mail"))
    run(life, dequeue(500, value=job(2, kind="bill"), worker="w"))

    def ids(**wanted: object) -> list[str]:
        return [one.id for one in life.index.find(Wanted(**wanted), 10)[0]]  # type: ignore[arg-type]

    assert ids() == ["2", "3", "1"]
    assert ids(type="mail") == ["3", "1"]
    assert ids(status=frozenset({"running"})) == ["2"]
    assert ids(worker="w") == ids(slow=400.0) == ids(since=START + 100 * MS) == ["2"]
    assert ids(queue="other") == ids(slow=600.0) == []


def test_pages_do_not_overlap() -> None:
    life = indexed()
    run(life, *(submit(number, number) for number in range(1, 8)))
    found, cursor = life.index.find(Wanted(), 3)
    assert [one.id for one in found] == ["7", "6", "5"]
    run(life, submit(8, 9))
    found, cursor = life.index.find(Wanted(), 3, cursor)
    assert [one.id for one in found] == ["4", "3", "2"]
    found, cursor = life.index.find(Wanted(), 3, cursor)
    assert ([one.id for one in found], cursor) == (["1"], 0)


def test_the_job_heard_of_longest_ago_goes_first() -> None:
    life = indexed(jobs=3)
    run(life, submit(1, 1), submit(2, 2), submit(3, 3), dequeue(4, value=job(1)), submit(4, 5))
    assert [one.id for one in life.index.all()] == ["4", "1", "3"]
    assert life.index.by_id("2") is None
    assert life.index.by_trace(trace_id(2)) == []
    # It is not forgotten by the tracer: what comes next shows it again.
    run(life, dequeue(6, value=job(2)))
    again = life.index.by_id("2")
    assert again is not None
    assert again.status == "running"


def test_memory_is_bounded_and_given_back() -> None:
    life = indexed(jobs=10_000, size=20_000)
    run(life, *(submit(number, number) for number in range(1, 200)))
    assert 5 < len(life.index) < 20
    assert life.index.size <= 20_000
    assert life.index.size == sum(one.size for one in life.index.all())


def test_a_job_without_end_keeps_its_latest_spans() -> None:
    life = indexed()
    for at in range(0, 1000, 10):
        run(life, submit(1, at), dequeue(at + 1), event(Op.ACK, at + 2, key=b"work", queue="", number=0))
    entry = only(life.index)
    assert len(entry.spans) == SPANS_LIMIT
    assert entry.cut == 300 - SPANS_LIMIT
    assert entry.spans[0].start == START


def test_without_jobs_there_is_no_index() -> None:
    life = indexed(jobs=0)
    run(life, enqueue(0), dequeue(1), ack(2))
    assert len(life.index) == life.index.size == 0


def test_changes_are_collected_for_those_who_watch() -> None:
    life = indexed()
    run(life, submit(1, 1))
    life.index.changed = {}
    run(life, submit(2, 2), dequeue(3, value=job(2)))
    assert [one.id for one in life.index.changed.values()] == ["2"]


def test_rates_of_the_last_minute() -> None:
    life = indexed()
    run(life, *(submit(number, number) for number in range(1, 61)))
    rates = life.index.rates["list", "jobs"]
    later = START + 10_000 * MS
    assert rates.per_second(later)[0] == 1.0
    assert rates.per_second(later + 120_000 * MS)[0] == 0.0


def test_a_running_job_nobody_hears_of_is_unknown() -> None:
    life = indexed()
    run(life, enqueue(0), dequeue(1))
    life.tick(START + 3601 * 1000 * MS)
    assert only(life.index).status == "unknown"
