"""The fenced blocks of a page: which of them are commands, which are files, and what is done with them.

============================ ======================================================================================
fence                        what the test does
============================ ======================================================================================
``sh``                       runs it; it has to succeed
``sh service``               starts it and leaves it running to the end of the page
``sh ci``                    nothing: `.ci/run` or the Makefile has the same line
``sh long``                  nothing: it takes minutes; what it runs is there
``sh cluster``               nothing: it needs a cluster, another machine, or a backend
``yaml NAME``, ``python …``  writes the file that the commands after it use
``yaml``, ``python``, …      nothing: it is to be read
============================ ======================================================================================
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from tests.sidecar import ROOT

MARKS: Final = ("", "service", "ci", "long", "cluster")
_FENCE: Final = re.compile(r"^( *)```(\w*)(?: +(\S+))? *\n(.*?)^\1``` *$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    language: str
    mark: str
    """The second word of the fence: one of `MARKS`, or a file's name."""
    text: str
    line: int

    @property
    def commands(self) -> bool:
        return self.language == "sh"


def pages() -> list[Path]:
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page: Path) -> Iterator[Block]:
    text = page.read_text()
    for match in _FENCE.finditer(text):
        indent, language, mark, body = match.groups()
        lines = [line.removeprefix(indent) for line in body.splitlines(keepends=True)]
        yield Block(language, mark or "", "".join(lines), text.count("\n", 0, match.start()) + 1)
