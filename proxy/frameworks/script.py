"""``frameworks.script``: the user's own Lua scripts and functions (EVAL, EVALSHA, FCALL), as the configuration says.

A command is taken for an entry's if it has that number of keys, the one key matches the glob, and its arguments reach
as far as the entry's; a literal first argument, and a function's name or a digest, can be asked for besides, but never
make up for the keys.  The first entry that fits has it.

================ ==========================================================================================
``does``         means
================ ==========================================================================================
``enqueue``      ENQUEUE of each job; the context goes in here, if ``inject`` is on and an argument is the job
``dequeue``      DEQUEUE of each job that the reply has, or that an argument names
``ack``          no longer held: succeeded, unless something else was said before
``success``      SETTLE, ``failure`` the same
``retry``        RETRY: this attempt has failed, the next dequeue is another one
``dead_letter``  DEAD_LETTER, and nobody holds it any more
================ ==========================================================================================

Identities are shared with ``frameworks.list``: a job that a script puts on a list stays in its trace when a plain pop
takes it from there, and the other way round.  With ``held``, so does one that LREM acknowledges.

**Not to be seen**: what a script really did.  A reply that has no job where it should have one is a poll that found
none; with ``if_reply``, nil and 0 say that nothing was done.  No reply can be wrong.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from hashlib import sha1
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from proxy.context.fields_slot import pack, unpack
from proxy.context.slot import Slot
from proxy.events import Op, Verdict
from proxy.frameworks import paths
from proxy.frameworks.base import End, Fields, Identity, Intent, Job, Operation, Role
from proxy.frameworks.envelope import Envelope
from proxy.frameworks.globs import compile_globs
from proxy.frameworks.wire import name
from proxy.resp.commands import SCRIPTS
from proxy.resp.numbers import Malformed, number
from proxy.resp.reply import Reply

if TYPE_CHECKING:
    from proxy.config import ScriptEntry, ScriptSettings

_REMEMBERED: Final = 1024
"""Keys of which it is kept at hand whether they are anybody's."""
_PACKED: Final = b"\x92"
"""What a job begins with whose id stands beside it."""
_JOBS: Final = 10_000
"""Jobs of one reply that are looked at."""
_MEANS: Final = {
    "ack": (Op.ACK, Verdict.NONE),
    "success": (Op.SETTLE, Verdict.SUCCESS),
    "failure": (Op.SETTLE, Verdict.FAILURE),
    "retry": (Op.RETRY, Verdict.NONE),
    "dead_letter": (Op.DEAD_LETTER, Verdict.FAILURE),
}


class _Place:
    """Where something stands: ``argument 2``, ``arguments 2``, ``reply``, ``reply 1.*``; nowhere for no text."""

    __slots__ = ("_numbers", "argument", "every", "named", "path")

    def __init__(self, text: str, *, numbers: bool = False) -> None:
        """``numbers``: an integer of the reply will do, too."""
        kind, _, rest = text.partition(" ")
        self._numbers = numbers
        self.named: Final = bool(text)
        self.every: Final = kind == "arguments"
        """That argument and all that follow."""
        self.argument: Final = 0 if kind == "reply" else int(rest or 0)
        self.path: Final = rest.split(".") if kind == "reply" and rest else []

    def indexes(self, args: Sequence[bytes], first: int) -> range:
        """Of the arguments; ``first`` is the index of the script's first one."""
        at = first + self.argument - 1
        return range(at, len(args) if self.every else at + 1) if self.argument else range(0)

    def find(self, args: Sequence[bytes], first: int, reply: Reply) -> list[bytes]:
        if self.argument:
            return [args[at] for at in self.indexes(args, first)]
        found: list[object] = [reply]
        for part in self.path:
            found = [inner for item in found for inner in _inside(item, part)][:_JOBS]
        if self._numbers:
            found = [b"%d" % item if isinstance(item, int) and not isinstance(item, bool) else item for item in found]
        return [item for item in found if isinstance(item, bytes) and item] if self.named else []


def _inside(item: object, part: str) -> Sequence[object]:
    if isinstance(item, dict):
        # A map of RESP3 is what RESP2 has as names and values in turn.
        item = [one for pair in item.items() for one in pair]
    if not isinstance(item, list):
        return ()
    return item if part == "*" else item[int(part) - 1 : int(part)]


class _Entry:
    """What the configuration says of one script."""

    __slots__ = (
        "_count",
        "_first",
        "_glob",
        "_key",
        "_name",
        "_reach",
        "does",
        "held",
        "id",
        "if_reply",
        "job",
        "queue",
    )

    def __init__(self, options: ScriptEntry) -> None:
        self._count = options.keys
        self._glob = compile_globs([options.key])
        self._key = 2 + options.key_position
        self._first = options.first_argument.encode()
        self._name = options.name.encode()
        self.does: Final = options.does
        self.queue: Final = 2 + options.queue
        self.held: Final = 2 + options.held if options.held else 0
        self.job: Final = _Place(options.job)
        self.id: Final = _Place(options.id, numbers=True)
        self.if_reply: Final = options.if_reply
        self._reach = max(self.job.argument, self.id.argument, 1 if self._first else 0)

    def claims(self, key: bytes) -> bool:
        return self._glob.match(key) is not None

    def knows(self, command: bytes, args: Sequence[bytes], count: int) -> bool:
        first = 3 + count
        return (
            count == self._count
            and len(args) >= first + self._reach
            and self.claims(args[self._key])
            and (not self._first or args[first] == self._first)
            and (not self._name or self._name == _called(command, args[1]))
        )


def _called(command: bytes, what: bytes) -> bytes:
    """A function's name, or a script's digest."""
    if command == b"EVAL":
        return sha1(what, usedforsecurity=False).hexdigest().encode()
    return what.lower() if command == b"EVALSHA" else what


class Script:
    name = "script"
    family = "list"
    commands = SCRIPTS
    heads: frozenset[bytes] = frozenset()
    scripts = None
    end = End.ACK
    acked = Verdict.SUCCESS
    backs_off_inside = False
    exclusive = False

    def __init__(self, options: ScriptSettings) -> None:
        self.inject = options.inject
        self.rewritable = SCRIPTS if options.inject else frozenset()
        self._entries = [_Entry(entry) for entry in options.entries]
        self._envelope = Envelope(options)
        self._identified = bool(options.identity)
        self._names = sorted({*self._envelope.heads, "tracestate"})
        self._claims = lru_cache(_REMEMBERED)(lambda key: any(entry.claims(key) for entry in self._entries))

    def role(self, key: bytes) -> Role | None:
        return Role.OTHER if self._claims(key) else None

    def queue(self, key: bytes) -> str:
        return name(key)

    def slot(self, value: bytes) -> Slot:
        return self._envelope.slot(_unpacked(value)[1])

    def identity(self, value: bytes) -> Identity | None:
        return self._envelope.identity(paths.members(_unpacked(value)[1])) if self._identified else None

    def fields(self, value: bytes) -> Fields:
        job_id, job = _unpacked(value)
        members = paths.members(job)
        fields = self._envelope.fields(members) if members else Fields()
        if job_id:
            return replace(fields, id=name(job_id), created_at=0)
        # What ends it may name it by its id alone.
        return replace(fields, handle=fields.id) if fields.created_at and fields.id else fields

    def summary(self, value: bytes) -> bytes:
        job_id, job = _unpacked(value)
        kept = paths.reduce(job, self._names)
        return _packed(job_id[:256], kept) if job_id else kept

    def read(self, name: bytes, args: list[bytes]) -> Intent | None:
        try:
            count = number(args[2])
        except (Malformed, IndexError):
            return None
        if not 0 < count <= len(args) - 3:
            return None
        entry = next((one for one in self._entries if one.knows(name, args, count)), None)
        if entry is None:
            return None
        key, first = args[entry.queue], 3 + count

        def finish(intent: Intent, reply: Reply) -> Iterator[Operation]:
            if entry.if_reply and not reply:
                return
            for at, (job_id, job) in enumerate(_jobs(entry, intent.args, first, reply)):
                yield from self._done(entry, intent, key, job_id, job, at if intent.jobs else -1)

        if entry.does != "enqueue":
            return Intent(self, args, finish, key, pops=entry.does == "dequeue")
        indexes = entry.job.indexes(args, first)
        ids = entry.id.find(args, first, None) if entry.id.argument else []
        jobs = [Job(at, _packed(ids[n] if n < len(ids) else b"", args[at])) for n, at in enumerate(indexes)]
        return Intent(self, args, finish, key, jobs, unseen=Op.ENQUEUE)

    def _done(
        self, entry: _Entry, intent: Intent, key: bytes, job_id: bytes, job: bytes, number: int
    ) -> Iterator[Operation]:
        queue, held = self.queue(key), intent.args[entry.held] if entry.held else b""
        value = _packed(job_id, job) if job else b""
        if entry.does == "enqueue":
            if job_id and value:
                # Those commands that only name it would know nothing of it.
                yield Operation(Op.DESCRIBE, key, queue, ref=job_id, value=value, job=number)
                value, number = b"", -1
            yield Operation(Op.ENQUEUE, key, queue, ref=job_id, value=value, job=number)
        elif entry.does == "dequeue":
            yield Operation(Op.DEQUEUE, key, queue, dest=held, ref=job_id, value=value)
        elif entry.does == "ack" and not held:
            yield Operation(Op.SETTLE, key, queue, ref=job_id, value=value, verdict=Verdict.SUCCESS)
        else:
            op, verdict = _MEANS[entry.does]
            yield Operation(op, key, queue, dest=held, ref=job_id, value=value, number=1, verdict=verdict)
            if held and op in (Op.RETRY, Op.DEAD_LETTER):
                yield Operation(Op.ACK, key, queue, dest=held, ref=job_id, value=value, number=1)


def _jobs(entry: _Entry, args: Sequence[bytes], first: int, reply: Reply) -> list[tuple[bytes, bytes]]:
    """Ids and jobs, one of which may be empty."""
    jobs, ids = entry.job.find(args, first, reply), entry.id.find(args, first, reply)
    if not entry.id.named:
        return [(b"", job) for job in jobs]
    if not entry.job.named:
        return [(job_id, b"") for job_id in ids]
    return list(zip(ids, jobs, strict=False))


def _packed(job_id: bytes, job: bytes) -> bytes:
    return pack(job_id, [job]) if job_id or job[:1] == _PACKED else job


def _unpacked(value: bytes) -> tuple[bytes, bytes]:
    """Id, where it stands beside the job; and the job."""
    if value[:1] != _PACKED:
        return b"", value
    job_id, parts = unpack(value)
    return job_id, parts[0] if parts else b""
