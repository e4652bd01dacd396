"""Whose command it is: one look-up by name, one by key, however many frameworks and queues there are."""

from __future__ import annotations

from typing import Final

from proxy.frameworks.base import Framework, Frameworks, Intent
from proxy.frameworks.list_shape import PUSHES
from proxy.resp.commands import keys

_REMEMBERED: Final = 16_384
"""Keys whose owner is remembered. More than that are keys of ever new names, which are not queues."""


LONG: Final = 1024
"""Bytes of a key that can be a queue's; a longer one is nobody's, so that what is remembered of keys is bounded."""


class Router:
    def __init__(self, frameworks: Frameworks) -> None:
        self.frameworks = tuple(frameworks)
        self.commands: frozenset[bytes] = frozenset().union(*(framework.commands for framework in frameworks))
        self.rewritable: frozenset[bytes] = self.commands & (PUSHES | {b"XADD"})
        """Commands that an enqueue may be: held until they are whole."""
        self._owners: dict[bytes, Framework | None] = {}

    def owner(self, key: bytes) -> Framework | None:
        """The framework that ``key`` belongs to; the first one configured, where several claim it."""
        try:
            return self._owners[key]
        except KeyError:
            if len(key) > LONG:
                return None
            if len(self._owners) >= _REMEMBERED:
                self._owners.clear()
            claimed = (framework for framework in self.frameworks if framework.role(key) is not None)
            return self._owners.setdefault(key, next(claimed, None))

    def claims(self, key: bytes) -> bool:
        return self.owner(key) is not None

    def read(self, name: bytes, args: list[bytes]) -> Intent | None:
        """What the command means to the framework that owns the first of its keys that anybody owns."""
        for key in keys(name, args):
            framework = self.owner(key)
            if framework is not None:
                return framework.read(name, args) if name in framework.commands else None
        return None
