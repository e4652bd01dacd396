"""What the relay tells the tracer: the one contract between the two processes.

The relay observes and reports; it draws no conclusions.  Four records travel one way, in numbered
batches of MessagePack over a ``SOCK_SEQPACKET`` pair, each batch one datagram:

- `Hello`       once per relay worker and channel: who is speaking
- `Connection`  a client connection that carried a job's command was seen, or has gone
- `JobEvent`    one thing that happened to one job (or to a queue)
- `Snapshot`    every second: the worker's counters, cumulative, so that a lost batch loses no count

A gap between one batch's ``first + len(records)`` and the next one's ``first`` is what was dropped.  All times are
nanoseconds since the Unix epoch; ``0`` means "not seen".  ``bytes`` are as they stood on the wire.
"""

from __future__ import annotations

from enum import IntEnum
from hashlib import blake2b
from typing import Final

import msgspec

VALUE_LIMIT: Final = 4096
"""Bytes of a job's value that travel whole; a longer one travels as its framework's `summary`."""

BATCH_LIMIT: Final = 64 * 1024
"""Bytes in one datagram: below the default ``SO_SNDBUF``, so a batch goes whole or not at all."""


class Op(IntEnum):
    """What a command did to a job, as far as the command and its reply show it."""

    ENQUEUE = 1
    """Pushed to a queue. New, a retry or a recovery: the tracer tells, from what it knows of the job."""
    SCHEDULE = 2
    """Put aside until a time (``number``: Unix ms; -1 if its score is no time).

    With a ``dest``, which is ``key``: workers take it from there themselves, at once if that has come.
    """
    MOVE = 3
    """From one waiting place to another (scheduled to queue, dead letter to queue): same job, same attempt.

    Without a ``dest``: taken out of ``key``, to be pushed. By reference: back to its queue, from wherever it is.
    """
    DEQUEUE = 4
    """Delivered to a consumer.

    ``dest`` is what will name the job's holder when it is acknowledged (the processing list, a consumer group), empty
    where nothing will. ``verdict`` is UNKNOWN where nobody will ever say how it ended. ``number`` is 0 where it takes
    a `START` to make it an attempt: until then, a `SCHEDULE` only puts the job back as it was.
    """
    START = 5
    """The worker said that it begins (``number``: with which attempt, from 1).

    With a ``dest``: what will name the job's holder when it is acknowledged, if the `DEQUEUE` could not know.
    """
    HEARTBEAT = 6
    """The worker said that it lives (``number``: seconds it is good for; 0: taken back)."""
    OUTCOME = 7
    """How the attempt ended is now known (``verdict``), but the job is still held: `ACK` follows."""
    SETTLE = 8
    """The attempt ended (``verdict``) and the job is no longer held."""
    ACK = 9
    """No longer held by ``dest``, else ``key`` (``number``: how many; 0 means somebody took it away before).

    ``verdict``: how it ended, if nobody has said so before.
    """
    RETRY = 10
    """Given back by its worker for another attempt; ``verdict`` is UNKNOWN if this one did not fail."""
    DEAD_LETTER = 11
    """Put on the dead letter list."""
    RECLAIM = 12
    """Taken from its holder (``dest``, else ``key``) by somebody else: a reaper, another consumer."""
    CANCEL = 13
    """Removed while waiting (``number``: how many)."""
    PURGE = 14
    """A whole queue emptied; ``verdict`` is UNKNOWN where the reply leaves open whether there was anything."""
    DESCRIBE = 15
    """What a job is: its value seen in passing. Without one: where it waits (``number``: until when, Unix ms).

    Changes no state.
    """
    NEXT_POP = 16
    """The connection asks for its next job: the last one is over, where a queue says ``end: next_pop``."""
    PAUSE = 17
    RESUME = 18
    DRAIN = 19
    PEEK = 20
    THROTTLE = 21
    """The producer was told to wait (``number``: ms)."""
    CLAIM = 22
    """Taken out of a scheduled set: to be worked on or moved, if it was due; before that, cancelled."""
    OVER = 23
    """The worker has done with it.

    How it ended (`SETTLE`, `RETRY`, a push) is told at once, or not at all: then it is ``verdict``, marked as inferred.
    """
    ASK = 24
    """One of a worker's threads, which share its connections, asks for its next job."""
    EMPTY = 25
    """There was none for it: it will ask again."""
    BEAT = 26
    """The worker of such threads lives (``number``: 0, it leaves).

    What it has in hand it has just said, by `HEARTBEAT`.
    """


class Verdict(IntEnum):
    """How an attempt ended."""

    NONE = 0
    SUCCESS = 1
    FAILURE = 2
    UNKNOWN = 3


class Outcome(IntEnum):
    """What became of the command."""

    OK = 0
    ERROR = 1
    """Redis answered with an error; `JobEvent.error` has its first word."""
    UNKNOWN = 2
    """Its reply will never be seen: the connection was lost, went blind, or asked for no replies."""
    UNDELIVERED = 3
    """Popped, but the client had gone before the bytes could be written to it."""


class Carry(IntEnum):
    """How the stored context came to be where it is."""

    NONE = 0
    """No context in the value: there is no slot, or it was left empty."""
    WRITTEN = 1
    """This command wrote it (`JobEvent.context` is ours; its span id is the enqueue span's)."""
    FOUND = 2
    """It was there before and was kept."""
    ADOPTED = 3
    """Bare ids: the trace id was kept, the span id replaced by ours; ``previous`` is the old span id."""
    DERIVED = 4
    """Nothing is written here; both sides compute it from the job's identity."""
    REPLACED = 5
    """This command wrote it in place of ``previous``, the context of an earlier job that this one was copied from."""


class Hello(msgspec.Struct, array_like=True, tag=0, frozen=True):
    worker: int
    pid: int
    boot: int
    """Time of this worker's start, ns: tells a restarted worker from the one before."""
    version: str


class Connection(msgspec.Struct, array_like=True, tag=1, frozen=True):
    worker: int
    conn: int
    """Number of the connection, never reused by this worker."""
    at: int
    open: bool
    listener: str
    """Address the client connected to, as configured."""
    upstream: str
    """Address of Redis, as configured, without credentials."""
    client: str
    """Peer address; empty for a unix socket."""
    name: str = ""
    """From CLIENT SETNAME or HELLO SETNAME."""
    library: str = ""
    """From CLIENT SETINFO, ``name/version``."""


class JobEvent(msgspec.Struct, array_like=True, tag=2, gc=False):
    op: Op
    framework: str
    conn: int
    db: int
    at: int
    """When the command was read from the client."""
    done: int
    """When its reply was written to the client (for `Outcome.UNKNOWN`: when it was given up)."""
    key: bytes
    """The key acted on: the queue of an enqueue, the source of a dequeue."""
    queue: str
    """The queue's name in the framework's own word; empty where the key names none (a processing list)."""
    dest: bytes = b""
    """The second key, where the command moves a job."""
    ref: bytes = b""
    """The job's id where command or reply name it outside the value."""
    value: bytes = b""
    """The job as stored, up to `VALUE_LIMIT`; longer: `frameworks.base.Framework.summary` of it."""
    digest: bytes = b""
    """16 bytes of BLAKE2b of the stored value, when ``value`` is not the whole of it and says no id."""
    size: int = 0
    """Bytes of the stored value."""
    context: bytes = b""
    """Stored context: trace id (16), span id (8), flags (1), and its tracestate; or nothing."""
    carry: Carry = Carry.NONE
    previous: bytes = b""
    """What was replaced: a span id (8) by `Carry.ADOPTED`, a context by `Carry.REPLACED`."""
    number: int = -1
    """The operation's number: queue length after a push, elements removed; -1 where there is none."""
    verdict: Verdict = Verdict.NONE
    outcome: Outcome = Outcome.OK
    error: str = ""
    """First word of Redis' error reply; or the framework's own error text for a settle."""
    worker: str = ""
    """Who has the job, where the command says so: by its processing list, its heartbeat, its consumer's name."""
    batch: int = 1
    """How many jobs the same command carried."""


class Snapshot(msgspec.Struct, array_like=True, tag=3):
    worker: int
    at: int
    gauges: dict[str, int]
    counters: list[tuple[str, tuple[str, ...], int]]
    """(name, label values, cumulative count); names and label names are listed in `proxy.admin.catalogue`.

    There may be more than fit into a datagram: then they come in parts, each about other counters.
    Neither gauges nor counters: the worker has died, and whoever says so has its counts among its own.
    """


Record = Hello | Connection | JobEvent | Snapshot


class Batch(msgspec.Struct, array_like=True):
    worker: int
    first: int
    """Number of the first record since this worker's start."""
    records: list[Record]


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Batch)


def digest(value: bytes) -> bytes:
    """16 bytes that name a job without an id: of its stored value, the same in the relay and in the tracer."""
    return blake2b(value, digest_size=16).digest()


def encode(batch: Batch) -> bytes:
    return _encoder.encode(batch)


HEAD_LIMIT: Final = 24
"""Bytes of a datagram before its records, at most."""


def append(records: bytearray, record: Record) -> None:
    """Encode a record behind those that are there."""
    _encoder.encode_into(record, records, -1)


def datagram(worker: int, first: int, count: int, records: bytearray) -> bytes:
    """What `encode` makes of a `Batch`, of ``count`` records that were encoded by `append`."""
    return b"\x93%s%s\xdd%s%s" % (_encoder.encode(worker), _encoder.encode(first), count.to_bytes(4, "big"), records)


def decode(data: bytes) -> Batch:
    """Raises `msgspec.DecodeError` (a ValueError) on anything that `encode` did not make."""
    return _decoder.decode(data)
