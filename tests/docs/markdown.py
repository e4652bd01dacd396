"""Pieces of Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

MADE: Final = "<!-- Made by `make docs` from the code: change it there. -->"


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield _row(columns)
    yield _row(["---"] * len(columns))
    yield from map(_row, rows)


def prose(text: str) -> str:
    """A docstring's paragraph on one line, its code as Markdown has it."""
    text = " ".join(text.split())
    text = re.sub(r"``([^`]+)``", r"`\1`", text)
    return re.sub(r"(?<!`)`Tracing\.(\w+)`", r"`tracing.\1`", text)


def _row(cells: Sequence[str]) -> str:
    # A bar ends a cell even inside of code.
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
