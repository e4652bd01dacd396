"""go-redis-work-queue's exact sequences, replayed: what its producer, workers and reaper send (client go-redis v9)."""

from __future__ import annotations

from proxy.context.derive import Deriver
from proxy.tracer.attributes import (
    INCLUDES_BACKOFF,
    PARENT_UNVERIFIED,
    RETRY_AFTER_MS,
    THROTTLED_MS,
    WAIT_SOURCE,
    WORKER_ID,
)
from tests.frameworks import go_redis_work_queue
from tests.playbook import play

T = "4bf92f3577b34da6a3ce929d0e0e4736"
INVENTED = "00f067aa0ba902b7"
ID = "0123456789abcdef0123456789abcdef"
CREATED = "2025-09-20T12:55:55.123456789Z"
SUBMISSION = f"{len(ID)}:{ID}{CREATED}".encode()
OURS = Deriver().adopted_span_id(bytes.fromhex(T), SUBMISSION).hex()
WORKER = "web-1-4711-1758372955123456789-0a1b-3"
PLIST = f"jobqueue:worker:{WORKER}:processing"
HEARTBEAT = f"jobqueue:processing:worker:{WORKER}"
OTHER = "jobqueue:worker:web-2-1-1758372955123456790-ffff-0:processing"


def job(*, retries: int = 0, trace: str = T, span: str = OURS, path: str = "/data/a&b.pdf") -> str:
    return (
        f'{{"id":"{ID}","filepath":"{path}","filesize":12,"priority":"high","retries":{retries},'
        f'"creation_time":"{CREATED}","trace_id":"{trace}","span_id":"{span}"}}'
    )


P, P2 = job(), job(retries=1, path="/data/a\\u0026b.pdf")
QUEUE = "jobqueue:high_priority"
HANDSHAKE = """
    {who} >> hello 3
    redis << %["server", "redis", "proto", :3]
    {who} >> client setinfo LIB-NAME go-redis(,go1.25)
    {who} >> client setinfo LIB-VER 9.14.0
    {who} << -ERR unknown subcommand
    {who} << -ERR unknown subcommand
"""
ENQUEUE = f"""
    producer >> incr jobqueue:rate_limit:producer
    redis    << :1
    producer >> lpush {QUEUE} '{job(span=INVENTED)}'
    redis    >> lpush {QUEUE} '{P}'
    redis    << :1
"""
DEQUEUE = f"""
    c1 >> brpoplpush {QUEUE} {PLIST} 1
    c1 << '{P}'
    c2 >> set {HEARTBEAT} '{P}' ex 30
    c2 << +OK
"""
ONE_TRACE = (
    f"queue.enqueue PRODUCER {QUEUE} (?)\n"
    f"  queue.dequeue CLIENT {QUEUE}\n"
    f"    job.process CONSUMER {QUEUE} "
)  # fmt: skip


def ended(where: str, payload: str = P) -> str:
    """What the worker sends when it is done; its commands travel on other connections than its pop."""
    return f"""
    c2 >> lpush {where} '{payload}'
    c2 << :1
    c1 >> lrem {PLIST} 1 '{P}'
    c1 << :1
    c2 >> del {HEARTBEAT}
    c2 << :1
    """


def test_success_with_ids_that_the_producer_invented() -> None:
    run = play(
        HANDSHAKE.format(who="producer")
        + ENQUEUE
        + DEQUEUE
        + ended("jobqueue:completed")
        + f"""
        event enqueue   queue={QUEUE} carry=adopted
        event dequeue   queue={QUEUE} dest={PLIST}
        event heartbeat number=30
        event outcome   verdict=success
        event ack       number=1
        event heartbeat number=0
        """,
        go_redis_work_queue(),
    )
    assert run.tree() == ONE_TRACE + "success"
    enqueue, dequeue, process = run.spans
    assert {span.trace_id.hex() for span in run.spans} == {T}
    assert (enqueue.parent_id.hex(), enqueue.span_id.hex()) == (INVENTED, OURS)
    assert enqueue.facts[PARENT_UNVERIFIED] is True
    assert PARENT_UNVERIFIED not in dequeue.facts
    assert process.facts[WORKER_ID] == WORKER
    assert dequeue.facts[WAIT_SOURCE] == "wire"
    assert len(run.connections) == 3
    assert run.connections[0].library == "go-redis(,go1.25)/9.14.0"


def test_ids_that_are_empty_are_filled() -> None:
    trace = Deriver().trace_id("go-redis-work-queue", SUBMISSION)
    filled = job(trace=trace.hex(), span=Deriver().adopted_span_id(trace, SUBMISSION).hex())
    run = play(
        f"""
        admin  >> lpush {QUEUE} '{job(trace="", span="")}'
        redis  >> lpush {QUEUE} '{filled}'
        redis  << :7
        event enqueue number=7 carry=written
        """,
        go_redis_work_queue(),
    )
    (enqueue,) = run.spans
    assert (enqueue.trace_id, enqueue.parent_id) == (trace, b"")


def test_a_retry_marshalled_again_stays_in_the_trace() -> None:
    again = f"""
    c1 >> brpoplpush {QUEUE} {PLIST} 1
    c1 << '{P2}'
    c2 >> lpush jobqueue:completed '{P2}'
    c2 << :1
    c1 >> lrem {PLIST} 1 '{P2}'
    c1 << :1
    c2 >> del {HEARTBEAT}
    c2 << :1
    """
    run = play(ENQUEUE + DEQUEUE + ended(QUEUE, P2) + again, go_redis_work_queue())
    assert run.tree() == (
        ONE_TRACE + "retry !retry\n"
        f"  queue.enqueue CLIENT {QUEUE} ~retry_of\n"
        f"  queue.dequeue CLIENT {QUEUE}\n"
        f"    job.process CONSUMER {QUEUE} success ~retry_of"
    )
    failed = next(span for span in run.spans if span.error)
    assert failed.facts[INCLUDES_BACKOFF] is True
    assert [event.name for event in failed.events] == ["job.retry"]
    (link,) = run.spans[-1].links
    assert link.span_id == failed.span_id


def test_the_next_attempt_may_begin_before_the_last_one_is_acknowledged() -> None:
    run = play(
        ENQUEUE
        + DEQUEUE
        + f"""
        c2 >> lpush {QUEUE} '{P2}'
        c2 << :1
        c3 >> brpoplpush {QUEUE} {OTHER} 1
        c3 << '{P2}'
        c1 >> lrem {PLIST} 1 '{P}'
        c1 << :1
        c3 >> lpush jobqueue:completed '{P2}'
        c3 << :1
        c3 >> lrem {OTHER} 1 '{P2}'
        c3 << :1
        """,
        go_redis_work_queue(),
    )
    outcomes = [(span.error, span.facts["job.status"]) for span in run.spans if span.operation == "job.process"]
    assert outcomes == [("retry", "retry"), ("", "success")]


def test_a_retry_may_be_taken_by_a_waiting_worker_before_it_is_known_to_be_one() -> None:
    """A worker that was blocked has the job before the LPUSH is answered."""
    run = play(
        ENQUEUE
        + DEQUEUE
        + f"""
        c3 >> brpoplpush {QUEUE} {OTHER} 1
        c2 >> lpush {QUEUE} '{P2}'
        c3 << '{P2}'
        c2 << :1
        c1 >> lrem {PLIST} 1 '{P}'
        c1 << :1
        c3 >> lpush jobqueue:completed '{P2}'
        c3 << :1
        c3 >> lrem {OTHER} 1 '{P2}'
        c3 << :1
        """,
        go_redis_work_queue(),
    )
    assert run.tree() == (
        ONE_TRACE + "retry !retry\n"
        f"  queue.enqueue CLIENT {QUEUE} ~retry_of\n"
        f"  queue.dequeue CLIENT {QUEUE}\n"
        f"    job.process CONSUMER {QUEUE} success ~retry_of"
    )


def test_a_producer_that_is_throttled_says_how_long_it_waited() -> None:
    limited = """
    producer >> incr jobqueue:rate_limit:producer
    producer << :101
    producer >> ttl jobqueue:rate_limit:producer
    producer << :1
    """
    statistics = "admin >> ttl jobqueue:rate_limit:producer\nadmin << :1\n"
    run = play(statistics + limited + "producer >> ping\nproducer << +PONG\n" + ENQUEUE, go_redis_work_queue())
    (enqueue,) = run.spans
    (throttled,) = enqueue.events
    assert throttled.name == "queue.throttled"
    assert throttled.attributes == {THROTTLED_MS: 6.0, RETRY_AFTER_MS: 1000}


def test_a_worker_whose_job_was_given_to_another_one_has_done_it_twice() -> None:
    run = play(
        ENQUEUE
        + DEQUEUE
        + f"""
        reaper >> rpop {PLIST}
        redis  << '{P}'
        reaper >> lpush {QUEUE} '{P}'
        redis  << :1
        c3 >> brpoplpush {QUEUE} {OTHER} 1
        c3 << '{P}'
        c2 >> lpush jobqueue:completed '{P}'
        c2 << :1
        c1 >> lrem {PLIST} 1 '{P}'
        c1 << :0
        c2 >> del {HEARTBEAT}
        c2 << :0
        c3 >> lpush jobqueue:completed '{P}'
        c3 << :2
        c3 >> lrem {OTHER} 1 '{P}'
        c3 << :1
        """,
        go_redis_work_queue(),
    )
    assert run.tree() == (
        ONE_TRACE + "retry !reclaimed\n"
        f"      queue.ack CLIENT {QUEUE} !executed_twice ~executed_again\n"
        f"  queue.enqueue CLIENT {QUEUE} ~reclaimed_from\n"
        f"  queue.dequeue CLIENT {QUEUE}\n"
        f"    job.process CONSUMER {QUEUE} success ~reclaimed_from"
    )


def test_who_looks_at_a_queue_is_seen_if_that_is_wanted() -> None:
    look = f"admin >> lrange {QUEUE} -10 -1\nadmin << []\nadmin >> llen {QUEUE}\nadmin << :7\n"
    framework = go_redis_work_queue()
    assert [event.number for event in play(look, framework).events] == [7]
    framework.looked_at()
    run = play(look, framework)
    assert run.tree() == f"queue.peek CLIENT {QUEUE}"
    assert run.lifecycle.measures.depth == {("go-redis-work-queue", QUEUE): 7}


def test_a_dead_letter_is_an_error() -> None:
    run = play(ENQUEUE + DEQUEUE + ended("jobqueue:dead_letter"), go_redis_work_queue())
    assert run.tree() == ONE_TRACE + "failure !dead_letter"


def test_a_job_the_worker_could_not_read_is_poison() -> None:
    run = play(
        ENQUEUE + DEQUEUE + f"c1 >> lrem {PLIST} 1 '{P}'\nc1 << :1\nc2 >> del {HEARTBEAT}\nc2 << :1",
        go_redis_work_queue(),
    )
    assert run.tree() == ONE_TRACE + "failure !poison"


def test_the_reaper_gives_the_same_bytes_to_another_worker_in_the_same_trace() -> None:
    run = play(
        ENQUEUE
        + DEQUEUE
        + f"""
        reaper >> scan 0 match jobqueue:worker:*:processing count 100
        redis  << ["0", ["{PLIST}"]]
        reaper >> exists {HEARTBEAT}
        redis  << :0
        reaper >> rpop {PLIST}
        redis  << '{P}'
        reaper >> lpush {QUEUE} '{P}'
        redis  << :1
        reaper >> rpop {PLIST}
        redis  << nil3
        c3 >> brpoplpush {QUEUE} {OTHER} 1
        c3 << '{P}'
        c3 >> lpush jobqueue:completed '{P}'
        c3 << :1
        c3 >> lrem {OTHER} 1 '{P}'
        c3 << :1
        """,
        go_redis_work_queue(),
    )
    assert run.tree() == (
        ONE_TRACE + "retry !reclaimed\n"
        f"  queue.enqueue CLIENT {QUEUE} ~reclaimed_from\n"
        f"  queue.dequeue CLIENT {QUEUE}\n"
        f"    job.process CONSUMER {QUEUE} success ~reclaimed_from"
    )
    assert run.injections == {"adopted": 1, "kept": 1}


def test_a_sidecar_at_the_worker_alone_joins_the_trace_it_finds_and_doubts_its_parent() -> None:
    invented = job(span=INVENTED)
    run = play(
        f"""
        c1 >> brpoplpush {QUEUE} {PLIST} 1
        c1 << '{invented}'
        c1 >> lpush jobqueue:completed '{invented}'
        c1 << :1
        c1 >> lrem {PLIST} 1 '{invented}'
        c1 << :1
        """,
        go_redis_work_queue(),
    )
    dequeue, process = run.spans
    assert (dequeue.trace_id.hex(), dequeue.parent_id.hex()) == (T, INVENTED)
    assert dequeue.facts[PARENT_UNVERIFIED] is True
    assert process.parent_id == dequeue.span_id


def test_a_sidecar_at_the_producer_alone_reports_the_enqueue_and_loses_nothing() -> None:
    run = play(ENQUEUE, go_redis_work_queue())
    assert [span.operation for span in run.spans] == ["queue.enqueue"]


def test_an_idle_worker_makes_no_span_and_no_event() -> None:
    poll = f"c1 >> brpoplpush {QUEUE} {PLIST} 1\nc1 << nil3\n"
    run = play(HANDSHAKE.format(who="c1") + poll * 4, go_redis_work_queue())
    assert run.records == []


def test_what_is_no_envelope_of_its_own_passes_as_it_is() -> None:
    foreign = '{"id":"1","trace_id":"","span_id":""}'
    run = play(f"other >> lpush {QUEUE} '{foreign}'\nredis << :1", go_redis_work_queue())
    assert run.injections == {"foreign": 1}
