"""A task of asynq: the protobuf message ``TaskMessage`` (internal/proto/asynq.proto, 0.24 to 0.26)."""

from __future__ import annotations

from typing import Final, NamedTuple

from proxy.context.json_slot import KEY
from proxy.context.protobuf import LEN, VARINT, fields, varint
from proxy.events import VALUE_LIMIT

HEADERS: Final = 15
"""``map<string, string> headers``, since 0.26."""

_TYPE, _ID, _QUEUE, _RETRY, _RETRIED, _ERROR, _GROUP = 1, 3, 4, 5, 6, 7, 14
_KINDS: Final = {
    **dict.fromkeys((_TYPE, 2, _ID, _QUEUE, _ERROR, 10, _GROUP, HEADERS), LEN),
    **dict.fromkeys((_RETRY, _RETRIED, 8, 9, 11, 12, 13), VARINT),
}
"""Wire types of all fields. There may be others in time, of any type."""
_KEPT: Final = frozenset((_TYPE, _ID, _QUEUE, _RETRY, _RETRIED, _GROUP))
_LEASE_EXPIRED: Final = b"asynq: task lease expired"
"""``recoverer.go``: ErrLeaseExpired."""
_MOST: Final = 1 << 31


class Task(NamedTuple):
    type: bytes
    id: bytes
    queue: bytes
    retry: int
    """How often it may be tried again."""
    retried: int
    """How often it has been."""
    group: bytes


def read(message: bytes) -> Task | None:
    """None for what is no whole message, or lacks what every task has: type, id and queue."""
    texts, numbers = {_TYPE: b"", _ID: b"", _QUEUE: b"", _GROUP: b""}, {_RETRY: 0, _RETRIED: 0}
    for number, kind, _, content, end in fields(message) or ():
        if _KINDS.get(number, kind) != kind:
            return None
        if number in texts:
            texts[number] = message[content:end]
        elif number in numbers:
            numbers[number] = varint(message, content)[0]
    if not texts[_TYPE] or not texts[_ID] or not texts[_QUEUE] or max(numbers.values()) >= _MOST:
        return None
    return Task(texts[_TYPE], texts[_ID], texts[_QUEUE], numbers[_RETRY], numbers[_RETRIED], texts[_GROUP])


def lease_expired(message: bytes) -> bool:
    """Whether a task that failed did so only because its worker had not been heard of."""
    return any(
        number == _ERROR and message[content:end] == _LEASE_EXPIRED
        for number, _, _, content, end in fields(message) or ()
    )


def summary(message: bytes) -> bytes:
    """Without what it is to work on, and why it failed."""
    kept = []
    for number, _, start, _, end in fields(message) or ():
        whole = message[start:end]
        if number in _KEPT or (number == HEADERS and KEY in whole.lower()):
            kept.append(whole)
    shorter = b"".join(kept)
    return shorter if len(shorter) <= VALUE_LIMIT else b""
