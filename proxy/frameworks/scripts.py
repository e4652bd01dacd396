"""Lua scripts that libraries run in Redis, known by the keys that they are given.

A script's digest changes with nearly every version of its library; the list of its keys hardly ever does, and it says
what the arguments are.  So scripts are known by their shape: how many keys, and what each is called after the queue's
own part of the name.  Their texts, wherever one is seen, only tell a shape that is not known from a stranger's script.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

ANY: Final = "*"
"""In a shape: any key of the same queue."""
OPEN: Final = "?"
"""In a shape: anything, also nothing."""
BASE: Final = "."
"""In a shape: what all keys of the queue begin with, and no more."""
BARE: Final = "-"
"""In a shape: the same, but without its last colon. Never all that there is."""
PROSE_WITHIN: Final = 512
"""Bytes at a text's beginning that say whose it is."""


class Shape:
    """The keys of one kind of script."""

    __slots__ = ("_anchor", "_any", "_bare", "_ending", "_fixed", "_suffixes", "count", "first", "kind")

    def __init__(self, kind: str, words: str) -> None:
        names = words.split()
        suffixes = [b"" if word == BASE else word.encode() for word in names]
        self.kind: Final = kind
        self.count: Final = len(names)
        self.first: Final = b"" if names[0] in (ANY, OPEN, BARE) else suffixes[0].rpartition(b":")[2]
        """What follows the last colon of the first key; nothing where that says nothing."""
        self._fixed = [(at, suffixes[at]) for at, word in enumerate(names) if word not in (ANY, OPEN, BARE)]
        self._any = [at for at, word in enumerate(names) if word == ANY]
        self._bare = [at for at, word in enumerate(names) if word == BARE]
        self._suffixes = suffixes if len(self._fixed) == len(names) else None
        self._anchor, self._ending = self._fixed[0]

    def base(self, keys: Sequence[bytes]) -> bytes:
        """What all the keys begin with, up to a colon; nothing if they are not called like this."""
        anchor, ending = keys[self._anchor], self._ending
        base = anchor.removesuffix(ending) if ending else anchor
        if not base.endswith(b":") or len(base) + len(ending) != len(anchor):
            return b""
        if self._suffixes is not None:
            return base if keys == [base + suffix for suffix in self._suffixes] else b""
        for at, suffix in self._fixed:
            if keys[at] != base + suffix:
                return b""
        if self._bare and any(keys[at] != base[:-1] for at in self._bare):
            return b""
        return base if all(keys[at].startswith(base) for at in self._any) else b""


class Script(msgspec.Struct, frozen=True):
    """A script that was recognised."""

    kind: str
    base: bytes
    """What all keys of its queue begin with, up to the last colon: ``bull:mails:``."""
    keys: Sequence[bytes]
    args: Sequence[bytes]
    """Its arguments, without the keys."""
    at: int
    """Where in the command those begin."""


class Scripts:
    """The shapes of one library: for each kind of script the lists of its keys, in every version."""

    def __init__(
        self,
        kinds: Mapping[str, Sequence[str]],
        prose: str,
        digests: Sequence[str] = (),
        signatures: Sequence[tuple[int, bytes]] = (),
    ) -> None:
        """``prose`` is how their texts begin; ``digests``: of those that have never changed.

        ``signatures``: of scripts whose keys are no list of a fixed length, which the framework knows by itself.
        """
        self._shapes: dict[tuple[int, bytes], list[Shape]] = {}
        for shape in (Shape(kind, words) for kind, lists in kinds.items() for words in lists):
            self._shapes.setdefault((shape.count, shape.first), []).append(shape)
        self.signatures: Final = frozenset((*self._shapes, *signatures))
        """Number of keys, and what follows the last colon of the first: enough to ask for more."""
        self.digests: Final = frozenset(digest.encode() for digest in digests)
        """Without the keys they say no more than a text does."""
        self._prose = re.compile(prose.encode())

    def read(self, args: Sequence[bytes]) -> Script | None:
        """What a command runs (EVAL or EVALSHA); None if it is none of these."""
        if len(args) < 4 or not args[2].isdigit() or len(args[2]) > 2:
            return None
        count = int(args[2])
        keys = list(args[3 : 3 + count])
        if len(keys) < count or not keys:
            return None
        for first in (keys[0].rpartition(b":")[2], b""):
            for shape in self._shapes.get((count, first), ()):
                base = shape.base(keys)
                if base:
                    return Script(shape.kind, base, keys, args[3 + count :], 3 + count)
        return None

    def wrote(self, text: bytes) -> bool:
        """Whether a text is that of a script which ought to be known."""
        return self._prose.search(text, 0, PROSE_WITHIN) is not None
