"""The scanner of pickles, held against pickletools, which reads all of them."""

from __future__ import annotations

import pickle
import pickletools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.frameworks.pickled import Scanner, Sign, Token, Unreadable

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=300)
    | st.binary(max_size=300)
)


def tokens(data: bytes, limit: int = 1000) -> list[Token]:
    found: list[Token] = []
    try:
        scanner = Scanner(data)
        while len(found) < limit:
            found.append(scanner.take())
            assert scanner.at <= len(data)
    except Unreadable:
        pass
    return found


@given(st.lists(SCALARS, min_size=4, max_size=12), st.sampled_from([3, 4, 5]))
def test_scalars_are_read_as_they_were_written(values: list[Any], protocol: int) -> None:
    wanted = [value for value in (None, *values) if not isinstance(value, int) or abs(value) < 2**2000]
    found = tokens(pickle.dumps(tuple(wanted), protocol))
    assert found[: len(wanted) + 1] == [Sign.MARK, *wanted]
    assert [type(token) for token in found[1 : len(wanted) + 1]] == [type(value) for value in wanted]


def test_what_was_memoized_is_the_same_again() -> None:
    word = "datetime"
    assert tokens(pickle.dumps((word, word, 1, word), 5))[1:5] == [word, word, 1, word]


def test_of_an_object_that_is_asked_for_again_nothing_is_known() -> None:
    once: dict[str, int] = {}
    assert tokens(pickle.dumps([once], 5)) == []
    assert tokens(pickle.dumps((once, once, 1), 5)) == [Sign.DICT]


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_class_is_two_names(protocol: int) -> None:
    assert tokens(pickle.dumps(pytest.Item, protocol))[:3] == ["_pytest.nodes", "Item", Sign.GLOBAL]


@pytest.mark.parametrize("data", [b"", b"\x80", b"\x80\x01.", b"\x80\x06N.", b"{}", pickle.dumps(1, 0)])
def test_what_is_no_pickle_of_a_protocol_that_is_known(data: bytes) -> None:
    with pytest.raises(Unreadable):
        Scanner(data)


def test_only_what_is_expected_is_taken() -> None:
    Scanner(pickle.dumps(True)).expect(True)
    for other in (1, "True", None, Sign.MARK):
        with pytest.raises(Unreadable):
            Scanner(pickle.dumps(True)).expect(other)


@given(
    st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=30), st.data()
)
def test_broken_pickles_are_unreadable_and_no_worse(value: Any, data: st.DataObject) -> None:
    whole = bytearray(pickle.dumps(value, data.draw(st.integers(0, 5))))
    for _ in range(data.draw(st.integers(0, 4))):
        at = data.draw(st.integers(0, len(whole) - 1))
        whole[at] = data.draw(st.integers(0, 255))
    tokens(bytes(whole[: data.draw(st.integers(0, len(whole)))]))


@given(st.binary())
def test_any_bytes_are_unreadable_and_no_worse(data: bytes) -> None:
    tokens(b"\x80\x05" + data)


def test_nothing_is_read_that_pickletools_reads_otherwise() -> None:
    data = pickle.dumps(("one", 2, b"three", None, 4.5, 2**70), 5)
    arguments = [argument for _, argument, _ in pickletools.genops(data) if argument is not None]
    assert [token for token in tokens(data) if token is not None and not isinstance(token, Sign)] == arguments[2:]
