r"""Whoever can put bytes into a job: what stands in the place of its context breaks no job and gets into no span.

Ten thousand jobs (``REDSPAN_HOSTILE_JOBS``) go through relay and tracer without processes, some through real ones.
"""

from __future__ import annotations

import json
import os
import random
import re
from collections.abc import Iterator
from typing import NamedTuple

import pytest
import redis
from opentelemetry.trace import get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from proxy.resp.commands import encode
from proxy.tracer.span import Span
from tests.clients.look_alikes import CELERY
from tests.conftest import StartSidecar
from tests.frameworks import celery, lists, streams
from tests.playbook import MS, START, Play
from tests.receiver import Receiver

COUNT = int(os.environ.get("REDSPAN_HOSTILE_JOBS", "10000"))
T, S = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
GOOD = f"00-{T}-{S}-01"
_BYTES = '0123456789abcdefABCDEF-_ \t\r\n\x00\x7f"\\,=;é\u2028\U0001f600'
_OTEL = TraceContextTextMapPropagator()
_COMMAND = "\r\n*1\r\n$8\r\nFLUSHALL\r\n"
_PLAIN = re.compile(r"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


class Hostile(NamedTuple):
    """One job's texts."""

    traceparent: str
    tracestate: str
    id: str


def hostile(source: random.Random, count: int) -> Iterator[Hostile]:
    """Contexts that are nearly right, or not at all; every seventh is right. Ids are anything."""

    def bent(text: str) -> str:
        chars = list(text)
        for _ in range(source.randint(1, 4)):
            at = source.randrange(len(chars) + 1)
            chars[at : at + source.randint(0, 1)] = source.choices(_BYTES, k=source.randint(0, 2))
        return "".join(chars)

    for number in range(count):
        trace, span = source.randbytes(16).hex(), source.randbytes(8).hex()
        header = source.choice((f"00-{trace}-{span}-01", f"00-{'0' * 32}-{span}-01", f"ff-{trace}-{span}-01", trace))
        state = f"ot=th:{source.randrange(16):x};rv:{trace[:14]},vendor={span}"
        name = bent(
            source.choice((f"{number}", GOOD, '"},{"traceparent":', "\r\n*1\r\n$8\r\nFLUSHALL\r\n", "x" * 3000))
        )
        yield Hostile(f"00-{trace}-{span}-01" if number % 7 == 0 else bent(header), bent(state), name)


class Accepted(NamedTuple):
    """A context as OpenTelemetry's own propagator reads it."""

    trace_id: str
    span_id: str
    sampled: bool


def accepted(header: str) -> Accepted | None:
    read = _OTEL.extract({"traceparent": header})
    context = get_current_span(read).get_span_context()
    if not context.is_valid:
        return None
    return Accepted(f"{context.trace_id:032x}", f"{context.span_id:016x}", context.trace_flags.sampled)


def seen(span: Span) -> set[str]:
    """The ids that a span names, but for its own."""
    links = {one.hex() for link in span.links for one in (link.trace_id, link.span_id)}
    return {span.trace_id.hex(), span.parent_id.hex(), *links} - {""}


def jobs(source: random.Random, count: int) -> Iterator[tuple[Hostile, list[bytes]]]:
    """As a list's JSON, a stream's fields and a Celery message, in turn."""
    for number, one in enumerate(hostile(source, count)):
        if number % 3 == 0:
            text = json.dumps(one._asdict(), ensure_ascii=bool(number % 2))
            yield one, [b"LPUSH", b"jobs", text.encode()]
        elif number % 3 == 1:
            fields = [part.encode() for pair in one._asdict().items() for part in pair]
            yield one, [b"XADD", b"jobs:log", b"*", *fields]
        else:
            headers = {**CELERY["headers"], **one._asdict()}
            yield one, [b"LPUSH", b"celery", json.dumps({**CELERY, "headers": headers}).encode()]


def test_they_break_no_job_and_reach_no_span() -> None:
    run = Play((lists(queues=("jobs",)), streams(queues=("jobs:log",)), celery()), {})
    session = run.session("producer")
    found = believed = 0
    for number, (one, command) in enumerate(jobs(random.Random(21), COUNT)):
        sent = encode(command)
        arrived = session.client_data(sent, START + number * MS)
        session.upstream_data(b"$3\r\n1-1\r\n" if command[0] == b"XADD" else b":1\r\n", START, delivered=True)
        # There is something in the place already: good or bad, nothing is written.
        assert arrived == sent, one
        valid = accepted(one.traceparent)
        for record in run.records:
            for span in run.lifecycle.feed(0, record):
                found += 1
                assert len(span.trace_id) == 16
                assert any(span.trace_id)
                assert len(span.span_id) == 8
                assert any(span.span_id)
                named = {text for text in re.findall(r"[0-9a-f]{16,}", one.traceparent) if len(text) in (16, 32)}
                used = seen(span) & named
                assert not used or (valid is not None and used <= {valid.trace_id, valid.span_id}), one
                believed += bool(used)
                assert span.tracestate.isascii()
                assert span.tracestate.isprintable()
        run.records.clear()
    assert run.blind == {}
    assert found == COUNT
    assert COUNT / 7 <= believed < COUNT / 3


@pytest.mark.parametrize("trusts", [True, False])
def test_through_real_processes(trusts: bool, start_sidecar: StartSidecar, direct: redis.Redis) -> None:
    given = list(hostile(random.Random(22), 1000))
    with Receiver() as receiver:
        sidecar = start_sidecar(
            {
                "frameworks": {"list": {"queues": ["jobs"], "processing": ["work"]}},
                "tracing": {
                    "protocol": "http/protobuf",
                    "endpoint": receiver.url,
                    "export": {"interval": "50ms"},
                    "sampling": {"max_spans_per_second": 100_000},
                    "security": {"trust_inbound": trusts},
                },
            }
        )
        sent = [json.dumps(one._asdict()) for one in given]
        with redis.Redis.from_url(sidecar.url) as client:
            client.lpush("jobs", *sent)
            for text in sent:
                job = client.lmove("jobs", "work", "RIGHT", "LEFT")
                assert isinstance(job, bytes)
                assert client.lrem("work", 1, job) == 1
                one, expected = json.loads(job), json.loads(text)
                # One of another version, or with blanks around it, is left as it is, and is nobody's.
                header = expected["traceparent"]
                if not trusts and _PLAIN.fullmatch(header) and accepted(header):
                    assert _PLAIN.fullmatch(one["traceparent"])
                    assert one.pop("traceparent") != expected.pop("traceparent")
                assert one == expected
        found = [valid for one in given if (valid := accepted(one.traceparent))]
        left_out = sum(not valid.sampled for valid in found) if trusts else 0
        spans = receiver.wait_for(lambda spans: len(spans) >= 3 * (len(given) - left_out))
        assert len(spans) == 3 * (len(given) - left_out)
        assert sidecar.metric("redspan_blind_total") == 0
        traces = {valid.trace_id for valid in found}
        joined = {span.trace_id for span in spans} & traces
        assert len(joined) > len(given) / 7 if trusts else not joined
        if not trusts:
            assert {span.parent_id for span in spans} <= {span.span_id for span in spans} | {""}
