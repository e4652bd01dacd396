"""The pages about deploy/: what they show is right, and what they point at is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from proxy.config.sources import ConfigError, load
from tests.sidecar import ROOT

PAGES = ("kubernetes.md", "collector.md", "deployment.md")


@pytest.mark.parametrize("page", PAGES)
def test_links(page: str) -> None:
    place = ROOT / "docs" / page
    links = re.findall(r"\]\(([^)#:]+)\)", place.read_text())
    assert links
    assert [link for link in links if not (place.parent / link).exists()] == []


def test_settings(tmp_path: Path) -> None:
    """All that is missing is the files that they name."""
    blocks = re.findall(r"(?ms)^```yaml\n(.*?)^```", (ROOT / "docs/deployment.md").read_text())
    assert len(blocks) == 2
    for number, block in enumerate(blocks):
        file = tmp_path / f"{number}.yaml"
        file.write_text(block)
        with pytest.raises(ConfigError) as error:
            load(file, {}, {})
        assert all("_file" in str(problem) and "No such file" in str(problem) for problem in error.value.problems)
