"""Paths into a job, and what is read there."""

from __future__ import annotations

import pytest

from proxy.frameworks import paths

SECOND = 10**9


@pytest.mark.parametrize(
    ("path", "found"), [("a", 1), ("b.c", [2]), ("b.c.d", None), ("x", None), ("", None), ("b", {"c": [2]})]
)
def test_a_dotted_path_leads_into_objects(path: str, found: object) -> None:
    assert paths.at({"a": 1, "b": {"c": [2]}}, path) == found


@pytest.mark.parametrize("value", [b"", b"[1]", b"nonsense", b'{"a":', b"\x80pickle", b'{"a":' * 9000, b"{'a'}"])
def test_what_is_no_object_has_no_members(value: bytes) -> None:
    assert paths.members(value) == {}


@pytest.mark.parametrize(
    ("found", "when"),
    [
        ("2025-09-20T12:55:55.123456789Z", 1758372955123456789),
        ("2025-09-20T12:55:55Z", 1758372955 * SECOND),
        ("2025-09-20T14:55:55.5+02:00", 1758372955 * SECOND + SECOND // 2),
        ("2025-09-20T12:55:55", 1758372955 * SECOND),
        (1758372955, 1758372955 * SECOND),
        (1758372955.25, 1758372955 * SECOND + SECOND // 4),
        (1758372955123, 1758372955123 * 10**6),
        (1758372955123456, 1758372955123456 * 10**3),
        (1758372955123456789, 1758372955123456789),
        (5, 0),
        (10**30, 0),
        (float("inf"), 0),
        (-1758372955, 0),
        ("yesterday", 0),
        ("0001-01-01T00:00:00Z", 0),
        ("2" * 99, 0),
        (True, 0),
        (None, 0),
    ],
)
def test_times_of_every_kind(found: object, when: int) -> None:
    assert paths.when(found) == when


@pytest.mark.parametrize(
    ("found", "number"), [(3, 3), ("3", 3), ("x", -1), (-3, -1), (2**40, -1), (True, -1), ("²", -1)]
)
def test_whole_numbers(found: object, number: int) -> None:
    assert paths.integer(found, -1) == number


def test_texts_are_scalars_and_bounded() -> None:
    scalars: list[object] = ["a", 1, 1.5, True, None, {}, []]
    assert [paths.text(found) for found in scalars] == ["a", "1", "1.5", "true", "", "", ""]
    assert len(paths.text("x" * 5000)) == 1024
    assert paths.texts(["a", None, 2]) == ("a", "2")
    assert paths.texts("a") == ("a",)
    assert len(paths.texts(["a"] * 1000)) == 64


def test_a_big_job_is_reduced_to_what_is_read_of_it() -> None:
    job = b'{"id":"1","blob":"%s","traceparent":"x"}' % (b"y" * 10_000)
    assert paths.reduce(job, ["id", "traceparent", "missing"]) == b'{"id":"1","traceparent":"x"}'
    assert paths.reduce(job, ["blob"]) == b""
    assert paths.reduce(b"nonsense", ["id"]) == b""
