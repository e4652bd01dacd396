"""Bytes in transcripts: commands and replies that are no text."""

from __future__ import annotations

from proxy.resp.commands import encode


def _escaped(data: bytes) -> str:
    return "".join(chr(byte) if chr(byte).isascii() and chr(byte).isalnum() else f"\\x{byte:02x}" for byte in data)


def command(*words: str | bytes) -> str:
    """The right side of ``>>``."""
    return f'raw "{_escaped(encode([word.encode() if isinstance(word, str) else word for word in words]))}"'


def bulk(data: bytes) -> str:
    """A bulk string in a reply."""
    return f'"{_escaped(data)}"'
