"""A slot: the place in a job where a context rides."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import ClassVar, Protocol, TypeAlias

import msgspec

from proxy.context.traceparent import SpanContext


class Swap(msgspec.Struct, frozen=True, gc=False):
    """Of a job in several arguments, the one that is ``old`` becomes ``new``."""

    old: bytes
    new: bytes


Edit: TypeAlias = bytes | tuple[bytes, ...] | Swap
"""What becomes of the argument that held the job: another value for it, or arguments to add at the command's end."""


class State(IntEnum):
    ABSENT = 0
    """This kind of job has no slot: its context is derived from its identity, or it has none."""
    EMPTY = 1
    """There is a slot and nothing in it."""
    FOUND = 2
    """There is a valid context in it."""
    INVALID = 3
    """There is something else in it: left alone, and treated as no slot."""
    REFUSED = 4
    """Nothing may be written into this value: a precondition does not hold."""
    BEGUN = 5
    """There is nothing in it, but the job names its trace at another place: `proxy.context.begun`."""


class Slot(Protocol):
    @property
    def state(self) -> State: ...

    @property
    def reason(self) -> str:
        """Why, for `State.INVALID` and `State.REFUSED`: one word of a fixed set, it becomes a metric's label."""

    @property
    def context(self) -> SpanContext | None:
        """What was found."""

    @property
    def bare(self) -> bool:
        """The slot holds bare ids, which say neither who made them nor whether they were ever exported."""

    @property
    def copied(self) -> bool:
        """What was found belongs to an earlier job, from which this one was copied."""

    def write(self, context: SpanContext) -> Edit:
        """Only for a slot that is empty, bare or copied."""


class EmptySlot(msgspec.Struct, frozen=True, gc=False):
    """What every slot has in common that waits for its first context."""

    state: ClassVar[State] = State.EMPTY
    reason: ClassVar[str] = ""
    context: ClassVar[SpanContext | None] = None
    bare: ClassVar[bool] = False
    copied: ClassVar[bool] = False

    def beside(self) -> Mapping[str, object]:
        """What else is in the object that the context would be a member of, decoded."""
        return {}


class NoSlot(msgspec.Struct, frozen=True, gc=False):
    """The slot of a value that has none, or whose slot may not be touched."""

    state: State = State.ABSENT
    reason: str = ""
    context: SpanContext | None = None
    bare: bool = False
    copied: bool = False

    def write(self, context: SpanContext) -> Edit:
        raise AssertionError(f"nothing may be written here: {self.state.name}")


ABSENT = NoSlot()
