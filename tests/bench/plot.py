"""The same as a picture, in SVG: CPU for each command of the base, and the ratios along the axes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from xml.sax.saxutils import escape

from tests.bench.contenders import SAMPLED, UNTRACED
from tests.bench.measure import Result
from tests.bench.spread import of, ratio

WIDTH = 820
_LABEL = 190
_ROW = 22
_BAR = 13
_STYLE = """
text { font: 12px sans-serif; fill: #24292f }
.title { font-weight: 600 } .small { font-size: 11px; fill: #57606a } .number { font-variant-numeric: tabular-nums }
.other { fill: #8c959f } .relay { fill: #0969da } .tracer { fill: #54aeff } .range { stroke: #24292f }
.line { stroke: #d0d7de } .untraced { fill: #1a7f37 } .sampled { fill: #0969da }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 } .small { fill: #8b949e } .range { stroke: #e6edf3 } .line { stroke: #30363d }
}
"""


class _Page:
    def __init__(self) -> None:
        self.parts: list[str] = []
        self.y = 10.0

    def text(self, x: float, words: str, kind: str = "", anchor: str = "start") -> None:
        self.parts.append(
            f'<text x="{x:.1f}" y="{self.y:.1f}" class="{kind}" text-anchor="{anchor}">{escape(words)}</text>'
        )

    def bar(self, x: float, width: float, kind: str) -> None:
        y = self.y - _BAR + 2
        self.parts.append(f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{_BAR}" class="{kind}"/>')

    def rule(self, x: float, top: float, bottom: float) -> None:
        self.parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{top:.1f}" y2="{bottom:.1f}" class="line"/>')

    def dot(self, x: float, low: float, high: float, kind: str, shift: float) -> None:
        y = self.y - 4 + shift
        self.parts.append(f'<line x1="{low:.1f}" x2="{high:.1f}" y1="{y:.1f}" y2="{y:.1f}" class="range"/>')
        self.parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" class="{kind}"/>')

    def svg(self) -> str:
        head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {self.y:.0f}" width="{WIDTH}">'
        return "\n".join((head, f"<style>{_STYLE}</style>", *self.parts, "</svg>\n"))


def svg(results: Sequence[Result]) -> str:
    page = _Page()
    for result in results:
        if result.cell.axis == "base":
            _bars(page, result)
    swept = [one for one in results if one.cell.axis not in ("base", "matrix") and not one.cell.load.rate]
    for depth in sorted({one.cell.load.depth for one in swept}):
        _dots(page, depth, [one for one in swept if one.cell.load.depth == depth])
    return page.svg()


def _bars(page: _Page, result: Result) -> None:
    cell = result.cell
    rows = list(_costs(result))
    page.y += _ROW
    page.text(0, f"CPU for each command, {cell.load.depth} deep", "title")
    page.text(WIDTH, f"µs; {cell.load.size} bytes, {cell.load.connections} connections", "small", "end")
    longest = max((relay + tracer for _, relay, tracer in rows), default=0.0) or 1.0
    scale = (WIDTH - _LABEL - 150) / longest
    for name, relay, tracer in rows:
        page.y += _ROW
        page.text(0, name)
        page.bar(_LABEL, relay * scale, "relay" if name.startswith("redspan") else "other")
        page.bar(_LABEL + relay * scale, tracer * scale, "tracer")
        words = f"{relay:.1f}" + (f" + {tracer:.1f} tracer" if tracer >= 0.05 else "")
        page.text(_LABEL + (relay + tracer) * scale + 6, words, "number")
    page.y += _ROW / 2


def _costs(result: Result) -> Iterator[tuple[str, float, float]]:
    for name in result.cell.contenders:
        relay, tracer = of(result, name, lambda run: run.relay), of(result, name, lambda run: run.tracer)
        if relay is not None and tracer is not None and relay.high > 0:
            yield name, relay.median, tracer.median


def _dots(page: _Page, depth: int, results: Sequence[Result]) -> None:
    found = [(one, ratio(one, UNTRACED), ratio(one, SAMPLED)) for one in results]
    most = max((each.high for _, *both in found for each in both if each is not None), default=0.0)
    if not most:
        return
    page.y += _ROW
    page.text(0, f"CPU as a multiple of {results[0].cell.yardstick}'s, {depth} deep", "title")
    for kind, words, left in (("untraced", "untraced", WIDTH - 150), ("sampled", "traced", WIDTH - 60)):
        page.dot(left, left, left, kind, 0)
        page.text(left + 8, words, "small")
    scale = (WIDTH - _LABEL - 20) / most
    top = page.y + 8
    for one, *both in found:
        page.y += _ROW
        page.text(0, f"{one.cell.axis} {one.cell.value}")
        for kind, each, shift in zip(("untraced", "sampled"), both, (-3, 3), strict=True):
            if each is not None:
                x, low, high = (_LABEL + value * scale for value in each)
                page.dot(x, low, high, kind, shift)
    step = next(step for step in (0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 1000.0) if most / step <= 8)
    bottom = page.y + 6
    page.y += _ROW
    for number in range(int(most / step) + 1):
        at = _LABEL + number * step * scale
        page.rule(at, top, bottom)
        page.text(at, f"{number * step:g}x", "small", "middle")
    page.y += _ROW / 2
