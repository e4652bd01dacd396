"""The pages about deploy/: the settings that they show are right."""

from __future__ import annotations

import re
from pathlib import Path

from proxy.config.sources import ConfigError, load
from tests.sidecar import ROOT

PAGES = ("kubernetes.md", "collector.md", "deployment.md")


def test_settings(tmp_path: Path) -> None:
    """All that is missing is the files that they name."""
    text = "".join((ROOT / "docs" / page).read_text() for page in PAGES)
    blocks = re.findall(r"(?ms)^```yaml\n(listeners:.*?)^```", text)
    assert len(blocks) == 3
    for number, block in enumerate(blocks):
        file = tmp_path / f"{number}.yaml"
        file.write_text(block)
        problems = []
        try:
            load(file, {}, {})
        except ConfigError as error:
            problems = [str(problem).lower() for problem in error.problems]
        assert [one for one in problems if "_file: " not in one or "no such file" not in one] == []
        assert bool(problems) is ("_file" in block)
