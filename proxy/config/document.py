"""YAML in which every value knows its line, and no key stands twice."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import yaml

from proxy.config.values import KeyPath, dotted


class Problem(NamedTuple):
    """One thing that is wrong with the settings. Holds no secret."""

    path: str
    """``tracing.sampling.default_rate``; empty where no single setting is meant."""
    where: str
    """``config.yaml:12``, ``env REDSPAN_…``, ``flag --listen``."""
    expected: str
    found: str
    hint: str = ""

    def __str__(self) -> str:
        subject = f"{self.where}: {self.path}" if self.path else self.where
        return f"{subject}: expected {self.expected}, found {self.found}{f' ({self.hint})' if self.hint else ''}"


class Given(NamedTuple):
    """Something that somebody set: a plain value, or a list or dict of `Given`."""

    value: object
    origin: str
    """``file config.yaml:12``, ``env REDSPAN_…``, ``flag --listen``, ``env OTEL_…``."""

    @property
    def where(self) -> str:
        """The origin, as a message begins: a file's line as editors like to follow it."""
        return self.origin.removeprefix("file ")


def read_yaml(text: str, origin: Callable[[int], str], problems: list[Problem]) -> Given:
    """The one document in ``text``.

    ``origin`` makes one of a line number.  What is wrong is added to ``problems``, and None stands in its place.
    """
    return _Reader(text, origin, problems).read()


class _Reader:
    def __init__(self, text: str, origin: Callable[[int], str], problems: list[Problem]) -> None:
        self._text = text
        self._origin = origin
        self._problems = problems
        self._open: list[yaml.Node] = []
        """The nodes that the current one stands in."""
        self._checked: set[yaml.Node] = set()

    def read(self) -> Given:
        try:
            self._loader = yaml.SafeLoader(self._text)
            node = self._loader.get_single_node()
        except yaml.MarkedYAMLError as error:
            # Without the snippet that the error's own text shows: there may be a secret in it.
            mark = error.problem_mark or error.context_mark
            return self._wrong((), mark.line if mark else 0, "YAML", f"an error: {error.problem}")
        except yaml.YAMLError:
            return self._wrong((), 0, "YAML", "a character that may not stand in it")
        return self._given(node, ()) if node else Given(None, self._origin(1))

    def _given(self, node: yaml.Node, path: KeyPath) -> Given:
        line = node.start_mark.line
        if node in self._open:
            return self._wrong(path, line, "a value", "an alias of what it stands in")
        self._open.append(node)
        try:
            return Given(self._value(node, path), self._origin(line + 1))
        except (yaml.YAMLError, ValueError):
            return self._wrong(path, line, "a plain value", "an unknown tag, or a date that is none")
        finally:
            self._open.pop()

    def _value(self, node: yaml.Node, path: KeyPath) -> object:
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self._given(item, (*path, i)) for i, item in enumerate(node.value)]
        return self._loader.construct_object(node)

    def _mapping(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, Given]:
        if node not in self._checked:  # an alias comes here again, when it holds what was merged into it
            self._checked.add(node)
            self._check_keys(node, path)
            self._loader.flatten_mapping(node)  # "<<: *defaults": put in front, so that one's own keys win
        entries: dict[str, Given] = {}
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode):
                # The key as it is written: YAML would make a queue that is named "on" a True.
                inner = self._given(value, (*path, key.value))
                entries[key.value] = Given(inner.value, self._origin(key.start_mark.line + 1))
        return entries

    def _check_keys(self, node: yaml.MappingNode, path: KeyPath) -> None:
        lines: dict[str, int] = {}
        for key, _ in node.value:
            line = key.start_mark.line
            if not isinstance(key, yaml.ScalarNode):
                self._wrong(path, line, "a plain key", "a list or a mapping")
            elif key.value in lines:
                self._wrong((*path, key.value), line, "each key once", f"it again, after line {lines[key.value]}")
            else:
                lines[key.value] = line + 1

    def _wrong(self, path: KeyPath, line: int, expected: str, found: str) -> Given:
        """``line`` counts from 0, as in YAML's marks."""
        given = Given(None, self._origin(line + 1))
        self._problems.append(Problem(dotted(path), given.where, expected, found))
        return given
