"""The settings of queues that the user describes: lists, streams, sorted sets, and scripts of his own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

from proxy.config.framework import FrameworkSettings
from proxy.config.values import (
    Conflict,
    Count,
    Glob,
    KeyPath,
    Natural,
    OptionalGlob,
    OptionalPath,
    Path,
    Place,
    Section,
    SlotPath,
    Template,
    Text,
)


class JobPaths(FrameworkSettings, frozen=True):
    """Where jobs of the user's own format have what. Dotted paths into the job; empty: it has no such thing."""

    slot: SlotPath = "traceparent"
    """Key that the context is written to; with a path, in an object that the job has already."""
    identity: tuple[Path, ...] = ()
    """What names one submission and is repeated by its retries; for jobs whose retry drops ``slot``."""
    id: OptionalPath = "id"
    """The job's id."""
    type: OptionalPath = "type"
    """The job's type, or its handler."""
    attempt: OptionalPath = ""
    """Number of this attempt, 0 for the first."""
    max_attempts: OptionalPath = ""
    """How many attempts there are at most."""
    created_at: OptionalPath = ""
    """When the job was submitted."""
    enqueued_at: OptionalPath = ""
    """When it was put on the queue this time."""
    scheduled_at: OptionalPath = ""
    """When it is due."""
    priority: OptionalPath = ""
    """Its priority."""
    tenant: OptionalPath = ""
    """On whose behalf it runs."""
    correlation_id: Template = ""
    """The business operation that it belongs to: a path, or a text with paths in it, such as ``order-{order_id}``."""
    idempotency_key: OptionalPath = ""
    """What keeps it from being done twice."""
    parent_id: OptionalPath = ""
    """Id of the job that submitted it."""
    depends_on: OptionalPath = ""
    """Ids of the jobs that it waits for."""
    batch_id: OptionalPath = ""
    """Id of the batch that it is part of."""
    error: OptionalPath = ""
    """Why it failed."""
    trace_id: OptionalPath = ""
    """A trace id that the application keeps in the job: in hex, as a UUID, or as ``trace-<uuid>``."""
    span_id: OptionalPath = ""
    """The span id beside it."""
    parent_span_id: OptionalPath = ""
    """The span that enqueued it, where it is not ``span_id`` that says so."""
    traceparent: OptionalPath = ""
    """A context of the application's own, in another place than ``slot``; it is read, and never written."""


class ListSettings(JobPaths, frozen=True):
    """Plain Redis lists of JSON jobs, named by the user. Paths lead into the JSON."""

    queues: tuple[Glob, ...] = ()
    """Globs of the lists that jobs are pushed to and popped from."""
    processing: tuple[Glob, ...] = ()
    """Globs of the lists that hold jobs while they are worked on."""
    completed: tuple[Glob, ...] = ()
    """Globs of the lists that finished jobs are put on."""
    dead_letter: tuple[Glob, ...] = ()
    """Globs of the lists that given-up jobs are put on."""
    end: Literal["ack", "next_pop", "none"] = "ack"
    """What ends a job: its removal from ``processing``, the worker's next pop, or nothing that can be seen."""


class StreamSettings(JobPaths, frozen=True):
    """Redis streams, named by the user. A path's first name is a field; the rest leads into the JSON it holds."""

    queues: tuple[Glob, ...] = ()
    """Globs of the streams that jobs are added to."""
    id: OptionalPath = ""
    """The job's id; empty: the entry's id."""


class ZsetSettings(JobPaths, frozen=True):
    """Sorted sets, named by the user, that hold JSON jobs until they are due. Nothing is ever written into them."""

    queues: tuple[Glob, ...] = ()
    """Globs of the sorted sets that jobs are added to."""
    end: Literal["next_pop", "none"] = "none"
    """What ends a job that is popped from there: the worker's next pop, or nothing that can be seen."""


class ScriptEntry(Section, frozen=True):
    """One Lua script, or function, of the user's own. Keys and arguments are counted from 1."""

    keys: Count = 1
    """How many keys it is given."""
    key: OptionalGlob = ""
    """Glob of one of them: besides their number, what it is known by."""
    key_position: Count = 1
    """Which of them that is."""
    first_argument: Text = ""
    """What its first argument has to be; empty: anything."""
    name: Text = ""
    """Besides all that, the function's name (FCALL) or the script's SHA1; empty: any."""
    does: Literal["", "enqueue", "dequeue", "ack", "success", "failure", "retry", "dead_letter"] = ""
    """What it does to a job."""
    queue: Count = 1
    """Which key names the queue."""
    held: Natural = 0
    """Which key holds jobs from their dequeue to their acknowledgement; 0: none, or it is not among the keys."""
    job: Place = ""
    """Where the job is: ``argument 2``, ``arguments 2`` (that and all that follow), ``reply``, ``reply 1.2``."""
    id: Place = ""
    """Where the job's id is, where it is not in the job or there is no job."""
    if_reply: bool = False
    """Nil and 0 as a reply mean that nothing was done."""


class ScriptSettings(JobPaths, frozen=True):
    """Lua scripts and functions of the user's own. Paths lead into the jobs, where these are JSON."""

    inject: bool = False
    """Write a context into the jobs that are arguments of an enqueue, where they are JSON objects."""
    entries: tuple[ScriptEntry, ...] = ()
    """What each script does; the first entry that fits a command has it."""


def unusable(entries: Sequence[ScriptEntry]) -> Iterator[Conflict]:
    """What is missing in entries of scripts, and positions beyond their keys."""
    for number, entry in enumerate(entries):
        path: KeyPath = ("frameworks", "script", "entries", number)
        for name in ("key", "does"):
            if not getattr(entry, name):
                yield Conflict(
                    (*path, name), "what the script is known by, and what it does", "nothing", (*path, "keys")
                )
        if not entry.job and not entry.id:
            yield Conflict((*path, "job"), "where the job or its id is", "neither", (*path, "id"))
        for name in ("key_position", "queue", "held"):
            if getattr(entry, name) > entry.keys:
                found = str(getattr(entry, name))
                yield Conflict((*path, name), "one of its keys", found, (*path, "keys"))
