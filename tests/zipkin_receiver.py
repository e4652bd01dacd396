"""A real HTTP receiver of Zipkin v2 JSON, as strict as Zipkin's API says (zipkin2-api.yaml); else a `Receiver`."""

from __future__ import annotations

import json
import re
from ipaddress import IPv4Address, IPv6Address
from typing import Any, Self

from tests.receiver import Answer, ReceivedEvent, ReceivedLink, ReceivedSpan, Receiver

SPAN = {"traceId", "id", "parentId", "name", "kind", "timestamp", "duration", "tags", "annotations"} | {
    "localEndpoint",
    "remoteEndpoint",
}


class ZipkinReceiver(Receiver):
    """Spans as those of OTLP: tags are attributes, the local service's name is the resource."""

    def __enter__(self) -> Self:
        self.raw: list[dict[str, Any]] = []
        """All spans as they came."""
        return super().__enter__()

    def read(self, body: bytes) -> list[ReceivedSpan]:
        found = json.loads(body)
        assert isinstance(found, list)
        spans = [read_span(each) for each in found]
        self.raw += found
        return spans

    def content(self, answer: Answer) -> tuple[str, bytes]:
        return "text/plain", answer.message.encode()


def read_span(found: dict[str, Any]) -> ReceivedSpan:
    """Raises AssertionError or ValueError for what Zipkin would not take."""
    assert found.keys() <= SPAN, found.keys() - SPAN
    parent = found.get("parentId", "")
    assert re.fullmatch("[0-9a-f]{32}", found["traceId"])
    assert re.fullmatch("[0-9a-f]{16}", found["id"])
    assert re.fullmatch("(?:[0-9a-f]{16})?", parent)
    assert found.get("kind", "CLIENT") in ("CLIENT", "SERVER", "PRODUCER", "CONSUMER")
    start, duration = found.get("timestamp", 0), found.get("duration", 0)
    assert type(start) is int
    assert type(duration) is int
    assert duration > 0
    tags: dict[str, str] = found.get("tags", {})
    assert all(isinstance(tag, str) for tag in tags.values())
    remote = found.get("remoteEndpoint", {})
    assert remote.keys() <= {"serviceName", "ipv4", "ipv6", "port"}
    IPv4Address(remote.get("ipv4", "127.0.0.1"))
    IPv6Address(remote.get("ipv6", "::1"))
    assert 0 <= remote.get("port", 0) < 1 << 16
    events = [ReceivedEvent(each["value"], each["timestamp"] * 1000, {}) for each in found.get("annotations", [])]
    assert all(event.at > 0 for event in events)
    return ReceivedSpan(
        name=found["name"],
        trace_id=found["traceId"],
        span_id=found["id"],
        parent_id=parent,
        kind=found.get("kind", "INTERNAL"),
        start=start * 1000,
        end=(start + duration) * 1000,
        attributes=tags,
        events=events,
        links=[_link(tag) for name, tag in tags.items() if name.startswith("otlp.link.")],
        status=tags.get("otel.status_code", "UNSET"),
        message=tags.get("error", ""),
        resource={"service.name": found["localEndpoint"].get("serviceName", "")},
        trace_state=tags.get("w3c.tracestate", ""),
        scope=tags.get("otel.scope.name", ""),
    )


def _link(tag: str) -> ReceivedLink:
    trace_id, span_id, _, rest = tag.split("|", 3)
    return ReceivedLink(trace_id, span_id, json.loads(rest.rpartition("|")[0]))
