"""Links to traces, by backend; and what is no template."""

from __future__ import annotations

import json
from urllib.parse import parse_qs, urlsplit

import pytest

from proxy.config import Admin, Settings, TraceLinks

TRACE, SPAN = "ab" * 16, "cd" * 8
HONEYCOMB_RANGE = "trace_start_ts=1699999940&trace_end_ts=1700000061"


def link(backend: str, url: str = "") -> str:
    links = TraceLinks(backend, url)  # type: ignore[arg-type]
    return links.link(
        trace_id=TRACE, span_id=SPAN, service="a shop/1", start_ms=1_700_000_000_000, end_ms=1_700_000_001_000
    )


@pytest.mark.parametrize(
    ("backend", "url", "expected"),
    [
        ("", "", ""),
        ("jaeger", "", f"http://127.0.0.1:16686/trace/{TRACE}?uiFind={SPAN}"),
        ("jaeger", "https://j/base/", f"https://j/base/trace/{TRACE}?uiFind={SPAN}"),
        ("zipkin", "http://z:9411", f"http://z:9411/zipkin/traces/{TRACE}"),
        ("datadog", "", f"https://app.datadoghq.com/apm/trace/{TRACE}"),
        (
            "honeycomb",
            "https://ui.honeycomb.io/t/environments/e",
            f"https://ui.honeycomb.io/t/environments/e/trace?trace_id={TRACE}&span={SPAN}&{HONEYCOMB_RANGE}",
        ),
        (
            "custom",
            "https://x/{trace_id}/{span_id}?s={service}&a={start_ms}&b={end_ms}",
            f"https://x/{TRACE}/{SPAN}?s=a%20shop%2F1&a=1700000000000&b=1700000001000",
        ),
    ],
)
def test_templates(backend: str, url: str, expected: str) -> None:
    assert link(backend, url) == expected


def test_tempo() -> None:
    parts = urlsplit(link("tempo", "http://grafana:3000/"))
    (panes,) = parse_qs(parts.query)["panes"]
    pane = json.loads(panes)["a"]
    assert parts.path == "/explore"
    assert pane["queries"][0]["query"] == TRACE
    assert pane["range"] == {"from": "1699999940000", "to": "1700000061000"}


@pytest.mark.parametrize(
    ("backend", "url", "says"),
    [
        ("", "http://x", "nothing, as backend is not set"),
        ("honeycomb", "", "a URL, for honeycomb"),
        ("custom", "", "a URL, for custom"),
        ("custom", "javascript:alert({trace_id})", "http:// or https://"),
        ("jaeger", "jaeger:16686", "http:// or https://"),
        ("custom", "https://{service}/{trace_id}", "http:// or https://"),
        ("custom", "https://x/{trace}", "no other places"),
        ("custom", "https://x/", "{trace_id} in it"),
    ],
)
def test_what_is_wrong(backend: str, url: str, says: str) -> None:
    links = TraceLinks(backend, url)  # type: ignore[arg-type]
    (conflict,) = Settings(admin=Admin(trace_links=links)).conflicts()
    assert says in conflict.expected
