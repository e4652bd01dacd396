"""redspan's own log: one line per cause on standard error, as text or JSON.

A cause is an event name (``upstream_unreachable``) and, where several things can have the same trouble, a subject.
The same cause is written at most once in `REPEAT_AFTER` seconds; the next line says how many were left out.  Callers
hand over only what may be shown, never a payload or a credential; URLs are masked here once more all the same.

Writing never waits: when standard error is a pipe that nobody empties, the line is dropped.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import select
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final, Literal, TypeAlias

Level: TypeAlias = Literal["debug", "info", "warning", "error"]
Form: TypeAlias = Literal["text", "json"]
Field: TypeAlias = str | int | float | bool | None

REPEAT_AFTER: Final = 10.0
"""Seconds before the same cause is worth another line."""

# A pipe reported as writable takes PIPE_BUF (4096) bytes without blocking, so no line may be longer.
_LINE_LIMIT: Final = 4000
_CAUSES_LIMIT: Final = 1024
_LEVELS: Final[dict[str, int]] = {"debug": 10, "info": 20, "warning": 30, "error": 40}
_CREDENTIALS: Final = re.compile(r"(\w+://)\S*@")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


class Logger:
    """Formats and limits; ``write`` gets whole lines. ``clock`` is monotonic seconds."""

    def __init__(
        self,
        write: Callable[[bytes], None],
        *,
        level: Level = "info",
        form: Form = "text",
        process: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._write = write
        self._clock = clock
        self.configure(level, form, process)
        self._causes: dict[tuple[str, str], tuple[float, int]] = {}
        """Cause -> (when it was last written, how many were left out since)."""

    def configure(self, level: Level, form: Form, process: str) -> None:
        """``process`` names the process in each line, where there are several."""
        self._threshold = _LEVELS[level]
        self._form = form
        self._process = process

    def log(self, level: Level, event: str, message: str, *, subject: str = "", **fields: Field) -> None:
        """One line, unless the same event of the same subject was written just now. Never raises."""
        if _LEVELS[level] < self._threshold:
            return
        suppressed = self._admit((event, subject))
        if suppressed < 0:
            return
        if suppressed:
            fields["suppressed"] = suppressed
        self._write(self._format(level, event, message, fields))

    def _admit(self, cause: tuple[str, str]) -> int:
        """How many like it were left out before this one; -1: this one is left out as well."""
        now = self._clock()
        last, left_out = self._causes.get(cause, (-REPEAT_AFTER, 0))
        if now - last < REPEAT_AFTER:
            self._causes[cause] = (last, left_out + 1)
            return -1
        if len(self._causes) >= _CAUSES_LIMIT:
            self._causes.clear()
        self._causes[cause] = (now, 0)
        return left_out

    def _format(self, level: Level, event: str, message: str, fields: dict[str, Field]) -> bytes:
        stamp = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        if self._process:
            fields = {"process": self._process, **fields}
        values = {name: _clean(value) if isinstance(value, str) else value for name, value in fields.items()}
        if self._form == "json":
            record = {"time": stamp, "level": level, "event": event, "message": _clean(message), **values}
            line = json.dumps(record, ensure_ascii=False)
            if len(line.encode()) > _LINE_LIMIT:
                # Cut text is no JSON: keep what matters most.
                line = json.dumps({**record, "message": _clean(message)[:500], **dict.fromkeys(values)})
        else:
            extra = "".join(f" {name}={value}" for name, value in values.items() if value not in (None, ""))
            line = f"{stamp} {level.upper():7} {event}: {_clean(message)}{extra}"
        return line.encode("utf-8", "replace")[:_LINE_LIMIT] + b"\n"


def _clean(text: str) -> str:
    """Without credentials in URLs, on one line."""
    text = _CREDENTIALS.sub(r"\1***@", text[:_LINE_LIMIT])
    return _CONTROL.sub(lambda match: match.group().encode("unicode_escape").decode(), text)


def _write_stderr(line: bytes) -> None:
    try:
        descriptor = sys.stderr.fileno()
        poll = select.poll()
        poll.register(descriptor, select.POLLOUT)
        if poll.poll(0):
            os.write(descriptor, line)
    except (OSError, ValueError, AttributeError):
        # Standard error is closed: there is nobody left to tell.
        pass


_logger = Logger(_write_stderr)


def configure(level: Level, form: Form, process: str = "") -> None:
    """For this whole process; also takes over what libraries say through `logging`, from warnings upwards."""
    _logger.configure(level, form, process)
    logging.basicConfig(handlers=[_Bridge()], level=logging.WARNING, force=True)


def debug(event: str, message: str, *, subject: str = "", **fields: Field) -> None:
    _logger.log("debug", event, message, subject=subject, **fields)


def info(event: str, message: str, *, subject: str = "", **fields: Field) -> None:
    _logger.log("info", event, message, subject=subject, **fields)


def warning(event: str, message: str, *, subject: str = "", **fields: Field) -> None:
    _logger.log("warning", event, message, subject=subject, **fields)


def error(event: str, message: str, *, subject: str = "", **fields: Field) -> None:
    _logger.log("error", event, message, subject=subject, **fields)


def exception(event: str, error_: BaseException, *, subject: str = "", **fields: Field) -> None:
    """A bug: says where, and what kind of exception, but not its text, which may quote a payload."""
    place = error_.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    where = f"{place.tb_frame.f_code.co_filename}:{place.tb_lineno}" if place is not None else "unknown place"
    message = f"{type(error_).__name__} at {where}; please report it"
    _logger.log("error", event, message, subject=subject or where, **fields)


def loop_exception(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """For `set_exception_handler`: what asyncio says of a callback that failed, without any data."""
    error_ = context.get("exception")
    if isinstance(error_, Exception):
        exception("loop", error_, what=str(context.get("message", "")))
    else:
        error("loop", str(context.get("message", "unknown")))


class _Bridge(logging.Handler):
    """Libraries' log records, as lines of ours."""

    def emit(self, record: logging.LogRecord) -> None:
        level: Level = "error" if record.levelno >= logging.ERROR else "warning"
        try:
            text = record.getMessage()
        except (TypeError, ValueError):
            text = str(record.msg)
        _logger.log(level, record.name, text, subject=text)
