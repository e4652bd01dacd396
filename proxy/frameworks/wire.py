"""Small readings of what is on the wire, shared by frameworks."""

from __future__ import annotations

from typing import Final

from proxy.frameworks.base import Mismatch
from proxy.resp.reply import Reply

NAME_LIMIT: Final = 256
"""Bytes of a key, a consumer or an id that make a name: it becomes a label and an attribute."""


def integer(reply: Reply) -> int:
    """An integer reply. Raises `Mismatch` for any other."""
    if not isinstance(reply, int) or isinstance(reply, bool):
        raise Mismatch("not an integer")
    return reply


def name(text: bytes) -> str:
    return text[:NAME_LIMIT].decode(errors="backslashreplace")
