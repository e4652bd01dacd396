"""A collector that is away for most of the time; `tests.outage` by hand has it away for minutes."""

from __future__ import annotations

import pytest

from tests.outage import run


@pytest.mark.tools
def test_every_span_is_exported_dropped_or_held_at_any_time() -> None:
    outcome = run(20, buffer=500, batch=100)
    assert outcome.problems() == {}
    assert outcome.most_held == 500
    assert outcome.spans.dropped["buffer_full"] > 0
    assert outcome.spans.exported > 500
    assert outcome.spans.exported + sum(outcome.spans.dropped.values()) == outcome.spans.started
