"""One client's conversation with Redis, without I/O: bytes in, bytes out, events on the side.

`client_data` answers what goes to Redis: the client's bytes, except that an enqueued job may carry a context now.
`upstream_data` is told of replies after they were written to the client, and only looks.  Whatever goes wrong in here,
the bytes go on: the session turns blind, counts why, and from then on gives back what it gets.
"""

from __future__ import annotations

import traceback
from pathlib import Path

from msgspec.structs import replace

from proxy.context.carry import Carried, Named
from proxy.context.slot import Swap
from proxy.events import Outcome
from proxy.frameworks.base import Intent, Mismatch
from proxy.relay.context import RelayContext
from proxy.relay.ledger import CONTROLS, Ledger
from proxy.relay.pending import OutOfStep, Pending, Place
from proxy.relay.reporter import Reporter
from proxy.resp.commands import encode, encoded_size, with_last
from proxy.resp.numbers import Malformed
from proxy.resp.requests import Command, RequestFramer
from proxy.resp.whole import WholeCommands, command_size

_BLIND_BY_DESIGN = {b"MONITOR": "monitor", b"SYNC": "replication", b"PSYNC": "replication"}
_JOBS_LIMIT = 1000
"""Jobs of one command that are looked at: about 20 ms."""
_PENDING_LIMIT = 8 * 1024 * 1024
"""Bytes of commands whose replies are awaited, for each connection."""


_whole = WholeCommands()


class Session:
    """``now`` is always nanoseconds since the epoch. No method raises."""

    __slots__ = ("_conn", "_context", "_done", "_framer", "_ledger", "_out", "_reporter", "_whole", "blind")

    def __init__(self, context: RelayContext, conn: int, listener: str, upstream: str, client: str) -> None:
        self._context = context
        self._conn = conn
        self._framer = RequestFramer(context.watched, context.router.claims, context.max_inspect)
        self._ledger = Ledger(context.max_inspect)
        self.blind = not context.router.frameworks
        """From now on bytes are passed without a look; from the start, where there is nothing to look for."""
        self._out: list[bytes] = []  # for Redis, from the chunk being read
        self._done = 0  # how much of the framer's buffer is in there
        self._reporter = Reporter(context, conn, listener, upstream, client)
        self._whole = context.max_inspect

    def settings_changed(self) -> None:
        """The context goes by other settings now. What waits for its reply is finished as it was begun.

        One that is blind stays so: nobody knows where in its streams a command begins.
        """
        context = self._context
        self._framer.watch(context.watched, context.router.claims, context.max_inspect)
        self._whole = context.max_inspect

    # ---- from the client

    def client_data(self, data: bytes, now: int) -> bytes:
        """Bytes for Redis; fewer than came while a job is held, more where a context went in."""
        if self.blind:
            return self.client_eof(now) + data
        try:
            if self._framer.idle and len(data) <= self._whole:
                commands = _whole.read(data)
                if commands is not None:
                    return self._read_whole(commands, data, now)
            return self._read(data, now)
        except Exception as error:  # noqa: BLE001 - whatever it is, the bytes go on
            return self._out_of_sight(error, now)

    def client_eof(self, now: int) -> bytes:
        """What is still held, as it came: for when the client sends no more, or the session has turned blind."""
        framer = self._framer
        held = framer.held
        framer.released += len(held)
        return held

    def _read(self, data: bytes, now: int) -> bytes:
        framer = self._framer
        self._done = framer.released
        passed = framer.feed(data)
        if passed is not None:
            return passed
        out = self._out
        self._done = framer.released
        while (command := framer.next()) is not None:
            if command.plain:
                self._plain(command.plain)
            self._command(command, now)
        if framer.plain:
            self._plain(framer.plain)
            framer.plain = 0
        if framer.oversize:
            self._missed()
        if self._done < framer.free:
            out.append(framer.buffer[self._done : framer.free])
            self._done = framer.free
        framer.keep()
        if len(out) == 1:
            return out.pop()
        joined = b"".join(out)
        out.clear()
        return joined

    def _plain(self, count: int) -> None:
        self._ledger.plain(count)
        self._context.counters.commands += count

    def _missed(self) -> None:
        """Jobs too big to look at went by."""
        for key in self._framer.oversize:
            framework = self._context.router.owner(key)
            if framework is not None:
                self._context.counters.injection(framework.name, "oversize")
        self._framer.oversize.clear()

    def _command(self, command: Command, now: int) -> None:
        intent = self._meant(command.name, command.args, now)
        if intent is None:
            return
        carried = self._carry(intent, inject=not command.inline)
        if any(one.edit is not None for one in carried) and not self._rewrite(command, intent, carried):
            carried = self._uninjected(intent)
        self._expect(intent, carried, now)

    def _read_whole(self, commands: list[list[bytes]], data: bytes, now: int) -> bytes:
        """The same for a chunk that is nothing but whole commands, which is what most chunks are."""
        names, nobodys = self._context.names, self._context.router.nobodys
        plain = read = at = done = 0
        out: list[bytes] = []
        try:
            for number, args in enumerate(commands):
                name = names[args[0]]
                if name is None or nobodys(name, args):
                    plain += 1
                    continue
                if plain:
                    self._plain(plain)
                    plain = 0
                intent = self._meant(name, args, now)
                if intent is None:
                    continue
                carried = self._carry(intent, inject=True)
                if carried and any(one.edit is not None for one in carried):
                    start = at + sum(map(command_size, commands[read:number]))
                    read, at = number + 1, start + command_size(args)
                    edited = _edited(data[start:at], intent, carried)
                    if edited is None:
                        carried = self._uninjected(intent)
                    else:
                        _store(intent, edited[1], carried)
                        out += (data[done:start], edited[0])
                        done = at
                self._expect(intent, carried, now)
            if plain:
                self._plain(plain)
        except Exception as error:  # noqa: BLE001 - whatever it is, the bytes go on
            self._turn_blind(error, now)
        return b"".join((*out, data[done:])) if out else data

    def _meant(self, name: bytes, args: list[bytes], now: int) -> Intent | None:
        """What a watched command means; None: nothing that would need its reply, and that is written down already."""
        ledger, context = self._ledger, self._context
        context.counters.commands += 1
        if name in CONTROLS:
            reason = _BLIND_BY_DESIGN.get(name)
            if reason is not None:
                raise OutOfStep(reason)
            self._reporter.introduce(name, args)
            ledger.control(name, args)
            return None
        intent = context.router.read(name, args)
        if intent is not None and intent.strange:
            context.unrecognised(intent.framework.name, self._conn)
            intent = None
        if intent is None or not self._bearable(intent):
            ledger.plain(1)
            return None
        if intent.pops:
            self._reporter.pops(intent.framework, ledger.db, now)
        return intent

    def _expect(self, intent: Intent, carried: list[Carried], now: int) -> None:
        """Wait for the reply of a command that goes out with what it carries."""
        ledger, counters = self._ledger, self._context.counters
        for one in carried:
            counters.carried(intent.framework.name, one)
        size = sum(map(len, intent.args))
        pending = Pending(Place.JOB, at=now, intent=intent, carried=carried, size=size)
        if ledger.size + size > _PENDING_LIMIT:
            # Its client does not read replies. What becomes of the job is not waited for.
            ledger.plain(1)
            self._reporter.unseen(pending, ledger.db, now, Outcome.UNKNOWN)
        elif not ledger.expect(pending):
            self._reporter.unseen(pending, ledger.db, now, Outcome.UNKNOWN)

    def _bearable(self, intent: Intent) -> bool:
        """Not so many jobs in one command that all other clients would have to wait for them to be looked at."""
        if len(intent.jobs) <= _JOBS_LIMIT:
            return True
        self._context.counters.injection(intent.framework.name, "oversize", len(intent.jobs))
        return False

    def _carry(self, intent: Intent, *, inject: bool) -> list[Carried]:
        """What goes with each job of an enqueue."""
        if not intent.jobs:
            return []
        framework, context = intent.framework, self._context
        inject = inject and context.inject and framework.inject
        sampler = context.rates.sampler(framework.queue(intent.key), intent.key)
        carried = []
        for job in intent.jobs:
            identity = framework.identity(job.value)
            named = None
            if identity is not None:
                named = Named(framework.family, identity.submission, identity.attempt, identity.hop)
            slot = framework.slot(job.value)
            if not context.carrier.trusts:
                slot = context.carrier.distrust(slot, job.value, named)
            carried.append(context.carrier.carry(slot, named, sampler, inject=inject))
        return carried

    def _uninjected(self, intent: Intent) -> list[Carried]:
        """What goes with each job of an enqueue that has to pass as it is."""
        return [replace(one, reason=one.reason and "split") for one in self._carry(intent, inject=False)]

    def _rewrite(self, command: Command, intent: Intent, carried: list[Carried]) -> bool:
        """Send the command with what it carries.

        False: too much of it has gone out already, from an earlier chunk, or it is not written as clients write it.
        """
        original = self._framer.buffer[command.start : command.end]
        edited = _edited(original, intent, carried) if len(original) == encoded_size(command.args) else None
        if edited is None:
            return False
        rewritten, args = edited
        gone = max(0, self._done - command.start)
        if rewritten[:gone] != original[:gone]:
            return False
        _store(intent, args, carried)
        self._out.append(self._framer.buffer[self._done : command.start])
        self._out.append(rewritten[gone:])
        self._done = command.end
        return True

    # ---- from Redis

    def upstream_data(self, data: bytes, now: int, delivered: bool) -> None:
        """Replies that were written to the client at ``now``; ``delivered=False``: there was no client any more."""
        if self.blind:
            return
        ledger = self._ledger
        try:
            answered = ledger.whole(data)
            outcome = Outcome.OK if delivered else Outcome.UNDELIVERED
            for pending, reply in ledger.feed(data) if answered is None else answered:
                self._reporter.resolve(pending, reply, ledger.db, now, outcome)
            self._framer.heads = ledger.admitted
        except Exception as error:  # noqa: BLE001 - it only observes
            # What the client had sent and is held goes out with its next bytes, or with its end.
            self._turn_blind(error, now)

    # ---- the end, of one kind or the other

    def closed(self, now: int) -> None:
        """Either side is gone for good."""
        if not self.blind:
            self._give_up(now)
        self._reporter.closed(now)

    def _out_of_sight(self, error: Exception, now: int) -> bytes:
        """Turn blind in the midst of a chunk from the client; what of it is not in ``_out`` yet follows as it came."""
        self._framer.released = self._done
        out = b"".join((*self._out, self.client_eof(now)))
        self._out.clear()
        self._turn_blind(error, now)
        return out

    def _turn_blind(self, error: Exception, now: int) -> None:
        if isinstance(error, OutOfStep):
            reason = error.reason
        elif isinstance(error, Mismatch):
            reason = "reply_mismatch"
        else:
            reason = "unknown_type" if isinstance(error, Malformed) else "bug"
        self.blind = True
        self._context.counters.blind[reason] += 1
        self._context.notice(reason, self._conn, _place(error) if reason == "bug" else "")
        self._give_up(now)

    def _give_up(self, now: int) -> None:
        """Nothing that is pending will have a reply."""
        try:
            for pending in self._ledger.unresolved():
                self._reporter.unseen(pending, self._ledger.db, now, Outcome.UNKNOWN)
        except Exception:  # noqa: BLE001 - there is nothing left to protect but the count
            self._context.counters.blind["bug"] += 1


def _store(intent: Intent, args: list[bytes], carried: list[Carried]) -> None:
    """Go on with the arguments that reach Redis."""
    for job, one in zip(intent.jobs, carried, strict=True):
        if isinstance(one.edit, bytes) and job.value is intent.args[job.index]:
            job.value = one.edit
    intent.args = args


def _edited(command: bytes, intent: Intent, carried: list[Carried]) -> tuple[bytes, list[bytes]] | None:
    """A whole command with what its jobs carry, and its arguments; None: it is not written as clients write it.

    It has as many bytes as if it were.
    """
    args, edit = intent.args, carried[-1].edit
    if len(carried) == 1 and isinstance(edit, bytes) and intent.jobs[0].index == len(args) - 1:
        return with_last(command, args[-1], edit), [*args[:-1], edit]
    if encode(args) != command:
        return None
    edited = list(args)
    for job, one in zip(intent.jobs, carried, strict=True):
        if isinstance(one.edit, bytes):
            edited[job.index] = one.edit
        elif isinstance(one.edit, Swap):
            edited[edited.index(one.edit.old, job.index)] = one.edit.new
        elif one.edit is not None:
            edited.extend(one.edit)
    return encode(edited), edited


def _place(error: Exception) -> str:
    """Where an unexpected error came from. Not its text: that may quote what a client sent."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{type(error).__name__} at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
