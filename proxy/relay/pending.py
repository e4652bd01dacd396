"""A command whose reply is awaited, and what may come in place of it."""

from __future__ import annotations

from enum import IntEnum

import msgspec

from proxy.context.carry import Carried
from proxy.frameworks.base import Intent
from proxy.resp.reply import Reply


class Place(IntEnum):
    PLAIN = 0
    JOB = 1
    MULTI = 2
    EXEC = 3
    DISCARD = 4
    RESET = 5
    SELECT = 6
    HELLO = 7
    AUTH = 8
    SUBSCRIBE = 9


class Pending(msgspec.Struct, gc=False):
    """A command whose reply is awaited."""

    place: Place
    slot: int = 0
    """Number of its reply."""
    at: int = 0
    """When it was read, ns."""
    intent: Intent | None = None
    carried: list[Carried] = []
    """For each of the intent's jobs."""
    number: int = 0
    """SELECT: the database; HELLO: the protocol, or 0; SUBSCRIBE: confirmations to come, 0 for all there are."""
    size: int = 0
    """Bytes of its arguments."""
    kind: bytes = b""
    """SUBSCRIBE: the word its confirmations begin with."""


class Lost(IntEnum):
    """What stands for a reply that cannot be had."""

    ABORTED = 1
    """The transaction did not happen."""
    UNREADABLE = 2
    """It came, but was too long or of a kind that is not understood."""


class OutOfStep(Exception):
    """A reply without a command, or one that cannot be its command's. ``reason`` is one of the blind reasons."""

    def __init__(self, reason: str = "reply_mismatch") -> None:
        super().__init__(reason)
        self.reason = reason


Resolved = tuple[Pending, Reply | Lost]
