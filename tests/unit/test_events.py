"""The contract between relay and tracer reads back, and nothing else is read."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.events import (
    BATCH_LIMIT,
    HEAD_LIMIT,
    VALUE_LIMIT,
    Batch,
    Carry,
    Connection,
    Hello,
    JobEvent,
    Op,
    Outcome,
    Record,
    Snapshot,
    Verdict,
    append,
    datagram,
    decode,
    encode,
)

small = st.integers(0, 2**62)
words = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=20)
events = st.builds(
    JobEvent, st.sampled_from(Op), words, small, small, small, small, st.binary(max_size=50), words,
    value=st.binary(max_size=200), carry=st.sampled_from(Carry), outcome=st.sampled_from(Outcome),
    verdict=st.sampled_from(Verdict), number=st.integers(-1, 2**40), context=st.binary(max_size=25),
)  # fmt: skip
records: st.SearchStrategy[Record] = st.one_of(
    events,
    st.builds(Hello, small, small, small, words),
    st.builds(Connection, small, small, small, st.booleans(), words, words, words, words, words),
    st.builds(Snapshot, small, small, st.dictionaries(words, small, max_size=3),
              st.lists(st.tuples(words, st.lists(words, max_size=3).map(tuple), small), max_size=3)),
)  # fmt: skip


@given(st.builds(Batch, small, small, st.lists(records, max_size=8)))
def test_a_batch_reads_back(batch: Batch) -> None:
    assert decode(encode(batch)) == batch


@given(st.builds(Batch, small, small, st.lists(records, max_size=8)))
def test_a_datagram_is_the_batch_of_what_was_appended(batch: Batch) -> None:
    encoded = bytearray()
    for record in batch.records:
        append(encoded, record)
    made = datagram(batch.worker, batch.first, len(batch.records), encoded)
    assert decode(made) == batch
    assert len(made) - len(encoded) <= HEAD_LIMIT


@given(st.binary(max_size=200))
def test_foreign_bytes_are_an_error_of_one_kind(data: bytes) -> None:
    with contextlib.suppress(ValueError):
        decode(data)


def test_a_job_s_value_fits_a_batch_many_times() -> None:
    event = JobEvent(Op.ENQUEUE, "list", 1, 0, 1, 1, b"k", "k", value=b"x" * VALUE_LIMIT)
    assert len(encode(Batch(0, 0, [event] * 15))) < BATCH_LIMIT


def test_batches_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match="array"):
        decode(b"\x80")
