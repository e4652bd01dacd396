"""Jobs that bring a context in another form than W3C's: what reaches Redis, and whose child each span is."""

from __future__ import annotations

from proxy.tracer import attributes as a
from proxy.tracer.book import Policy
from proxy.tracer.content import Allowed, Content
from tests.frameworks import lists, streams
from tests.playbook import play, span_id, traceparent

T, S = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
UUID = "0af76519-16cd-43dd-8448-eb211c80319c"
FIRST, TP1 = span_id(1).hex(), traceparent(1)
ONE_TRACE = (
    "queue.enqueue PRODUCER jobs (?)\n"
    "  queue.dequeue CLIENT jobs\n"
    "    job.process CONSUMER jobs success"
)  # fmt: skip


def one_job(sent: str, stored: str) -> str:
    return f"""
        producer >> LPUSH jobs '{sent}'
        redis    >> LPUSH jobs '{stored}'
        redis    << :1
        worker   >> BRPOPLPUSH jobs work 5
        redis    << '{stored}'
        worker   >> LREM work 1 '{stored}'
        redis    << :1
        """


def test_b3_goes_on_in_w3c() -> None:
    sent = f'{{"id":1,"b3":"{T}-{S}-1"}}'
    run = play(one_job(sent, f'{sent[:-1]},"traceparent":"00-{T}-{FIRST}-01"}}'), lists(), formats=("b3",))
    assert run.tree() == ONE_TRACE
    assert run.spans[0].parent_id.hex() == S
    assert a.PARENT_UNVERIFIED not in run.spans[0].facts
    assert run.injections == {"written": 1}


def test_a_uuid_is_the_trace_and_is_shown_as_it_was() -> None:
    sent = f'{{"id":1,"trace_id":"trace-{UUID}","parent_span_id":"{S}"}}'
    stored = f'{sent[:-1]},"traceparent":"00-{T}-{FIRST}-01"}}'
    run = play(one_job(sent, stored), lists(trace_id="trace_id", parent_span_id="parent_span_id"))
    assert run.tree() == ONE_TRACE
    assert {span.trace_id.hex() for span in run.spans} == {T}
    assert {a.attributes(span)[a.TRACE_ID_ORIGINAL] for span in run.spans} == {f"trace-{UUID}"}
    # Whether anybody has that span, its id alone does not say.
    assert (run.spans[0].parent_id.hex(), run.spans[0].facts[a.PARENT_UNVERIFIED]) == (S, True)
    assert run.injections == {"adopted": 1}


def test_what_is_no_trace_id_is_counted_and_begins_a_trace() -> None:
    run = play("p >> LPUSH jobs '[]'\nredis << :1", lists(trace_id="trace_id"))
    assert run.injections == {"not_object": 1}
    job = '{"id":1,"trace_id":"one"}'
    run = play(f"p >> LPUSH jobs '{job}'\nredis << :1", lists(trace_id="trace_id"), inject=False)
    assert run.context.counters.invalid["malformed"] == 1
    assert run.tree() == "queue.enqueue PRODUCER jobs"


def test_where_nothing_is_written_all_of_a_job_is_in_the_trace_that_it_names() -> None:
    job = f'{{"id":1,"trace_id":"{UUID}"}}'
    run = play(one_job(job, job), lists(trace_id="trace_id"), inject=False)
    assert run.tree() == ONE_TRACE.replace(" (?)", "")
    assert {span.trace_id.hex() for span in run.spans} == {T}


def test_a_slot_in_the_metadata_of_a_stream_s_entry() -> None:
    run = play(
        f"""
        producer >> XADD jobs MAXLEN ~ 5 * type mail metadata '{{"a":1}}' payload '{{}}'
        redis    >> XADD jobs MAXLEN ~ 5 * type mail metadata '{{"a":1,"traceparent":"{TP1}"}}' payload '{{}}'
        redis    << "1-0"
        worker   >> XREADGROUP GROUP g w STREAMS jobs >
        redis    << [["jobs", [["1-0", ["type", "mail", "metadata", '{{"a":1,"traceparent":"{TP1}"}}']]]]]
        worker   >> XACK jobs g 1-0
        redis    << :1
        """,
        streams(slot="metadata.traceparent"),
    )
    assert run.tree() == ONE_TRACE.replace(" (?)", "")


def test_baggage_stays_as_it_is_and_is_seen_where_it_is_allowed() -> None:
    content = Content([Allowed("*", "*", ("baggage.user", "baggage.n"))])
    for carried in ('"user=ada%20l,n=1;x=y"', '{"user":"ada l","n":"1","secret":"s"}'):
        sent = f'{{"id":1,"b3":"{T}-{S}-1","baggage":{carried}}}'
        stored = f'{sent[:-1]},"traceparent":"00-{T}-{FIRST}-01"}}'
        run = play(one_job(sent, stored), lists(), formats=("b3",), policy=Policy(content=content))
        for span in run.spans:
            shown = {name: value for name, value in a.attributes(span).items() if "baggage" in name}
            assert shown == {f"{a.PAYLOAD}baggage.user": "ada l", f"{a.PAYLOAD}baggage.n": "1"}
