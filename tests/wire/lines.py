"""Lines of a transcript whose commands have bytes in them that are no text."""

from __future__ import annotations

from collections.abc import Iterable

from proxy.resp.commands import encode

Part = str | bytes | int

ENDED = "queue.enqueue PRODUCER mails\n  queue.dequeue CLIENT mails\n    job.process CONSUMER mails {}"
"""The spans of a job that was tried once; to be filled with how it ended."""
ONE = ENDED.format("success")
TRIED = """queue.enqueue PRODUCER mails
  queue.dequeue CLIENT mails
    job.process CONSUMER mails {}
  queue.enqueue CLIENT mails ~{}
  queue.dequeue CLIENT mails
    job.process CONSUMER mails success ~{}"""
"""Of one that was tried again: with how it ended first, and what the next attempt's links say."""


def raw(data: bytes) -> str:
    return 'raw "{}"'.format("".join(f"\\x{byte:02x}" for byte in data))


def command(*parts: Part) -> str:
    """What follows ``>>``."""
    return raw(encode([_bytes(part) for part in parts]))


def script(keys: Iterable[Part], *args: Part, text: str = "") -> str:
    """EVALSHA of some digest, or EVAL of a text."""
    given = [_bytes(key) for key in keys]
    run = ("eval", text) if text else ("evalsha", "5ab432e88830d573e2fa33392ffbd4ad25a9b100")
    return command(*run, len(given), *given, *args)


def bulk(data: bytes | str) -> bytes:
    data = _bytes(data)
    return b"$%d\r\n%s\r\n" % (len(data), data)


def array(*items: bytes | str | int | list[bytes] | None) -> bytes:
    """A reply: numbers are integers, None is nil, lists are arrays of bulk strings."""
    return b"*%d\r\n%s" % (len(items), b"".join(_reply(item) for item in items))


def _reply(item: bytes | str | int | list[bytes] | None) -> bytes:
    if item is None:
        return b"$-1\r\n"
    if isinstance(item, int):
        return b":%d\r\n" % item
    if isinstance(item, list):
        return b"*%d\r\n%s" % (len(item), b"".join(map(bulk, item)))
    return bulk(item)


def _bytes(part: Part) -> bytes:
    return part if isinstance(part, bytes) else str(part).encode()
