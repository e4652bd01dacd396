"""Real Sidekiq 6.4, as Debian has it, unmodified, through the sidecar; with GitLab's reliable fetch and ActiveJob."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import pytest
import redis

from tests.clients import node_checks as checks
from tests.clients.conftest import StartProgram
from tests.clients.json_programs import JsonProgram, Said
from tests.clients.node_checks import CLOCKS, ENDS, ROUNDS, ends, quiet, tracing
from tests.clients.ruby_programs import RubyProgram
from tests.clients.traces import assert_parents_are_exported, by_trace
from tests.conftest import StartSidecar
from tests.receiver import ReceivedSpan, Receiver
from tests.redis import RedisServer

pytestmark = pytest.mark.ruby

RUNS = {"add": (4, 1), "flaky": (1, 2), "broken": (1, 1), "gone": (1, 1), "later": (1, 1), "nest": (1, 1),
        "Patient": (1, 2)}  # fmt: skip
STATUSES = {**ENDS, "gone": None}
"""One that is not to be retried fails without a word."""
SLOW = {"ms": 60_000, "once": True}

Sidekiq: TypeAlias = Callable[..., JsonProgram]


@pytest.fixture
def sidekiq(start_program: StartProgram) -> Sidekiq:
    """Starts programs: ``sidekiq(role, url, **options)``."""

    def start(role: str, url: str, **options: Any) -> JsonProgram:
        return start_program(role, lambda log: RubyProgram("sidekiq_app.rb", log, role, url, options))

    return start


def finished(said: Said) -> int:
    return sum("end" in one for one in said)


def retry_soon(worker: JsonProgram, direct: redis.Redis) -> None:
    """Sidekiq adds up to 10 s of its own to the time of a retry."""
    worker.wait_for(lambda said: sum(one.get("error") == "KeyError" for one in said) == ROUNDS)
    worker.wait_for(lambda _: direct.zcard("retry") == ROUNDS)
    direct.zunionstore("retry", {"retry": 0})


@pytest.mark.parametrize("fetch", ["basic", "reliable"])
def test_every_job_is_one_trace(
    fetch: str, sidekiq: Sidekiq, start_sidecar: StartSidecar, receiver: Receiver, direct: redis.Redis
) -> None:
    """The producer's sidecar and the worker's are two: what they agree on is in the jobs."""
    producers, workers = (start_sidecar(tracing(receiver, "sidekiq")) for _ in range(2))
    worker = sidekiq("work", workers.url, fetch=fetch)
    sidekiq("produce", producers.url).wait()
    retry_soon(worker, direct)
    spans = receiver.wait_for(checks.all_ends(RUNS), 60)
    worker.stop()
    names = {one["id"]: one["name"] for one in worker.said if "id" in one}
    checks.check_traces(spans, RUNS, lambda trace: names[trace[0].attributes["messaging.message.id"]], STATUSES)
    assert direct.zcard("dead") == ROUNDS
    inferred = {span.attributes.get("redspan.end.inferred", False) for span in successes(spans)}
    assert inferred == {fetch == "basic"}
    quiet("sidekiq", producers, workers)
    assert all(one["carried"] for one in worker.said if "end" in one)


def successes(spans: list[ReceivedSpan]) -> Iterator[ReceivedSpan]:
    return (span for span in spans if span.attributes.get("job.status") == "success")


@pytest.mark.parametrize("inject", [True, False], ids=["injected", "observed"])
def test_nothing_is_different_for_the_worker(
    inject: bool,
    sidekiq: Sidekiq,
    start_sidecar: StartSidecar,
    receiver: Receiver,
    redis_server: RedisServer,
    direct: redis.Redis,
) -> None:
    """The same jobs in the same order, with the same results and the same errors as without redspan."""
    kinds: list[tuple[str, dict[str, Any], dict[str, Any]]] = [("add", {"n": n}, {}) for n in range(5)]
    kinds += [("broken", {}, {"retry": 0}), ("gone", {}, {"retry": False}), ("nest", {"n": 3}, {})]
    jobs = [[kind, data, {**more, "jid": f"{number:024x}"}] for number, (kind, data, more) in enumerate(kinds)]

    def work(url: str) -> Said:
        direct.flushall()
        sidekiq("send", url, jobs=jobs).wait()
        worker = sidekiq("work", url)
        worker.wait_for(lambda said: finished(said) == 9)
        worker.stop()
        said = checks.outcomes(worker.said)
        # That one's id is random.
        assert said.pop().pop("id")
        return said

    sidecar = start_sidecar(tracing(receiver, "sidekiq", inject=inject))
    assert work(redis_server.url) == work(sidecar.url)
    spans = receiver.wait_for(ends(9))
    assert sum(span.name == "queue.enqueue" for span in spans) == 9
    quiet("sidekiq", sidecar)


def test_the_handler_runs_within_its_process_span(
    sidekiq: Sidekiq, start_sidecar: StartSidecar, receiver: Receiver
) -> None:
    sidecar = start_sidecar(tracing(receiver, "sidekiq"))
    worker = sidekiq("work", sidecar.url)
    sidekiq("send", sidecar.url, jobs=[["slow", {"ms": 10}]] * 20).wait()
    checks.check_intervals(receiver.wait_for(ends(20)), worker.said)


def test_with_several_jobs_in_hand_the_end_is_a_bound(
    sidekiq: Sidekiq, start_sidecar: StartSidecar, receiver: Receiver
) -> None:
    """Said to be one, and how loose it is: every job has ended between the two."""
    sidecar = start_sidecar(tracing(receiver, "sidekiq"))
    worker = sidekiq("work", sidecar.url, concurrency=5)
    jobs = [["slow", {"ms": 20 + 30 * (n % 7)}] for n in range(40)]
    sidekiq("send", sidecar.url, jobs=jobs).wait()
    spans = receiver.wait_for(ends(40))
    ended = {one["id"]: one["end"] * 1000 for one in worker.said if "end" in one}
    processes = [span for span in spans if span.name == "job.process"]
    for span in processes:
        assert span.attributes["redspan.end.inferred"] is True
        at = ended[span.attributes["messaging.message.id"]]
        # A thread asks for the next job a little after it is done with one.
        loose = span.attributes.get("redspan.end.uncertain_ms", 0) * 1e6 + 100e6
        assert span.end - loose <= at <= span.end + CLOCKS
    assert any("redspan.end.uncertain_ms" in span.attributes for span in processes)
    assert len(by_trace(spans)) == 40
    quiet("sidekiq", sidecar)


def test_a_long_job_is_told_from_short_ones_by_the_heartbeat(
    sidekiq: Sidekiq, start_sidecar: StartSidecar, receiver: Receiver
) -> None:
    sidecar = start_sidecar(tracing(receiver, "sidekiq"))
    worker = sidekiq("work", sidecar.url, concurrency=2)
    jobs = [["slow", {"ms": 60_000}, {"jid": "long"}], *[["slow", {"ms": 5}]] * 10]
    sidekiq("send", sidecar.url, jobs=jobs).wait()
    spans = receiver.wait_for(ends(10), 40)
    assert "long" not in {span.attributes["messaging.message.id"] for span in spans if span.name == "job.process"}
    assert finished(worker.said) == 10


def test_a_worker_is_killed_and_its_job_is_lost(
    sidekiq: Sidekiq, start_sidecar: StartSidecar, receiver: Receiver
) -> None:
    """As it is without redspan, and no end of it is made up."""
    sidecar = start_sidecar(tracing(receiver, "sidekiq"))
    first = sidekiq("work", sidecar.url)
    sidekiq("send", sidecar.url, jobs=[["slow", SLOW, {"jid": "lost"}]]).wait()
    first.wait_for(lambda said: any(one.get("name") == "slow" for one in said))
    first.kill()
    sidekiq("work", sidecar.url)
    sidekiq("send", sidecar.url, jobs=[["slow", {"ms": 10}]] * 3).wait()
    spans = receiver.wait_for(lambda spans: sum(span.name == "queue.dequeue" for span in spans) == 4)
    lost = [span.name for span in spans if span.attributes["messaging.message.id"] == "lost"]
    assert sorted(lost) == ["queue.dequeue", "queue.enqueue"]
    assert_parents_are_exported(spans)


@pytest.mark.parametrize("fetch", ["reliable", "semi"])
def test_a_worker_is_killed_and_another_takes_its_job(
    fetch: str, sidekiq: Sidekiq, start_sidecar: StartSidecar, receiver: Receiver, direct: redis.Redis
) -> None:
    sidecar = start_sidecar(tracing(receiver, "sidekiq"))
    first = sidekiq("work", sidecar.url, fetch=fetch)
    sidekiq("send", sidecar.url, jobs=[["slow", SLOW]]).wait()
    first.wait_for(lambda said: any(one.get("name") == "slow" for one in said))
    first.kill()
    # It expires after a minute.
    direct.delete(*direct.scan_iter("reliable-fetcher-heartbeat-*"))
    second = sidekiq("work", sidecar.url, fetch=fetch, second=True)
    second.wait_for(lambda said: finished(said) == 1)
    checks.check_redelivery(receiver.wait_for(ends(2)), "reclaimed")
    quiet("sidekiq", sidecar)


@pytest.mark.parametrize("fetch", ["basic", "reliable"])
def test_a_worker_that_shuts_down_gives_back_what_it_has(
    fetch: str, sidekiq: Sidekiq, start_sidecar: StartSidecar, receiver: Receiver
) -> None:
    sidecar = start_sidecar(tracing(receiver, "sidekiq"))
    first = sidekiq("work", sidecar.url, fetch=fetch)
    sidekiq("send", sidecar.url, jobs=[["slow", SLOW]]).wait()
    first.wait_for(lambda said: any(one.get("name") == "slow" for one in said))
    first.stop()
    second = sidekiq("work", sidecar.url, fetch=fetch, second=True)
    second.wait_for(lambda said: finished(said) == 1)
    spans = receiver.wait_for(ends(2))
    assert len(by_trace(spans)) == 1
    given_back, done = (span for span in sorted(spans, key=lambda one: one.start) if span.name == "job.process")
    assert (given_back.status, given_back.attributes["job.status"]) == ("UNSET", "retry")
    assert given_back.span_id in [link.span_id for link in done.links]


def test_in_a_namespace(sidekiq: Sidekiq, start_sidecar: StartSidecar, receiver: Receiver) -> None:
    sidecar = start_sidecar(tracing(receiver, "sidekiq"))
    worker = sidekiq("work", sidecar.url, namespace="shop")
    sidekiq("send", sidecar.url, namespace="shop", jobs=[["add", {"n": 1}], ["broken", {}, {"retry": 0}]]).wait()
    spans = receiver.wait_for(ends(2))
    worker.stop()
    assert {span.attributes["queue.name"] for span in spans} == {"mails"}
    assert sorted(str(span.attributes.get("job.status")) for span in spans if span.name == "job.process") == [
        "failure",
        "success",
    ]
    assert all(one["carried"] for one in worker.said if "end" in one)


def test_an_idle_worker_makes_no_spans(sidekiq: Sidekiq, start_sidecar: StartSidecar, receiver: Receiver) -> None:
    sidecar = start_sidecar(tracing(receiver, "sidekiq"))
    sidekiq("work", sidecar.url, concurrency=3)
    before = sidecar.metric("redspan_commands_total")
    sidecar.wait_for(lambda: sidecar.metric("redspan_commands_total") > before + 60, "it does not poll")
    assert receiver.spans == []
    assert sidecar.metric("redspan_jobs_total", event="enqueue") <= 0
    quiet("sidekiq", sidecar)
