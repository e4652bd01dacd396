"""Links from jobs to their traces: templates of the usual backends, or one's own."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Final, Literal
from urllib.parse import quote, urlsplit

from proxy.address import masked
from proxy.config.values import Conflict, KeyPath, Section

_PLACES: Final = ("trace_id", "span_id", "service", "start_ms", "end_ms")
_PLACE: Final = re.compile(rf"\{{({'|'.join(_PLACES)})\}}")
_BRACED: Final = re.compile(r"\{[^{}]*\}")
_DEFAULTS: Final = {
    "jaeger": "http://127.0.0.1:16686",
    "tempo": "http://127.0.0.1:3000",
    "zipkin": "http://127.0.0.1:9411",
    "datadog": "https://app.datadoghq.com",
}
_QUERIES: Final = {
    "jaeger": "/trace/{trace_id}?uiFind={span_id}",
    "zipkin": "/zipkin/traces/{trace_id}",
    "datadog": "/apm/trace/{trace_id}",
    "honeycomb": "/trace?trace_id={trace_id}&span={span_id}&trace_start_ts={start_s}&trace_end_ts={end_s}",
}
_MARGIN_MS: Final = 60_000
"""Before and after the trace, for backends that look for it within a range of time."""


class TraceLinks(Section, frozen=True):
    """Where a trace can be looked at."""

    backend: Literal["", "jaeger", "tempo", "zipkin", "datadog", "honeycomb", "custom"] = ""
    """Empty: there are no links."""
    url: str = ""
    """Of the backend, or a template (``custom``)."""
    datasource: str = "tempo"
    """UID of the data source in Grafana (``tempo``)."""

    def link(self, *, trace_id: str, span_id: str, service: str, start_ms: int, end_ms: int) -> str:
        """Of a trace; empty where there are none."""
        base = (self.url or _DEFAULTS.get(self.backend, "")).rstrip("/" if self.backend != "custom" else "")
        if not base:
            return ""
        values = {
            "trace_id": trace_id,
            "span_id": span_id,
            "service": service,
            "start_ms": str(start_ms),
            "end_ms": str(end_ms),
        }
        if self.backend == "tempo":
            return base + self._explore(trace_id, start_ms - _MARGIN_MS, end_ms + _MARGIN_MS)
        template = base + _QUERIES.get(self.backend, "")
        for place, ms in (("{start_s}", start_ms - _MARGIN_MS), ("{end_s}", end_ms + _MARGIN_MS)):
            template = template.replace(place, str(ms // 1000))
        return _PLACE.sub(lambda match: quote(values[match[1]], safe=""), template)

    def conflicts(self, path: KeyPath) -> Iterator[Conflict]:
        """What is wrong with it."""
        at = (*path, "url")
        if not self.backend:
            if self.url:
                yield Conflict(at, "nothing, as backend is not set", "a URL", (*path, "backend"))
            return
        if not self.url:
            if self.backend not in _DEFAULTS:
                yield Conflict(at, f"a URL, for {self.backend}", "nothing", (*path, "backend"))
            return
        parts = _split(self.url)
        if parts is None:
            yield Conflict(at, "a URL that begins with http:// or https://", json.dumps(masked(self.url)), at)
            return
        unknown = [place for place in _BRACED.findall(self.url) if not _PLACE.fullmatch(place)]
        if unknown:
            yield Conflict(at, f"no other places than {', '.join(f'{{{one}}}' for one in _PLACES)}", unknown[0], at)
        elif self.backend == "custom" and "{trace_id}" not in self.url:
            yield Conflict(at, "a template with {trace_id} in it", json.dumps(masked(self.url)), at)

    def _explore(self, trace_id: str, start_ms: int, end_ms: int) -> str:
        """Grafana's Explore, with the trace in one pane."""
        query = {
            "refId": "A",
            "datasource": {"type": "tempo", "uid": self.datasource},
            "queryType": "traceql",
            "query": trace_id,
        }
        pane = {
            "datasource": self.datasource,
            "queries": [query],
            "range": {"from": str(start_ms), "to": str(end_ms)},
        }
        panes = quote(json.dumps({"a": pane}, separators=(",", ":")), safe="")
        return f"/explore?schemaVersion=1&orgId=1&panes={panes}"


def _split(url: str) -> str | None:
    """The host of an http(s) URL."""
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError:
        return None
    return host if parts.scheme in ("http", "https") and host and "{" not in host else None
