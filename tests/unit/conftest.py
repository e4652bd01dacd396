"""Fixtures of the unit tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.settings import Write


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Writes a settings file; its name is ``redspan.yaml``, whatever the folder."""
    monkeypatch.chdir(tmp_path)

    def write(text: str) -> Path:
        path = Path("redspan.yaml")
        path.write_text(text, encoding="utf-8")
        return path

    return write
