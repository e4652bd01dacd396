"""What Bull 4 sends, replayed."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from proxy.events import Carry
from proxy.tracer import attributes as a
from tests.frameworks import bull, bullmq
from tests.playbook import play, trace_id, traceparent
from tests.wire.lines import ONE, TRIED, array, raw, script

BASE = "bull:mails:"
AT = 1_699_999_999_000
"""ms: a second before the play begins."""
TOKEN = "1fb39ba4-c5d7-4107-b768-b4c180983b69"
OPTIONS: dict[str, Any] = {"attempts": 3, "delay": 0, "timestamp": AT}
ADD = "wait paused meta-paused id delayed priority"
TAKE = f"wait active priority active@{TOKEN} stalled limiter delayed drained"
FINISH = f"active {{0}} 1 wait priority active@{TOKEN} delayed stalled metrics:{{0}}"
KEEP = msgspec.msgpack.encode({"count": -1})


def keys(words: str, base: str = BASE) -> list[str]:
    return [base + word for word in words.split()]


def text(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))


def packed(value: object, number: int = 0) -> bytes:
    """Options as 4.16 sends them, ``number``: with a context."""
    more = {"traceparent": traceparent(number)} if number else {}
    return msgspec.msgpack.encode(text({**value, **more}))  # type: ignore[dict-item]


def add(options: bytes = b"", arrives: bytes = b"", *, due: int = 0, name: str = "ok", reply: str = '"1"') -> str:
    def sent(options: bytes) -> str:
        delay = due - AT if due else 0
        return script(keys(ADD), BASE, "", name, "{}", options, AT, delay, due, 0, "LPUSH", TOKEN, "", "", "")

    return f"""
    producer >> {sent(options or packed(OPTIONS))}
    redis    >> {sent(arrives or packed(OPTIONS, 1))}
    producer << {reply}
    """


def delivery(number: int = 1, options: dict[str, Any] | None = None, **fields: Any) -> bytes:
    opts = {**(options or OPTIONS), "traceparent": traceparent(number)}
    said = {"name": "ok", "data": '{"to":"a@x"}', "opts": text(opts), "timestamp": AT, "delay": 0, **fields}
    return array([str(part).encode() for field in said.items() for part in field], "1")


def take(reply: bytes = b"", job_id: str = "1") -> str:
    return f"""
    blocked >> BRPOPLPUSH bull:mails:wait bull:mails:active 2
    blocked << "1"
    worker >> {script(keys(TAKE), BASE, TOKEN, 30000, AT, job_id)}
    worker << {raw(reply or delivery())}
    """


def finish(target: str = "completed", reply: bytes = b":0\r\n", keep: bytes = KEEP) -> str:
    said = ("returnvalue", "1") if target == "completed" else ("failedReason", "secret")
    args = ("1", AT, *said, TOKEN, keep, "{}", 1, BASE, 30000, TOKEN, "")
    return f"""
    worker >> {script(keys(FINISH.format(target)), *args)}
    worker << {raw(reply)}
    """


def in_transaction(sends: str) -> str:
    return f"""
    worker >> MULTI
    worker >> {script([BASE + "1"], '["Error: secret"]', "secret", 1)}
    worker >> {sends}
    worker >> EXEC
    worker << {raw(b"+OK" + bytes((13, 10)) + 2 * (b"+QUEUED" + bytes((13, 10))) + array(0, 0))}
    """


RETRY = in_transaction(
    script(keys("active wait 1 meta-paused paused stalled priority"), "LPUSH", "1", TOKEN),
)
LATER = in_transaction(script(keys("active delayed 1 stalled"), (AT + 1500) * 0x1000 + 1, "1", TOKEN))


def test_a_job_is_one_trace_from_its_enqueue_to_its_end() -> None:
    run = play(
        f"""
        {add()}
        {take()}
        {finish()}
        event enqueue queue=mails ref=bull:mails:1 carry=written
        event dequeue queue=mails ref=bull:mails:1 worker={TOKEN}
        event settle  ref=bull:mails:1 verdict=success
        """,
        bullmq(),
        bull(),
    )
    assert run.tree() == ONE
    assert {event.framework for event in run.events} == {"bull"}
    enqueue, dequeue, process = run.spans
    assert (enqueue.trace_id, dequeue.parent_id, process.start) == (trace_id(1), enqueue.span_id, dequeue.end)
    assert {(span.job.fields.id, span.job.fields.type) for span in run.spans} == {("1", "ok")}
    assert "a@x" not in str(run.spans)


def test_options_that_are_not_packed() -> None:
    arrives = text({**OPTIONS, "traceparent": traceparent(1)}).encode()
    run = play(add(text(OPTIONS).encode(), arrives) + take() + finish(), bull())
    assert run.tree() == ONE


@pytest.mark.parametrize("size", [0, 10, 180, 300, 66_000])
def test_the_text_keeps_its_length_right(size: int) -> None:
    """A header of MessagePack for every size."""
    options = {**OPTIONS, "jobId": "x" * size}
    run = play(add(packed(options), packed(options, 1)), bull(), max_inspect=1 << 20)
    assert run.injections == {"written": 1}


def test_the_end_of_one_job_brings_the_next() -> None:
    run = play(take() + finish(reply=delivery(2)), bull())
    assert [event.op.name for event in run.events] == ["DEQUEUE", "SETTLE", "DEQUEUE"]


@pytest.mark.parametrize("retry", [RETRY, LATER], ids=["at once", "later"])
def test_a_retry_is_linked_to_the_failed_attempt(retry: str) -> None:
    run = play(add() + take() + retry + take(delivery(attemptsMade=1)) + finish(), bull())
    assert run.tree() == TRIED.format("retry !retry", "retry_of", "retry_of")
    assert [span.job.fields.attempt for span in run.spans] == [0, 0, 0, 1, 1, 1]
    assert "secret" not in str(run.spans)


@pytest.mark.parametrize(("count", "error"), [(-1, "dead_letter"), (0, "failure")])
def test_a_job_that_is_given_up(count: int, error: str) -> None:
    run = play(add() + take() + finish("failed", keep=msgspec.msgpack.encode({"count": count})), bull())
    assert run.tree() == ONE.replace("success", f"failure !{error}")


def test_a_delayed_job_waits_from_when_it_is_due() -> None:
    options = {**OPTIONS, "delay": 1004}
    run = play(
        add(packed(options), packed(options, 1), due=AT + 1004) + take(delivery(options=options)) + finish(), bull()
    )
    assert run.tree() == ONE
    assert run.events[0].number == AT + 1004
    assert run.spans[1].facts[a.WAIT_MS] < run.spans[1].facts[a.SCHEDULED_MS] + 10  # type: ignore[operator]


def test_a_stalled_job_is_given_to_another_worker() -> None:
    stalled = "stalled wait active failed stalled-check meta-paused paused"
    run = play(
        f"""
        {add()}
        {take()}
        checker >> {script(keys(stalled), 1, BASE, AT, 3000)}
        checker << {raw(array([], [b"1"]))}
        {take().replace("worker", "other")}
        {finish().replace("worker", "other")}
        {finish(reply=b":-2" + bytes((13, 10)))}
        """,
        bull(),
    )
    assert run.tree() == TRIED.format("retry !reclaimed", "reclaimed_from", "reclaimed_from")
    assert run.lifecycle.measures.orphans == 0


def test_by_hand() -> None:
    run = play(
        f"""
        {add()}
        {take()}
        {finish("failed")}
        admin >> {script(keys("1 1:lock failed wait meta-paused paused"), "1", "LPUSH", TOKEN, AT)}
        admin << :1
        admin >> {script(keys("delayed wait paused meta-paused priority"), BASE, "2", TOKEN)}
        admin << :0
        admin >> {
            script(
                [*keys("active wait delayed paused completed failed priority 1 1:logs limiter"), BASE],
                *("1", TOKEN),
            )
        }
        admin << :1
        admin >> {script(keys("wait paused meta-paused paused meta"), "paused")}
        admin << nil
        admin >> {script(keys("paused wait meta-paused resumed meta"), "resumed")}
        admin << nil
        admin >> {script([BASE + "meta-paused", BASE], 1000, "")}
        admin << :0
        """,
        bull(),
    )
    assert [event.op.name for event in run.events][3:] == ["MOVE", "MOVE", "CANCEL", "PAUSE", "RESUME", "PURGE"]
    assert run.tree().endswith(
        "queue.enqueue CLIENT mails ~requeued_from\n  queue.cancel CLIENT mails\n"
        "queue.pause CLIENT mails\nqueue.resume CLIENT mails\nqueue.purge CLIENT mails"
    )


@pytest.mark.parametrize("pack", [msgspec.msgpack.encode, str.encode], ids=["packed", "not packed"])
def test_x2_the_next_job_of_those_that_repeat_has_a_trace_of_its_own(pack: Any) -> None:
    options = {**OPTIONS, "repeat": {"every": 250, "count": 2}, "traceparent": f"00-{'ab' * 16}-{'cd' * 8}-01"}
    renewed = {**options, "traceparent": traceparent(1)}
    run = play(add(pack(text(options)), pack(text(renewed)), due=AT + 1), bull())
    assert run.events[0].carry is Carry.REPLACED
    assert run.spans[0].links[0].trace_id == b"\xab" * 16
    first = {**options, "repeat": {"every": 250, "count": 1}}
    run = play(add(pack(text(first)), pack(text(first)), due=AT + 1), bull())
    assert run.events[0].carry is Carry.FOUND


UNTOUCHED = {
    "another prefix inside": script(keys(ADD), "bull:x:", "", "ok", "{}", packed(OPTIONS), *range(6)),
    "options that are no object": script(
        keys(ADD), BASE, "", "ok", "{}", msgspec.msgpack.encode("[1]"), AT, 0, 0, 0, "LPUSH", TOKEN
    ),
    "fewer arguments": script(keys(ADD), BASE, "", "ok", "{}", packed(OPTIONS)),
    "other keys": script(keys(ADD.replace("meta-paused", "meta")), BASE, "", "ok", "{}", packed(OPTIONS), *range(6)),
}


@pytest.mark.parametrize("sends", UNTOUCHED.values(), ids=UNTOUCHED)
def test_what_only_looks_like_it_passes_untouched(sends: str) -> None:
    run = play(f"c >> {sends}\nc << '1'", bull(), bullmq())
    assert (run.events, run.injections) == ([], {})


def test_idle_workers_are_not_heard() -> None:
    run = play(
        f"""
        worker >> {script(keys(TAKE), BASE, TOKEN, 30000, AT, "")}
        worker << nil
        worker >> {script(keys("delayed active wait priority paused meta-paused"), BASE, AT, TOKEN)}
        worker << nil
        """,
        bull(),
    )
    assert run.records == []


def test_a_form_that_is_not_known_is_counted_for_bull() -> None:
    words = "--[[\n  Adds a job to the queue by doing the following:\n KEYS[3] 'meta-paused'\n]]"
    run = play(f"c >> {script(keys(ADD + ' new'), BASE, text=words)}\nc << '1'", bullmq(), bull())
    assert (run.injections, run.notices) == ({"shape": 1}, ["bull"])
