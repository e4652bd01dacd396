"""The value of one reply, decoded by hiredis."""

from __future__ import annotations

from typing import Final, TypeAlias, Union, cast

import hiredis

Reply: TypeAlias = Union[bytes, int, float, bool, "ReplyError", list["Reply"], dict["Reply", "Reply"], None]


class ReplyError(Exception):
    """An error reply: ``-ERR text``. A value like any other here; never raised."""

    @property
    def word(self) -> str:
        """Its first word: ``ERR``, ``WRONGTYPE``, ``OOM`` …, the part that is safe to record."""
        return str(self).split(" ", 1)[0][:32]


class Undecodable(Exception):
    """A frame that hiredis cannot read (attributes, ``!`` errors, aggregates as map keys)."""


_MISSING: Final = object()
_COLON: Final = 0x3A


class _Decoder:
    """One reader for all connections: it is only ever given whole frames."""

    def __init__(self) -> None:
        self._reader = self._fresh()

    @staticmethod
    def _fresh() -> hiredis.Reader:
        return hiredis.Reader(replyError=ReplyError, notEnoughData=_MISSING)

    def decode(self, frame: bytes) -> Reply:
        reader = self._reader
        try:
            reader.feed(frame)
            reply = reader.gets()
        except (hiredis.HiredisError, TypeError, ValueError) as error:
            self._reader = self._fresh()
            raise Undecodable(str(error)) from None
        if reply is _MISSING or reader.has_data():
            self._reader = self._fresh()
            raise Undecodable("not one frame")
        return cast(Reply, reply)


_decoder: Final = _Decoder()


def decode(frame: bytes) -> Reply:
    """The value of exactly one frame. Raises `Undecodable`."""
    if frame[0] != _COLON:
        return _decoder.decode(frame)
    try:
        return int(frame[1:-2])
    except ValueError:
        raise Undecodable("not a number") from None
