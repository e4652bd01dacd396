"""What of a job's content the settings let into spans."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Final

import msgspec

from proxy.context import baggage
from proxy.context.fields_slot import unpack
from proxy.frameworks import paths
from proxy.tracer.span import Value

_REMEMBERED: Final = 4096
_BAGGAGE: Final = f"{baggage.KEY}."


class Allowed(msgspec.Struct, frozen=True):
    framework: str
    queue: str
    paths: tuple[str, ...]


class Content:
    """Reads of a job what is allowed for its framework and queue, at most ``limit`` values."""

    def __init__(self, allowed: Sequence[Allowed] = (), limit: int = 64) -> None:
        self._allowed = tuple(allowed)
        self._limit = limit
        self._paths: dict[tuple[str, str], tuple[str, ...]] = {}

    def of(self, framework: str, queue: str, value: bytes) -> dict[str, Value]:
        if not self._allowed or not value:
            return {}
        wanted = self._wanted(framework, queue)
        if not wanted:
            return {}
        job = _members(value)
        found: dict[str, Value] = {}
        for path in wanted:
            one = paths.at(job, path)
            if one is None and _BAGGAGE in path:
                one = _carried(job, path)
            if isinstance(one, str | int | float) and len(found) < self._limit:
                found[path] = one
        return found

    def _wanted(self, framework: str, queue: str) -> tuple[str, ...]:
        known = self._paths.get((framework, queue))
        if known is None:
            if len(self._paths) >= _REMEMBERED:
                self._paths.clear()
            fitting = (
                one for one in self._allowed if fnmatchcase(framework, one.framework) and fnmatchcase(queue, one.queue)
            )
            known = self._paths[framework, queue] = tuple(dict.fromkeys(path for one in fitting for path in one.paths))
        return known


def _carried(job: Mapping[str, object], path: str) -> object:
    """``….baggage.<key>`` where the baggage is no object, but text as W3C has it."""
    place, _, key = path.partition(_BAGGAGE)
    text = paths.at(job, f"{place}{baggage.KEY}")
    return baggage.parse(text).get(key) if isinstance(text, str) else None


def _members(value: bytes) -> Mapping[str, object]:
    job = paths.members(value)
    if job:
        return job
    _, flat = unpack(value)
    pairs = zip(flat[::2], flat[1::2], strict=False)
    return {name.decode(errors="replace"): paths.members(text) or text.decode(errors="replace") for name, text in pairs}
