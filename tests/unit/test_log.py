"""The log: one line per cause, nothing secret, never waiting."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from proxy import log
from proxy.log import REPEAT_AFTER, Level, Logger


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def lines(level: Level = "info", form: str = "text") -> tuple[Logger, list[str], Clock]:
    written: list[str] = []
    clock = Clock()
    logger = Logger(
        lambda line: written.append(line.decode()), level=level, form="json" if form == "json" else "text", clock=clock
    )
    return logger, written, clock


def test_text() -> None:
    logger, written, _ = lines()
    logger.log("warning", "upstream_unreachable", "cannot connect", port=6379, empty="")
    (line,) = written
    assert line.endswith("Z WARNING upstream_unreachable: cannot connect port=6379\n")


def test_json() -> None:
    logger, written, _ = lines(form="json")
    logger.log("error", "event", 'a "message"\n', subject="x", reason="because", number=3)
    record = json.loads(written[0])
    assert record["level"] == "error"
    assert record["message"] == 'a "message"\\n'
    assert record["reason"] == "because"
    assert record["number"] == 3


def test_level() -> None:
    logger, written, _ = lines("warning")
    logger.log("info", "event", "not wanted")
    assert not written


def test_one_line_per_cause() -> None:
    logger, written, clock = lines()
    for _ in range(5):
        logger.log("info", "event", "text", subject="one")
    logger.log("info", "event", "text", subject="two")
    logger.log("info", "other", "text", subject="one")
    assert len(written) == 3
    clock.now += REPEAT_AFTER
    logger.log("info", "event", "text", subject="one")
    assert written[-1].endswith("text suppressed=4\n")
    clock.now += REPEAT_AFTER
    logger.log("info", "event", "text", subject="one")
    assert written[-1].endswith("text\n")


def test_causes_are_bounded() -> None:
    logger, written, _ = lines()
    for number in range(3000):
        logger.log("info", "event", "text", subject=str(number))
    assert len(written) == 3000
    assert len(logger._causes) <= 1024


@pytest.mark.parametrize("form", ["text", "json"])
def test_credentials_are_masked(form: str) -> None:
    logger, written, _ = lines(form=form)
    logger.log("info", "event", "redis://user:secret@host and rediss://:p@ss@other", where="http://a:secret@b/c")
    assert "secret" not in written[0]
    assert "ss@other" not in written[0]
    assert "redis://***@host" in written[0]


@pytest.mark.parametrize("form", ["text", "json"])
def test_always_one_short_line_of_utf8(form: str) -> None:
    logger, written, _ = lines(form=form)
    logger.log("info", "event", "a\r\nb\x1b[31m\udce4\u2028" + "ä" * 10_000, field="x" * 10_000)
    (line,) = written
    assert line.count("\n") == 1
    assert len(line.encode()) < os.pathconf("/", "PC_PIPE_BUF")
    assert "\x1b" not in line
    if form == "json":
        json.loads(line)


@pytest.fixture
def stderr_pipe(monkeypatch: pytest.MonkeyPatch) -> Callable[[], bytes]:
    """Standard error is a pipe; reads what is in it."""
    read, write = os.pipe()

    class Stderr:
        def fileno(self) -> int:
            return write

    # Not sys.stderr itself: pytest puts its own there after this.
    monkeypatch.setattr(log, "sys", SimpleNamespace(stderr=Stderr()))

    def contents() -> bytes:
        os.close(write)
        with os.fdopen(read, "rb") as file:
            return file.read()

    return contents


def test_full_pipe_does_not_block(stderr_pipe: Callable[[], bytes]) -> None:
    for number in range(200):
        log.warning("event", "x" * 1000, subject=str(number))
    assert 10_000 < len(stderr_pipe()) < 100_000


def test_exception_says_where_but_not_what(stderr_pipe: Callable[[], bytes]) -> None:
    try:
        int("payload")
    except ValueError as error:
        log.exception("bug", error)
    text = stderr_pipe().decode()
    assert "ValueError at " in text
    assert "test_log.py:" in text
    assert "payload" not in text


def test_libraries(stderr_pipe: Callable[[], bytes]) -> None:
    root = logging.getLogger()
    before = root.handlers, root.level
    try:
        log.configure("info", "text", "tracer")
        logging.getLogger("some.library").warning("careful: %s", "hot")
        logging.getLogger("some.library").info("not wanted")
        text = stderr_pipe().decode()
    finally:
        root.handlers, level = before
        root.setLevel(level)
        log.configure("info", "text")
        root.handlers = before[0]
    assert "WARNING some.library: careful: hot process=tracer\n" in text
    assert "not wanted" not in text
