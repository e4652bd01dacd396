"""python -m tests.docs: write the pages that are made from the code, and draw the demo's traces."""

from __future__ import annotations

import sys

from tests.docs import configuration, metrics, picture
from tests.sidecar import ROOT

PAGES = {"configuration.md": configuration.page, "metrics.md": metrics.page}

if __name__ == "__main__":
    for name, page in PAGES.items():
        (ROOT / "docs" / name).write_text(page())
    if "--picture" in sys.argv[1:]:
        (ROOT / "docs" / "trace.svg").write_text(picture.of_the_demo())
