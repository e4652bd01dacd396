"""What is in deploy/: each test has the marker, so that `make test` needs no Go, no systemd and no promtool."""

from __future__ import annotations

from pathlib import Path

import pytest

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent == HERE:
            item.add_marker("deploy")
