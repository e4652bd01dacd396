"""The own encoder, held against the library's."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1 import trace_pb2

from proxy.tracer import otlp
from proxy.tracer.attributes import LINK_RELATION, SCHEMA_URL, Naming, attributes
from proxy.tracer.export.sdk import converter
from proxy.tracer.otlp import Encoder, clean, encode_request, parse_partial_success
from proxy.tracer.span import Kind, Link, Operation, Span, SpanEvent, Value
from tests.receiver import decode
from tests.unit import make_spans
from tests.unit.make_spans import make

RESOURCE: dict[str, Value] = {"service.name": "worker", "process.pid": 7, "x.lone": "\ud800"}


def own(spans: list[Span], naming: Naming = "queue") -> ExportTraceServiceRequest:
    return ExportTraceServiceRequest.FromString(encode_request(spans, RESOURCE, "1.2.3", naming))


def library(spans: list[Span], naming: Naming = "queue") -> ExportTraceServiceRequest:
    convert = converter(RESOURCE, "1.2.3", naming)
    return encode_spans([convert(span) for span in spans])


def comparable(request: ExportTraceServiceRequest) -> list[Any]:
    """Everything in a request, by service, attributes as dicts, NaN as something that equals itself.

    Apart from the W3C flag bits, which the library does not write.
    """
    found = []
    for resource_spans in request.resource_spans:
        for scope_spans in resource_spans.scope_spans:
            head = (
                keyed(resource_spans.resource.attributes),
                resource_spans.schema_url,
                scope_spans.scope.name,
                scope_spans.scope.version,
                scope_spans.schema_url,
            )
            found.append((head, [comparable_span(span) for span in scope_spans.spans]))
    return found


def comparable_span(span: trace_pb2.Span) -> dict[str, Any]:
    flat = {
        name: getattr(span, name)
        for name in (
            *("trace_id", "span_id", "parent_span_id", "trace_state", "name", "kind"),
            *("start_time_unix_nano", "end_time_unix_nano"),
            *("dropped_attributes_count", "dropped_events_count", "dropped_links_count"),
        )
    }
    events = [(each.name, each.time_unix_nano, keyed(each.attributes)) for each in span.events]
    links = [(each.trace_id, each.span_id, keyed(each.attributes), each.flags & ~0xFF) for each in span.links]
    return flat | {
        "flags": span.flags & ~0xFF,
        "attributes": keyed(span.attributes),
        "events": events,
        "links": links,
        "status": (span.status.code, span.status.message),
    }


def keyed(pairs: Any) -> dict[str, Any]:
    """Attributes with the type of each value: 1, 1.0 and True are three things."""
    found = {}
    for pair in pairs:
        kind = pair.value.WhichOneof("value")
        value = getattr(pair.value, kind)
        assert pair.key not in found
        found[pair.key] = (kind, struct.pack("<d", value) if kind == "double_value" else value)
    return found


@settings(max_examples=300)
@given(st.lists(make_spans.spans(), max_size=8), st.sampled_from(["queue", "semconv"]))
def test_says_what_the_library_says(spans: list[Span], naming: Naming) -> None:
    # The library cannot hold the sign and payload of a NaN apart either, so those are compared bit by bit.
    assert comparable(own(spans, naming)) == comparable(library(spans, naming))


def test_says_it_of_many_things_too() -> None:
    spans = [
        make(
            facts={f"x.{number}": number << number % 60 for number in range(200)},
            events=tuple(SpanEvent(f"e{number}", number, {"n": number}) for number in range(200)),
            links=tuple(Link(bytes([number]) * 16, bytes([number]) * 8, "batch") for number in range(1, 200)),
        )
        for _ in range(20)
    ]
    assert comparable(own(spans)) == comparable(library(spans))


@settings(max_examples=100)
@given(make_spans.spans())
def test_what_the_library_leaves_out(span: Span) -> None:
    received = own([span]).resource_spans[0].scope_spans[0].spans[0]
    remote = 0x300 if span.parent_id else 0x100
    assert received.flags == span.flags | remote
    for link, sent in zip(span.links, received.links, strict=True):
        expected = trace_pb2.Span.Link(trace_id=link.trace_id, span_id=link.span_id, flags=link.flags | 0x300)
        expected.attributes.add(key=LINK_RELATION).value.string_value = str(clean(link.relation))
        assert sent == expected


def test_one_span_by_hand() -> None:
    """A message built field by field, so that neither encoder is its own judge."""
    span = make(
        Operation.DEQUEUE,
        trace_id=b"T" * 16,
        span_id=b"S" * 8,
        parent_id=b"P" * 8,
        flags=3,
        tracestate="ot=th:c",
        error="retry",
        message="boom",
        facts={"queue.depth": -1, "queue.wait_time_ms": 1.5, "redspan.end.inferred": True},
        events=(SpanEvent("stalled", 9, {"n": 1}),),
        links=(Link(b"t" * 16, b"s" * 8, "retry_of", 1),),
    )
    expected = trace_pb2.Span(
        trace_id=b"T" * 16,
        span_id=b"S" * 8,
        parent_span_id=b"P" * 8,
        trace_state="ot=th:c",
        name="queue.dequeue",
        kind=trace_pb2.Span.SPAN_KIND_CLIENT,
        start_time_unix_nano=span.start,
        end_time_unix_nano=span.end,
        flags=0x303,
    )
    for name, value in attributes(span).items():
        pair = expected.attributes.add(key=name).value
        if isinstance(value, bool):
            pair.bool_value = value
        elif isinstance(value, int):
            pair.int_value = value
        elif isinstance(value, float):
            pair.double_value = value
        else:
            pair.string_value = value
    event = expected.events.add(name="stalled", time_unix_nano=9)
    event.attributes.add(key="n").value.int_value = 1
    link = expected.links.add(trace_id=b"t" * 16, span_id=b"s" * 8, flags=0x301)
    link.attributes.add(key=LINK_RELATION).value.string_value = "retry_of"
    expected.status.code = trace_pb2.Status.STATUS_CODE_ERROR
    expected.status.message = "boom"
    request = own([span])
    assert request.resource_spans[0].scope_spans[0].spans[0] == expected
    assert request.resource_spans[0].scope_spans[0].schema_url == SCHEMA_URL


def test_no_error_leaves_the_status_unset() -> None:
    received = own([make(message="ignored without an error")]).resource_spans[0].scope_spans[0].spans[0]
    assert not received.HasField("status")


def test_every_listeners_service_has_its_resource() -> None:
    spans = [make(service=service) for service in ("", "shop", "", "mail", "shop")]
    request = own(spans)
    assert [keyed(each.resource.attributes)["service.name"][1] for each in request.resource_spans] == [
        *("worker", "shop", "mail"),
    ]
    assert [keyed(each.resource.attributes)["process.pid"][1] for each in request.resource_spans] == [7, 7, 7]
    assert sorted(span.span_id for span in decode(request)) == sorted(span.span_id.hex() for span in spans)


def test_a_kept_encoder_says_the_same_again() -> None:
    encoder = Encoder(RESOURCE)
    first = [make(operation, facts={"x": "a"}) for operation in Operation]
    second = [make(operation, queue="other", facts={"x": "b" * 200}) for operation in Operation]
    for spans in (first, second, first):
        again = ExportTraceServiceRequest.FromString(encoder.encode(spans))
        assert comparable(again) == comparable(ExportTraceServiceRequest.FromString(encode_request(spans, RESOURCE)))


def test_caches_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(otlp, "_NAMES", 20)
    encoder = Encoder(RESOURCE)
    for number in range(100):
        span = make(queue=f"q{number}", facts={f"x.{number}": number})
        [received] = decode(ExportTraceServiceRequest.FromString(encoder.encode([span])))
        assert received.attributes["queue.name"] == f"q{number}"
        assert received.attributes[f"x.{number}"] == number
        assert len(encoder._spans._heads) <= 20
    assert encoder._static.cache_info().maxsize == otlp._STATIC


def test_a_rule_sees_every_attribute_of_spans_and_events() -> None:
    def rule(name: str, value: Value) -> Value | None:
        if name == "queue.name":
            return None
        return "masked" if value == "secret" else value

    span = make(facts={"a": "secret", "b": 1}, events=(SpanEvent("e", 1, {"c": "secret", "queue.name": "x"}),))
    encoder = Encoder(RESOURCE, rule=rule)
    [received] = decode(ExportTraceServiceRequest.FromString(encoder.encode([span])))
    assert "queue.name" not in received.attributes
    assert (received.attributes["a"], received.attributes["b"]) == ("masked", 1)
    assert received.events[0].attributes == {"c": "masked"}


def test_an_id_of_a_wrong_length_spoils_only_itself() -> None:
    bad = make(trace_id=b"short", span_id=b"much too long")
    good = make()
    received = decode(own([bad, good]))
    assert received[0].trace_id == b"short".hex().ljust(32, "0")
    assert received[1].span_id == good.span_id.hex()


def test_a_value_of_no_known_type_is_text() -> None:
    odd: Any = {"none": None, "list": [1], "operation": Operation.PEEK, "kind": Kind.CLIENT, "long": 10**5000}
    [received] = decode(own([make(facts=odd)]))
    assert received.attributes["none"] == "None"
    assert received.attributes["list"] == "[1]"
    assert received.attributes["operation"] == "queue.peek"
    assert received.attributes["long"] == hex(10**5000)


def test_no_spans() -> None:
    assert encode_request([], RESOURCE) == b""


# Answers


@given(st.integers(0, 2**63 - 1), st.text(st.characters(codec="utf-8")))
def test_partial_success(rejected: int, message: str) -> None:
    response = ExportTraceServiceResponse()
    response.partial_success.rejected_spans = rejected
    response.partial_success.error_message = message
    assert parse_partial_success(response.SerializeToString()) == (rejected, message)


def test_no_partial_success() -> None:
    assert parse_partial_success(b"") == (0, "")
    assert parse_partial_success(ExportTraceServiceResponse().SerializeToString()) == (0, "")


def test_partial_success_among_unknown_fields() -> None:
    # 2: varint, 3: 64 bits, 4: 32 bits, 5: bytes; then field 1.
    unknown = b"\x10\x96\x01" + b"\x19" + b"8" * 8 + b"\x25" + b"4" * 4 + b"\x2a\x02hi"
    assert parse_partial_success(unknown + b"\x0a\x02\x08\x05") == (5, "")


def test_a_negative_count_is_none() -> None:
    response = ExportTraceServiceResponse()
    response.partial_success.rejected_spans = -1
    assert parse_partial_success(response.SerializeToString()) == (0, "")


@given(st.binary(max_size=60))
def test_any_bytes_are_an_answer(body: bytes) -> None:
    rejected, message = parse_partial_success(body)
    assert 0 <= rejected < 2**63
    assert isinstance(message, str)


@pytest.mark.parametrize("body", [b"\x0a", b"\x0a\x05\x08", b"\x0b", b"\x08" + b"\xff" * 11, b"<html>", b"{}"])
def test_broken_answers(body: bytes) -> None:
    assert parse_partial_success(body) == (0, "")
