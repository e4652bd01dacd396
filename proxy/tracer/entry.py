"""What the index keeps of a job, and how it is asked for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from proxy.tracer.story import Story, unpack

FINAL = frozenset({"succeeded", "dead", "cancelled", "lost"})
"""States in which nothing more is expected."""


class Entry(msgspec.Struct, gc=False, eq=False):
    """A job and its timeline. It refers to nothing that refers to it."""

    serial: int
    id: str
    """Its own id; else the digest of its bytes, in hex."""
    framework: str
    queue: str
    type: str
    status: str
    first: int
    """When it was first heard of, ns."""
    heard: int
    """When it was last heard of, ns."""
    told: Story | bytes
    """What is known of it; as bytes once nothing was heard of it for a moment: see `story`."""
    touch: int = 0
    """Grows with whatever is heard of any job: the order of lists, and their cursor."""
    upstream: str = ""
    db: int = 0
    worker: str = ""
    """Who has it, or had it last."""
    correlation_id: str = ""
    error: str = ""
    """``error.type`` of its latest attempt."""
    traces: tuple[bytes, ...] = ()
    """All that it had spans in, the newest last."""
    cut: int = 0
    """Spans that were left out: there were too many."""
    size: int = 0
    """Bytes of memory, estimated."""
    gone: bool = False
    """Out of the index."""

    @property
    def trace_id(self) -> bytes:
        """Of its newest spans."""
        return self.traces[-1] if self.traces else b""

    def story(self) -> Story:
        """What is known of it, to look at."""
        return unpack(self.told) if isinstance(self.told, bytes) else self.told


class Wanted(msgspec.Struct, frozen=True):
    """Which jobs; what is empty does not matter."""

    id: str = ""
    trace_id: bytes = b""
    correlation_id: str = ""
    queue: str = ""
    type: str = ""
    framework: str = ""
    worker: str = ""
    status: frozenset[str] = frozenset()
    since: int = 0
    """Heard of since then, ns."""
    slow: float = 0.0
    """ms that it waited, or was worked on, at least."""

    def matches(self, entry: Entry) -> bool:
        return (
            (not self.status or entry.status in self.status)
            and (not self.queue or entry.queue == self.queue)
            and (not self.type or entry.type == self.type)
            and (not self.framework or entry.framework == self.framework)
            and (not self.worker or entry.worker == self.worker)
            and (not self.since or entry.heard >= self.since)
            and (not self.id or entry.id == self.id)
            and (not self.trace_id or any(span.trace_id == self.trace_id for span in entry.story().spans))
            and (not self.correlation_id or entry.correlation_id == self.correlation_id)
            and (not self.slow or self._is_slow(entry.story()))
        )

    def _is_slow(self, story: Story) -> bool:
        return max(story.wait_ms or 0.0, story.process_ms or 0.0) >= self.slow


class Lookup:
    """Entries by a key that several may share. Most keys have one entry: that costs no container."""

    def __init__(self) -> None:
        self._found: dict[object, Entry | dict[int, Entry]] = {}

    def add(self, key: object, entry: Entry) -> None:
        known = self._found.get(key)
        if known is None:
            self._found[key] = entry
        elif isinstance(known, dict):
            known[entry.serial] = entry
        elif known is not entry:
            self._found[key] = {known.serial: known, entry.serial: entry}

    def remove(self, key: object, entry: Entry) -> None:
        known = self._found.get(key)
        if isinstance(known, dict):
            known.pop(entry.serial, None)
        if known is entry or known == {}:
            del self._found[key]

    def __iter__(self) -> Iterator[object]:
        """Its keys."""
        return iter(self._found)

    def get(self, key: object) -> Iterable[Entry]:
        """Those with the key, the one heard of last first."""
        known = self._found.get(key)
        if known is None:
            return ()
        return sorted(known.values(), key=lambda one: -one.touch) if isinstance(known, dict) else (known,)
