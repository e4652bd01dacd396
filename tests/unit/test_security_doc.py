"""docs/security.md: what it names is there."""

from __future__ import annotations

import re
from pathlib import Path

from proxy.admin.catalogue import ALL, DECISIONS
from proxy.config import Settings
from proxy.config.values import dotted, leaves

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "security.md").read_text()


def test_tests_settings_and_metrics() -> None:
    for path in re.findall(r"`(tests/[\w/]+(?:\.py)?)`", TEXT):
        assert (ROOT / path).exists(), path
    known = {dotted(path) for path, _, _ in leaves(Settings(), Settings, ())}
    # One that holds lists or mappings has leaves only for what they hold.
    known |= {"tracing.attribute_filter.allow", "tracing.attribute_filter.deny"}
    for name in re.findall(r"`((?:tracing|admin)\.[a-z_.]+)`", TEXT):
        assert name in known, name
    for name in re.findall(r"`(redspan_\w+)`", TEXT):
        assert name in ALL, name
    assert {"limited", "queue_limited"} <= set(DECISIONS)
