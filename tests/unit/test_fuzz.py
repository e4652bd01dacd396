"""A few thousand broken streams; ``python -m tests.fuzz`` feeds a million."""

from __future__ import annotations

import pytest

from tests.fuzz.mutator import CORPUS, Input
from tests.fuzz.run import Fuzz, fuzz


@pytest.mark.parametrize("seed", range(4))
def test_no_byte_is_lost_and_nothing_is_raised(seed: int) -> None:
    run = fuzz(seed, 1500)
    assert run.records > 100
    assert run.notices["reply_mismatch"]


@pytest.mark.parametrize("path", sorted(CORPUS.iterdir()), ids=lambda path: path.name)
def test_corpus(path: object) -> None:
    data = path.read_bytes()  # type: ignore[attr-defined]
    for size in (1, 7, len(data)):
        chunks = [data[at : at + size] for at in range(0, len(data), size)]
        Fuzz().play(Input(chunks, [b"+OK\r\n"]) if str(path).endswith("commands") else Input([b"PING\r\n"], chunks))
