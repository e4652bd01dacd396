"""``frameworks.stream``: the user's own queues on streams, as the configuration describes them.

====================== ====================================================================================
command                means
====================== ====================================================================================
XADD                   ENQUEUE; the context is one more field; the reply is the entry's id
XREADGROUP … >         DEQUEUE of each entry, held by the group; its worker is the consumer
XREADGROUP … an id     RECLAIM and DEQUEUE: a consumer that began again reads what it had
XREAD                  DEQUEUE whose end nobody will tell
XACK                   ACK, by group and id
XCLAIM, XAUTOCLAIM     RECLAIM from whoever had it and DEQUEUE; with JUSTID a HEARTBEAT
XDEL                   CANCEL, if nobody has read the entry
DEL, UNLINK            PURGE
====================== ====================================================================================

A job is its entry: stream and id name it.  Entries read with NOACK have no end.  Several groups on one stream each
have their own delivery of the entry.  **Not to be seen**: how a job ended (an acknowledgement counts as success; what
failed is claimed, or added again as an entry of its own), and entries that MAXLEN trims away unread.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from proxy.context.fields_slot import fields_slot, inner_slot, pack, unpack
from proxy.context.slot import Slot
from proxy.events import VALUE_LIMIT, Op, Verdict
from proxy.frameworks import paths
from proxy.frameworks.base import End, Fields, Identity, Intent, Job, Mismatch, Operation, Role
from proxy.frameworks.entries import Entry, entries, entry
from proxy.frameworks.envelope import Envelope
from proxy.frameworks.globs import compile_globs
from proxy.frameworks.purge import purged
from proxy.frameworks.wire import integer, name
from proxy.resp.commands import stream_keys
from proxy.resp.reply import Reply

if TYPE_CHECKING:
    from proxy.config import StreamSettings

_ENTRY_ID: Final = re.compile(rb"\*|\d{1,20}(-(\d{1,20}|\*))?")
_OPTIONS: Final = {b"NOMKSTREAM": 0, b"KEEPREF": 0, b"DELREF": 0, b"ACKED": 0, b"LIMIT": 1}
"""Options of XADD before the id, and how many arguments each takes."""
_TRIMS: Final = (b"MAXLEN", b"MINID")


class Streams:
    name = "stream"
    family = "stream"
    commands = frozenset(
        (b"XADD", b"XREADGROUP", b"XREAD", b"XACK", b"XCLAIM", b"XAUTOCLAIM", b"XDEL", b"DEL", b"UNLINK")
    )
    rewritable: frozenset[bytes] = frozenset()
    heads: frozenset[bytes] = frozenset()
    scripts = None
    end = End.ACK
    acked = Verdict.SUCCESS
    backs_off_inside = False
    exclusive = False

    def __init__(self, options: StreamSettings) -> None:
        self.inject = options.inject
        self._queues = compile_globs(options.queues)
        self._envelope = Envelope(options)
        self._identified = bool(options.identity)
        self._counts = bool(options.attempt)
        self._path = options.slot.split(".")

    def role(self, key: bytes) -> Role | None:
        return Role.QUEUE if self._queues.match(key) else None

    def queue(self, key: bytes) -> str:
        return name(key)

    def slot(self, value: bytes) -> Slot:
        path = self._path
        slot = inner_slot(value, path) if len(path) > 1 else fields_slot(value, path[0].encode())
        return self._envelope.joined(slot, _job(value)) if self._envelope.names_trace else slot

    def identity(self, value: bytes) -> Identity | None:
        return self._envelope.identity(_job(value)) if self._identified else None

    def fields(self, value: bytes) -> Fields:
        entry_id, _ = unpack(value)
        fields = self._envelope.fields(_job(value))
        milliseconds = entry_id.partition(b"-")[0]
        added = paths.when(int(milliseconds)) if milliseconds.isdigit() and len(milliseconds) < 20 else 0
        own = name(entry_id)
        attempt = fields.attempt if self._counts else -1
        return replace(fields, id=fields.id or own, enqueued_at=fields.enqueued_at or added, attempt=attempt)

    def summary(self, value: bytes) -> bytes:
        entry_id, flat = unpack(value)
        wanted = {name.encode() for name in (*self._envelope.heads, "tracestate")}
        pairs = zip(flat[::2], flat[1::2], strict=False)
        kept = pack(entry_id, [part for name, text in pairs if name in wanted for part in (name, text)])
        return kept if len(kept) <= VALUE_LIMIT else pack(entry_id, [])

    def read(self, name: bytes, args: list[bytes]) -> Intent | None:
        reader = {
            b"XADD": self._add,
            b"XREADGROUP": self._read_group,
            b"XREAD": self._read_all,
            b"XACK": self._ack,
            b"XCLAIM": self._claim,
            b"XAUTOCLAIM": self._claim,
            b"XDEL": self._delete_entries,
        }.get(name)
        return Intent(self, args, self._purged) if reader is None else reader(args)

    def _add(self, args: list[bytes]) -> Intent | None:
        at = 2
        while at < len(args) and not _ENTRY_ID.fullmatch(args[at]):
            option = args[at].upper()
            if option in _TRIMS:
                at += 3 if args[at + 1 : at + 2] in ([b"="], [b"~"]) else 2
            elif option in _OPTIONS:
                at += 1 + _OPTIONS[option]
            else:
                return None
        fields = args[at + 1 :]
        if not fields or len(fields) % 2:
            return None
        first = at + 1

        def added(intent: Intent, reply: Reply) -> Iterator[Operation]:
            if reply is None:  # NOMKSTREAM, and no such stream
                return
            if not isinstance(reply, bytes):
                raise Mismatch("XADD")
            key = intent.args[1]
            yield self._entry(Op.ENQUEUE, key, (reply, intent.args[first:]), job=0)

        return Intent(self, args, added, args[1], [Job(first, pack(b"", fields))], unseen=Op.ENQUEUE)

    def _read_group(self, args: list[bytes]) -> Intent | None:
        if len(args) < 7 or args[1].upper() != b"GROUP":
            return None
        group, consumer = args[2], name(args[3])
        keys = stream_keys(args)
        again = {key for key, start in zip(keys, args[-len(keys) :], strict=True) if start != b">"}
        held = b"" if b"NOACK" in (arg.upper() for arg in args[4 : -2 * len(keys)]) else group

        def read(intent: Intent, reply: Reply) -> Iterator[Operation]:
            for key, one in entries(reply):
                if self.role(key) is None:
                    continue
                if key in again:
                    yield self._entry(Op.RECLAIM, key, one, dest=held, worker=consumer)
                yield self._delivered(key, one, held, consumer)

        return Intent(self, args, read, pops=True)

    def _read_all(self, args: list[bytes]) -> Intent | None:
        def read(intent: Intent, reply: Reply) -> Iterator[Operation]:
            for key, one in entries(reply):
                if self.role(key) is not None:
                    yield self._delivered(key, one, b"", "")

        return Intent(self, args, read)

    def _ack(self, args: list[bytes]) -> Intent | None:
        if len(args) < 4:
            return None

        def acked(intent: Intent, reply: Reply) -> Iterator[Operation]:
            count, ids = integer(reply), args[3:]
            number = -1 if 0 < count < len(ids) else min(count, 1)
            for entry_id in ids:
                yield self._entry(Op.ACK, args[1], (entry_id, []), dest=args[2], number=number)

        return Intent(self, args, acked)

    def _claim(self, args: list[bytes]) -> Intent | None:
        if len(args) < 6:
            return None
        key, group, consumer = args[1], args[2], name(args[3])
        just_ids = any(arg.upper() == b"JUSTID" for arg in args[5:])

        def claimed(intent: Intent, reply: Reply) -> Iterator[Operation]:
            items = reply[1] if isinstance(reply, list) and args[0].upper() == b"XAUTOCLAIM" else reply
            if not isinstance(items, list):
                raise Mismatch("XCLAIM")
            for item in items:
                if just_ids and isinstance(item, bytes):
                    yield self._entry(Op.HEARTBEAT, key, (item, []), dest=group, worker=consumer)
                elif not just_ids and item is not None:
                    one = entry(item)
                    yield self._entry(Op.RECLAIM, key, one, dest=group)
                    yield self._delivered(key, one, group, consumer)

        return Intent(self, args, claimed)

    def _delete_entries(self, args: list[bytes]) -> Intent | None:
        def deleted(intent: Intent, reply: Reply) -> Iterator[Operation]:
            if integer(reply):
                for entry_id in args[2:]:
                    yield self._entry(Op.CANCEL, args[1], (entry_id, []), number=1)

        return Intent(self, args, deleted)

    def _purged(self, intent: Intent, reply: Reply) -> Iterator[Operation]:
        yield from purged(self, intent, reply)

    def _delivered(self, key: bytes, entry: Entry, held: bytes, consumer: str) -> Operation:
        verdict = Verdict.NONE if held else Verdict.UNKNOWN
        return self._entry(Op.DEQUEUE, key, entry, dest=held, worker=consumer, verdict=verdict)

    def _entry(
        self,
        op: Op,
        key: bytes,
        entry: Entry,
        *,
        dest: bytes = b"",
        worker: str = "",
        number: int = -1,
        verdict: Verdict = Verdict.NONE,
        job: int = -1,
    ) -> Operation:
        entry_id, fields = entry
        return Operation(
            op,
            key,
            self.queue(key),
            dest=dest,
            ref=b"%s %s" % (key, entry_id),
            value=pack(entry_id, fields),
            number=number,
            verdict=verdict,
            worker=worker,
            job=job,
        )


def _job(value: bytes) -> dict[str, object]:
    """Fields by name; one that holds a JSON object is that object, so that a path leads into it."""
    _, flat = unpack(value)
    return {
        name.decode(errors="replace"): paths.members(text) or text.decode(errors="replace")
        for name, text in zip(flat[::2], flat[1::2], strict=False)
    }
