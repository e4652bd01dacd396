"""What jobs and workers of BullMQ and Bull say: in MessagePack when it is sent, in a hash when it is read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, TypeVar

import msgspec

from proxy.context.fields_slot import unpack
from proxy.context.msgpack_slot import is_map, unpacked
from proxy.frameworks import paths
from proxy.frameworks.base import Fields
from proxy.frameworks.scripts import Script
from proxy.frameworks.wire import name

_ERROR: Final = re.compile(r"(?:[A-Z][A-Za-z]{0,60})?(?:Error|Exception)\b")
_T = TypeVar("_T")


class Sent(msgspec.Struct, array_like=True):
    """The first of what a job is added by; what follows depends on the version."""

    prefix: str
    custom_id: str | int | None
    name: str
    timestamp: float
    parent: str | None = None


class _Repeat(msgspec.Struct):
    count: object = None


class Options(msgspec.Struct):
    attempts: object = None
    delay: object = None
    priority: object = None


class _Repeated(msgspec.Struct):
    repeat: _Repeat | None = None


class _Keep(msgspec.Struct):
    count: object = None


class Worker(msgspec.Struct):
    token: str
    name: str | None = None
    keep: _Keep | None = msgspec.field(default=None, name="keepJobs")


class _Scheduler(msgspec.Struct):
    name: str = ""


_sent: Final = msgspec.msgpack.Decoder(Sent)
_options: Final = msgspec.msgpack.Decoder(Options)
_json_options: Final = msgspec.json.Decoder(Options)
_json_repetition: Final = msgspec.json.Decoder(_Repeated)
_repetition: Final = msgspec.msgpack.Decoder(_Repeated)
_worker: Final = msgspec.msgpack.Decoder(Worker)
_keep: Final = msgspec.msgpack.Decoder(_Keep)
_scheduler: Final = msgspec.msgpack.Decoder(_Scheduler)
_strings: Final = msgspec.msgpack.Decoder(list[str])
_json_strings: Final = msgspec.json.Decoder(list[str])


def sent(packed: bytes) -> Sent | None:
    return _decoded(_sent, packed)


def options(packed: bytes) -> Options:
    """In MessagePack, in JSON, or in JSON that is a text of MessagePack."""
    text = unpacked(packed)
    return _decoded(_json_options if text.startswith(b"{") else _options, text) or Options()


def repeated(packed: bytes) -> bool:
    """These are the options of a job that repeats, and not for the first time."""
    if b"repeat" not in packed:
        return False
    text = unpacked(packed)
    found = _decoded(_json_repetition if text.startswith(b"{") else _repetition, text)
    return found is not None and found.repeat is not None and whole(found.repeat.count) > 1


def scheduler_name(packed: bytes) -> str:
    found = _decoded(_scheduler, packed)
    return "" if found is None else found.name


def worker(script: Script) -> Worker | None:
    """Who runs it, of which its last map tells."""
    for arg in reversed(script.args):
        found = _decoded(_worker, arg) if is_map(arg) else None
        if found is not None:
            return found
    return None


def keeps(packed: bytes) -> bool:
    """Whether a job that has ended is kept, by what Bull packs of that."""
    found = _decoded(_keep, packed) if is_map(packed) else None
    return found is None or found.count != 0


def strings(packed: bytes) -> list[str]:
    return _decoded(_strings, packed) or []


def error(packed: bytes) -> str:
    """The type of what was thrown last, where a stack trace names one; never its message."""
    flat = strings(packed)
    if "stacktrace" not in flat[:-1]:
        return ""
    traces = _decoded(_json_strings, flat[flat.index("stacktrace") + 1].encode())
    found = _ERROR.match(traces[-1]) if traces else None
    return found[0] if found else ""


def hash_of(value: bytes) -> tuple[bytes, Mapping[bytes, bytes]]:
    """Id and fields of a packed job."""
    job_id, flat = unpack(value)
    return job_id, dict(zip(flat[::2], flat[1::2], strict=False))


def fields_of(value: bytes, *, counts_begun: bool) -> Fields:
    """``counts_begun``: ``attemptsMade`` counts the attempt that begins, too."""
    job_id, hash_ = hash_of(value)
    if not hash_:
        return Fields()
    said, created = options(hash_.get(b"opts", b"")), paths.when(number(hash_.get(b"timestamp", b"")))
    attempt = number(hash_.get(b"atm", b""))
    if b"attemptsMade" in hash_ and not hash_.keys() & {b"atm", b"ats"}:
        attempt = max(0, number(hash_[b"attemptsMade"]) - counts_begun)
    due = created + whole(said.delay) * 1_000_000 if created else 0
    return Fields(
        id=name(job_id),
        type=name(hash_.get(b"name", b"")),
        attempt=attempt,
        max_attempts=whole(said.attempts) or -1,
        created_at=created,
        enqueued_at=0 if attempt else due,
        scheduled_at=due if due > created else 0,
        priority=str(whole(said.priority) or ""),
        parent_id=name(hash_.get(b"parentKey", b"").rpartition(b":")[2]),
    )


def whole(found: object) -> int:
    """A number that JavaScript has written, which may be a fraction or no number; 0 for anything else."""
    if isinstance(found, bool) or not isinstance(found, int | float) or not 0 <= found < 1e15:
        return 0
    return int(found)


def number(text: bytes) -> int:
    return int(text) if text.isdigit() and len(text) < 20 else 0


def _decoded(decoder: msgspec.msgpack.Decoder[_T] | msgspec.json.Decoder[_T], packed: bytes) -> _T | None:
    try:
        return decoder.decode(packed)
    except paths.UNREADABLE:
        return None
