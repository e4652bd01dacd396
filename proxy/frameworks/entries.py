"""Entries of streams, as replies have them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeAlias

from proxy.frameworks.base import Mismatch
from proxy.resp.reply import Reply

Entry: TypeAlias = tuple[bytes, list[bytes]]
"""Its id, and its fields: name, value, name, value."""


def entries(reply: Reply) -> Iterator[tuple[bytes, Entry]]:
    """Of XREAD and XREADGROUP, with their streams' keys; RESP2 has them as pairs, RESP3 as a map."""
    if reply is None:
        return
    if not isinstance(reply, dict | list):
        raise Mismatch("XREADGROUP")
    streams: Iterable[object] = reply.items() if isinstance(reply, dict) else reply
    for pair in streams:
        if not isinstance(pair, list | tuple) or len(pair) != 2 or not isinstance(pair[0], bytes):
            raise Mismatch("XREADGROUP")
        key, items = pair
        for item in items if isinstance(items, list) else ():
            # An entry that was deleted while it was pending has an id and nothing else.
            if isinstance(item, list) and len(item) > 1 and item[1] is not None:
                yield key, entry(item)


def entry(item: object) -> Entry:
    if isinstance(item, list) and len(item) > 1 and isinstance(item[0], bytes) and isinstance(item[1], list):
        return item[0], [part for part in item[1] if isinstance(part, bytes)]
    raise Mismatch("not an entry")
