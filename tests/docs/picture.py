"""docs/trace.svg: the trace of a job that was retried, of a real run of the demo, as the API has it."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from http.client import HTTPConnection
from typing import Any, Final
from xml.sax.saxutils import escape

from proxy.watch.show import ms, trace_rows
from tests.redis import PATIENCE
from tests.sidecar import ROOT

_WIDTH, _ROW, _LEFT, _NAMES, _NOTES = 920, 30, 10, 190, 240
_LONGEST_MS: Final = 500
_TRACK: Final = _WIDTH - _NAMES - _NOTES
_STYLE: Final = """
text { font: 13px ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; fill: #24292f }
.small { font-size: 11px; fill: #57606a } .back { fill: #ffffff } .line { stroke: #d0d7de } .wait { fill: #ddf4ff }
.enqueue { fill: #1b7c83 } .dequeue { fill: #0969da } .process { fill: #1a7f37 } .error { fill: #cf222e }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 } .small { fill: #8d96a0 }
  .back { fill: #0d1117 } .line { stroke: #3d444d } .wait { fill: #1a2d44 }
  .enqueue { fill: #39c5cf } .dequeue { fill: #4493f8 } .process { fill: #3fb950 } .error { fill: #f85149 }
}
"""


def of_the_demo() -> str:
    """Runs it. Takes ten seconds."""
    command = [sys.executable, "-m", "proxy", "demo", "--keep"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as demo:
        assert demo.stdout is not None
        try:
            found = (re.search(r"Jobs and traces: http://([\d.:]+)/ui", line) for line in demo.stdout)
            admin = next(match[1] for match in found if match)
            return svg(_retried(admin))
        finally:
            demo.send_signal(signal.SIGINT)
            demo.stdout.read()


def _retried(admin: str) -> dict[str, Any]:
    """The trace of a job that succeeded with the second attempt, and did not wait so long that nothing else is seen."""
    deadline = time.monotonic() + 2 * PATIENCE
    while time.monotonic() < deadline:
        for job in _ask(admin, "/api/jobs?status=succeeded&limit=1000")["jobs"]:
            if job["attempt"] == 2:
                trace: dict[str, Any] = _ask(admin, f"/api/traces/{job['trace_id']}")
                if trace["duration_ms"] < _LONGEST_MS:
                    return trace
        time.sleep(0.2)
    raise RuntimeError("no job was retried within half a second")


def _ask(admin: str, path: str) -> Any:
    connection = HTTPConnection(admin, timeout=PATIENCE)
    try:
        connection.request("GET", path)
        return json.loads(connection.getresponse().read())
    finally:
        connection.close()


def svg(trace: Mapping[str, Any]) -> str:
    """A trace as `/api/traces/{id}` has it."""
    rows = list(trace_rows(trace["spans"]))
    height = _ROW * (len(rows) + 2)
    title = f"trace {trace['trace_id']}: {len(rows)} spans, {ms(trace['duration_ms'])}"
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" role="img">'
    parts = [head, f"<title>{escape(title)}</title>", f"<style>{_STYLE}</style>"]
    # A page's theme and the reader's need not be the same.
    parts += [f'<rect width="{_WIDTH}" height="{height}" rx="6" class="back"/>', _text(_LEFT, _ROW * 0.7, title)]
    names = {span["span_id"]: span["name"] for span, _ in rows}
    whole = max(trace["duration_ms"] * 1000, 1)
    for number, (span, depth) in enumerate(rows, 1):
        notes = " · ".join(_notes(span, names))
        parts += _row(span, depth, notes, _ROW * (number + 0.7), (span["start_us"] - trace["start_us"]) / whole, whole)
    parts += [
        _text(_NAMES, height - 8, "0", "small"),
        _text(_NAMES + _TRACK, height - 8, ms(trace["duration_ms"]), "small", "end"),
    ]
    return "\n".join([*parts, "</svg>\n"])


def _row(span: Mapping[str, Any], depth: int, notes: str, y: float, left: float, whole: float) -> Iterator[str]:
    kind = "error" if span["error"] else span["operation"].rpartition(".")[2]
    x, width = _NAMES + left * _TRACK, max(span["duration_us"] / whole * _TRACK, 3)
    x = min(x, _NAMES + _TRACK - width)
    yield f'<line x1="{_NAMES}" x2="{_NAMES + _TRACK}" y1="{y + 9:.1f}" y2="{y + 9:.1f}" class="line"/>'
    yield _text(_LEFT + depth * 14, y, span["name"])
    waited = span["attributes"].get("queue.wait_time_ms", 0) * 1000 / whole * _TRACK
    yield _bar(max(x - waited, _NAMES), y, min(waited, x - _NAMES), "wait")
    yield _bar(x, y, width, kind)
    yield _text(_WIDTH - _NOTES + 10, y, notes, "small")


def _notes(span: Mapping[str, Any], names: Mapping[str, str]) -> Iterator[str]:
    yield ms(span["duration_us"] / 1000)
    waited = span["attributes"].get("queue.wait_time_ms")
    if waited is not None:
        yield f"waited {ms(waited)}"
    if span["error"]:
        yield span["error"]
    for link in span["links"]:
        yield f"→ {link['relation'].replace('_', ' ')} {names.get(link['span_id'], 'another trace')}"


def _bar(x: float, y: float, width: float, kind: str) -> str:
    return f'<rect x="{x:.1f}" y="{y - 12:.1f}" width="{width:.1f}" height="15" rx="2" class="{kind}"/>'


def _text(x: float, y: float, words: str, kind: str = "", anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}" text-anchor="{anchor}">{escape(words)}</text>'
