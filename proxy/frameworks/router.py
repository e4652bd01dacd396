"""Whose command it is: one look-up by name, one by key, however many frameworks and queues there are.

Some frameworks let the user name the queues as he likes.  Their jobs are known by what they begin with: a push of
such a job, or a blocking pop that delivers one, shows whose key it is, and that is remembered.

Scripts are known by their shape (`proxy.frameworks.scripts`), or by their arguments, each time anew.  Where neither is
known, but the text is, as it went by on any connection, somebody has to be told: a version of the library that is newer
than redspan.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha1
from typing import Final

from proxy.frameworks.base import HEAD, Framework, Frameworks, Intent, Operation
from proxy.frameworks.list_shape import PUSHES
from proxy.resp.commands import FIRST, RUNS, SCRIPTS, keys
from proxy.resp.reply import Reply

_REMEMBERED: Final = 4096
"""Keys whose owner is remembered. More than that are keys of ever new names, which are not queues."""
_LEARNED: Final = 4096
"""Keys whose owner was known by a job. More than that are keys of ever new names, too."""
_REPLIES: Final = frozenset((b"BLPOP", b"BRPOP", b"BLMPOP", b"BLMOVE", b"BRPOPLPUSH", b"XREADGROUP"))
"""Commands that wait for a job, and tell its key only with it."""
_JOB_AT: Final = dict.fromkeys(PUSHES, 2)
"""Which argument of a command is a job, if any is; of others, such as XADD, the last one."""
_LEAVES: Final = 8
"""Strings of a reply that are looked at."""
_OF_SCRIPTS: Final = RUNS | {b"SCRIPT"}
_TEXTS: Final = 4096
"""Scripts whose texts were seen and are somebody's."""


LONG: Final = 1024
"""Bytes of a key that can be a queue's; a longer one is nobody's, so that what is remembered of keys is bounded."""


class _Circle:
    """Frameworks that want to see the same commands, and what each of these commands' keys is to them.

    A key is only looked at for those who would have a use for it: the keys of a cache are
    ever new ones, and few frameworks want to see SET and GET.
    """

    __slots__ = ("_frameworks", "known")

    def __init__(self, frameworks: tuple[Framework, ...]) -> None:
        self._frameworks = frameworks
        self.known: dict[bytes, tuple[Framework, ...]] = {}

    def owners(self, key: bytes, learned: Mapping[bytes, Framework]) -> tuple[Framework, ...]:
        """Those that claim a key, in order."""
        owners = self.known.get(key)
        if owners is None:
            if len(key) > LONG:
                return ()
            if len(self.known) >= _REMEMBERED:
                self.known.clear()
            owners = tuple([framework for framework in self._frameworks if framework.role(key) is not None])
            taught = learned.get(key)
            if taught in self._frameworks and taught not in owners:
                owners = (*owners, learned[key])
            self.known[key] = owners
        return owners


class Router:
    def __init__(self, frameworks: Frameworks) -> None:
        self.frameworks = tuple(frameworks)
        self.commands: frozenset[bytes] = frozenset().union(*(framework.commands for framework in frameworks))
        self._scripted: dict[tuple[int, bytes], list[Framework]] = {}
        self._writers = [framework for framework in self.frameworks if framework.scripts is not None]
        self._texts: dict[bytes, Framework] = {}
        self._digests: dict[bytes, Framework] = {}
        for framework in self._writers:
            assert framework.scripts is not None
            self._digests.update(dict.fromkeys(framework.scripts.digests, framework))
            for signature in framework.scripts.signatures:
                self._scripted.setdefault(signature, []).append(framework)
        if self._writers:
            self.commands |= {b"SCRIPT", *RUNS}
        self.rewritable: frozenset[bytes] = self.commands & (PUSHES | {b"XADD"}).union(
            *(framework.rewritable for framework in frameworks)
        )
        """Commands that an enqueue may be: held until they are whole."""
        pushes = PUSHES | {b"XADD"} if any(framework.heads for framework in frameworks) else frozenset()
        self._open = self.rewritable & (SCRIPTS | pushes)
        circles: dict[tuple[Framework, ...], _Circle] = {}
        self._circles: dict[bytes, _Circle] = {}
        for name in self.commands:
            wanting = tuple(framework for framework in self.frameworks if name in framework.commands)
            self._circles[name] = circles.setdefault(wanting, _Circle(wanting))
        self._everybody = _Circle(self.frameworks)
        self._learned: dict[bytes, Framework] = {}
        self._heads = {head: framework for framework in reversed(self.frameworks) for head in framework.heads}
        self._quick = {
            name: (circle, _JOB_AT.get(name, -1) if name in self.rewritable else 0)
            for name, circle in self._circles.items()
            if name in FIRST
        }
        """By name of a command with one key: those it may concern, and which argument may show that it is a job."""
        self._runners = [one for one in self.frameworks if one.heads and one.commands & SCRIPTS and one.scripts is None]
        """Those who know a script by its arguments alone."""

    def owner(self, key: bytes) -> Framework | None:
        """The framework that ``key`` belongs to; the first one configured, where several claim it."""
        if len(key) > LONG:
            return None
        claimed = (framework for framework in self.frameworks if framework.role(key) is not None)
        return next(claimed, None) or self._learned.get(key)

    def claims(self, name: bytes, key: bytes) -> bool:
        """Whether a command may be anybody's: its argument 1 is somebody's key, or the rest may show whose."""
        name = name.upper()
        return name in self._open or bool(self._circles[name].owners(key, self._learned))

    def nobodys(self, name: bytes, args: list[bytes]) -> bool:
        """Whether a command surely means nothing, as most do: its only key is nobody's, and it has no job to show."""
        quick = self._quick.get(name)
        if quick is None or len(args) < 2:
            return False
        circle, at = quick
        key = args[1]
        owners = circle.known.get(key)
        if owners is None:
            owners = circle.owners(key, self._learned)
        return not (owners or (at and len(args) > 2 and args[at][:HEAD] in self._heads))

    def read(self, name: bytes, args: list[bytes]) -> Intent | None:
        """What the command means to the first framework that owns the first of its keys that anybody owns.

        Where several own it, each for commands of its own (a list and a stream named ``*``), the first to whom it means
        something.
        """
        given = keys(name, args)
        if name in _OF_SCRIPTS and self._writers:
            intent = self._script(name, args, given)
            if intent is not None:
                return intent
        circle = self._circles.get(name)
        if circle is None:
            return None
        for key in given:
            owners = circle.known.get(key)
            if owners is None:
                owners = circle.owners(key, self._learned)
            if owners:
                for framework in owners:
                    intent = framework.read(name, args)
                    if intent is not None:
                        return intent
                break
        return self._recognise(name, args) if self._heads else None

    def _script(self, name: bytes, args: list[bytes], given: Sequence[bytes]) -> Intent | None:
        """A script of somebody's: known by its shape, or strange and known by its text alone."""
        if len(args) < 3:
            return None
        if name == b"SCRIPT":
            if args[1].upper() == b"LOAD":
                self._author(args[2])
            return None
        digest = args[1].lower()
        author = self._author(args[1]) if name == b"EVAL" else self._texts.get(digest) or self._digests.get(digest)
        if given:
            count = len(given)
            for first in (given[0].rpartition(b":")[2], b""):
                for framework in self._scripted.get((count, first), ()):
                    intent = framework.read(name, args)
                    if intent is not None:
                        return intent
        return None if author is None else Intent(author, args, _nothing, strange=True)

    def _author(self, text: bytes) -> Framework | None:
        """Whose text this is; that is remembered for when the script is run by its digest."""
        for framework in self._writers:
            assert framework.scripts is not None
            if framework.scripts.wrote(text):
                if len(self._texts) >= _TEXTS:
                    self._texts.clear()
                self._texts[sha1(text, usedforsecurity=False).hexdigest().encode()] = framework
                return framework
        return None

    def _recognise(self, name: bytes, args: list[bytes]) -> Intent | None:
        """A command on keys that are nobody's so far."""
        if name in SCRIPTS:
            if any(self._everybody.owners(key, self._learned) for key in keys(name, args)):
                return None
            wanted = (one.read(name, args) for one in self._runners if name in one.commands)
            return next(filter(None, wanted), None)
        if name in _REPLIES:
            first = next(iter(self._heads.values()))
            return Intent(first, args, self._delivered)
        at = _JOB_AT.get(name, -1)
        if name not in self.rewritable or len(args) < 3:
            return None
        framework = self._heads.get(args[at][:HEAD])
        if framework is None or name not in framework.commands:
            return None
        intent = framework.read(name, args)
        if intent is not None and intent.jobs:
            self._learn(args[1], framework)
        return intent

    def _delivered(self, intent: Intent, reply: Reply) -> Iterator[Operation]:
        """The reply of a command of `_REPLIES`: if it has a job, its key is known from now on."""
        framework = next(filter(None, (self._heads.get(leaf[:HEAD]) for leaf in _leaves(reply))), None)
        name = intent.args[0].upper()
        if framework is None or name not in framework.commands:
            return
        known = framework.read(name, intent.args)
        if known is None:
            return
        intent.framework = framework
        for operation in known.finish(known, reply):
            self._learn(operation.key, framework)
            yield operation

    def _learn(self, key: bytes, framework: Framework) -> None:
        if len(self._learned) >= _LEARNED:
            self._learned.clear()
        if len(key) <= LONG:
            self._learned[key] = framework
            for circle in (self._everybody, *self._circles.values()):
                circle.known.pop(key, None)


def _nothing(intent: Intent, reply: Reply) -> Iterator[Operation]:
    yield from ()


def _leaves(reply: Reply) -> list[bytes]:
    """The first strings of a reply, however deep."""
    found: list[bytes] = []
    rest: list[object] = [reply]
    for _ in range(8 * _LEAVES):
        if not rest or len(found) >= _LEAVES:
            break
        item = rest.pop()
        if isinstance(item, bytes):
            found.append(item)
        elif isinstance(item, list):
            rest.extend(reversed(item[:_LEAVES]))
        elif isinstance(item, dict):
            rest.extend(list(item.values())[:_LEAVES])
    return found
