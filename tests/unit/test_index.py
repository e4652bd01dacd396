"""The index: what it says of jobs while they live, how it is asked, and that it stays small."""

from __future__ import annotations

import contextlib

from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.config import Settings
from proxy.events import Carry, JobEvent, Op, Verdict
from proxy.frameworks.base import Fields
from proxy.tracer.entry import Entry, Wanted
from proxy.tracer.index import SPANS_LIMIT, Index
from proxy.tracer.lifecycle import Lifecycle
from proxy.tracer.span import Span
from proxy.tracer.story import Story, pack, unpack
from tests.playbook import MS, START, trace_id, traceparent
from tests.unit import make_spans
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
    story = entry.story()
    assert [span.operation.value for span in story.spans] == ["queue.enqueue", "queue.dequeue", "job.process"]
    assert (entry.id, entry.queue, story.attempt, entry.worker) == ("1", "jobs", 1, "w1")
    assert entry.trace_id == trace_id(1)
    assert (story.wait_ms, story.process_ms) == (40.0, 60.0)
    assert story.enqueued_at == START + MS


def test_a_job_left_alone_is_packed_and_says_the_same() -> None:
    life = indexed()
    run(life, submit(1, 0), dequeue(5, value=job(1)))
    entry = only(life.index)
    before = repr(entry.story())
    size = life.index.size
    run(life, submit(2, 2000))
    assert isinstance(entry.told, bytes)
    assert repr(entry.story()) == before
    assert life.index.size - size < 1500
    run(life, event(Op.ACK, 2001, value=job(1), key=b"work", queue="", number=1))
    assert [span.operation.value for span in entry.story().spans] == ["queue.enqueue", "queue.dequeue", "job.process"]
    assert life.index.size == sum(one.size for one in life.index.all())


@settings(max_examples=50)
@given(st.lists(make_spans.spans(), max_size=2), make_spans.fields)
def test_packed_is_as_it_was(spans: list[Span], fields: Fields) -> None:
    """But for what bytes cannot hold, which is said."""
    with contextlib.suppress(UnicodeEncodeError, OverflowError):
        assert repr(unpack(pack(Story(fields, spans)))) == repr(Story(fields, spans))


def test_by_default_as_many_jobs_fit_as_are_promised() -> None:
    """With three spans each, a context and a correlation id, one in ten milliseconds."""
    index = Settings().index
    life = indexed(jobs=index.jobs, size=index.bytes, correlation_id="order")
    for number in range(index.jobs):
        at, value = number * 10, job(number, order=f"order-{number}")
        run(
            life,
            submit(number, at, order=f"order-{number}"),
            dequeue(at + 2, value=value, worker=f"worker-{number % 9}"),
        )
        run(life, event(Op.ACK, at + 4, value=value, key=b"work", queue="", number=1))
    assert len(life.index) == index.jobs


def test_a_consumer_heard_of_first_joins_the_trace() -> None:
    life = indexed()
    value = b'{"id":"1"}'
    run(life, dequeue(5, value=value), enqueue(4, value=value, carry=Carry.NONE))
    entry = only(life.index)
    assert life.index.by_trace(entry.trace_id) == [entry]
    assert len({span.trace_id for span in entry.story().spans}) == 1
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


def test_found_by_the_beginning_of_an_id() -> None:
    life = indexed()
    run(life, *(submit(number, number) for number in (1, 2, 12, 300)))
    assert sorted(life.index.ids_like("1")) == ["1", "12"]
    assert list(life.index.traces_like(trace_id(300).hex()[:-2])) == [trace_id(300).hex()]
    assert len(list(life.index.traces_like("aa"))) == 4
    assert list(life.index.ids_like("x")) == list(life.index.traces_like("bb")) == []


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
    assert len(entry.story().spans) == SPANS_LIMIT
    assert entry.cut == 300 - SPANS_LIMIT
    assert entry.story().spans[0].start == START


def test_a_job_without_end_keeps_its_latest_traces() -> None:
    """Equal jobs of which nobody says that they are over are one; each may have a trace of its own."""
    life = indexed()
    for number in range(1, 1000):
        value = job(1).replace(traceparent(1).encode(), traceparent(number).encode())
        run(life, event(Op.ENQUEUE, number, value=value, carry=Carry.FOUND, context=_context(number), number=1))
    entry = only(life.index)
    assert len(entry.traces) == SPANS_LIMIT
    assert [bool(life.index.by_trace(trace_id(number))) for number in (1, 2, 900, 999)] == [True, False, False, True]
    assert len(list(life.index.traces_like(""))) == SPANS_LIMIT
    assert life.index.size == entry.size


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


def test_where_nothing_shows_ends_a_delivered_job_is_not_said_to_run() -> None:
    """Popped from a plain list, with a list of completed jobs that nobody may ever push to."""
    life = indexed(completed=["done"], type="kind")

    def states(number: int, at: int) -> list[str]:
        value, seen = job(number, kind="mail"), []
        for one in (
            submit(number, at, kind="mail"),
            dequeue(at + 1, value=value, dest=b""),
            event(Op.OUTCOME, at + 2, value=value, verdict=Verdict.SUCCESS),
        ):
            run(life, one)
            seen.append(next(life.index.all()).status)
        return seen

    assert states(1, 0) == ["enqueued", "unknown", "succeeded"]
    # Now it is known that the ends of such jobs are seen.
    assert states(2, 10) == ["enqueued", "running", "succeeded"]
    run(life, dequeue(20, value=job(3, kind="bill"), dest=b""))
    assert next(life.index.all()).status == "unknown"


def test_a_running_job_nobody_hears_of_is_unknown() -> None:
    life = indexed()
    run(life, enqueue(0), dequeue(1))
    life.tick(START + 3601 * 1000 * MS)
    assert only(life.index).status == "unknown"
